//! The sites that are read here: each context has its own view of each.
//!
//! Lives here: what is open, how long it counts as new, the memory of what was read. Does not live here:
//! what is in it (`open.rs`).
//!
//! By isolation context, as conversations with services: who serves a site's records or pages could else
//! learn from one context what another one reads.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::time::Instant;
use warren_datastore::site::{LookupOutcome, Seen};
use warren_overlay::{
    garlic::RecordBytes,
    record::Record,
    service::{Name, Unreachable},
};
use warren_proxy::{ContextLimiter, Failure, IsolationKey};

use super::{Sites, open::OpenSite};
use crate::entropy;

/// Sites open at the same time.
const OPEN_MAX: usize = 64;
/// Bytes of their directories and small files.
const HELD_MAX: usize = 64 << 20;
/// Contexts whose highest version is remembered after their site was closed.
const SEEN_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// For so long the newest version is taken for the newest.
const FRESH: Duration = Duration::from_secs(15);
/// From then on for so long it is shown, and asked meanwhile whether there is a newer one.
const SHOWN: Duration = Duration::from_mins(5);
/// How often a reader announces what it read.
const ANNOUNCE_EVERY: Duration = Duration::from_hours(6);
/// Seconds after reading until it is announced, drawn.
const ANNOUNCE_WITHIN_S: u64 = 120;

/// All contexts.
#[derive(Debug)]
pub(super) struct Readers(Mutex<Table>);

#[derive(Debug)]
struct Table {
    open: LruCache<IsolationKey, Arc<Slot>>,
    seen: LruCache<IsolationKey, Seen>,
    limiter: ContextLimiter,
}

/// One site in one context.
#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Current>>,
    /// Held by who asks for the newest version: one at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Current {
    site: Arc<OpenSite>,
    asked: Instant,
    announced: Instant,
}

impl Default for Readers {
    fn default() -> Self {
        let (open, seen) = (LruCache::unbounded(), LruCache::new(SEEN_MAX));
        Self(Mutex::new(Table { open, seen, limiter: ContextLimiter::default() }))
    }
}

impl Readers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, current: Current) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    fn held(&self) -> usize {
        self.current().map_or(0, |current| current.site.held())
    }
}

impl Sites {
    /// A site as its newest version is, as far as this context knows.
    pub(super) async fn open(
        &self,
        context: IsolationKey,
        name: Name,
    ) -> Result<Arc<OpenSite>, Failure> {
        let slot = self.slot(context)?;
        if let Some(current) = slot.current() {
            let age = current.asked.elapsed();
            if age >= FRESH && age < SHOWN {
                let (this, slot) = (self.clone(), Arc::clone(&slot));
                tokio::spawn(async move {
                    let Ok(_asking) = slot.asking.try_lock() else { return };
                    // What is shown stays, if there is no other.
                    let _ = this.look_again(&slot, context, name).await;
                });
            }
            if age < SHOWN {
                return Ok(current.site);
            }
        }
        let _asking = slot.asking.lock().await;
        // Whoever held it before may have found out.
        if let Some(current) = slot.current().filter(|current| current.asked.elapsed() < FRESH) {
            return Ok(current.site);
        }
        match (self.look_again(&slot, context, name).await, slot.current()) {
            (Ok(site), _) => Ok(site),
            (Err(Failure::Forked), _) => Err(Failure::Forked),
            // An old version is better than a reason: it is what was newest when it was asked for.
            (Err(_), Some(current)) => Ok(current.site),
            (Err(failure), None) => Err(failure),
        }
    }

    fn slot(&self, context: IsolationKey) -> Result<Arc<Slot>, Failure> {
        let now = self.0.clock.now().time;
        let mut table = self.0.readers.table();
        if let Some(slot) = table.open.get(&context) {
            return Ok(Arc::clone(slot));
        }
        table.limiter.admit(now, context).map_err(|_| Failure::TooManyContexts)?;
        let slot = Arc::<Slot>::default();
        table.open.put(context, Arc::clone(&slot));
        while table.open.len() > OPEN_MAX
            || table.open.len() > 1
                && table.open.iter().map(|(_, slot)| slot.held()).sum::<usize>() > HELD_MAX
        {
            table.open.pop_lru();
        }
        Ok(slot)
    }

    /// Asks which version is newest, and opens it.
    async fn look_again(
        &self,
        slot: &Slot,
        context: IsolationKey,
        name: Name,
    ) -> Result<Arc<OpenSite>, Failure> {
        let before = slot.current();
        let seen = self.0.readers.table().seen.get(&context).map(duplicate);
        let (site, records) = match self.look_up(name, seen).await {
            LookupOutcome::Same(records) => match &before {
                Some(current) => (Arc::clone(&current.site), records),
                None => (self.open_seen(context).await?, records),
            },
            LookupOutcome::Found(newest) => {
                let site = Arc::new(OpenSite::load(&self.0.files, &newest.version).await?);
                let seen = Seen { number: newest.version.number, file: newest.file };
                self.0.readers.table().seen.put(context, seen);
                (site, newest.records)
            }
            LookupOutcome::NotFound => return Err(Failure::NoSite),
            LookupOutcome::Forked { .. } => return Err(Failure::Forked),
            LookupOutcome::Invalid => return Err(Failure::BadSite),
            LookupOutcome::Incomplete { .. } => return Err(Failure::Incomplete),
            LookupOutcome::Unreachable(Unreachable::Busy { .. }) => return Err(Failure::Busy),
            LookupOutcome::Unreachable(Unreachable::NoRoute) => return Err(Failure::Building),
        };
        let asked = Instant::now();
        let announced = match before {
            Some(current) if current.announced.elapsed() < ANNOUNCE_EVERY => current.announced,
            _ => {
                self.announce_soon(records);
                asked
            }
        };
        slot.keep(Current { site: Arc::clone(&site), asked, announced });
        Ok(site)
    }

    /// Opens the version that was read before, and closed.
    async fn open_seen(&self, context: IsolationKey) -> Result<Arc<OpenSite>, Failure> {
        let seen = self.0.readers.table().seen.get(&context).map(duplicate);
        let seen = seen.ok_or(Failure::Internal)?;
        let version = self.version(&seen.file).await?;
        Ok(Arc::new(OpenSite::load(&self.0.files, &version).await?))
    }

    /// Puts a site's records once more, so that lost copies come back (decision 0003).
    pub(in crate::driver) fn announce_soon(&self, records: Vec<Record>) {
        let files = self.0.files.clone();
        let pause = Duration::from_secs(entropy::generator().below(ANNOUNCE_WITHIN_S));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            for record in records {
                if let Some(bytes) = RecordBytes::new(record.encode().to_vec()) {
                    let _ = files.record_put(bytes).await;
                }
            }
        });
    }
}

fn duplicate(seen: &Seen) -> Seen {
    Seen { number: seen.number, file: seen.file.duplicate() }
}
