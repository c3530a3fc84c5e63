//! A small world ready to be tried: routers that know three seeds, a service, fetches.
//!
//! Lives here: setting routers up, and an application at each end of a stream that counts and
//! compares bytes. Does not live here: the clock and the wires (`net.rs`).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use warren_datastore::MemoryRecords;
use warren_overlay::{
    crypto::{blind::ServiceKey, kem::DhSecret, puzzle::Difficulty, sign::IdentityKey},
    id::EndNo,
    ring::admission::{Network, NetworkName, ProofWork, SUITE_HYBRID},
    rng::Rng,
    service::Name,
    session::AppCommand,
    time::Time,
    wire::RouterDescriptor,
};
use warren_proxy::{Failure, IsolationKey, IsolationSecret, Listener};
use warren_router::{
    app::{StreamEvent, StreamNo},
    host::{Host, HostOutput},
    node::{NodeInput, NodeSettings, ServiceSettings},
};

use crate::{AppEvent, HostNo, Latency, Net};

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Everything follows from it.
    pub seed: u64,
    /// How many routers.
    pub routers: usize,
    /// Neighbours each keeps.
    pub degree: u8,
    /// Hops per tunnel.
    pub hops: u8,
    /// One-way latency.
    pub latency: Latency,
    /// Longest delay between the parts of one router; zero for none.
    pub deferred: Duration,
    /// A new router starts this often.
    pub stagger: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            routers: 12,
            degree: 20,
            hops: 3,
            latency: Latency { least: Duration::from_millis(5), most: Duration::from_millis(40) },
            deferred: Duration::ZERO,
            stagger: Duration::from_millis(20),
        }
    }
}

/// One fetch of a number of bytes from a service.
#[derive(Debug)]
pub struct Fetch {
    /// Who fetches.
    pub host: HostNo,
    wanted: u64,
    stream: Option<StreamNo>,
    got: u64,
    /// When it was asked for.
    pub asked: Time,
    /// When its last bytes came.
    pub last: Time,
    /// The longest time without any, once the first had come.
    pub stall: Duration,
    /// Whether everything came, in order and unchanged.
    pub done: bool,
    /// Why it ended before its time.
    pub failed: Option<Failure>,
}

#[derive(Debug, Default)]
struct Serving {
    request: Vec<u8>,
    left: u64,
    at: u64,
}

/// A network with applications.
#[derive(Debug)]
pub struct World {
    /// The network.
    pub net: Net,
    setup: Setup,
    network: Network,
    seeds: Vec<Arc<RouterDescriptor>>,
    fetches: Vec<Fetch>,
    serving: BTreeMap<(HostNo, StreamNo), Serving>,
    opens: u64,
}

/// Byte `at` of every body: cheap, and different at every shift that matters.
fn body_byte(at: u64) -> u8 {
    let [low, high, ..] = at.to_le_bytes();
    low.wrapping_mul(31) ^ high
}

/// Router `k`'s address: each in another /16.
fn address(k: usize) -> SocketAddr {
    let k = u32::try_from(k).unwrap_or(u32::MAX);
    let [_, a, b, _] = (k + 0x0001_0000).to_be_bytes();
    let [.., c, d] = k.to_be_bytes();
    ([127u8.wrapping_add(a / 200), c.wrapping_add(b), d, 1], 9_000).into()
}

impl World {
    /// A world whose routers have not started yet.
    pub fn new(setup: Setup) -> Self {
        let network = Network {
            name: NetworkName::Named("simulated".into()),
            difficulty: Difficulty::NONE,
            suite: SUITE_HYBRID,
            local: true,
        };
        Self {
            net: Net::new(setup.seed, setup.latency),
            setup,
            network,
            seeds: Vec::new(),
            fetches: Vec::new(),
            serving: BTreeMap::new(),
            opens: 0,
        }
    }

    /// Starts all routers, one after the other; the first three are the seeds of the rest.
    pub fn start(&mut self) {
        for k in 0..self.setup.routers {
            self.add(k);
            let until = self.net.now().time + self.setup.stagger;
            self.run(until);
        }
    }

    fn add(&mut self, k: usize) -> HostNo {
        let mut rng: Rng = self.net.rng(k as u64);
        let identity = IdentityKey::generate(&mut rng);
        let link_secret = Arc::new(DhSecret::generate(&mut rng));
        let admission = ProofWork::new(&self.network, identity.id(), 0)
            .and_then(|mut work| work.step())
            .expect("difficulty 0 takes the first nonce");
        let settings = NodeSettings {
            network: self.network.clone(),
            identity,
            link_key: link_secret.public(),
            address: address(k).into(),
            admission,
            hops: self.setup.hops,
            degree: self.setup.degree,
            bandwidth_kbps: 100_000,
            memory_bytes: 64 << 20,
            peers: self.seeds.clone(),
            guards: Vec::new(),
            store: Box::new(MemoryRecords::default()),
        };
        let mut host = Host::new(self.net.now(), settings, link_secret, rng);
        if !self.setup.deferred.is_zero() {
            host.defer(self.setup.deferred);
        }
        if self.seeds.len() < 3 {
            self.seeds.push(Arc::clone(host.descriptor()));
        }
        self.net.add(address(k), host)
    }

    /// Runs to `until`, applications included.
    pub fn run(&mut self, until: Time) {
        while let Some(event) = self.net.run(until) {
            self.application(event);
        }
    }

    /// Runs in steps of 50 ms until `done` says so; false after `limit`.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.net.now().time + limit;
        while !done(self) {
            if self.net.now().time >= until {
                return false;
            }
            self.run(self.net.now().time + Duration::from_millis(50));
        }
        true
    }

    /// How many routers that live are ready.
    pub fn ready(&self) -> usize {
        let now = self.net.now();
        let hosts = (0..self.net.len()).filter_map(|no| self.net.host(no));
        hosts.filter(|host| host.status(now).ready).count()
    }

    /// Publishes a service on a router.
    pub fn expose(&mut self, no: HostNo) -> (EndNo, Name) {
        let key = ServiceKey::generate(&mut self.net.rng(1 << 40 | no as u64));
        let name = Name::of_service(&key);
        let end = self.net.with(no, |host, now| {
            let end = host.new_end();
            let settings = Box::new(ServiceSettings::new(key));
            host.node(now, NodeInput::Expose { end, settings });
            end
        });
        (end.unwrap_or(EndNo(0)), name)
    }

    /// Whether a service is published.
    pub fn published(&self, no: HostNo, end: EndNo) -> bool {
        self.net.host(no).and_then(|host| host.node_ref().service(end)).is_some_and(|(_, it)| it)
    }

    /// Fetches `bytes` bytes from a service; `context` tells isolation contexts apart.
    pub fn fetch(&mut self, no: HostNo, name: Name, bytes: u64, context: u16) -> usize {
        let fetch = self.fetches.len();
        let now = self.net.now().time;
        self.fetches.push(Fetch {
            host: no,
            wanted: bytes,
            stream: None,
            got: 0,
            asked: now,
            last: now,
            stall: Duration::ZERO,
            done: false,
            failed: None,
        });
        self.opens += 1;
        let isolation = self.isolation(context, name);
        self.net.with(no, |host, now| {
            let input = NodeInput::Open { open: fetch as u64, isolation, name, port: 80 };
            host.node(now, input);
        });
        fetch
    }

    fn isolation(&self, context: u16, name: Name) -> IsolationKey {
        let secret = Arc::new(IsolationSecret::new(&mut self.net.rng(1 << 41)));
        Listener { number: context, secret }.context(name)
    }

    /// How a fetch goes.
    pub fn fetched(&self, fetch: usize) -> Option<&Fetch> {
        self.fetches.get(fetch)
    }

    fn application(&mut self, AppEvent { host, at, output }: AppEvent) {
        match output {
            HostOutput::Opened { open, result } => {
                let index = usize::try_from(open).unwrap_or(usize::MAX);
                let Some(fetch) = self.fetches.get_mut(index) else { return };
                match result {
                    Ok(no) => {
                        fetch.stream = Some(no);
                        let request = fetch.wanted.to_be_bytes().to_vec();
                        let data = AppCommand::Data { stream: no.stream, bytes: request };
                        self.net.with(host, |it, now| it.app(now, no.end, data));
                    }
                    Err(failure) => fetch.failed = Some(failure),
                }
            }
            HostOutput::Incoming(no) => {
                self.serving.insert((host, no), Serving::default());
                let accept = AppCommand::Accept { stream: no.stream };
                self.net.with(host, |it, now| it.app(now, no.end, accept));
            }
            HostOutput::Stream(no, event) => self.stream(host, at, no, event),
            // Nothing is kept and nothing is torn down here.
            _ => {}
        }
    }

    fn stream(&mut self, host: HostNo, at: Time, no: StreamNo, event: StreamEvent) {
        if let Some(serving) = self.serving.get_mut(&(host, no)) {
            match event {
                StreamEvent::Data(bytes) => {
                    serving.request.extend_from_slice(&bytes);
                    if let Some((head, _)) = serving.request.split_first_chunk::<8>() {
                        serving.left = u64::from_be_bytes(*head);
                        serving.request.clear();
                    }
                    let consumed = AppCommand::Consumed { stream: no.stream, bytes: bytes.len() };
                    self.net.with(host, |it, now| it.app(now, no.end, consumed));
                    self.serve(host, no);
                }
                StreamEvent::Writable => self.serve(host, no),
                StreamEvent::Reset(_) | StreamEvent::Closed => {
                    self.serving.remove(&(host, no));
                }
                StreamEvent::Opened | StreamEvent::Finished => {}
            }
            return;
        }
        let ours = |fetch: &&mut Fetch| fetch.host == host && fetch.stream == Some(no);
        let Some(fetch) = self.fetches.iter_mut().find(ours) else { return };
        match event {
            StreamEvent::Data(bytes) => {
                if fetch.got > 0 {
                    fetch.stall = fetch.stall.max(at.since(fetch.last));
                }
                fetch.last = at;
                let right = bytes.iter().zip(fetch.got..).all(|(byte, at)| *byte == body_byte(at));
                fetch.got += bytes.len() as u64;
                if right {
                    fetch.done = fetch.got == fetch.wanted;
                } else {
                    fetch.failed = Some(Failure::Internal);
                }
                let consumed = AppCommand::Consumed { stream: no.stream, bytes: bytes.len() };
                self.net.with(host, |it, now| it.app(now, no.end, consumed));
            }
            StreamEvent::Reset(failure) if !fetch.done => fetch.failed = Some(failure),
            _ => {}
        }
    }

    fn serve(&mut self, host: HostNo, no: StreamNo) {
        while let Some(serving) = self.serving.get_mut(&(host, no))
            && serving.left > 0
        {
            let room = self.net.host(host).map_or(0, |it| it.writable(no));
            let room = room.min(65_536).min(usize::try_from(serving.left).unwrap_or(usize::MAX));
            if room == 0 {
                return;
            }
            let end = serving.at + room as u64;
            let bytes = (serving.at..end).map(body_byte).collect();
            serving.at = end;
            serving.left -= room as u64;
            let last = serving.left == 0;
            self.net.with(host, |it, now| {
                it.app(now, no.end, AppCommand::Data { stream: no.stream, bytes });
                if last {
                    it.app(now, no.end, AppCommand::Finish { stream: no.stream });
                }
            });
        }
    }
}
