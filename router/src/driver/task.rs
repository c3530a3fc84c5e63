//! The router's task: owns the `Host` and does what it says.
//!
//! Lives here: the loop, and the tables from numbers to sockets, streams and files. Does not live
//! here: any decision.

mod answers;
mod newcomers;
mod shares;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep_until,
};
use warren_overlay::{
    id::{EndNo, LinkNo},
    ring::VIEW_MAX,
    rng::Rng,
    service::Name,
    session::{AppCommand, ResetReason},
    time::Time,
    wire::Address,
};
use warren_proxy::Failure;
use zeroize::Zeroizing;

use super::{
    Event, StartError,
    allowance::Allowance,
    change::{Change, Changed},
    clock::Clock,
    conn::{self, Conn, READ_LEN, Read},
    friends,
    inbox::{self, Outlet},
    lan::{Nearby, News},
    mapping::Mapped,
    private::SHARES_MAX,
    race::{self, Families},
    services::{self, Service},
    setup::{self, Setup},
    streams::{self, StreamHandle},
};
use crate::{
    app::{StreamEvent, StreamNo},
    config::{Announce, LimitsFile, Outbound},
    home::Home,
    host::{Host, HostOutput},
    node::{Door, JobEvent, JobInput, JobNo, NodeInput, NodeSettings, Saved, ServiceSettings},
};

/// Events handled in a round, at the end of which what they caused is written.
const EVENTS_PER_ROUND: usize = 32;
/// Bytes that are read in a round: what comes in and what goes out stays in the cache, and batches come
/// back before new ones are needed.
const BYTES_PER_ROUND: usize = 256 * 1_024;
/// How long leaving may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// A router with so many neighbours does not dial those nearby again.
const FEW: usize = 8;
/// A stream's pump hears of new room in steps of at least this many bytes.
const ROOM_STEP: usize = 16 * 1_024;

/// What a link has to say waits so long until it is read: the router has more to do than it can.
/// A build gives up after 5 s, so a second at every hop is too much.
const WAIT_LATE: Duration = Duration::from_secs(1);

type OpenAnswer = oneshot::Sender<Result<StreamHandle, Failure>>;

#[derive(Debug)]
struct Slot {
    to: Outlet,
    /// Room that the pump was told of and has not used.
    granted: usize,
}

/// The task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) clock: Clock,
    pub(super) host: Host,
    /// What the operator wants.
    pub(super) limits: LimitsFile,
    pub(super) allowance: Allowance,
    pub(super) count_at: tokio::time::Instant,
    disk_mib: u64,
    pub(super) home: Option<Arc<Home>>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    conns: BTreeMap<LinkNo, Conn>,
    /// Links with something to read, each once, and since when: they take turns.
    readable: VecDeque<(LinkNo, tokio::time::Instant)>,
    /// What is read, and opened in place.
    buffer: Vec<u8>,
    opens: BTreeMap<u64, OpenAnswer>,
    open: u64,
    streams: BTreeMap<StreamNo, Slot>,
    services: BTreeMap<EndNo, Service>,
    /// The number of the next share.
    next_share: u32,
    /// Private services that admit this router.
    accepted: BTreeSet<Name>,
    /// Whom to tell what concerns a transfer.
    jobs: BTreeMap<JobNo, mpsc::UnboundedSender<JobEvent>>,
    /// Links with something to write, each once, the last first: few at any time.
    transmit: Vec<LinkNo>,
    link_source: SocketAddr,
    /// The proxy through which links leave.
    outbound: Option<Outbound>,
    /// What the operator says is this router's address.
    announce: Announce,
    /// What the line's router says of forwarding a port.
    mapped: Mapped,
    /// Whether it looks for routers on its local network.
    on_lan: bool,
    /// What is known of them.
    nearby: Nearby,
    /// Which families of addresses lead out of this machine.
    families: Arc<Mutex<Families>>,
    /// Whether its network lives on private addresses.
    local: bool,
    change: Change,
    addresses: [String; 3],
    rng: Rng,
    /// The host knows that it is late.
    late: bool,
    leaving: Option<tokio::time::Instant>,
}

impl Task {
    /// A router from its setup, not running yet.
    pub(super) fn new(
        clock: Clock,
        setup: Setup,
        mut rng: Rng,
        addresses: [String; 3],
        events: mpsc::Sender<Event>,
        inbox: mpsc::Receiver<Event>,
    ) -> Result<Self, StartError> {
        let now = clock.now();
        let (announce, local) = (setup.config.announce, setup.network.local);
        let on_lan = setup.config.lan_discovery;
        let proxied = setup.config.outbound.is_some();
        let (door, also) = setup::door(announce, setup.config.link, local, proxied, on_lan, None);
        let link_secret = Arc::new(setup.link_secret);
        let guards = match &setup.home {
            Some(home) => home.read("guards")?.map(|bytes| bytes.to_vec()).unwrap_or_default(),
            None => Vec::new(),
        };
        let disk = u64::from(setup.config.disk_mib) << 20;
        let stores = setup::open_stores(setup.home.as_deref(), disk)?;
        let allowance = Allowance::load(setup.home.as_deref())?;
        let limits = setup.config.limits();
        let settings = NodeSettings {
            network: setup.network,
            identity: setup.identity,
            link_key: link_secret.public(),
            door,
            also,
            admission: setup.admission,
            membership: setup.membership,
            friends: setup.friends,
            hops: setup.config.hops,
            degree: setup.config.degree,
            known_max: VIEW_MAX,
            bandwidth_kbps: setup.config.bandwidth_kbps,
            memory_bytes: u64::from(setup.config.memory_mib) << 20,
            builds_per_second: setup.config.builds_per_second,
            transit: setup.config.transit,
            bans: setup.config.bans.clone(),
            links_max: usize::try_from(setup.config.links).unwrap_or(usize::MAX),
            peers: setup.peers,
            guards,
            store: stores.records,
            blocks: stores.blocks,
        };
        let host = Host::new(now, settings, link_secret, rng.fork());
        let mut this = Self {
            clock,
            host,
            limits,
            allowance,
            disk_mib: disk >> 20,
            count_at: self::now(),
            home: setup.home,
            events,
            inbox,
            conns: BTreeMap::new(),
            readable: VecDeque::new(),
            buffer: vec![0; READ_LEN],
            opens: BTreeMap::new(),
            open: 0,
            streams: BTreeMap::new(),
            services: BTreeMap::new(),
            // Those that are loaded with a service count from 1.
            next_share: u32::try_from(SHARES_MAX).unwrap_or(u32::MAX) + 1,
            accepted: BTreeSet::new(),
            jobs: BTreeMap::new(),
            transmit: Vec::new(),
            link_source: setup.config.link,
            outbound: setup.config.outbound,
            announce,
            families: Arc::default(),
            mapped: if setup.config.port_mapping { Mapped::Asking } else { Mapped::Off },
            on_lan,
            nearby: Nearby::Off,
            local,
            change: Change::new(self::now(), setup.config.link, on_lan),
            addresses,
            rng,
            late: false,
            leaving: None,
        };
        this.hold_limits();
        let saved = this.home.as_deref().map(services::load).transpose()?.unwrap_or_default();
        for (service, state) in saved {
            this.add_service(service, state);
        }
        this.load_access()?;
        Ok(this)
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self) {
        loop {
            self.carry_out();
            if self.leaving.is_some_and(|until| self.conns.is_empty() || until <= now()) {
                return;
            }
            let wake = self.host.poll_timeout().map(|at| self.clock.instant(at));
            let wake = wake.into_iter().chain(self.leaving).chain([self.count_at]).min();
            let sleep = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            if self.readable.is_empty() {
                tokio::select! {
                    biased;
                    event = self.inbox.recv() => {
                        let Some(event) = event else { return };
                        self.handle(event);
                    }
                    () = sleep => {}
                }
            } else {
                tokio::task::yield_now().await;
            }
            for _ in 1..EVENTS_PER_ROUND {
                let Ok(event) = self.inbox.try_recv() else { break };
                self.handle(event);
            }
            self.read();
            if self.count_at <= now() {
                self.count_traffic();
            }
            let now = self.clock.now();
            if self.host.poll_timeout().is_some_and(|at: Time| at <= now.time) {
                self.host.handle_timeout(now);
            }
            if let Some(changed) = self.change.look(self::now()) {
                self.changed(changed);
            }
        }
    }

    /// No link of before is worth waiting for.
    fn changed(&mut self, changed: Changed) {
        tracing::info!(?changed, "all links are made anew");
        let (door, also) = self.door();
        race::locked(&self.families).forget();
        self.host.node(self.clock.now(), NodeInput::Moved { door: Some((door, also)) });
    }

    /// Where others reach it, as far as that is known now.
    fn door(&self) -> (Door, Option<Address>) {
        let (mapped, proxied) = (self.mapped.address(), self.outbound.is_some());
        setup::door(self.announce, self.link_source, self.local, proxied, self.on_lan, mapped)
    }

    /// The line's router forwards a port, or another one, or none any more.
    fn mapped(&mut self, mapped: Mapped) {
        if std::mem::replace(&mut self.mapped, mapped) != mapped {
            tracing::info!(forwarded = mapped.address().is_some(), "port mapping");
            let (door, also) = self.door();
            self.host.node(self.clock.now(), NodeInput::Door { door, also });
        }
    }

    /// There are routers nearby. One that was told before is of no interest to who has neighbours enough.
    fn heard(&mut self, news: News) {
        match news {
            News::Nearby(nearby) => self.nearby = nearby,
            News::Found { again: true, .. }
                if self.host.node_ref().ring().neighbours().count() >= FEW => {}
            News::Found { contact, also, .. } => {
                self.host.node(self.clock.now(), NodeInput::Found(contact, also));
            }
        }
    }

    /// Reads what there is, a buffer of each link in turn.
    fn read(&mut self) {
        let now = self.clock.now();
        let mut bytes = 0;
        while bytes < BYTES_PER_ROUND
            && let Some((link, since)) = self.readable.pop_front()
        {
            // A connection that was closed has nothing more to say.
            let Some(conn) = self.conns.get(&link) else { continue };
            let read = conn.read(&mut self.buffer);
            self.judge_wait(since.elapsed());
            match read {
                Read::Bytes(n) => {
                    bytes += n;
                    self.host.received(now, link, self.buffer.get_mut(..n).unwrap_or_default());
                    self.readable.push_back((link, self::now()));
                }
                Read::Nothing => {}
                Read::Over => {
                    self.conns.remove(&link);
                    self.host.disconnected(now, link);
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Accepted { stream, source } => {
                if let Some(link) = self.host.accept(now, source) {
                    self.conns.insert(link, Conn::start(link, stream, self.events.clone()));
                }
            }
            Event::Dialled { link, result } => match result {
                Ok((at, stream)) => {
                    self.conns.insert(link, Conn::start(link, stream, self.events.clone()));
                    self.host.connected_at(now, link, at);
                }
                Err(_) => self.host.disconnected(now, link),
            },
            Event::Readable { link, at } => self.readable.push_back((link, at)),
            Event::Writable { link } => {
                if let Some(conn) = self.conns.get_mut(&link) {
                    conn.writable();
                    self.will_transmit(link);
                }
            }
            Event::Open { destination, isolation, answer } => {
                self.open += 1;
                self.opens.insert(self.open, answer);
                let (name, port) = (destination.name, destination.port);
                let input = NodeInput::Open { open: self.open, isolation, name, port };
                self.host.node(now, input);
            }
            Event::App { end, command } => self.app(end, command),
            Event::JobBegin { job, to } => {
                self.jobs.insert(job, to);
            }
            Event::Job { job, input } => {
                if matches!(input, JobInput::End) {
                    self.jobs.remove(&job);
                }
                self.host.node(now, NodeInput::Job { job, input });
            }
            Event::Control(ask) => self.answer(ask),
            Event::Mapped(mapped) => self.mapped(mapped),
            Event::Lan(news) => self.heard(news),
            Event::Stop => {
                if self.leaving.is_none() {
                    self.leaving = Some(self::now() + LEAVE_LIMIT);
                    self.host.node(now, NodeInput::Leave);
                }
            }
        }
    }

    /// Bytes that waited so long say that the processor has no time for more tunnels.
    fn judge_wait(&mut self, waited: Duration) {
        let late = waited >= if self.late { WAIT_LATE / 4 } else { WAIT_LATE };
        if late != self.late {
            self.late = late;
            self.host.late(self.clock.now(), late);
        }
    }

    fn app(&mut self, end: EndNo, command: AppCommand) {
        let now = self.clock.now();
        let sent = match &command {
            AppCommand::Data { stream, bytes } => Some((*stream, bytes.len())),
            _ => None,
        };
        self.host.app(now, end, command);
        if let Some((stream, len)) = sent {
            let no = StreamNo { end, stream };
            if let Some(slot) = self.streams.get_mut(&no) {
                slot.granted = slot.granted.saturating_sub(len);
            }
            self.give_room(no);
        }
    }

    /// Tells a stream's pump what it may send beyond what it was told before.
    fn give_room(&mut self, no: StreamNo) {
        let room = self.host.writable(no);
        let Some(slot) = self.streams.get_mut(&no) else { return };
        let more = room.saturating_sub(slot.granted);
        if more >= ROOM_STEP || more > 0 && slot.granted == 0 {
            slot.granted += more;
            slot.to.room(more);
        }
    }

    /// Does what the host wants, until it wants nothing.
    fn carry_out(&mut self) {
        loop {
            while let Some(output) = self.host.poll_output() {
                self.output(output);
            }
            let Some(link) = self.transmit.pop() else { return };
            self.flush(link);
        }
    }

    fn will_transmit(&mut self, link: LinkNo) {
        if let Err(at) = self.transmit.binary_search_by(|other| link.cmp(other)) {
            self.transmit.insert(at, link);
        }
    }

    fn flush(&mut self, link: LinkNo) {
        let now = self.clock.now();
        let Some(conn) = self.conns.get_mut(&link) else { return };
        let host = &mut self.host;
        if conn.flush(|buffer| host.poll_transmit(now, link, buffer)).is_err() {
            self.conns.remove(&link);
            self.host.disconnected(now, link);
        }
    }

    fn output(&mut self, output: HostOutput) {
        match output {
            HostOutput::Transmit(link) => {
                self.will_transmit(link);
            }
            HostOutput::Dial { link, to, also } => self.dial(link, to, also),
            HostOutput::Close(link) => {
                self.flush(link);
                self.conns.remove(&link);
                self.transmit.retain(|other| *other != link);
            }
            HostOutput::Opened { open, result } => {
                let Some(answer) = self.opens.remove(&open) else { return };
                let handle = result.map(|no| self.new_stream(no));
                if let Err(Ok(handle)) = answer.send(handle) {
                    // The application left meanwhile.
                    self.reset(handle.no, ResetReason::Closed);
                }
            }
            HostOutput::Incoming(no) => match self.services.get(&no.end) {
                Some(service) => {
                    let target = service.target.clone();
                    let handle = self.new_stream(no);
                    tokio::spawn(streams::serve(target, handle));
                }
                None => self.reset(no, ResetReason::Refused),
            },
            HostOutput::Stream(no, event) => self.stream_event(no, event),
            HostOutput::Job { job, event } => {
                if let Some(to) = self.jobs.get(&job) {
                    // Who is gone ends the job as well.
                    let _ = to.send(event);
                }
            }
            HostOutput::EndGone(end) => {
                let gone: Vec<_> =
                    self.streams.keys().copied().filter(|no| no.end == end).collect();
                for no in gone {
                    self.stream_event(no, StreamEvent::Reset(Failure::Broken));
                }
            }
            HostOutput::Save(saved) => {
                if let Err(error) = self.save(&saved) {
                    tracing::error!("cannot keep state for the next start: {error}");
                }
            }
        }
    }

    /// Dials a router in both families, until one answers; a proxy only at the first address.
    fn dial(&self, link: LinkNo, to: SocketAddr, also: Option<SocketAddr>) {
        let (source, events, outbound) = (self.link_source, self.events.clone(), self.outbound);
        let families = Arc::clone(&self.families);
        let all: Vec<_> = std::iter::once(to).chain(also).collect();
        let order = match outbound {
            Some(_) => vec![to],
            None => race::locked(&families).order(now(), &all),
        };
        tokio::spawn(async move {
            let note = |address, failed| {
                if outbound.is_none() {
                    race::locked(&families).note(now(), address, failed);
                }
            };
            let result = race::race(order, |to| conn::dial(source, outbound, to), note).await;
            let _ = events.send(Event::Dialled { link, result }).await;
        });
    }

    fn new_stream(&mut self, no: StreamNo) -> StreamHandle {
        let (to, inbox) = inbox::new();
        self.streams.insert(no, Slot { to, granted: 0 });
        self.give_room(no);
        StreamHandle::new(no, self.events.clone(), inbox)
    }

    fn reset(&mut self, no: StreamNo, reason: ResetReason) {
        self.streams.remove(&no);
        let now = self.clock.now();
        self.host.app(now, no.end, AppCommand::Reset { stream: no.stream, reason });
    }

    fn stream_event(&mut self, no: StreamNo, event: StreamEvent) {
        let Some(slot) = self.streams.get(&no) else { return };
        match event {
            StreamEvent::Writable => self.give_room(no),
            StreamEvent::Opened => slot.to.opened(),
            StreamEvent::Data(bytes) => slot.to.data(bytes),
            StreamEvent::Finished => slot.to.finish(),
            StreamEvent::Closed => {
                self.streams.remove(&no);
            }
            StreamEvent::Reset(failure) => {
                if let Some(slot) = self.streams.remove(&no) {
                    slot.to.reset(failure);
                }
            }
        }
    }

    fn save(&self, saved: &Saved) -> Result<(), StartError> {
        let Some(home) = &self.home else { return Ok(()) };
        match saved {
            Saved::Guards(bytes) => Ok(home.write("guards", bytes)?),
            Saved::Peers(peers) => setup::save_peers(home, peers),
            Saved::Friend(friend) => friends::described(home, friend),
            Saved::Service { end, state } => match self.services.get(end) {
                Some(service) => service.save(home, state),
                None => Ok(()),
            },
        }
    }

    fn add_service(&mut self, service: Service, state: Zeroizing<Vec<u8>>) {
        let now = self.clock.now();
        let end = self.host.new_end();
        let settings = Box::new(ServiceSettings {
            state,
            hops: service.hops,
            clients: service.clients(),
            ..ServiceSettings::new(service.key())
        });
        self.services.insert(end, service);
        self.host.node(now, NodeInput::Expose { end, settings });
    }
}

fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
