//! An owner's tunnels: kept ready, handed out, replaced before they end.
//!
//! Lives here: how many tunnels there should be, builds under way, and who holds what. Does not live
//! here: hops (`select.rs`), those that are kept (`layers.rs`), pauses and limits (`retry.rs`), the layers in
//! use (`session::End` has them from `Ready` on).
//!
//! ```text
//!  short of tunnels -> choose -> Connect -> Build -> Reply -> stock -> Ready -> (End) -> Retire -> Drop
//!          ^                       |          |        |                 |
//!          '--- other hops --------+----------+--------'                 '--> Lost, and short again
//! ```
//!
//! A tunnel in stock has an open lane already (`Lane::ToEnd` with [`STOCK_END`]), so that grants and
//! teardown work while it waits; `Ready` is preceded by a second `Open` that names its `End`. No cell
//! ever comes for a tunnel in stock: its end speaks only when spoken to.

mod builds;
mod retry;
mod stock;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use self::retry::{BackOff, Limit, Pace, Resting};
use super::{
    build::{BuildReply, OwnerLayers, PendingBuild},
    guards::{Guards, THIRD},
    layers::{GatewaysTag, Layers},
    select::{Avoid, Path, TooFewRouters},
};
use crate::{
    crypto::kdf,
    id::{EndNo, LinkNo, RouterId, TunnelId},
    plane::LinkCommand,
    rng::Rng,
    room::Room,
    table::Table,
    time::{Now, Time},
    wire::{Prefix, RouterDescriptor},
};

/// The `End` that lanes of tunnels in stock name. Node numbers real ones from 1.
pub const STOCK_END: EndNo = EndNo(0);
/// Tunnels of a service: 3 gateways and 2 spare (DESIGN section 7).
pub const SERVICE_TUNNELS: usize = 5;
/// Most tunnels one `End` may want: a file's exits (spec/file.md, section 7).
pub const TUNNELS_PER_END_MAX: usize = 16;
/// Most builds under way: each holds its keys, about 1 KiB.
pub const BUILDS_MAX: usize = 16;
/// Most routers of a view that are looked at (P11's private samplers have 2,048).
pub const VIEW_MAX: usize = 2_048;

const CLIENT_LIFE: Duration = Duration::from_mins(20);
const SERVICE_LIFE: Duration = Duration::from_hours(1);
/// What all records ask for: the longest life of any tunnel and a margin, so that no hop learns from
/// it whether a client or a service built the tunnel. The owner closes earlier.
const RECORD_MINUTES: u16 = 90;
/// Takes within this time make the stock grow.
const DEMAND_MEMORY: Duration = Duration::from_mins(1);
/// A tunnel that ends so soon is replaced from the stock if its successor is not built yet.
const RENEWAL_RESERVE: Duration = Duration::from_mins(1);
const MAINTAIN_EVERY: Duration = Duration::from_mins(1);
/// With too few of a layer within reach, look again so soon.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// Without any guard to build through, look again so soon.
const NO_GUARD_PAUSE: Duration = Duration::from_secs(1);
/// The set counts as large enough again after so long without a rule given up.
const SMALL_MEMORY: Duration = Duration::from_mins(10);
/// What layers look like as they were stored last.
const STORED: &str = "warren stored layers 1";

type Side = (LinkNo, TunnelId);

/// What an owner wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolsConfig {
    /// This router: never a hop.
    pub own: RouterId,
    /// Hops of client tunnels, 1 to 4. Default 3.
    pub client_hops: usize,
    /// Hops of service tunnels, 1 to 4. Default 3.
    pub service_hops: usize,
    /// Client tunnels kept in stock, spare included. Default 3.
    pub stock: usize,
    /// What the stock grows to on demand: one more per take within a minute. Default 8.
    pub stock_max: usize,
    /// What this router's links carry each way, in kbit/s: builds take a twentieth of it. Default a gigabit.
    pub bandwidth_kbps: u32,
}

impl PoolsConfig {
    /// The defaults.
    pub const fn new(own: RouterId) -> Self {
        let (stock, stock_max, bandwidth_kbps) = (3, 8, 1_000_000);
        Self { own, client_hops: 3, service_hops: 3, stock, stock_max, bandwidth_kbps }
    }
}

/// What happened.
#[derive(Debug)]
pub enum PoolsInput {
    /// The routers that paths are made of. Replaces the last view.
    View(Vec<Arc<RouterDescriptor>>),
    /// The only routers that may be first hops: those with whom there may be links.
    FirstHops(BTreeSet<RouterId>),
    /// The routers that were heard of long ago and from many places: guards are drawn of them where there are
    /// enough. Never said where places mean nothing.
    Seasoned(BTreeSet<RouterId>),
    /// There is a link with somebody in this place.
    Linked(Prefix),
    /// [`PoolsOutput::Connect`] succeeded.
    Connected {
        /// Which.
        ask: u64,
        /// The link to the hop.
        link: LinkNo,
        /// A fresh lane number on it.
        tunnel: TunnelId,
    },
    /// [`PoolsOutput::Connect`] failed.
    Unreachable {
        /// Which.
        ask: u64,
    },
    /// A build was answered. Ignored where it is not ours.
    Reply {
        /// On this link.
        link: LinkNo,
        /// Under this number.
        tunnel: TunnelId,
        /// The reply.
        reply: BuildReply,
    },
    /// A lane is over on its link. Ignored where it is not ours.
    LaneClosed {
        /// On this link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
    },
    /// A link is over, with all its lanes.
    LinkDown {
        /// Which.
        link: LinkNo,
    },
    /// A link's peer gives no sign of life, or does again: what runs there is the last choice.
    LinkQuiet {
        /// Which.
        link: LinkNo,
        /// Whether it is.
        quiet: bool,
    },
    /// A client `End` needs one more tunnel: `Ready` follows, and again whenever one is lost.
    TakeClient {
        /// Who.
        end: EndNo,
        /// What none of its tunnels may touch, from now on.
        avoid: Avoid,
    },
    /// A client `End` can do with so many: what it has beside them is not renewed.
    WantFewer {
        /// Who.
        end: EndNo,
        /// How many, at least one.
        count: usize,
    },
    /// A service needs so many gateway tunnels ([`SERVICE_TUNNELS`] usually).
    WantService {
        /// Its `End`.
        end: EndNo,
        /// How many; zero ends it.
        count: usize,
        /// Hops of each, 1 to 4; none for [`PoolsConfig::service_hops`].
        hops: Option<usize>,
        /// Its gateways.
        layer: GatewaysTag,
    },
    /// Somebody needs so many tunnels of another length than the router's own, with end hops that differ
    /// and that nobody else has.
    WantExits {
        /// Their `End`.
        end: EndNo,
        /// How many; zero ends it.
        count: usize,
        /// Hops of each, 1 to 4.
        hops: usize,
    },
    /// An `End` found its tunnel dead (silence, an unrecognised cell). No `Lost` follows.
    Failed {
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
    },
    /// An `End` says that its tunnel's end hop does not answer, or does again: like a quiet link's.
    Mute {
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
        /// Whether it does not.
        mute: bool,
    },
    /// An `End` is done with its tunnel: after `Retire`, or because it needs one less.
    Drop {
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
    },
    /// This machine slept, or its network is another one: pauses that failures earned say nothing of
    /// how it is now. Its links are down already.
    Woke,
    /// An `End` is gone, with all its tunnels.
    DropEnd {
        /// Which.
        end: EndNo,
    },
}

/// What to do next.
#[derive(Debug)]
pub enum PoolsOutput {
    /// Reach this first hop, choose a lane number there, and answer with `Connected` or
    /// `Unreachable`.
    Connect {
        /// Counts up, never twice.
        ask: u64,
        /// Whom.
        hop: Arc<RouterDescriptor>,
    },
    /// Tell a link.
    Link {
        /// Which.
        link: LinkNo,
        /// What.
        command: LinkCommand,
    },
    /// A tunnel for an `End`, its lane naming that `End` already.
    Ready {
        /// Whose.
        end: EndNo,
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
        /// Its layers.
        layers: Box<OwnerLayers>,
        /// Its hops, first hop first; the last is what a service's lease names.
        path: Vec<Arc<RouterDescriptor>>,
    },
    /// The `End` has a newer tunnel: it should move there, then `Drop` this one, which ends by itself
    /// a quarter of a lifetime later.
    Retire {
        /// Whose.
        end: EndNo,
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
    },
    /// A tunnel, or its first hop, gives no sign of life, or does again.
    Quiet {
        /// Whose.
        end: EndNo,
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
        /// Whether it is.
        quiet: bool,
    },
    /// A tunnel is gone; its replacement is on the way.
    Lost {
        /// Whose.
        end: EndNo,
        /// Its link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
    },
    /// No path of the wanted length can be made, whatever is relaxed. Said once per change.
    TooFewRouters(TooFewRouters),
    /// No guard can be used now. Said once until one can.
    NoGuard,
    /// Whether the network is so small that rules were given up. Said on change.
    AnonymitySetTooSmall(bool),
    /// The layers, to be stored.
    StoreGuards(Vec<u8>),
}

/// Numbers for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolsStatus {
    /// Tunnels in stock.
    pub stock: usize,
    /// Tunnels that Ends hold.
    pub held: usize,
    /// Builds under way.
    pub building: usize,
    /// Builds that succeeded.
    pub built: u64,
    /// Builds that failed.
    pub failed: u64,
    /// Tunnels that an `End` left for a newer one.
    pub renewed: u64,
    /// How long a build may take now.
    pub limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Client,
    Service(EndNo),
}

#[derive(Debug)]
enum Holder {
    Stock(Box<OwnerLayers>),
    End(EndNo),
    Retired(EndNo),
}

#[derive(Debug)]
struct Own {
    purpose: Purpose,
    /// Built around what this `End` avoids, or to renew one of its tunnels.
    made_for: Option<EndNo>,
    path: Path,
    /// From here on it counts as missing, so that another comes before it ends.
    rotates: Time,
    /// From here on the stock may replace it.
    reserve: Time,
    dies: Time,
    holder: Holder,
    /// Its `End` says that its end hop does not answer.
    mute: bool,
}

#[derive(Debug)]
struct Attempt {
    purpose: Purpose,
    /// Built around what this `End` avoids; else for the stock.
    end: Option<EndNo>,
    path: Path,
    started: Time,
    deadline: Time,
    /// Once the first hop was reached.
    sent: Option<(Side, PendingBuild)>,
}

#[derive(Debug)]
struct Want {
    count: usize,
    avoid: Avoid,
    service: bool,
    hops: Option<usize>,
    layer: Option<GatewaysTag>,
}

/// The machine.
#[derive(Debug)]
pub struct Pools {
    config: PoolsConfig,
    rng: Rng,
    /// The last time that was handled.
    seen: Time,
    layers: Layers,
    view: Vec<Arc<RouterDescriptor>>,
    /// Those of them that may be first.
    firsts: Vec<Arc<RouterDescriptor>>,
    /// Who that is; none for everybody.
    linked: Option<BTreeSet<RouterId>>,
    wants: BTreeMap<EndNo, Want>,
    tunnels: Table<Side, Own>,
    attempts: Table<u64, Attempt>,
    /// Links whose peer gives no sign of life, and who that is where tunnels of ours begin there.
    quiet: BTreeMap<LinkNo, Option<RouterId>>,
    next_ask: u64,
    limit: Limit,
    back_off: BackOff,
    pace: Pace,
    resting: Resting,
    /// Takes of the last minute, at most `stock_max`.
    takes: VecDeque<Time>,
    maintain_at: Time,
    said_too_few: Option<TooFewRouters>,
    said_no_guard: bool,
    small_since: Option<Time>,
    /// The hash of what was stored last.
    stored: [u8; 32],
    built: u64,
    failed: u64,
    renewed: u64,
    outputs: VecDeque<PoolsOutput>,
}

impl Pools {
    /// An owner without tunnels; `layers` as stored, or new.
    pub fn new(config: PoolsConfig, layers: Layers, rng: Rng) -> Self {
        let stored = kdf::hash(STORED, &[&layers.to_bytes()]);
        Self {
            config,
            rng,
            seen: Time::ZERO,
            layers,
            view: Vec::new(),
            firsts: Vec::new(),
            linked: None,
            wants: BTreeMap::new(),
            tunnels: Table::new(),
            attempts: Table::new(),
            quiet: BTreeMap::new(),
            next_ask: 1,
            limit: Limit::default(),
            back_off: BackOff::default(),
            pace: Pace::of(config.bandwidth_kbps),
            resting: Resting::default(),
            takes: VecDeque::new(),
            maintain_at: Time::ZERO,
            said_too_few: None,
            said_no_guard: false,
            small_since: None,
            stored,
            built: 0,
            failed: 0,
            renewed: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Numbers.
    pub fn status(&self) -> PoolsStatus {
        let stock = self.tunnels.values().filter(|own| matches!(own.holder, Holder::Stock(_)));
        let stock = stock.count();
        PoolsStatus {
            stock,
            held: self.tunnels.len() - stock,
            building: self.attempts.len(),
            built: self.built,
            failed: self.failed,
            renewed: self.renewed,
            limit: self.limit.get(),
        }
    }

    /// The guards, for the control socket's page.
    pub const fn guards(&self) -> &Guards {
        &self.layers.first
    }

    /// The hops that are kept, for whoever knows routers: [`PoolsOutput::StoreGuards`] says that they
    /// may be others now.
    pub fn kept(&self) -> impl Iterator<Item = RouterId> {
        self.layers.members()
    }

    /// Routers on the paths of builds that failed, through whom none has come about since: at most 256.
    pub fn failing(&self) -> impl Iterator<Item = RouterId> {
        self.resting.failing()
    }

    /// Whether a tunnel of ours leads through that router: then it is there.
    pub fn leads_through(&self, id: RouterId) -> bool {
        self.tunnels.values().any(|own| own.path.hops.iter().any(|hop| hop.id() == id))
    }

    /// The hops of an own tunnel, first first: for the control socket and tests, never for logs.
    pub fn hops(&self, link: LinkNo, tunnel: TunnelId) -> Option<Vec<RouterId>> {
        let own = self.tunnels.get(&(link, tunnel))?;
        Some(own.path.hops.iter().map(|hop| hop.id()).collect())
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: PoolsInput) {
        self.seen = now.time;
        match input {
            PoolsInput::View(mut view) => {
                view.retain(|router| router.carries() && router.address().is_some());
                view.truncate(VIEW_MAX);
                self.view = view;
                self.find_firsts(now);
            }
            PoolsInput::FirstHops(linked) => {
                self.linked = Some(linked);
                self.find_firsts(now);
            }
            PoolsInput::Linked(place) => return self.layers.linked(place),
            PoolsInput::Seasoned(routers) => return self.layers.season(routers),
            PoolsInput::Connected { ask, link, tunnel } => self.connected(now, ask, (link, tunnel)),
            PoolsInput::Unreachable { ask } => self.unreachable(now.time, ask),
            PoolsInput::Reply { link, tunnel, reply } => {
                self.reply(now.time, (link, tunnel), &reply);
            }
            PoolsInput::LaneClosed { link, tunnel } => self.gone(now.time, (link, tunnel)),
            PoolsInput::LinkDown { link } => self.link_down(now.time, link),
            PoolsInput::LinkQuiet { link, quiet } => self.link_quiet(link, quiet),
            PoolsInput::TakeClient { end, avoid } => self.take(now.time, end, &avoid),
            PoolsInput::WantFewer { end, count } => self.want_fewer(end, count),
            PoolsInput::WantService { end, count, hops, layer } => {
                self.want_service(end, count, hops, Some(layer));
                if self.view.len() >= THIRD.view_min {
                    self.maintain(now); // its gateways are drawn
                }
            }
            PoolsInput::WantExits { end, count, hops } => {
                self.want_service(end, count, Some(hops), None);
            }
            PoolsInput::Failed { link, tunnel } => self.dead(now.time, (link, tunnel)),
            PoolsInput::Mute { link, tunnel, mute } => self.mute((link, tunnel), mute),
            PoolsInput::Drop { link, tunnel } => self.dropped((link, tunnel)),
            PoolsInput::Woke => {
                self.back_off.succeeded();
                self.resting = Resting::default();
                self.layers.forgive();
            }
            PoolsInput::DropEnd { end } => self.drop_end(end),
        }
        self.balance(now);
    }

    /// The links carry so much each way from now on, in kbit/s.
    pub fn set_bandwidth(&mut self, kbps: u32) {
        self.pace.change(kbps);
    }

    /// Time passed: gives up on builds, ends and renews tunnels.
    pub fn handle_timeout(&mut self, now: Now) {
        self.seen = now.time;
        if now.time >= self.maintain_at {
            self.maintain(now);
        }
        let late: Vec<u64> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.deadline <= now.time)
            .map(|(ask, _)| *ask)
            .collect();
        for ask in late {
            self.silent(now.time, ask);
        }
        let over: Vec<Side> = self
            .tunnels
            .iter()
            .filter(|(_, own)| own.dies <= now.time)
            .map(|(side, _)| *side)
            .collect();
        for side in over {
            self.close(side);
            self.forget(side, true);
        }
        self.balance(now);
    }

    /// Gives up memory that nothing needs: to be called now and then.
    pub fn rest(&mut self) {
        self.rng.rest();
        self.view.rest();
        self.wants.rest();
        self.tunnels.rest();
        self.attempts.rest();
        self.quiet.rest();
        self.takes.rest();
        self.outputs.rest();
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<PoolsOutput> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let later = |at: Time| (at > self.seen).then_some(at);
        let builds = self.attempts.values().map(|attempt| attempt.deadline);
        let lives = self
            .tunnels
            .values()
            .map(|own| later(own.rotates).or_else(|| later(own.reserve)).unwrap_or(own.dies));
        let retry = later(self.back_off.next());
        let upkeep = (!self.view.is_empty()).then_some(self.maintain_at);
        builds.chain(lives).chain(retry).chain(upkeep).min()
    }
}

#[cfg(test)]
mod tests;
