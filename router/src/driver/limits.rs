//! The operator's limits while the router runs: changed by hand, and by the month's traffic.
//!
//! Lives here: what holds when. Does not live here: keeping to it (`host`), counting months
//! (`allowance.rs`).

use std::time::Duration;

use tokio::time::Instant;

use super::{allowance::Month, task::Task};
use crate::{
    config::{ConfigFile, LimitsFile, with_limits},
    home::Home,
    node::NodeInput,
};

/// How often the month's traffic is counted and kept.
const COUNT_EVERY: Duration = Duration::from_secs(30);
/// What is left of the bandwidth when the month's traffic is used up.
const TRICKLE_KBPS: u32 = 64;

impl Task {
    /// Counts the month's traffic, and holds to what is left of it.
    pub(super) fn count_traffic(&mut self) {
        self.count_at = Instant::now() + COUNT_EVERY;
        let before = self.allowance.state(self.limits.monthly_gib);
        let (sent, received) = self.host.traffic();
        self.allowance.count(self.clock.now().wall, sent + received);
        if let Some(home) = &self.home
            && let Err(error) = self.allowance.save(home)
        {
            tracing::error!(%error, "the month's traffic cannot be kept");
        }
        if self.allowance.state(self.limits.monthly_gib) != before {
            self.hold_limits();
        }
    }

    /// Writes limits to the settings file, and holds to them.
    pub(super) fn edit_limits(&mut self, limits: LimitsFile) -> Result<(), String> {
        let home = self
            .home
            .as_ref()
            .ok_or("this router has no folder to keep them in: start it with --dir")?;
        let text = Home::settings(home.dir()).map_err(|error| error.to_string())?;
        let text = with_limits(&text.unwrap_or_default(), &limits);
        let file = ConfigFile::parse(&text).map_err(|error| error.to_string())?;
        file.resolve().map_err(|error| error.to_string())?;
        home.write("warren.toml", text.as_bytes()).map_err(|error| error.to_string())?;
        self.limits = limits;
        if self.hold_limits() {
            return Ok(());
        }
        Err("written; tunnels hold more memory than that now, so it is as low as could be: start the \
             router again to have it lower"
            .into())
    }

    /// Tells the host what holds now: what the operator wants, and less near the month's end of it.
    pub(super) fn hold_limits(&mut self) -> bool {
        let month = self.allowance.state(self.limits.monthly_gib);
        let kbps = match month {
            Month::Free | Month::Ending => self.limits.bandwidth_kbps,
            Month::Over => self.limits.bandwidth_kbps.min(TRICKLE_KBPS),
        };
        let transit = self.limits.transit && month == Month::Free;
        self.host.node(self.clock.now(), NodeInput::Transit(transit));
        let LimitsFile { burst_ms, transit_percent, memory_mib, .. } = self.limits;
        let burst = Duration::from_millis(burst_ms.into());
        self.host.set_limits(kbps, burst, transit_percent, u64::from(memory_mib) << 20)
    }
}
