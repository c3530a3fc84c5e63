//! What the router's page shows of the last hour.
//!
//! Lives here: samples of the bandwidth, and since when each service has been published. Does not
//! live here: drawing them (`page.rs`). Kept in memory alone, and gone with the process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{Event, control};
use crate::status::{ServiceStatus, Status};

/// Status says means of ten seconds.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// One hour.
const SAMPLES_MAX: usize = 360;

/// Bandwidth of ten seconds, kbit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// The last hour.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    published: BTreeMap<String, Instant>,
}

/// Shared between who samples and who shows.
pub(super) type Shared = Arc<Mutex<History>>;

impl History {
    /// The oldest first.
    pub(super) fn samples(&self) -> impl ExactSizeIterator<Item = Sample> + Clone {
        self.samples.iter().copied()
    }

    /// For how long the service `name` has been published without a break that was seen.
    pub(super) fn published_for(&self, name: &str) -> Option<Duration> {
        self.published.get(name).map(Instant::elapsed)
    }

    fn add(&mut self, now: Instant, status: &Status, services: Vec<ServiceStatus>) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let Status { sent_kbps: sent, received_kbps: received, .. } = *status;
        self.samples.push_back(Sample { sent, received });
        let before = std::mem::take(&mut self.published);
        // A service without a gateway is not reached, whatever its descriptor says.
        let stands = |service: &ServiceStatus| service.published && service.gateways > 0;
        self.published = services
            .into_iter()
            .filter(stands)
            .map(|service| {
                let since = before.get(&service.name).copied().unwrap_or(now);
                (service.name, since)
            })
            .collect();
    }
}

/// Takes samples until the router's task is gone.
pub(super) async fn sample(history: Shared, events: mpsc::Sender<Event>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(status) = control::ask_task(&events, control::Ask::Status).await else { return };
        let Ok(services) = control::ask_task(&events, control::Ask::Services).await else { return };
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        history.add(Instant::now(), &status, services);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_and_a_service_counts_from_when_it_was_published_last() {
        let mut history = History::default();
        let start = Instant::now();
        let service = |published| ServiceStatus {
            label: "blog".into(),
            name: "x.warren".into(),
            target: "127.0.0.1:80".into(),
            gateways: 3,
            published,
            ..ServiceStatus::default()
        };
        for n in 0..400u64 {
            let status = Status { sent_kbps: n, ..Status::default() };
            // Published from the start, but for one look.
            let now = start + Duration::from_secs(10 * n);
            history.add(now, &status, vec![service(n != 300)]);
        }
        assert_eq!(history.samples().len(), SAMPLES_MAX);
        assert_eq!(history.samples().next().unwrap().sent, 40);
        assert_eq!(history.published["x.warren"], start + Duration::from_secs(3_010));
        history.add(start, &Status::default(), vec![service(false)]);
        assert_eq!(history.published_for("x.warren"), None);
    }
}
