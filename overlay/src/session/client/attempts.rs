//! Attempts to get a path: up to ten at once, each on another tunnel and gateway.
//!
//! Lives here: when an attempt starts, joins others or is given up, and when a fresh descriptor is
//! asked for. Does not live here: what its units say (`client.rs`), which pair it takes
//! (`choice.rs`).
//!
//! ```text
//!  none --no path, silence--> first --RACE_AFTER without an answer--> second --> ...
//!                               '---- one answers: it is live, lower numbers are closed,
//!                                     higher ones run on: the service may be there already
//! ```

use std::{collections::VecDeque, time::Duration};

use super::{Client, ClientOutput, Established, REKEY_AFTER};
use crate::{
    session::{
        choice::{Avoid, choose},
        handshake::ClientHandshake,
        path::{Path, PathNo},
        resume::{ResumeSecret, Role},
        solve::patience,
        watch::earlier,
    },
    time::Time,
};

/// How long a resumption may take, at least: the end hop may have to dial the gateway. It may take as
/// long as any other answer, where that is more.
pub(super) const RESUME_TIME: Duration = Duration::from_secs(3);
/// How long a full handshake may take at first: two routers may have to be dialled on the way. It runs
/// alone, so a short time finds the way around a silent router soon; what was dialled meanwhile
/// stands, so that the next is quicker. After some failures in a row it may take twice as long.
const HANDSHAKE_TIME: Duration = Duration::from_millis(2_500);
/// Attempts that run at the same time: a silent router may be in most pairs of tunnel and gateway,
/// and nobody says in which. Less than the numbers that a service looks ahead.
pub(super) const ATTEMPTS_MAX: usize = 10;
/// Which of them is a handshake.
const SIXTH: usize = 6;
/// From which on a fresh descriptor is asked for.
const THIRD: usize = 3;
/// How long an attempt is alone. Not zero even if the cause is silence: of two that arrive, the
/// service drops the lower number, and what it sent there goes again.
pub(super) const RACE_AFTER: Duration = Duration::from_millis(200);
/// The same after a reset, at most: a round trip, for the first attempt mostly works.
const RACE_AFTER_RESET: Duration = Duration::from_secs(1);
/// Attempts that follow each other at once; then they wait longer and longer.
const EAGER_ATTEMPTS: u32 = 3;
/// First and longest wait between attempts.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(4);
/// How often a fresh descriptor is asked for while no path comes about.
const ASK_EVERY: Duration = Duration::from_secs(4);
/// The same in a race, and when not even an untried lease is left.
const ASK_SOON: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) no: PathNo,
    pub(super) via: Avoid,
    pub(super) step: Step,
    /// When it began.
    pub(super) since: Time,
    pub(super) deadline: Time,
    /// It is made only because the live path is silent.
    pub(super) for_silence: bool,
}

#[derive(Debug)]
pub(super) enum Step {
    /// The request is written when its first unit is asked for, with the early data there is then.
    Request { continues: bool },
    /// Waiting for the answer.
    Asked { handshake: ClientHandshake, continues: bool, early: usize, units: VecDeque<Vec<u8>> },
    /// Waiting for the service's hello. `fresh` after a full handshake.
    Resuming { path: Path, fresh: Option<ResumeSecret> },
}

impl Attempt {
    /// Its path number, if it is a resumption.
    pub(super) fn number(&self) -> Option<u32> {
        match &self.step {
            Step::Resuming { path, fresh: None } => Some(path.number()),
            _ => None,
        }
    }

    /// Whether it is a handshake that goes on with the session.
    fn continues(&self) -> bool {
        match &self.step {
            Step::Request { continues } | Step::Asked { continues, .. } => *continues,
            Step::Resuming { fresh, .. } => fresh.is_some(),
        }
    }

    /// Its tag has been sent: the service may have left every lower number for it.
    pub(super) fn shown(&self) -> bool {
        matches!(&self.step, Step::Resuming { path, .. } if path.shown())
    }
}

impl Client {
    /// Starts the attempts that are due, if all that they need is there.
    pub(super) fn begin(&mut self, now: Time) {
        self.ask(now);
        let live = self.live.as_ref().map(|live| live.via);
        let silent = self.live.as_ref().is_some_and(|live| live.silent);
        let racing = silent || live.is_none();
        loop {
            let due = if self.attempts.is_empty() {
                self.retry_at
            } else if racing && self.may_join(now) {
                self.race_at
            } else {
                return;
            };
            if now < due {
                self.timer = earlier(self.timer, Some(due));
                return;
            }
            if self.target.is_none() {
                return;
            }
            if self.leases.all_failed() {
                // A descriptor that is long in coming leaves what is known.
                let due = self.asked_at + ASK_SOON;
                if now < due {
                    self.timer = earlier(self.timer, Some(due));
                    return;
                }
                self.leases.forgive();
            }
            let running: Vec<_> = self.attempts.iter().map(|attempt| attempt.via).collect();
            if silent || running.len() + 1 >= THIRD {
                // Leases fail or do not answer: the service may have others by now.
                self.ask_after(now, self.asked_at + ASK_SOON);
            }
            let pair = choose(now, &mut self.rng, &self.tunnels, &self.leases, live, &running);
            // Rotation must not go to another tunnel that is leaving.
            let pair = pair.filter(|(tunnel, _)| racing || !self.tunnels.is_retiring(*tunnel));
            let Some((tunnel, lease)) = pair else {
                self.starved = self.attempts.is_empty();
                if self.starved && live.is_none() {
                    // The leases that are left may all be at the own guard, through which every
                    // tunnel leads: a new descriptor has others, and so have those that failed.
                    self.leases.forgive();
                    self.ask_after(now, self.asked_at + ASK_EVERY);
                }
                return;
            };
            // Of two that arrive the service drops the lower number: a gateway that is being asked
            // through a tunnel that works is asked again only when it had time to answer.
            let rtt = self.conversation.rtt.get();
            let asked = |via: &Avoid| {
                via.gateway == lease.gateway && !self.tunnels.is_doubtful(now, via.tunnel)
            };
            let again = self.race_at + 2 * rtt;
            if now < again && running.iter().any(asked) {
                self.timer = earlier(self.timer, Some(again));
                return;
            }
            let (step, time) = self.first_step(now);
            let no = PathNo(self.next_path);
            self.next_path = self.next_path.wrapping_add(1);
            let via = Avoid { tunnel, gateway: lease.gateway };
            let deadline = now + time + patience(self.effort);
            self.attempts.push(Attempt {
                no,
                via,
                step,
                since: now,
                deadline,
                for_silence: silent,
            });
            self.outputs.push_back(ClientOutput::OpenPath {
                path: no,
                tunnel,
                lease,
                effort: self.effort,
            });
            self.probe(now, self.live.as_ref().map_or(now, |live| live.path.heard));
            let alone = if silent { RACE_AFTER } else { rtt.clamp(RACE_AFTER, RACE_AFTER_RESET) };
            self.race_at = now + alone;
        }
    }

    /// Asks the end hops of all tunnels that have not said so since `known` whether they are there: when
    /// something does not answer, it is known by then whose side is to blame.
    pub(super) fn probe(&mut self, now: Time, known: Time) {
        let wishes = self.tunnels.probe(now, known).into_iter();
        self.outputs.extend(wishes.map(|tunnel| ClientOutput::Probe { tunnel }));
    }

    /// Whether another attempt may run beside those that do: all by numbers of the same secret, and
    /// at the end of the race one handshake that continues.
    fn may_join(&self, now: Time) -> bool {
        let left = |session: &Established| {
            session.numbers.left() && now.since(session.since) < REKEY_AFTER
        };
        self.attempts.len() < ATTEMPTS_MAX
            && self.attempts.iter().all(|it| it.number().is_some() || it.continues())
            && self.session.as_ref().is_some_and(left)
    }

    fn handshake_time(&self) -> Duration {
        if self.failures < EAGER_ATTEMPTS { HANDSHAKE_TIME } else { 2 * HANDSHAKE_TIME }
    }

    fn first_step(&mut self, now: Time) -> (Step, Duration) {
        let Some(session) = &mut self.session else {
            return (Step::Request { continues: false }, self.handshake_time());
        };
        let young = now.since(session.since) < REKEY_AFTER;
        // A service that has forgotten the session, because it was restarted, does not know the tag
        // of a resumption and cannot say so. To a handshake it can.
        let sixth = self.attempts.len() + 1 == SIXTH;
        let resume = young && !(sixth && self.attempts.iter().all(|it| it.number().is_some()));
        match resume.then(|| session.numbers.take()).flatten() {
            Some(number) => {
                let tag = session.secret.tag(number.value());
                let keys = session.secret.path(number, Role::Client);
                let path = Path::resuming(now, keys, tag);
                let time = RESUME_TIME.max(self.conversation.rtt.patience());
                (Step::Resuming { path, fresh: None }, time)
            }
            None => (Step::Request { continues: true }, self.handshake_time()),
        }
    }

    /// Asks for a descriptor, if it is missing or may be out of date, and not too often.
    pub(super) fn ask(&mut self, now: Time) {
        let due = if self.target.is_none() {
            now
        } else if self.leases.all_failed() || self.live.is_none() && self.refused {
            self.asked_at + ASK_SOON
        } else if self.live.is_none() && self.failures >= EAGER_ATTEMPTS {
            self.asked_at + ASK_EVERY
        } else {
            return;
        };
        self.ask_after(now, due);
    }

    fn ask_after(&mut self, now: Time, due: Time) {
        if self.asked_descriptor {
            return;
        }
        if now < due {
            self.timer = earlier(self.timer, Some(due));
            return;
        }
        self.asked_descriptor = true;
        self.asked_at = now;
        self.outputs.push_back(ClientOutput::NeedDescriptor);
    }

    pub(super) fn take_attempt(&mut self, no: PathNo) -> Option<Attempt> {
        let at = self.attempts.iter().position(|attempt| attempt.no == no)?;
        Some(self.attempts.remove(at))
    }

    /// Closes attempts; those for which `keep` says so stay, as stragglers.
    pub(super) fn close_attempts(&mut self, keep: impl Fn(&Attempt) -> bool) {
        for mut attempt in std::mem::take(&mut self.attempts) {
            if keep(&attempt) {
                attempt.for_silence = false;
                self.attempts.push(attempt);
            } else {
                self.outputs.push_back(ClientOutput::ClosePath { path: attempt.no });
            }
        }
    }

    /// The attempt was refused or did not answer in time.
    pub(super) fn attempt_failed(&mut self, now: Time, no: PathNo, timed_out: bool) {
        let Some(attempt) = self.take_attempt(no) else { return };
        let tunnel = attempt.via.tunnel;
        let used = self.live.as_ref().is_some_and(|live| !live.silent && live.via.tunnel == tunnel)
            || self.attempts.iter().any(|other| other.via.tunnel == tunnel);
        // Whose fault: the tunnel's end hop answers, or it does not.
        let mute = timed_out && self.tunnels.is_mute(tunnel);
        if mute && !used && self.tunnels.suspect(tunnel) {
            self.outputs.push_back(ClientOutput::TunnelFailed { tunnel });
        }
        if !mute {
            self.leases.failed(attempt.via.gateway);
        }
        self.no_path(now, attempt.no);
    }

    pub(super) fn attempt_broken(&mut self, now: Time, no: PathNo, via: Avoid) {
        self.leases.failed(via.gateway);
        self.no_path(now, no);
    }

    fn no_path(&mut self, now: Time, no: PathNo) {
        self.outputs.push_back(ClientOutput::ClosePath { path: no });
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(EAGER_ATTEMPTS);
        self.retry_at = if doublings == 0 {
            now
        } else {
            now + (RETRY_FIRST * (1 << doublings.min(8))).min(RETRY_LONGEST)
        };
        tracing::debug!(path = no.0, failures = self.failures, "no path came about");
    }
}
