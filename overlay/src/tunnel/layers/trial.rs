//! Whether the guards are those of a newcomer, who knows whom its invite's routers told it of.
//!
//! Lives here: the invite's routers, and when a router knows enough to draw its guards once more
//! (PROTOCOL P11). Does not live here: drawing them (`guards.rs`).

use std::{collections::BTreeSet, time::Duration};

use crate::{
    id::RouterId,
    time::Time,
    wire::{Prefix, Reader, WireError, Writer},
};

/// So many hours up.
const HOURS: u8 = 24;
/// For so many more it waits until enough others were heard of as long, from as many places.
const PATIENCE: u8 = 24;
/// Links with routers in so many places.
const PLACES: usize = 5;
/// Routers of an invite that are remembered.
const INVITED_BY_MAX: usize = 16;
const HOUR: Duration = Duration::from_hours(1);

/// A router's first day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trial {
    /// At most [`INVITED_BY_MAX`]; guards of nobody who knows others.
    invited_by: BTreeSet<RouterId>,
    /// Up so long, at most [`HOURS`]: then it ends when there were enough places.
    hours: u8,
    over: bool,
    /// Not stored: hours after the first day.
    waited: u8,
    /// Not stored: since when the next hour counts, and in which places there were links.
    since: Option<Time>,
    places: BTreeSet<Prefix>,
}

impl Trial {
    pub(super) fn new(invited_by: impl IntoIterator<Item = RouterId>) -> Self {
        let invited_by = invited_by.into_iter().take(INVITED_BY_MAX).collect();
        Self { invited_by, ..Self::default() }
    }

    /// Of routers that are no newcomers.
    pub(super) fn over() -> Self {
        Self { over: true, ..Self::default() }
    }

    pub(super) const fn invited_by(&self) -> &BTreeSet<RouterId> {
        &self.invited_by
    }

    /// There is a link with somebody there.
    pub(super) fn linked(&mut self, place: Prefix) {
        if !self.over && self.places.len() < PLACES {
            self.places.insert(place);
        }
    }

    /// Time passed; whether the guards are to be drawn once more. `seasoned`: there are others to draw them of.
    pub(super) fn is_due(&mut self, now: Time, seasoned: bool) -> bool {
        if self.over {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let passed = now.since(since).as_secs() / HOUR.as_secs();
        if passed > 0 {
            self.since = Some(now);
            let passed = u8::try_from(passed).unwrap_or(HOURS);
            let hours = self.hours.saturating_add(passed);
            self.waited = self.waited.saturating_add(hours.saturating_sub(HOURS)).min(PATIENCE);
            self.hours = hours.min(HOURS);
        }
        let waits = !seasoned && self.waited < PATIENCE;
        self.hours == HOURS && self.places.len() == PLACES && !waits
    }

    /// They were.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.places.clear();
    }

    /// What to store: 1 if it is over, hours 1, count 1, then 32 bytes each.
    pub(super) fn write(&self, w: &mut Writer) {
        w.u8(u8::from(self.over)).u8(self.hours);
        w.u8(u8::try_from(self.invited_by.len()).unwrap_or(u8::MAX));
        for id in &self.invited_by {
            w.bytes(id.as_bytes());
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let over = match r.u8("guards trial")? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Bad("guards trial")),
        };
        let (hours, count) = (r.u8("guards hours")?, usize::from(r.u8("inviters count")?));
        if hours > HOURS || count > INVITED_BY_MAX {
            return Err(WireError::Bad("guards trial"));
        }
        let mut invited_by = BTreeSet::new();
        for _ in 0..count {
            let id = RouterId(r.array("inviter")?);
            if invited_by.last().is_some_and(|last| *last >= id) {
                return Err(WireError::Bad("inviter"));
            }
            invited_by.insert(id);
        }
        Ok(Self { invited_by, hours, over, ..Self::default() })
    }
}
