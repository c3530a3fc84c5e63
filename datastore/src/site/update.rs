//! Publishing a version of a site: only on top of the version that its publisher knows.
//!
//! Lives here: looking what is newest, storing the version file, putting the records. Does not live here:
//! the pages (stored before), saving what was published (the owner, before it believes it).
//!
//! ```text
//!  Looking ──nothing newer──> Storing ──Stored──> Putting ──2 of 3 confirmed──> Done(Published)
//!     └─ newer, or unreadable: Done ──┘ └─lost     └─ a place has another, or 60 s: Done
//! ```

use std::{collections::VecDeque, fmt, time::Duration};

use warren_overlay::{
    id::NetworkId,
    record::Record,
    rng::Rng,
    service::Unreachable,
    time::{Now, Time, Wall},
};

use super::{
    SiteVersion,
    announce::{Announcer, Put, PutAnswer},
    lookup::{LookupInput, LookupOutcome, LookupOutput, Seen, SiteLookup},
    publish,
};
use crate::capability::{ReadCap, SiteWriteCap};

/// Minutes for which a version's records are good: a year.
pub const LIFE_MIN: u32 = 365 * 24 * 60;
/// So many places confirm before a version counts as published.
const QUORUM: usize = 2;
/// How long the third may take then.
const GRACE: Duration = Duration::from_secs(2);
/// How long putting may take.
const LIMIT: Duration = Duration::from_mins(1);

/// A version to be.
pub struct Draft {
    /// The pages, stored already.
    pub directory: ReadCap,
    /// What to call it; empty for nothing.
    pub label: String,
    /// When it is published, or zero not to say it.
    pub published: Wall,
}

/// What an update is told.
#[derive(Debug)]
pub enum UpdateInput {
    /// For the lookup: an answer to `GetRecord` or `GetFile`.
    Lookup(LookupInput),
    /// What became of `StoreFile`: what reads it, or `None` when it cannot be stored.
    Stored(Option<ReadCap>),
    /// An answer to `PutRecord`.
    Put(PutAnswer),
}

/// What an update wants done.
#[derive(Debug)]
pub enum UpdateOutput {
    /// Of the lookup: a `GetRecord` or `GetFile`; never its `Done`.
    Lookup(LookupOutput),
    /// Store the version file, and its list of children.
    StoreFile {
        /// Its content.
        content: Vec<u8>,
        /// What its list of children holds.
        children: Vec<u8>,
    },
    /// Put a record.
    PutRecord(Put),
    /// It is over; nothing follows.
    Done(UpdateOutcome),
}

/// How an update ended.
#[derive(Debug)]
pub enum UpdateOutcome {
    /// Two or three places have the new version.
    Published(Published),
    /// Somebody published a version that this publisher does not know, at least this one. Nothing was
    /// put, or it lost the race.
    Conflict {
        /// The version.
        number: u64,
    },
    /// The draft cannot be written down: its label is none.
    Invalid,
    /// The version file could not be stored.
    NotStored,
    /// The network could not be asked, or too few places confirmed.
    Unreachable(Unreachable),
}

/// A version that was published.
pub struct Published {
    /// Its number.
    pub number: u64,
    /// Its version file.
    pub file: ReadCap,
    /// When its records end.
    pub expiry: Wall,
    /// Its records, to be announced again.
    pub records: Vec<Record>,
}

enum State {
    Looking(Box<SiteLookup>),
    Storing,
    Putting { announcer: Announcer, published: Box<Published>, until: Time },
    Over,
}

/// One update.
pub struct SiteUpdate {
    cap: SiteWriteCap,
    network: NetworkId,
    base: Option<Seen>,
    onto: Onto,
    draft: Draft,
    rng: Rng,
    state: State,
    outputs: VecDeque<UpdateOutput>,
}

/// What a version may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// The version that its publisher knows; a newer one is a conflict.
    Known,
    /// Whatever is newest, also what this publisher did not know: another router with the same key
    /// published it, or this one did before it lost its memory.
    Newest,
}

impl SiteUpdate {
    /// Publishes `draft` on top of `base`, the newest version that this publisher knows; `None` for a
    /// site that was never published. `None` when the key is none.
    pub fn new(
        now: Now,
        cap: SiteWriteCap,
        network: NetworkId,
        base: Option<Seen>,
        onto: Onto,
        draft: Draft,
        rng: Rng,
    ) -> Option<Self> {
        let seen =
            base.as_ref().map(|base| Seen { number: base.number, file: base.file.duplicate() });
        let lookup = SiteLookup::new(now, cap.name()?, network, seen)?;
        let state = State::Looking(Box::new(lookup));
        let outputs = VecDeque::new();
        let mut this = Self { cap, network, base, onto, draft, rng, state, outputs };
        this.advance(now);
        Some(this)
    }

    /// Something happened. What nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: UpdateInput) {
        match (input, &mut self.state) {
            (UpdateInput::Lookup(input), State::Looking(lookup)) => lookup.handle_input(now, input),
            (UpdateInput::Stored(file), State::Storing) => match file {
                Some(file) => self.put(now, file),
                None => self.end(UpdateOutcome::NotStored),
            },
            (UpdateInput::Put(answer), State::Putting { announcer, .. }) => {
                announcer.handle_input(now.time, answer);
            }
            (UpdateInput::Lookup(_) | UpdateInput::Stored(_) | UpdateInput::Put(_), _) => {}
        }
        self.advance(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        match &mut self.state {
            State::Looking(lookup) => lookup.handle_timeout(now),
            State::Putting { announcer, .. } => announcer.handle_timeout(now.time),
            State::Storing | State::Over => {}
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<UpdateOutput> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            State::Looking(lookup) => lookup.poll_timeout(),
            State::Putting { announcer, until, .. } => {
                Some(announcer.poll_timeout().map_or(*until, |at| at.min(*until)))
            }
            State::Storing | State::Over => None,
        }
    }

    /// Takes what the children say.
    fn advance(&mut self, now: Now) {
        match &mut self.state {
            State::Looking(lookup) => {
                while let Some(output) = lookup.poll_output() {
                    match output {
                        LookupOutput::Done(outcome) => return self.looked(outcome),
                        other => self.outputs.push_back(UpdateOutput::Lookup(other)),
                    }
                }
            }
            State::Putting { announcer, until, .. } => {
                announcer.handle_timeout(now.time);
                while let Some(put) = announcer.poll_output() {
                    self.outputs.push_back(UpdateOutput::PutRecord(put));
                }
                if announcer.stored() >= QUORUM {
                    *until = (*until).min(now.time + GRACE);
                }
                if announcer.is_settled() || now.time >= *until {
                    self.judge();
                }
            }
            State::Storing | State::Over => {}
        }
    }

    fn looked(&mut self, outcome: LookupOutcome) {
        let known = self.base.as_ref().map_or(0, |base| base.number);
        match outcome {
            // Where only what is older or broken was found, the places themselves refuse what does not
            // replace what they hold.
            LookupOutcome::NotFound | LookupOutcome::Same(_) | LookupOutcome::Invalid => {
                self.store();
            }
            // The key signed two things as the version that is known here: the next one ends that.
            LookupOutcome::Forked { number } if number == known => self.store(),
            LookupOutcome::Forked { number } | LookupOutcome::Incomplete { number } => {
                self.end(UpdateOutcome::Conflict { number });
            }
            LookupOutcome::Found(newest) if self.onto == Onto::Newest => {
                self.base = Some(Seen { number: newest.version.number, file: newest.file });
                self.store();
            }
            LookupOutcome::Found(newest) => {
                self.end(UpdateOutcome::Conflict { number: newest.version.number });
            }
            LookupOutcome::Unreachable(why) => self.end(UpdateOutcome::Unreachable(why)),
        }
    }

    fn store(&mut self) {
        let version = SiteVersion {
            number: self.number(),
            published: self.draft.published,
            label: std::mem::take(&mut self.draft.label),
            directory: self.draft.directory.duplicate(),
            previous: self.base.as_ref().map(|base| base.file.duplicate()),
        };
        match version.encode() {
            Ok(content) => {
                self.state = State::Storing;
                let children = version.children();
                self.outputs.push_back(UpdateOutput::StoreFile { content, children });
            }
            Err(_) => self.end(UpdateOutcome::Invalid),
        }
    }

    fn number(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.number).saturating_add(1)
    }

    fn put(&mut self, now: Now, file: ReadCap) {
        let (number, expiry) = (self.number(), now.wall.plus(LIFE_MIN));
        match publish(&self.cap, self.network, number, expiry, &file) {
            Ok(records) => {
                let announcer = Announcer::new(now.time, records.clone(), self.rng.fork());
                let published = Box::new(Published { number, file, expiry, records });
                self.state = State::Putting { announcer, published, until: now.time + LIMIT };
            }
            Err(_) => self.end(UpdateOutcome::Invalid),
        }
    }

    fn judge(&mut self) {
        let State::Putting { announcer, published, .. } =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return;
        };
        self.end(if announcer.is_beaten() {
            UpdateOutcome::Conflict { number: published.number }
        } else if announcer.stored() >= QUORUM {
            UpdateOutcome::Published(*published)
        } else {
            UpdateOutcome::Unreachable(Unreachable::NoRoute)
        });
    }

    fn end(&mut self, outcome: UpdateOutcome) {
        self.state = State::Over;
        self.outputs.push_back(UpdateOutput::Done(outcome));
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: which sites a person writes is never logged (DESIGN section 3).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(Draft, Published, SiteUpdate);
