//! People with files: who stores one, who fetches one, and whether the bytes are right.
//!
//! Lives here: a transfer for each, driven as the driver drives it. Does not live here: the transfers
//! (`warren_datastore::transfer`; of a block alone: `asker.rs`), their tunnels (`warren_router::node`),
//! who wants what when (`stock.rs`), services (`apps.rs`).

use std::{collections::BTreeMap, sync::Arc};

use warren_datastore::{
    capability::ReadCap,
    file::{Content, Encoder, KeySource, Options},
    transfer::{Fetch, FetchProgress, Store, StoreProgress, Transfer},
};
use warren_overlay::{crypto::secret::Secret, time::Time};
use warren_router::{
    job,
    node::{JobEvent, JobInput, JobNo, NodeInput},
};

use crate::{
    asker::Asker,
    net::{HostNo, Net},
};

/// What one person wants.
#[derive(Debug)]
enum Want {
    Store { machine: Box<Store>, bytes: Vec<u8>, taken: usize },
    Fetch { machine: Box<Fetch>, got: Vec<u8> },
    Block(Box<Asker>),
}

impl Want {
    fn machine(&mut self) -> &mut dyn Transfer {
        match self {
            Self::Store { machine, .. } => &mut **machine,
            Self::Fetch { machine, .. } => &mut **machine,
            Self::Block(asker) => &mut **asker,
        }
    }

    /// Moves bytes in or out.
    fn pump(&mut self, now: Time) {
        match self {
            Self::Store { machine, bytes, taken } => {
                while let Some(rest) = bytes.get(*taken..).filter(|rest| !rest.is_empty()) {
                    match machine.push(now, rest) {
                        Ok(0) | Err(_) => return,
                        Ok(count) => *taken += count,
                    }
                }
                // The bytes are in memory and did not change.
                let _ = machine.finish(now);
            }
            Self::Fetch { machine, got } => {
                while let Some(bytes) = machine.poll_data(now) {
                    got.extend(bytes);
                }
            }
            Self::Block(_) => {}
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Store { machine, .. } => machine.is_done(),
            Self::Fetch { machine, .. } => machine.is_done() || machine.error().is_some(),
            Self::Block(asker) => asker.told().is_some(),
        }
    }
}

#[derive(Debug)]
struct Person {
    host: HostNo,
    want: Want,
    over: bool,
    /// It is over because its router was stopped.
    cut: bool,
    /// When the last alarm for it is due.
    alarm: Option<Time>,
}

/// All people with files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    people: BTreeMap<JobNo, Person>,
    next_job: u64,
    alarms: Vec<(Time, JobNo)>,
    /// Whose want is over and was not yet told.
    overs: Vec<JobNo>,
}

/// What came of a want that is over.
#[derive(Debug)]
pub(crate) enum Came {
    /// A file is stored as far as it is; so many copies of its thinnest block.
    Stored {
        /// What reads it, if it was stored whole.
        cap: Option<ReadCap>,
        /// Fewest copies of a block.
        copies: u8,
    },
    /// A file was fetched as far as it came.
    Fetched {
        /// Its bytes.
        got: Vec<u8>,
        /// Whether the transfer says that this is all.
        whole: bool,
        /// Requests, and most routers asked in one.
        asks: (u64, u8),
    },
    /// A block's errand ended.
    Block(Box<Asker>),
    /// The person's router was stopped.
    Cut,
}

impl Files {
    pub(crate) fn put(&mut self, net: &mut Net, host: HostNo, bytes: Vec<u8>) -> JobNo {
        let machine = Box::new(Store::new(encoder(net, host, &bytes)));
        self.begin(net, host, Want::Store { machine, bytes, taken: 0 })
    }

    pub(crate) fn get(&mut self, net: &mut Net, host: HostNo, cap: ReadCap) -> JobNo {
        let machine = Box::new(Fetch::new(cap, 0..u64::MAX));
        self.begin(net, host, Want::Fetch { machine, got: Vec::new() })
    }

    /// Somebody puts or gets a block.
    pub(crate) fn block(&mut self, net: &mut Net, host: HostNo, asker: Asker) -> JobNo {
        self.begin(net, host, Want::Block(Box::new(asker)))
    }

    fn begin(&mut self, net: &mut Net, host: HostNo, want: Want) -> JobNo {
        let job = JobNo(self.next_job);
        self.next_job += 1;
        self.people.insert(job, Person { host, want, over: false, cut: false, alarm: None });
        say(net, host, job, JobInput::Begin { hops: None, cached: true });
        self.drive(net, job);
        job
    }

    /// What a router says to the owner of a job.
    pub(crate) fn handle(&mut self, net: &mut Net, job: JobNo, event: JobEvent) {
        let now = net.time();
        if let Some(person) = self.people.get_mut(&job).filter(|person| !person.over) {
            job::deliver(person.want.machine(), now, event);
            self.drive(net, job);
        }
    }

    /// An alarm came.
    pub(crate) fn woken(&mut self, net: &mut Net, job: JobNo) {
        let now = net.time();
        if let Some(person) = self.people.get_mut(&job).filter(|person| !person.over) {
            person.alarm = person.alarm.filter(|at| *at > now);
            person.want.machine().handle_timeout(now);
            self.drive(net, job);
        }
    }

    fn drive(&mut self, net: &mut Net, job: JobNo) {
        let now = net.time();
        let Some(person) = self.people.get_mut(&job) else { return };
        let host = person.host;
        loop {
            person.want.pump(now);
            let mut quiet = true;
            while let Some(wish) = job::poll_wish(person.want.machine()) {
                say(net, host, job, wish);
                quiet = false;
            }
            if quiet {
                break;
            }
        }
        if person.want.is_over() {
            person.over = true;
            self.overs.push(job);
            return say(net, host, job, JobInput::End);
        }
        let due = person.want.machine().poll_timeout(now);
        if let Some(due) = due.filter(|due| person.alarm.is_none_or(|alarm| *due < alarm)) {
            person.alarm = Some(due);
            self.alarms.push((due, job));
        }
    }

    /// The next alarm that somebody wants.
    pub(crate) fn poll_alarm(&mut self) -> Option<(Time, JobNo)> {
        self.alarms.pop()
    }

    /// A router was stopped: its people get nothing more.
    pub(crate) fn killed(&mut self, host: HostNo) {
        for (job, person) in self.people.iter_mut().filter(|it| it.1.host == host && !it.1.over) {
            (person.over, person.cut) = (true, true);
            self.overs.push(*job);
        }
    }

    /// The next want that is over.
    pub(crate) fn poll_over(&mut self) -> Option<JobNo> {
        self.overs.pop()
    }

    /// What came of a want that is over; nothing is kept of it.
    pub(crate) fn take(&mut self, job: JobNo) -> Option<Came> {
        if !self.over(job) {
            return None;
        }
        let person = self.people.remove(&job)?;
        Some(match person.want {
            _ if person.cut => Came::Cut,
            Want::Store { machine, .. } => Came::Stored {
                cap: machine.read_cap().map(ReadCap::duplicate),
                copies: machine.progress().copies_min.unwrap_or(0),
            },
            Want::Fetch { machine, got } => {
                let FetchProgress { asked, routers, .. } = machine.progress();
                Came::Fetched { got, whole: machine.is_done(), asks: (asked, routers) }
            }
            Want::Block(asker) => Came::Block(asker),
        })
    }

    pub(crate) fn over(&self, job: JobNo) -> bool {
        self.people.get(&job).is_some_and(|person| person.over)
    }

    pub(crate) fn stored(&self, job: JobNo) -> Option<(StoreProgress, ReadCap)> {
        match &self.people.get(&job)?.want {
            Want::Store { machine, .. } => {
                Some((machine.progress(), machine.read_cap()?.duplicate()))
            }
            Want::Fetch { .. } | Want::Block(_) => None,
        }
    }

    pub(crate) fn fetched(&self, job: JobNo) -> Option<(FetchProgress, &[u8])> {
        match &self.people.get(&job)?.want {
            Want::Fetch { machine, got } => Some((machine.progress(), got)),
            Want::Store { .. } | Want::Block(_) => None,
        }
    }
}

/// What makes blocks of a file that somebody at `host` stores: the same bytes, the same blocks.
pub(crate) fn encoder(net: &Net, host: HostNo, bytes: &[u8]) -> Encoder {
    let secret = Secret::random(&mut net.streams().of("files", host.into()));
    let source = Arc::new(KeySource::context(secret));
    Encoder::new(source, Content::of(bytes), Options::default())
        .expect("what fits into memory is no longer than 1 TiB")
}

fn say(net: &mut Net, host: HostNo, job: JobNo, input: JobInput) {
    net.with(host, |it, now| it.node(now, NodeInput::Job { job, input }));
}
