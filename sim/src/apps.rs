//! Applications at both ends of a stream, which count and compare bytes.
//!
//! Lives here: services that answer, clients that ask. Does not live here: when somebody asks
//! (`run.rs`).
//!
//! A client sends the number of bytes it wants, 8 bytes big-endian; the service sends so many. A
//! conversation asks again on the same stream after a pause.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use warren_overlay::{
    crypto::blind::ServiceKey, garlic::Rate, id::EndNo, service::Name, session::AppCommand,
    time::Time,
};
use warren_proxy::{Failure, IsolationSecret, Listener};
use warren_router::{
    app::{StreamEvent, StreamNo},
    host::HostOutput,
    node::{NodeInput, ServiceSettings},
};

use crate::{
    net::{HostNo, Net},
    streams::Streams,
};

/// A fetch's number in the order of asking.
pub type FetchNo = usize;

/// Bytes given to a stream at a time.
const PIECE_MAX: usize = 65_536;

/// What a stream is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// The kind, as results name it.
    pub kind: &'static str,
    /// Bytes of each answer.
    pub bytes: u64,
    /// Requests, one after the other.
    pub exchanges: u32,
    /// Between an answer and the next request.
    pub pause: Duration,
    /// Whether what comes is read; false for an application that has stopped.
    pub reads: bool,
}

impl Purpose {
    /// One request.
    pub const fn fetch(bytes: u64) -> Self {
        Self { kind: "fetch", bytes, exchanges: 1, pause: Duration::ZERO, reads: true }
    }
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Pending,
    /// Everything came, in order and unchanged.
    Done,
    /// It failed, and the router said why.
    Failed(Failure),
    /// What came is not what was sent: a byte lost, doubled or changed.
    Wrong,
    /// The client's router was stopped.
    Cut,
}

/// One stream to a service.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Who fetches.
    pub host: HostNo,
    /// What for.
    pub purpose: Purpose,
    stream: Option<StreamNo>,
    got: u64,
    /// Requests not yet sent.
    left: u32,
    /// When it was asked for.
    pub asked: Time,
    /// When its first bytes came.
    pub first: Option<Time>,
    /// When its last bytes came, or its last request went.
    pub last: Time,
    /// The longest wait within an answer, or for a later one of the same stream.
    pub stall: Duration,
    /// How it stands.
    pub outcome: Outcome,
}

impl Fetch {
    /// Whether everything came, in order and unchanged.
    pub fn done(&self) -> bool {
        self.outcome == Outcome::Done
    }

    /// Whether nothing more will come.
    pub fn over(&self) -> bool {
        self.outcome != Outcome::Pending
    }

    /// Bytes that came.
    pub const fn got(&self) -> u64 {
        self.got
    }
}

#[derive(Debug)]
struct Service {
    host: HostNo,
    end: EndNo,
    name: Name,
    /// The stream that its key comes from.
    place: u64,
    state: Vec<u8>,
}

#[derive(Debug, Default)]
struct Serving {
    request: Vec<u8>,
    left: u64,
    at: u64,
    /// The client asks for nothing more.
    last: bool,
}

/// All applications.
#[derive(Debug)]
pub(crate) struct Apps {
    /// How many clients each gateway lets in.
    rate: Rate,
    isolation: Arc<IsolationSecret>,
    services: Vec<Service>,
    fetches: Vec<Fetch>,
    asking: BTreeMap<(HostNo, StreamNo), FetchNo>,
    serving: BTreeMap<(HostNo, StreamNo), Serving>,
}

/// Byte `at` of every body: cheap, and different at every shift that matters.
fn body_byte(at: u64) -> u8 {
    let [low, high, ..] = at.to_le_bytes();
    low.wrapping_mul(31) ^ high
}

fn settings(streams: Streams, service: &Service) -> ServiceSettings {
    let key = ServiceKey::generate(&mut streams.of("service", service.place));
    let mut settings = ServiceSettings::new(key);
    settings.state.extend_from_slice(&service.state);
    settings
}

impl Apps {
    pub(crate) fn new(streams: Streams, rate: Rate) -> Self {
        Self {
            rate,
            isolation: Arc::new(IsolationSecret::new(&mut streams.of("isolation", 0))),
            services: Vec::new(),
            fetches: Vec::new(),
            asking: BTreeMap::new(),
            serving: BTreeMap::new(),
        }
    }

    pub(crate) fn expose(&mut self, net: &mut Net, no: HostNo) -> (EndNo, Name) {
        let place = self.services.len() as u64;
        let key = ServiceKey::generate(&mut net.streams().of("service", place));
        let name = Name::of_service(&key);
        self.services.push(Service { host: no, end: EndNo(0), name, place, state: Vec::new() });
        self.restart(net, self.services.len() - 1);
        (self.services.last().map_or(EndNo(0), |it| it.end), name)
    }

    /// Publishes a service on one more router, which has a copy of what the first one keeps of it.
    pub(crate) fn expose_beside(&mut self, net: &mut Net, no: HostNo, name: Name) -> Option<EndNo> {
        let first = self.services.iter().find(|service| service.name == name)?;
        let (place, state) = (first.place, first.state.clone());
        self.services.push(Service { host: no, end: EndNo(0), name, place, state });
        self.restart(net, self.services.len() - 1);
        self.services.last().map(|service| service.end)
    }

    fn restart(&mut self, net: &mut Net, index: usize) {
        let streams = net.streams();
        let Some(service) = self.services.get_mut(index) else { return };
        let settings = ServiceSettings { rate: self.rate, ..settings(streams, service) };
        let settings = Box::new(settings);
        let end = net.with(service.host, |host, now| {
            let end = host.new_end();
            host.node(now, NodeInput::Expose { end, settings });
            end
        });
        service.end = end.unwrap_or(service.end);
    }

    /// A router runs again: with the services it had.
    pub(crate) fn restarted(&mut self, net: &mut Net, no: HostNo) {
        for index in 0..self.services.len() {
            if self.services.get(index).is_some_and(|service| service.host == no) {
                self.restart(net, index);
            }
        }
    }

    /// A router was stopped: its streams are over.
    pub(crate) fn killed(&mut self, now: Time, no: HostNo) {
        self.serving.retain(|(host, _), _| *host != no);
        self.asking.retain(|(host, _), _| *host != no);
        for fetch in self.fetches.iter_mut().filter(|fetch| fetch.host == no && !fetch.over()) {
            fetch.outcome = Outcome::Cut;
            fetch.last = now;
        }
    }

    pub(crate) fn save(&mut self, no: HostNo, end: EndNo, state: &[u8]) {
        let ours = |service: &&mut Service| service.host == no && service.end == end;
        if let Some(service) = self.services.iter_mut().find(ours) {
            service.state = state.to_vec();
        }
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = (HostNo, EndNo, Name)> {
        self.services.iter().map(|service| (service.host, service.end, service.name))
    }

    pub(crate) fn fetches(&self) -> &[Fetch] {
        &self.fetches
    }

    pub(crate) fn fetched(&self, fetch: FetchNo) -> Option<&Fetch> {
        self.fetches.get(fetch)
    }

    pub(crate) fn ask(
        &mut self,
        net: &mut Net,
        no: HostNo,
        name: Name,
        purpose: Purpose,
        context: u16,
    ) -> FetchNo {
        let fetch = self.fetches.len();
        let now = net.time();
        let outcome = if net.host(no).is_some() { Outcome::Pending } else { Outcome::Cut };
        self.fetches.push(Fetch {
            host: no,
            purpose,
            stream: None,
            got: 0,
            left: purpose.exchanges,
            asked: now,
            first: None,
            last: now,
            stall: Duration::ZERO,
            outcome,
        });
        let listener = Listener { number: context, secret: Arc::clone(&self.isolation) };
        let isolation = listener.context(name);
        net.with(no, |host, now| {
            let input = NodeInput::Open { open: fetch as u64, isolation, name, port: 80 };
            host.node(now, input);
        });
        fetch
    }

    /// A router says something to its applications; perhaps a fetch asks again at a moment.
    pub(crate) fn handle(
        &mut self,
        net: &mut Net,
        host: HostNo,
        at: Time,
        output: HostOutput,
    ) -> Option<(Time, FetchNo)> {
        match output {
            HostOutput::Opened { open, result } => {
                let no = usize::try_from(open).unwrap_or(usize::MAX);
                let fetch = self.fetches.get_mut(no).filter(|fetch| !fetch.over())?;
                match result {
                    Ok(stream) => {
                        fetch.stream = Some(stream);
                        self.asking.insert((host, stream), no);
                        self.exchange(net, no);
                    }
                    Err(failure) => fetch.outcome = Outcome::Failed(failure),
                }
                None
            }
            HostOutput::Incoming(no) => {
                self.serving.insert((host, no), Serving::default());
                let accept = AppCommand::Accept { stream: no.stream };
                net.with(host, |it, now| it.app(now, no.end, accept));
                None
            }
            HostOutput::Stream(no, event) if self.serving.contains_key(&(host, no)) => {
                self.served(net, host, no, event);
                None
            }
            HostOutput::Stream(no, event) => self.answered(net, (host, no), at, event),
            // What is dialled and saved is others'; an end that goes resets its streams first.
            _ => None,
        }
    }

    /// A fetch sends its next request.
    pub(crate) fn exchange(&mut self, net: &mut Net, no: FetchNo) {
        let Some(fetch) = self.fetches.get_mut(no).filter(|fetch| !fetch.over()) else { return };
        let Some(stream) = fetch.stream else { return };
        fetch.left = fetch.left.saturating_sub(1);
        fetch.last = if fetch.got == 0 { fetch.asked } else { net.time() };
        let (host, last) = (fetch.host, fetch.left == 0);
        let bytes = fetch.purpose.bytes.to_be_bytes().to_vec();
        net.with(host, |it, now| {
            it.app(now, stream.end, AppCommand::Data { stream: stream.stream, bytes });
            if last {
                it.app(now, stream.end, AppCommand::Finish { stream: stream.stream });
            }
        });
    }

    fn answered(
        &mut self,
        net: &mut Net,
        (host, no): (HostNo, StreamNo),
        at: Time,
        event: StreamEvent,
    ) -> Option<(Time, FetchNo)> {
        let index = *self.asking.get(&(host, no))?;
        let fetch = self.fetches.get_mut(index)?;
        match event {
            StreamEvent::Data(bytes) => {
                if fetch.got > 0 {
                    fetch.stall = fetch.stall.max(at.since(fetch.last));
                }
                fetch.first.get_or_insert(at);
                fetch.last = at;
                let right = bytes.iter().zip(fetch.got..).all(|(byte, at)| *byte == body_byte(at));
                fetch.got += bytes.len() as u64;
                let asked = u64::from(fetch.purpose.exchanges - fetch.left) * fetch.purpose.bytes;
                let mut again = None;
                if !right || fetch.got > asked {
                    fetch.outcome = Outcome::Wrong;
                } else if fetch.got == asked && fetch.left > 0 {
                    again = Some((at + fetch.purpose.pause, index));
                } else if fetch.got == asked {
                    fetch.outcome = Outcome::Done;
                }
                if fetch.purpose.reads {
                    let consumed = AppCommand::Consumed { stream: no.stream, bytes: bytes.len() };
                    net.with(host, |it, now| it.app(now, no.end, consumed));
                }
                again
            }
            StreamEvent::Reset(failure) => {
                if !fetch.over() {
                    fetch.outcome = Outcome::Failed(failure);
                }
                self.asking.remove(&(host, no));
                None
            }
            StreamEvent::Finished if !fetch.over() => {
                fetch.outcome = Outcome::Wrong;
                None
            }
            StreamEvent::Closed => {
                self.asking.remove(&(host, no));
                None
            }
            StreamEvent::Finished | StreamEvent::Opened | StreamEvent::Writable => None,
        }
    }

    fn served(&mut self, net: &mut Net, host: HostNo, no: StreamNo, event: StreamEvent) {
        let Some(serving) = self.serving.get_mut(&(host, no)) else { return };
        match event {
            StreamEvent::Data(bytes) => {
                serving.request.extend_from_slice(&bytes);
                while let Some((head, rest)) = serving.request.split_first_chunk::<8>() {
                    serving.left = serving.left.saturating_add(u64::from_be_bytes(*head));
                    serving.request = rest.to_vec();
                }
                let consumed = AppCommand::Consumed { stream: no.stream, bytes: bytes.len() };
                net.with(host, |it, now| it.app(now, no.end, consumed));
                self.serve(net, host, no);
            }
            StreamEvent::Finished => {
                serving.last = true;
                if serving.left == 0 {
                    let finish = AppCommand::Finish { stream: no.stream };
                    net.with(host, |it, now| it.app(now, no.end, finish));
                }
            }
            StreamEvent::Writable => self.serve(net, host, no),
            StreamEvent::Reset(_) | StreamEvent::Closed => {
                self.serving.remove(&(host, no));
            }
            StreamEvent::Opened => {}
        }
    }

    fn serve(&mut self, net: &mut Net, host: HostNo, no: StreamNo) {
        while let Some(serving) = self.serving.get_mut(&(host, no))
            && serving.left > 0
        {
            let room = net.host(host).map_or(0, |it| it.writable(no)).min(PIECE_MAX);
            let room = room.min(usize::try_from(serving.left).unwrap_or(usize::MAX));
            if room == 0 {
                return;
            }
            let end = serving.at + room as u64;
            let bytes = (serving.at..end).map(body_byte).collect();
            serving.at = end;
            serving.left -= room as u64;
            let last = serving.left == 0 && serving.last;
            net.with(host, |it, now| {
                it.app(now, no.end, AppCommand::Data { stream: no.stream, bytes });
                if last {
                    it.app(now, no.end, AppCommand::Finish { stream: no.stream });
                }
            });
        }
    }
}
