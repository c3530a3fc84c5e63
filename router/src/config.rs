//! Settings: as written in a file, overridden by flags, then checked.
//!
//! Lives here: the file's shape and defaults (`config/warren.toml` is the same thing annotated; a
//! test compares them), and the checked `Config` that all other code takes. Does not live here:
//! what is made once and kept (identity, network, services: `driver/home.rs`).

mod announce;
mod ban;
mod edit;
mod outbound;

use std::net::SocketAddr;

use serde::Deserialize;

pub use self::{
    announce::Announce,
    ban::{Ban, BanError},
    edit::with_limits,
    outbound::{Outbound, OutboundError, OutboundKind},
};

/// `warren.toml` as written. Unknown keys are errors, not silence.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// `[link]`
    pub link: LinkFile,
    /// `[proxy]`
    pub proxy: ProxyFile,
    /// `[api]`
    pub api: ApiFile,
    /// `[tunnels]`
    pub tunnels: TunnelsFile,
    /// `[ring]`
    pub ring: RingFile,
    /// `[limits]`
    pub limits: LimitsFile,
    /// `[log]`
    pub log: LogFile,
}

/// `[link]`: where other routers reach this one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct LinkFile {
    /// Address and TCP port; port 0 is drawn once per installation.
    pub listen: SocketAddr,
    /// The address to tell others, or one of each family; empty means what `listen` says, "none" that there is
    /// none.
    pub announce: String,
    /// Whether to have the line's router forward the port of `listen` (NAT-PMP, UPnP). Default false.
    pub port_mapping: bool,
    /// Whether to tell the local network that this router is here, and to look for others there. Default
    /// false.
    pub lan_discovery: bool,
    /// A proxy through which links leave; empty for none.
    pub proxy: String,
    /// Addresses and ranges with which there are no links. Default none.
    pub ban: Vec<String>,
}

/// `[proxy]`: the mixed port.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyFile {
    /// Address and TCP port.
    pub listen: SocketAddr,
    /// Whether `listen` may be reachable by others.
    pub expose: bool,
}

/// `[api]`: the router's own page, health and metrics.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct ApiFile {
    /// Address and TCP port; loopback only.
    pub listen: SocketAddr,
}

/// `[tunnels]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelsFile {
    /// Hops per tunnel, 1 to 4. Default 3.
    pub hops: u8,
}

/// `[ring]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct RingFile {
    /// Neighbours to keep, 8 to 64. Default 20.
    pub degree: u8,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsFile {
    /// Bandwidth of all links together, each way, kbit/s, 64 or more; also what the descriptor claims.
    /// Default 1,000,000.
    pub bandwidth_kbps: u32,
    /// How long bandwidth that is not used is kept, ms, 5 to 10,000: all of it may go at once. Default 50.
    pub burst_ms: u32,
    /// Memory for everything that waits to be sent or read, MiB, 8 to 65,536. Default 256.
    pub memory_mib: u32,
    /// Builds of others opened a second, 1 to 100,000. Default 500.
    pub builds_per_second: u32,
    /// Whether to carry tunnels of others. Default true.
    pub transit: bool,
    /// How much of the bandwidth they may take, per cent, 1 to 100. Default 100.
    pub transit_percent: u8,
    /// Traffic of a calendar month (UTC), both ways together, GiB; 0 for no limit. Default 0.
    pub monthly_gib: u32,
    /// Links at the same time, 64 to 65,536. Default 1,024.
    pub links: u32,
    /// Disk for blocks of others and one's own, MiB, 64 or more. Default 8,192.
    pub disk_mib: u32,
}

/// `[log]`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct LogFile {
    /// What is written to standard error. Default `warn`.
    pub level: LogLevel,
}

/// How much is logged; each level holds those before it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What the operator must do something about.
    Error,
    /// What works worse than it should.
    #[default]
    Warn,
    /// A few lines a minute.
    Info,
    /// Links and tunnels.
    Debug,
    /// Frames.
    Trace,
}

impl LogLevel {
    /// As it is written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for LinkFile {
    fn default() -> Self {
        Self {
            listen: ([0u16; 8], 0).into(),
            announce: String::new(),
            port_mapping: false,
            lan_discovery: false,
            proxy: String::new(),
            ban: Vec::new(),
        }
    }
}

impl Default for ProxyFile {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 7731).into(), expose: false }
    }
}

impl Default for ApiFile {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 7730).into() }
    }
}

impl Default for TunnelsFile {
    fn default() -> Self {
        Self { hops: 3 }
    }
}

impl Default for RingFile {
    fn default() -> Self {
        Self { degree: 20 }
    }
}

impl Default for LimitsFile {
    fn default() -> Self {
        Self {
            bandwidth_kbps: 1_000_000,
            burst_ms: 50,
            memory_mib: 256,
            builds_per_second: 500,
            transit: true,
            transit_percent: 100,
            monthly_gib: 0,
            links: 1_024,
            disk_mib: 8_192,
        }
    }
}

/// Why settings cannot be used. Each text says how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is no TOML, or has a key that means nothing.
    #[error("{0}")]
    Syntax(String),
    /// A value is out of its range.
    #[error("{key} = {value} is out of range: use {range}")]
    Range {
        /// Section and key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What may be written.
        range: &'static str,
    },
    /// The proxy would be open to others.
    #[error(
        "proxy.listen = {0} can be reached by others: use a loopback address, \
         or set proxy.expose = true if you mean it"
    )]
    Exposed(SocketAddr),
    /// The API would be open to others.
    #[error("api.listen = {0} can be reached by others: use a loopback address")]
    ApiExposed(SocketAddr),
    /// Not an address.
    #[error(
        "link.announce = \"{0}\" is no address: write it like 203.0.113.7:40001, with a comma and one \
         like [2001:db8::7]:40001 if there are two, or \"none\" if nobody can dial this router"
    )]
    Announce(String),
    /// No proxy.
    #[error("link.proxy = \"{0}\" is no proxy: {1}")]
    Outbound(String, OutboundError),
    /// A router that says on its local network that it is there, and has others see its proxy.
    #[error(
        "link.lan_discovery = true and link.proxy exclude one another: who hides behind a proxy tells the \
         local network nothing; set one of them back"
    )]
    LanAndProxy,
    /// No address and no range.
    #[error("link.ban: \"{0}\" is no range of addresses: {1}")]
    Ban(String, BanError),
}

/// Settings that were checked. Code past `main` takes only this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where other routers reach this one.
    pub link: SocketAddr,
    /// The address to tell others.
    pub announce: Announce,
    /// Whether to have the line's router forward a port.
    pub port_mapping: bool,
    /// Whether to look for routers on the local network.
    pub lan_discovery: bool,
    /// The proxy through which links leave.
    pub outbound: Option<Outbound>,
    /// With whom there are no links.
    pub bans: Vec<Ban>,
    /// The mixed port.
    pub proxy: SocketAddr,
    /// The router's own page.
    pub api: SocketAddr,
    /// Hops per tunnel, 1 to 4.
    pub hops: u8,
    /// Neighbours to keep.
    pub degree: u8,
    /// Bandwidth of all links together, each way, kbit/s.
    pub bandwidth_kbps: u32,
    /// How long bandwidth that is not used is kept, ms.
    pub burst_ms: u32,
    /// Memory for everything that waits to be sent or read, MiB.
    pub memory_mib: u32,
    /// Builds of others opened a second.
    pub builds_per_second: u32,
    /// Whether to carry tunnels of others.
    pub transit: bool,
    /// How much of the bandwidth they may take, per cent.
    pub transit_percent: u8,
    /// Traffic of a calendar month, both ways together, GiB; 0 for no limit.
    pub monthly_gib: u32,
    /// Links at the same time.
    pub links: u32,
    /// Disk for blocks, MiB.
    pub disk_mib: u32,
    /// How much is logged.
    pub log: LogLevel,
}

impl Config {
    /// The limits, as they are written.
    pub fn limits(&self) -> LimitsFile {
        LimitsFile {
            bandwidth_kbps: self.bandwidth_kbps,
            burst_ms: self.burst_ms,
            memory_mib: self.memory_mib,
            builds_per_second: self.builds_per_second,
            transit: self.transit,
            transit_percent: self.transit_percent,
            monthly_gib: self.monthly_gib,
            links: self.links,
            disk_mib: self.disk_mib,
        }
    }
}

impl ConfigFile {
    /// Reads `warren.toml`.
    ///
    /// # Errors
    /// On anything that is not a known key with a value of the right kind; the text suggests the
    /// nearest known key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let mut message = error.to_string();
            if let Some(hint) = suggestion(error.message()) {
                message.push_str(&hint);
            }
            ConfigError::Syntax(message)
        })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// When a value is out of range or would open a door that should be shut.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        in_range("tunnels.hops", self.tunnels.hops.into(), 1, 4, "1 to 4")?;
        in_range("ring.degree", self.ring.degree.into(), 8, 64, "8 to 64")?;
        let most = u32::MAX;
        in_range("limits.bandwidth_kbps", self.limits.bandwidth_kbps, 64, most, "64 or more")?;
        in_range("limits.burst_ms", self.limits.burst_ms, 5, 10_000, "5 to 10000")?;
        let memory = self.limits.memory_mib;
        in_range("limits.memory_mib", memory, 8, 65_536, "8 to 65536")?;
        let builds = self.limits.builds_per_second;
        in_range("limits.builds_per_second", builds, 1, 100_000, "1 to 100000")?;
        let percent = self.limits.transit_percent.into();
        in_range("limits.transit_percent", percent, 1, 100, "1 to 100")?;
        in_range("limits.links", self.limits.links, 64, 65_536, "64 to 65536")?;
        in_range("limits.disk_mib", self.limits.disk_mib, 64, most, "64 or more")?;
        if !self.proxy.listen.ip().is_loopback() && !self.proxy.expose {
            return Err(ConfigError::Exposed(self.proxy.listen));
        }
        if !self.api.listen.ip().is_loopback() {
            return Err(ConfigError::ApiExposed(self.api.listen));
        }
        let announce = self.link.announce.as_str();
        let announce = announce.parse().map_err(|_| ConfigError::Announce(announce.to_owned()))?;
        let outbound = match self.link.proxy.as_str() {
            "" => None,
            text => {
                let fail = |error| ConfigError::Outbound(text.to_owned(), error);
                Some(text.parse().map_err(fail)?)
            }
        };
        if self.link.lan_discovery && outbound.is_some() {
            return Err(ConfigError::LanAndProxy);
        }
        let ban =
            |text: &String| text.parse().map_err(|error| ConfigError::Ban(text.clone(), error));
        let bans = self.link.ban.iter().map(ban).collect::<Result<_, _>>()?;
        Ok(Config {
            outbound,
            bans,
            link: self.link.listen,
            announce,
            port_mapping: self.link.port_mapping,
            lan_discovery: self.link.lan_discovery,
            proxy: self.proxy.listen,
            api: self.api.listen,
            hops: self.tunnels.hops,
            degree: self.ring.degree,
            bandwidth_kbps: self.limits.bandwidth_kbps,
            burst_ms: self.limits.burst_ms,
            memory_mib: self.limits.memory_mib,
            builds_per_second: self.limits.builds_per_second,
            transit: self.limits.transit,
            transit_percent: self.limits.transit_percent,
            monthly_gib: self.limits.monthly_gib,
            links: self.limits.links,
            disk_mib: self.limits.disk_mib,
            log: self.log.level,
        })
    }
}

fn in_range(
    key: &'static str,
    value: u32,
    least: u32,
    most: u32,
    range: &'static str,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range { key, value: value.to_string(), range })
}

/// For "unknown field `hop`, expected ..." the expected name that shares most letters in order.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    if !message.starts_with("unknown field") {
        return None;
    }
    let (score, best) =
        quoted.map(|known| (common(unknown, known), known)).max_by_key(|(score, _)| *score)?;
    (2 * score >= unknown.len()).then(|| format!("did you mean `{best}`?"))
}

/// Length of the longest common subsequence, in bytes. Names are short.
fn common(a: &str, b: &str) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a.bytes() {
        let mut diagonal = 0;
        for (y, at) in b.bytes().zip(1..) {
            let (left, up) = (row.get(at - 1).copied(), row.get(at).copied());
            let (left, up) = (left.unwrap_or(0), up.unwrap_or(0));
            let here = if x == y { diagonal + 1 } else { up.max(left) };
            diagonal = up;
            if let Some(cell) = row.get_mut(at) {
                *cell = here;
            }
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_says_just_the_defaults() {
        let shipped = include_str!("../../config/warren.toml");
        assert_eq!(ConfigFile::parse(shipped), Ok(ConfigFile::default()));
        // Every default is written out in it, so that nobody must read code to know a key.
        let value: toml::Table = shipped.parse().unwrap();
        let keys: usize = value.values().map(|section| section.as_table().unwrap().len()).sum();
        assert_eq!(keys, 21);
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(ConfigFile::default().resolve().is_ok());
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        let error = ConfigFile::parse("[tunnels]\nhop = 3\n").unwrap_err().to_string();
        assert!(error.contains("did you mean `hops`?"), "{error}");
        let error = ConfigFile::parse("[tunels]\nhops = 3\n").unwrap_err().to_string();
        assert!(error.contains("did you mean `tunnels`?"), "{error}");
    }

    #[test]
    fn a_public_proxy_needs_an_explicit_opt_in() {
        let open = "[proxy]\nlisten = \"0.0.0.0:7731\"\n";
        let file = ConfigFile::parse(open).unwrap();
        assert!(matches!(file.resolve(), Err(ConfigError::Exposed(_))));
        let file = ConfigFile::parse(&format!("{open}expose = true\n")).unwrap();
        assert!(file.resolve().is_ok());
    }

    #[test]
    fn a_bandwidth_that_carries_nothing_is_refused() {
        let file = ConfigFile::parse("[limits]\nbandwidth_kbps = 8\n").unwrap();
        assert!(file.resolve().unwrap_err().to_string().contains("64 or more"));
    }

    #[test]
    fn a_proxy_or_a_ban_that_is_none_is_refused_with_an_example() {
        for (text, example) in [
            ("proxy = \"127.0.0.1:9050\"", "socks5://ADDRESS:PORT"),
            ("ban = [\"8.8.8.8\", \"evil\"]", "203.0.113.0/24"),
        ] {
            let file = ConfigFile::parse(&format!("[link]\n{text}\n")).unwrap();
            let error = file.resolve().unwrap_err().to_string();
            assert!(error.contains(example), "{error}");
        }
    }

    #[test]
    fn who_hides_behind_a_proxy_tells_the_local_network_nothing() {
        let text = "[link]\nlan_discovery = true\n";
        assert!(ConfigFile::parse(text).unwrap().resolve().unwrap().lan_discovery);
        let both = format!("{text}proxy = \"socks5://127.0.0.1:9050\"\n");
        let error = ConfigFile::parse(&both).unwrap().resolve().unwrap_err();
        assert_eq!(error, ConfigError::LanAndProxy);
    }

    #[test]
    fn five_hops_are_too_many() {
        let file = ConfigFile::parse("[tunnels]\nhops = 5\n").unwrap();
        assert!(file.resolve().unwrap_err().to_string().contains("1 to 4"));
    }
}
