//! Scenarios as files write them: one format for every fidelity.
//!
//! Lives here: the keys, their meaning and defaults, and reading them. Does not live here: which values
//! make sense (`scenario/check.rs`), what a scenario does (`run.rs`, `graph`). In words: docs/sim.md.
//!
//! Every key is known or an error; a key that a fidelity does not use is unknown there.

mod check;
mod keep;
mod store;
mod units;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    keep::{Class, Keep, Life},
    store::{StoreLoad, Unit},
    units::{Condition, Size, Span, UnitError},
};
use crate::{
    adversary::Attack,
    chance::Times,
    graph::{Lookups, Rule},
    latency::{Latency, Matrix},
    metric::Metric,
};

/// Routers of a `wire` scenario: each costs about 1 MiB.
pub const ROUTERS_MAX: u32 = 10_000;
/// Routers of a `full` scenario.
pub const FULL_ROUTERS_MAX: u32 = 200_000;
/// Other routers that each remembers where nothing is said of it: a quarter of what a real one does, since it
/// is most of an idle router's memory.
const KNOWN: usize = 512;
/// Nodes of a `routing` scenario.
pub const NODES_MAX: u32 = 4_000_000;

/// A scenario that cannot be run; says which key and why.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{0}")]
    Form(String),
    /// A value that makes no sense.
    #[error("{key}: {why}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
}

pub(crate) fn value(key: &'static str, why: impl Into<String>) -> ScenarioError {
    ScenarioError::Value { key, why: why.into() }
}

/// What is simulated, and how truly.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Scenario {
    /// Routers on wires.
    Wire(Box<Wire>),
    /// A graph with walks on it.
    Routing(Box<Routing>),
}

/// The fidelities with routers.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ciphers {
    /// Every byte sealed for real.
    Wire,
    /// The same routers over stand-in ciphers of the same lengths, their padding counted.
    Full,
}

/// What becomes of the padding of idle links.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// It is sent.
    Sent,
    /// It is added up and not sent: most events of an idle network are padding.
    Counted,
}

/// The fidelity `routing`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingTag {
    /// The only one.
    Routing,
}

/// Production routers on simulated wires.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// `wire` or `full`: production routers over real or stand-in ciphers.
    pub fidelity: Ciphers,
    /// Simulated time that the workload and faults run, counted from the end of the warm-up.
    pub duration: Span,
    /// Simulated time from the first start to the workload's.
    #[serde(default = "default_warmup")]
    pub warmup: Span,
    /// Routers and wires.
    #[serde(default)]
    pub network: Network,
    /// Routers that come and go; without it they stay.
    pub churn: Option<Churn>,
    /// What people want.
    #[serde(default)]
    pub workload: Workload,
    /// What goes wrong, and when.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// After the end all faults, churn and wishes are over: within this time whoever lives must be
    /// ready and reach every service whose router lives. Without it nothing is demanded.
    pub heal: Option<Span>,
    /// What every seed's metrics must be.
    #[serde(default)]
    pub expect: BTreeMap<Metric, Condition>,
}

fn default_warmup() -> Span {
    Span::seconds(60)
}

/// Routers and wires.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// How many routers, 4 to 10,000; of `full` to 200,000.
    pub routers: u32,
    /// Neighbours each keeps, 8 to 64.
    pub degree: u8,
    /// Hops per tunnel, 1 to 4.
    pub hops: u8,
    /// Other routers that each remembers, 32 to 2,048: most of what an idle router keeps.
    pub known: usize,
    /// Newcomers know three routers of chance that are there already, as if invited by a member;
    /// without it the first three routers. Those take some fifty newcomers a minute and no more.
    pub invited: bool,
    /// A new router starts this often: how the network grows.
    pub stagger: Span,
    /// One-way times.
    pub latency: LatencyKey,
    /// Mean of what comes on top of each one-way time, as a share of it.
    pub jitter: f64,
    /// Bytes a second that each router can send; without it no limit.
    pub uplink: Option<Size>,
    /// Mean time that a router waits for its disk at each access, during which it does nothing else;
    /// exponential. Without it disks take no time.
    pub disk: Option<Span>,
    /// Mean life of a connection before it breaks for no reason; without it none breaks.
    pub link_life: Option<Span>,
    /// Share of routers that nobody can dial. The first three are never among them.
    pub natted: f64,
    /// Wall clocks are off by up to this either way, in whole minutes.
    pub clock_skew: Span,
    /// Longest delay between the parts of one router: races of install and remove get a seed.
    pub deferred: Span,
    /// Whether padding is sent; without it, as the fidelity has it: `wire` sends, `full` counts.
    pub padding: Option<Padding>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            routers: 60,
            degree: 20,
            hops: 3,
            known: KNOWN,
            invited: false,
            stagger: Span(Duration::from_millis(20)),
            latency: LatencyKey::Geographic {},
            jitter: 0.05,
            uplink: None,
            disk: None,
            link_life: None,
            natted: 0.0,
            clock_skew: Span::default(),
            deferred: Span::default(),
            padding: None,
        }
    }
}

/// A latency model.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "model", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LatencyKey {
    /// Points on the globe: mean round trip about 180 ms.
    Geographic {},
    /// Each pair of routers has a time in between, always the same.
    Uniform {
        /// The shortest way.
        least: Span,
        /// The longest way.
        most: Span,
    },
    /// Round trips in milliseconds, one row a line.
    Square {
        /// Where, from the scenario's folder.
        file: String,
    },
    /// A graph of nodes and edges in GML, as Shadow has them.
    Gml {
        /// Where, from the scenario's folder.
        file: String,
    },
    /// Lines `i j microseconds` of round trips, as King and Meridian are published.
    Triples {
        /// Where, from the scenario's folder.
        file: String,
    },
}

/// Routers that come and go.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// How long sessions are; pauses are exponential.
    pub model: ChurnModel,
    /// Mean session. Not with `trace`.
    pub online: Option<Span>,
    /// Mean pause. Not with `trace`.
    pub offline: Option<Span>,
    /// Of `weibull` (above 0) and `pareto` (above 1); sigma of `lognormal`.
    pub shape: Option<f64>,
    /// Routers that never leave, counted from the first; at least the 3 that all others know.
    #[serde(default = "default_stable")]
    pub stable: u32,
    /// Share of sessions that end in order instead of as by a crash.
    #[serde(default)]
    pub graceful: f64,
    /// How much more often pauses end by day than on average, 0 to 1: a sine with a period of 24 h.
    #[serde(default)]
    pub diurnal: f64,
    /// Of `trace`: lines `router,seconds,up` or `router,seconds,down`, from the scenario's folder.
    pub file: Option<String>,
}

fn default_stable() -> u32 {
    crate::world::SEEDS
}

/// How long sessions are.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChurnModel {
    /// Without memory.
    Exponential,
    /// Below shape 1 the old stay longer.
    Weibull,
    /// With a heavy tail.
    Pareto,
    /// The logarithm is normal.
    Lognormal,
    /// As a file says.
    Trace,
}

/// What people want.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Hidden services, on the first routers, one each.
    pub services: u32,
    /// Pages now and then.
    pub browsing: Option<Browsing>,
    /// Large files.
    pub bulk: Option<Browsing>,
    /// Conversations of small messages on one stream.
    pub chat: Option<Chat>,
    /// Files or blocks that are stored and asked for.
    pub store: Option<StoreLoad>,
}

/// Streams with one answer each.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Browsing {
    /// People, each at a router of chance and with a service of choice.
    pub clients: u32,
    /// Mean time between two wishes of one; exponential.
    pub every: Span,
    /// Mean size; lognormal with sigma 1.
    pub bytes: Size,
}

/// Streams with many small answers.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// People, each at a router of chance and with a service of choice.
    pub clients: u32,
    /// Mean time between two conversations of one; exponential.
    pub every: Span,
    /// Messages of a conversation.
    pub messages: u32,
    /// Between an answer and the next message.
    pub pause: Span,
    /// Bytes of each answer.
    pub bytes: Size,
}

/// What goes wrong. Moments count from the end of the warm-up.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Routers end as by `kill -9`.
    Kill {
        /// When.
        at: Span,
        /// Of all routers but the first three and those with services.
        share: f64,
        /// When they start again; without it never.
        until: Option<Span>,
    },
    /// The network falls apart in two.
    Partition {
        /// When.
        at: Span,
        /// Of all routers, on the second side.
        share: f64,
        /// When it heals.
        until: Span,
    },
    /// Machines fall asleep.
    Sleep {
        /// When.
        at: Span,
        /// Of all routers but the first three and those with services.
        share: f64,
        /// When they wake.
        until: Span,
    },
    /// Connections made meanwhile do not live long.
    Breaks {
        /// When.
        at: Span,
        /// Their mean life.
        life: Span,
        /// When it is over.
        until: Span,
    },
}

/// A graph with walks on it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// `routing`: a graph only.
    pub fidelity: RoutingTag,
    /// Nodes and links.
    pub network: RoutingNetwork,
    /// Walks.
    #[serde(default)]
    pub lookups: LookupKeys,
    /// Share of the nodes that dies at once after the links are made; nobody repairs.
    #[serde(default)]
    pub dead: f64,
    /// Holders, disks and members that come and go, for weeks, instead of lookups that happen at once.
    pub keep: Option<Keep>,
    /// Who watches or meddles, instead of lookups that nobody disturbs.
    pub adversary: Option<Attack>,
    /// What every seed's metrics must be.
    #[serde(default)]
    pub expect: BTreeMap<Metric, Condition>,
}

impl Routing {
    /// The walks.
    pub(crate) const fn lookups(&self) -> Lookups {
        let LookupKeys { count, budget, holders } = self.lookups;
        Lookups { count, budget, holders: holders as usize, backtrack: true }
    }
}

/// Nodes and links.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingNetwork {
    /// How many nodes, 16 to 4,000,000.
    pub routers: u32,
    /// Links of each on average, both ends counted; 6 to 64, even.
    #[serde(default = "default_degree")]
    pub degree: u32,
    /// Who is linked with whom.
    #[serde(default)]
    pub rule: Rule,
}

/// Links where nothing is said of them.
pub(crate) const DEGREE: u32 = 20;

fn default_degree() -> u32 {
    DEGREE
}

/// Walks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookupKeys {
    /// How many.
    pub count: u32,
    /// Hops forward that each may take.
    pub budget: u32,
    /// Nodes closest to a key that hold it.
    pub holders: u32,
}

impl Default for LookupKeys {
    fn default() -> Self {
        Self { count: 20_000, budget: 20, holders: 3 }
    }
}

#[derive(Deserialize)]
struct Head {
    fidelity: String,
}

impl Scenario {
    /// Reads a scenario; `sets` are `key=value` pairs with dotted keys that come before what it says.
    /// Gives with it the text that says the same without them.
    ///
    /// # Errors
    /// Names the key that is unknown or has a value that makes no sense.
    pub fn read(text: &str, sets: &[String]) -> Result<(Self, String), ScenarioError> {
        let form = |error: toml::de::Error| ScenarioError::Form(error.to_string());
        let mut table: toml::Table = text.parse().map_err(form)?;
        if table.contains_key("sweep") {
            return Err(value("sweep", "is for `warren sim sweep`, which runs all its points"));
        }
        let text = if sets.is_empty() {
            text.to_owned()
        } else {
            for set in sets {
                apply(&mut table, set)?;
            }
            toml::to_string(&table).map_err(|error| ScenarioError::Form(error.to_string()))?
        };
        let head: Head = toml::from_str(&text).map_err(form)?;
        let this = match head.fidelity.as_str() {
            "wire" | "full" => Self::Wire(toml::from_str(&text).map_err(form)?),
            "routing" => Self::Routing(toml::from_str(&text).map_err(form)?),
            other => {
                let why = format!("`{other}` is none: say wire, full or routing");
                return Err(value("fidelity", why));
            }
        };
        // Files are copied beside the results under the names they have here.
        let plain = |file: &str| {
            let mut parts = Path::new(file).components();
            parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        if let Some(file) = this.files().into_iter().find(|file| !plain(file)) {
            return Err(value("file", format!("{file} does not lie in the scenario's folder")));
        }
        match &this {
            Self::Wire(wire) => wire.check()?,
            Self::Routing(routing) => routing.check()?,
        }
        Ok((this, text))
    }

    /// The schema of the format, for editors.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }

    /// Routers that it is of.
    pub const fn routers(&self) -> u32 {
        match self {
            Self::Wire(wire) => wire.network.routers,
            Self::Routing(routing) => routing.network.routers,
        }
    }

    /// The files that it names.
    pub fn files(&self) -> Vec<&str> {
        let Self::Wire(wire) = self else { return Vec::new() };
        let latency = match &wire.network.latency {
            LatencyKey::Square { file }
            | LatencyKey::Triples { file }
            | LatencyKey::Gml { file } => Some(file),
            LatencyKey::Geographic {} | LatencyKey::Uniform { .. } => None,
        };
        let churn = wire.churn.as_ref().and_then(|churn| churn.file.as_ref());
        latency.into_iter().chain(churn).map(String::as_str).collect()
    }

    /// What every seed's metrics must be.
    pub const fn expect(&self) -> &BTreeMap<Metric, Condition> {
        match self {
            Self::Wire(wire) => &wire.expect,
            Self::Routing(routing) => &routing.expect,
        }
    }
}

/// Puts one `key=value` into a table. A value that is no TOML is taken as text.
pub(crate) fn apply(table: &mut toml::Table, set: &str) -> Result<(), ScenarioError> {
    let bad = |why: &str| ScenarioError::Form(format!("--set {set}: {why}"));
    let (key, text) = set.split_once('=').ok_or_else(|| bad("say key=value"))?;
    let parsed = format!("v = {text}").parse::<toml::Table>().ok();
    let parsed = parsed.and_then(|mut table| table.remove("v"));
    let new = parsed.unwrap_or_else(|| toml::Value::String(text.into()));
    let (path, last) = key.rsplit_once('.').map_or(("", key), |(path, last)| (path, last));
    let mut here = table;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let next = here.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next.as_table_mut().ok_or_else(|| bad("a part of the key is no table"))?;
    }
    here.insert(last.into(), new);
    Ok(())
}

impl Wire {
    /// Whether padding is counted and not sent.
    pub fn counts_padding(&self) -> bool {
        let usual = match self.fidelity {
            Ciphers::Wire => Padding::Sent,
            Ciphers::Full => Padding::Counted,
        };
        self.network.padding.unwrap_or(usual) == Padding::Counted
    }
}

impl Churn {
    /// The distribution of sessions; `None` for a trace.
    pub fn sessions(&self) -> Option<Times> {
        let mean = self.online?.0.as_secs_f64();
        let shape = self.shape.unwrap_or(1.0);
        Some(match self.model {
            ChurnModel::Exponential => Times::Exponential { mean },
            ChurnModel::Weibull => Times::Weibull { mean, shape },
            ChurnModel::Pareto => Times::Pareto { mean, shape },
            ChurnModel::Lognormal => Times::Lognormal { mean, sigma: shape },
            ChurnModel::Trace => return None,
        })
    }
}

impl LatencyKey {
    /// The model; files are looked for in `folder`.
    ///
    /// # Errors
    /// When a file cannot be read or is not what its format says.
    pub fn load(&self, folder: &Path) -> Result<Latency, ScenarioError> {
        let read = |file: &str, parse: fn(&str) -> Result<Matrix, crate::MatrixError>| {
            let bad = |why: String| value("network.latency.file", format!("{file}: {why}"));
            let text =
                std::fs::read_to_string(folder.join(file)).map_err(|it| bad(it.to_string()))?;
            let matrix = parse(&text).map_err(|it| bad(it.to_string()))?;
            Ok(Latency::Matrix(Arc::new(matrix)))
        };
        match self {
            Self::Geographic {} => Ok(Latency::Geographic),
            Self::Uniform { least, most } if least.0 > most.0 => {
                Err(value("network.latency.least", "must not be above `most`"))
            }
            Self::Uniform { least, most } => Ok(Latency::Uniform { least: least.0, most: most.0 }),
            Self::Square { file } => read(file, Matrix::square),
            Self::Triples { file } => read(file, Matrix::triples),
            Self::Gml { file } => read(file, Matrix::gml),
        }
    }
}
