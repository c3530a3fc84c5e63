//! Publishing a version of a site: only on top of the version that its publisher knows.
//!
//! Lives here: looking what is newest, storing the version file, having it noted, putting the records. Does
//! not live here: the pages (stored before), the disk on which the owner notes what is signed.
//!
//! ```text
//!  Looking ──nothing newer──> Storing ──Stored──> Saving ──Saved──> Putting ──2 of 3──> Done(Published)
//!     └─ newer, or unreadable: Done ──┘ └─lost       └─no: Done         └─ a place has another, or 60 s
//! ```
//!
//! A version that was signed may lie at one place, unseen by the next lookup: so its publisher has it on
//! the disk before anybody else has it, and what follows is that very version again or the one after it,
//! never another file under its number.

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
    lookup::{LookupInput, LookupOutcome, LookupOutput, Seen, SiteLookup, same},
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

/// A version that is, or is about to be, signed.
pub struct SignedVersion {
    /// Its number.
    pub number: u64,
    /// When its records end.
    pub expiry: Wall,
    /// Its version file.
    pub file: ReadCap,
    /// Its pages.
    pub directory: ReadCap,
    /// What it is called.
    pub label: String,
}

impl SignedVersion {
    /// The same.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let (file, directory) = (self.file.duplicate(), self.directory.duplicate());
        Self {
            number: self.number,
            expiry: self.expiry,
            file,
            directory,
            label: self.label.clone(),
        }
    }

    /// As what the next version follows.
    pub fn seen(&self) -> Seen {
        Seen { number: self.number, file: self.file.duplicate() }
    }
}

/// What its publisher knows of a site.
#[derive(Default)]
pub struct Known {
    /// The newest version that two places confirmed; none for a site that was never published.
    pub newest: Option<Seen>,
    /// A later one that was signed and of which that is not known.
    pub pending: Option<SignedVersion>,
}

impl Known {
    fn seen(&self) -> Option<Seen> {
        let pending = self.pending.as_ref().map(SignedVersion::seen);
        pending.or_else(|| self.newest.as_ref().map(Seen::duplicate))
    }
}

/// What an update is told.
#[derive(Debug)]
pub enum UpdateInput {
    /// For the lookup: an answer to `GetRecord` or `GetFile`.
    Lookup(LookupInput),
    /// What became of `StoreFile`: what reads it, or `None` when it cannot be stored.
    Stored(Option<ReadCap>),
    /// What became of `Save`: whether it is on the disk.
    Saved(bool),
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
    /// Write down, so that it survives the process and the power, that this version is signed: as what
    /// is pending, in the place of what was.
    Save(SignedVersion),
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
    /// It could not be written down that the version is signed, so it is not.
    NotSaved,
    /// The network could not be asked, or too few places confirmed: then the version stays pending.
    Unreachable(Unreachable),
}

/// A version that was published.
pub struct Published {
    /// The version; nothing is pending any more.
    pub version: SignedVersion,
    /// Its records, to be announced again.
    pub records: Vec<Record>,
}

enum State {
    Looking(Box<SiteLookup>),
    Storing,
    Saving(Box<SignedVersion>),
    Putting { announcer: Announcer, published: Box<Published>, until: Time },
    Over,
}

/// One update.
pub struct SiteUpdate {
    cap: SiteWriteCap,
    network: NetworkId,
    known: Known,
    /// What the version follows, once that was decided.
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
    /// Publishes `draft` on top of the newest version that this publisher knows. What is pending is put
    /// once more if it is the draft, and followed if it is not. `None` when the key is none.
    pub fn new(
        now: Now,
        cap: SiteWriteCap,
        network: NetworkId,
        known: Known,
        onto: Onto,
        draft: Draft,
        rng: Rng,
    ) -> Option<Self> {
        let base = known.seen();
        let seen = base.as_ref().map(Seen::duplicate);
        let lookup = SiteLookup::new(now, cap.name()?, network, seen)?;
        let state = State::Looking(Box::new(lookup));
        let outputs = VecDeque::new();
        let mut this = Self { cap, network, known, base, onto, draft, rng, state, outputs };
        this.advance(now);
        Some(this)
    }

    /// Something happened. What nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: UpdateInput) {
        match (input, &mut self.state) {
            (UpdateInput::Lookup(input), State::Looking(lookup)) => lookup.handle_input(now, input),
            (UpdateInput::Stored(file), State::Storing) => match file {
                Some(file) => self.save(now, file),
                None => self.end(UpdateOutcome::NotStored),
            },
            (UpdateInput::Saved(saved), State::Saving(_)) => {
                match std::mem::replace(&mut self.state, State::Over) {
                    State::Saving(version) if saved => self.put(now, *version),
                    _ => self.end(UpdateOutcome::NotSaved),
                }
            }
            (UpdateInput::Put(answer), State::Putting { announcer, .. }) => {
                announcer.handle_input(now.time, answer);
            }
            (
                UpdateInput::Lookup(_)
                | UpdateInput::Stored(_)
                | UpdateInput::Saved(_)
                | UpdateInput::Put(_),
                _,
            ) => {}
        }
        self.advance(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        match &mut self.state {
            State::Looking(lookup) => lookup.handle_timeout(now),
            State::Putting { announcer, .. } => announcer.handle_timeout(now.time),
            State::Storing | State::Saving(_) | State::Over => {}
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
            State::Storing | State::Saving(_) | State::Over => None,
        }
    }

    /// Takes what the children say.
    fn advance(&mut self, now: Now) {
        match &mut self.state {
            State::Looking(lookup) => {
                while let Some(output) = lookup.poll_output() {
                    match output {
                        LookupOutput::Done(outcome) => return self.looked(now, outcome),
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
            State::Storing | State::Saving(_) | State::Over => {}
        }
    }

    fn looked(&mut self, now: Now, outcome: LookupOutcome) {
        let known = self.base.as_ref().map_or(0, |base| base.number);
        match (outcome, self.onto) {
            // Where only what is older or broken was found, the places themselves refuse what does not
            // replace what they hold.
            (LookupOutcome::NotFound | LookupOutcome::Same(_) | LookupOutcome::Invalid, _) => {
                self.go_on(now);
            }
            // The key signed two things as the version that is known here: the next one ends that.
            (LookupOutcome::Forked { number, .. }, _)
                if number == known && self.known.pending.is_none() =>
            {
                self.store();
            }
            (LookupOutcome::Forked { number, branches }, Onto::Newest) => {
                let own = self.base.as_ref().filter(|base| base.number == number);
                let found = |base: &Seen| branches.iter().any(|file| same(file, &base.file));
                if !own.is_some_and(found) {
                    let Some(file) = branches.into_iter().next() else {
                        return self.end(UpdateOutcome::Conflict { number });
                    };
                    self.base = Some(Seen { number, file });
                }
                self.store();
            }
            (
                LookupOutcome::Forked { number, .. } | LookupOutcome::Incomplete { number },
                Onto::Known | Onto::Newest,
            ) => self.end(UpdateOutcome::Conflict { number }),
            (LookupOutcome::Found(newest), Onto::Newest) => {
                self.base = Some(Seen { number: newest.version.number, file: newest.file });
                self.store();
            }
            (LookupOutcome::Found(newest), Onto::Known) => {
                self.end(UpdateOutcome::Conflict { number: newest.version.number });
            }
            (LookupOutcome::Unreachable(why), _) => self.end(UpdateOutcome::Unreachable(why)),
        }
    }

    /// Nothing is newer than what is known here.
    fn go_on(&mut self, now: Now) {
        let draft = &self.draft;
        let is_draft = |pending: &SignedVersion| {
            same(&pending.directory, &draft.directory)
                && pending.label == draft.label
                && pending.expiry > now.wall
        };
        match self.known.pending.take_if(|pending| is_draft(pending)) {
            Some(pending) => self.put(now, pending),
            None => self.store(),
        }
    }

    fn store(&mut self) {
        let version = SiteVersion {
            number: self.number(),
            published: self.draft.published,
            label: self.draft.label.clone(),
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

    fn save(&mut self, now: Now, file: ReadCap) {
        let version = SignedVersion {
            number: self.number(),
            expiry: now.wall.plus(LIFE_MIN),
            file,
            directory: self.draft.directory.duplicate(),
            label: std::mem::take(&mut self.draft.label),
        };
        self.outputs.push_back(UpdateOutput::Save(version.duplicate()));
        self.state = State::Saving(Box::new(version));
    }

    fn put(&mut self, now: Now, version: SignedVersion) {
        let SignedVersion { number, expiry, file, .. } = &version;
        match publish(&self.cap, self.network, *number, *expiry, file) {
            Ok(records) => {
                let announcer = Announcer::new(now.time, records.clone(), self.rng.fork());
                let published = Box::new(Published { version, records });
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
            UpdateOutcome::Conflict { number: published.version.number }
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
mute!(Draft, SignedVersion, Known, Published, SiteUpdate);
