//! Routers that come and go: when.
//!
//! Lives here: drawing sessions and pauses, traces. Does not live here: the distributions
//! (`chance.rs`), what a start or an end is (`world.rs`).
//!
//! A run starts in steady state: each router is online with the share of time that it would be in
//! the long run, and its first session is what is left of one under way. Fresh sessions for all
//! would bias the first hours.

use std::time::Duration;

use warren_overlay::{rng::Rng, time::Time};

use crate::{chance::Times, net::HostNo};

const DAY: f64 = 86_400.0;

/// When routers come and go.
#[derive(Clone, Debug)]
pub(crate) enum Comings {
    /// By chance.
    Drawn {
        /// How long sessions are.
        sessions: Times,
        /// How long pauses are, where the hour does not matter.
        pauses: Times,
        /// How much the hour matters, 0 to 1.
        diurnal: f64,
    },
    /// As was written down, in order of time: router, moment, whether it comes.
    Trace(Vec<(HostNo, Time, bool)>),
}

impl Comings {
    /// Whether a router is online at the start, and how long that lasts.
    pub(crate) fn first(&self, rng: &mut Rng) -> (bool, Duration) {
        match *self {
            Self::Drawn { sessions, pauses, diurnal } => {
                let online = sessions.mean() / (sessions.mean() + pauses.mean());
                if rng.unit() < online {
                    (true, sessions.residual(rng))
                } else {
                    (false, by_day(Time::ZERO, pauses.residual(rng), diurnal))
                }
            }
            Self::Trace(_) => (false, Duration::MAX),
        }
    }

    /// How long a router stays what it has just become.
    pub(crate) fn next(&self, now: Time, online: bool, rng: &mut Rng) -> Duration {
        match *self {
            Self::Drawn { sessions, .. } if online => sessions.draw(rng),
            Self::Drawn { pauses, diurnal, .. } => by_day(now, pauses.draw(rng), diurnal),
            Self::Trace(_) => Duration::MAX,
        }
    }
}

/// Stretches a pause by night and shortens it by day: what passes is the integral of
/// `1 + diurnal * sin(2 pi t / 24 h)`.
fn by_day(now: Time, pause: Duration, diurnal: f64) -> Duration {
    if diurnal <= 0.0 {
        return pause;
    }
    let begin = now.since(Time::ZERO).as_secs_f64();
    let turn = 2.0 * std::f64::consts::PI / DAY;
    let passed = |seconds: f64| {
        let wave = libm::cos(turn * begin) - libm::cos(turn * (begin + seconds));
        seconds + diurnal * wave / turn
    };
    let wanted = pause.as_secs_f64();
    // The wave adds or takes a third of a day at most: the solution lies within.
    let (mut low, mut high) = ((wanted - DAY).max(0.0), wanted + DAY);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if passed(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    Duration::try_from_secs_f64(high).unwrap_or(pause)
}

/// Reads lines `router,seconds,up` or `router,seconds,down`.
///
/// # Errors
/// Names the line that is anything else.
pub(crate) fn read_trace(text: &str) -> Result<Vec<(HostNo, Time, bool)>, String> {
    let mut entries = Vec::new();
    for (no, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || format!("line {}: expected `router,seconds,up` or `.. ,down`", no + 1);
        let mut words = line.split(',').map(str::trim);
        let (Some(router), Some(seconds), Some(what), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad());
        };
        let router: HostNo = router.parse().map_err(|_| bad())?;
        let seconds: f64 = seconds.parse().map_err(|_| bad())?;
        let at = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
        let up = match what {
            "up" => true,
            "down" => false,
            _ => return Err(bad()),
        };
        entries.push((router, Time::ZERO + at, up));
    }
    entries.sort_by_key(|(router, at, _)| (*at, *router));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    #[test]
    fn a_run_starts_in_steady_state_and_stays_there() {
        let comings = Comings::Drawn {
            sessions: Times::Weibull { mean: 7_200.0, shape: 0.5 },
            pauses: Times::Exponential { mean: 14_400.0 },
            diurnal: 0.0,
        };
        let ends = [0.0, 3_600.0, 36_000.0];
        let mut online = [0u32; 3];
        for router in 0..4_000 {
            let mut rng = Streams::new(1).of("churn", router);
            let (mut up, left) = comings.first(&mut rng);
            let mut at = Time::ZERO + left;
            for (end, online) in ends.iter().zip(&mut online) {
                let end = Time::ZERO + Duration::from_secs_f64(*end);
                while at <= end {
                    up = !up;
                    at = at + comings.next(at, up, &mut rng);
                }
                *online += u32::from(up);
            }
        }
        for online in online {
            assert!((1_240..1_430).contains(&online), "{online} of 4000, not a third");
        }
    }

    #[test]
    fn pauses_end_more_often_by_day() {
        let hour =
            |at: u64| by_day(Time::from_micros(at * 3_600_000_000), Duration::from_hours(1), 0.8);
        assert!(hour(6) < Duration::from_mins(36), "{:?}", hour(6));
        assert!(hour(17) > Duration::from_hours(2), "{:?}", hour(17));
        let days = by_day(Time::ZERO, Duration::from_hours(48), 0.8);
        assert!(days.abs_diff(Duration::from_hours(48)) < Duration::from_secs(1));
    }

    #[test]
    fn a_trace_is_read_in_order_of_time() {
        let trace = read_trace("# trace\n4, 9.5, down\n3,1,up\n").unwrap();
        assert_eq!(
            trace,
            [(3, Time::from_micros(1_000_000), true), (4, Time::from_micros(9_500_000), false),]
        );
        assert_eq!(read_trace("4,x,up").unwrap_err().split(':').next(), Some("line 1"));
    }
}
