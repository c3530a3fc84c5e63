//! Which values of a scenario make sense.
//!
//! Lives here: bounds, and keys that only go together. Does not live here: the keys (`scenario.rs`).

use std::time::Duration;

use warren_overlay::ring::VIEW_MAX;

use super::{
    Churn, ChurnModel, Ciphers, FULL_ROUTERS_MAX, Fault, NODES_MAX, Network, ROUTERS_MAX, Routing,
    RoutingNetwork, ScenarioError, Wire, Workload, value,
};

fn share(key: &'static str, share: f64) -> Result<(), ScenarioError> {
    if (0.0..=1.0).contains(&share) {
        Ok(())
    } else {
        Err(value(key, format!("{share} is no share: 0 to 1")))
    }
}

impl Wire {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let Network { routers, degree, hops, jitter, natted, .. } = self.network;
        let most = match self.fidelity {
            Ciphers::Wire => ROUTERS_MAX,
            Ciphers::Full => FULL_ROUTERS_MAX,
        };
        if !(4..=most).contains(&routers) {
            return Err(value("network.routers", format!("4 to {most}, not {routers}")));
        }
        if !(8..=64).contains(&degree) {
            return Err(value("network.degree", format!("8 to 64, not {degree}")));
        }
        if !(1..=4).contains(&hops) {
            return Err(value("network.hops", format!("1 to 4, not {hops}")));
        }
        if !(32..=VIEW_MAX).contains(&self.network.known) {
            let known = self.network.known;
            return Err(value("network.known", format!("32 to {VIEW_MAX}, not {known}")));
        }
        if !(0.0..=10.0).contains(&jitter) {
            return Err(value("network.jitter", format!("0 to 10, not {jitter}")));
        }
        if self.network.uplink.is_some_and(|it| it.0 < 1_024) {
            return Err(value("network.uplink", "at least 1KiB a second"));
        }
        share("network.natted", natted)?;
        if self.duration.0.is_zero() {
            return Err(value("duration", "must be above zero"));
        }
        let Workload { services, browsing, bulk, chat, store } = &self.workload;
        if *services > routers {
            return Err(value("workload.services", "more than there are routers"));
        }
        if *services == 0 && (browsing.is_some() || bulk.is_some() || chat.is_some()) {
            return Err(value("workload.services", "people want something, but nobody serves it"));
        }
        let every = [browsing.map(|it| it.every), bulk.map(|it| it.every), chat.map(|it| it.every)];
        if every.into_iter().flatten().any(|it| it.0 < Duration::from_millis(1)) {
            return Err(value("workload", "`every` must be at least 1ms"));
        }
        if chat.is_some_and(|it| it.messages == 0) {
            return Err(value("workload.chat.messages", "at least 1"));
        }
        if let Some(store) = store {
            store.check()?;
        }
        for fault in &self.fault {
            fault.check()?;
        }
        if let Some(churn) = &self.churn {
            churn.check()?;
        }
        Ok(())
    }
}

impl Fault {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let (at, until) = match *self {
            Self::Kill { at, share: of, until } => {
                share("fault.share", of)?;
                (at, until)
            }
            Self::Partition { at, share: of, until } | Self::Sleep { at, share: of, until } => {
                share("fault.share", of)?;
                (at, Some(until))
            }
            Self::Breaks { at, life, until } => {
                if life.0.is_zero() {
                    return Err(value("fault.life", "must be above zero"));
                }
                (at, Some(until))
            }
        };
        match until {
            Some(until) if until.0 <= at.0 => Err(value("fault.until", "must be later than `at`")),
            _ => Ok(()),
        }
    }
}

impl Churn {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        share("churn.graceful", self.graceful)?;
        share("churn.diurnal", self.diurnal)?;
        if self.stable < crate::world::SEEDS {
            return Err(value("churn.stable", "at least 3: somebody must be known"));
        }
        let trace = self.model == ChurnModel::Trace;
        if trace != self.file.is_some() {
            return Err(value("churn.file", "goes with model = \"trace\", and only with it"));
        }
        let means = [self.online, self.offline];
        if means.iter().any(|mean| mean.is_none_or(|it| it.0.is_zero()) != trace) {
            return Err(value("churn.online", "and `offline`: above zero, and not with a trace"));
        }
        let shaped = !matches!(self.model, ChurnModel::Trace | ChurnModel::Exponential);
        let least = if self.model == ChurnModel::Pareto { 1.0 } else { 0.0 };
        match self.shape {
            // Written so that a shape that is no number is none.
            Some(shape) if !(shaped && shape > least && shape <= 100.0) => {
                Err(value("churn.shape", "above 0 (pareto: 1), and only where the model has one"))
            }
            None if shaped => Err(value("churn.shape", "this model needs one")),
            _ => Ok(()),
        }
    }
}

impl Routing {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let RoutingNetwork { routers, degree, .. } = self.network;
        if !(16..=NODES_MAX).contains(&routers) {
            return Err(value("network.routers", format!("16 to {NODES_MAX}, not {routers}")));
        }
        if !(6..=64).contains(&degree) || !degree.is_multiple_of(2) {
            return Err(value("network.degree", format!("6 to 64 and even, not {degree}")));
        }
        if self.lookups.holders == 0 || self.lookups.holders > 16 {
            return Err(value("lookups.holders", "1 to 16"));
        }
        share("dead", self.dead)?;
        if let Some(keep) = &self.keep {
            keep.check(routers, self.network.rule, self.dead)?;
        }
        if let Some(attack) = &self.adversary {
            attack.check(self)?;
        }
        match self.expect.keys().find(|metric| !metric.is_of_routing()) {
            Some(metric) => {
                Err(value("expect", format!("`{metric}` is no metric of this fidelity")))
            }
            None => Ok(()),
        }
    }
}
