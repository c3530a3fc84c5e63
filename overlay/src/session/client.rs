//! The client's side of one session: which path carries it, and when another must.
//!
//! Lives here: the handshake and resumption as seen from the client, make-before-break.
//! Does not live here: when attempts start (`client/attempts.rs`), the choice (`choice.rs`), silence
//! (`watch.rs`), streams and offsets (`conversation.rs`), splices (`end.rs`).
//!
//! ```text
//!  no path --stream wanted--> attempt --answer / hello--> live
//!     ^                        |  ^  |                     | reset ──────────> no path, attempt
//!     '------ gave up ---------'  '--' other tunnel, lease | silence, rotation,
//!                                                          | 23 h ───────────> live and attempt
//! ```

use std::{collections::VecDeque, time::Duration};

mod attempts;
mod offers;

use attempts::{ATTEMPTS_MAX, Attempt, RACE_AFTER, RESUME_TIME, Step};
use offers::Others;
pub use offers::SessionOffer;

use super::{
    app::{AppCommand, AppEvent, StreamNo},
    choice::{Avoid, Leases, Tunnels},
    conversation::{Conversation, Heard, Trouble},
    frame::ResetReason,
    handshake::{Answer, ClientHandshake, EARLY_MAX, Purpose, SessionTarget},
    mux::Side,
    names::Names,
    path::{Path, PathNo},
    record::Unit,
    resume::{Numbers, ResumeSecret, Role, Tag},
    watch::{Sign, Watch, earlier},
};
use crate::{
    crypto::effort::EFFORT_MAX,
    garlic::OwnTunnelName,
    rng::Rng,
    service::Lease,
    time::{Now, Time},
};

/// Tunnels wanted while there is a session: one in use, one spare.
const TUNNELS_WANTED: usize = 2;
/// Age at which a session's keys are renewed by a full handshake: an hour before the service
/// insists (PROTOCOL P9).
const REKEY_AFTER: Duration = Duration::from_hours(23);
/// How long streams wait for a path before they are told.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);
/// How long a session without streams keeps its path.
const IDLE_MAX: Duration = Duration::from_mins(2);

/// What a client wants done.
#[derive(Debug)]
pub(super) enum ClientOutput {
    /// Open a splice; the path's first units are ready at once.
    OpenPath { path: PathNo, tunnel: OwnTunnelName, lease: Lease, effort: u32 },
    /// Close its splice.
    ClosePath { path: PathNo },
    /// So many usable tunnels in all.
    NeedTunnels { want: usize },
    /// A descriptor, or a newer one.
    NeedDescriptor,
    /// Ask the end hop of a tunnel whether it is there.
    Probe { tunnel: OwnTunnelName },
    /// A tunnel went silent.
    TunnelFailed { tunnel: OwnTunnelName },
    /// A retired tunnel is not in use any more.
    TunnelFree { tunnel: OwnTunnelName },
    /// A path is live.
    Live,
    /// For the application.
    App(AppEvent),
}

#[derive(Debug)]
struct Established {
    secret: ResumeSecret,
    numbers: Numbers,
    since: Time,
}

#[derive(Debug)]
struct Live {
    no: PathNo,
    path: Path,
    via: Avoid,
    watch: Watch,
    silent: bool,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Client {
    rng: Rng,
    quota: usize,
    target: Option<SessionTarget>,
    leases: Leases,
    others: Others,
    pub(super) tunnels: Tunnels,
    conversation: Conversation,
    /// Sessions that ended because the service said what none says.
    pub(super) broken: u64,
    nonce: Tag,
    session: Option<Established>,
    live: Option<Live>,
    /// At most [`ATTEMPTS_MAX`]: one handshake, or a race of resumptions and in the end a handshake.
    attempts: Vec<Attempt>,
    /// No further attempt joins the race before.
    race_at: Time,
    next_path: u32,
    failures: u32,
    retry_at: Time,
    down_since: Option<Time>,
    idle_since: Option<Time>,
    names: Names,
    asked_tunnels: (usize, usize),
    asked_descriptor: bool,
    asked_at: Time,
    /// What the service asks for a path, and what is spent on the next one: more, after refusals.
    asked_effort: u32,
    effort: u32,
    /// A gateway said no since the last descriptor.
    refused: bool,
    /// No tunnel at hand will do.
    starved: bool,
    timer: Option<Time>,
    outputs: VecDeque<ClientOutput>,
}

impl Client {
    /// A client of one service, which knows nothing of it yet. `quota` bounds its buffers, bytes.
    pub(super) fn new(mut rng: Rng, quota: usize) -> Self {
        Self {
            nonce: rng.bytes(),
            rng,
            quota,
            target: None,
            leases: Leases::default(),
            others: Others::default(),
            tunnels: Tunnels::default(),
            conversation: Conversation::new(Side::Client),
            broken: 0,
            session: None,
            live: None,
            attempts: Vec::with_capacity(ATTEMPTS_MAX),
            race_at: Time::ZERO,
            next_path: 0,
            failures: 0,
            retry_at: Time::ZERO,
            down_since: None,
            idle_since: None,
            names: Names::default(),
            asked_tunnels: (0, 0),
            asked_descriptor: false,
            asked_at: Time::ZERO,
            refused: false,
            asked_effort: 0,
            effort: 0,
            starved: false,
            timer: None,
            outputs: VecDeque::new(),
        }
    }

    /// The application wants something.
    pub(super) fn command(&mut self, now: Now, command: AppCommand) {
        let mux = &mut self.conversation.mux;
        match command {
            AppCommand::Open { stream, port } => {
                if self.names.id(stream).is_some() {
                    return;
                }
                if let Some(id) = mux.open(now.time, port) {
                    self.names.insert(stream, id);
                } else {
                    let reason = ResetReason::Busy;
                    self.outputs.push_back(ClientOutput::App(AppEvent::Reset { stream, reason }));
                }
            }
            AppCommand::Accept { .. } => {}
            AppCommand::Data { stream, bytes } => {
                if let Some(id) = self.names.id(stream) {
                    mux.write(id, bytes);
                }
            }
            AppCommand::Finish { stream } => {
                if let Some(id) = self.names.id(stream) {
                    mux.finish(id);
                }
            }
            AppCommand::Reset { stream, reason } => {
                if let Some(id) = self.names.remove(stream) {
                    mux.reset(id, reason);
                }
            }
            AppCommand::Consumed { stream, bytes } => {
                if let Some(id) = self.names.id(stream) {
                    self.conversation.consumed(now.time, id, bytes);
                }
            }
        }
        self.events();
    }

    /// How many bytes the application may give for a stream.
    pub(super) fn writable(&self, stream: StreamNo) -> usize {
        self.names.id(stream).map_or(0, |id| self.conversation.mux.writable(id))
    }

    /// A tunnel is gone, and with it what ran through it. Its leases are not to blame.
    pub(super) fn tunnel_closed(&mut self, tunnel: OwnTunnelName) {
        self.tunnels.remove(tunnel);
        self.attempts.retain(|attempt| attempt.via.tunnel != tunnel);
        self.live.take_if(|live| live.via.tunnel == tunnel);
    }

    /// The splice of a path is over.
    pub(super) fn path_closed(&mut self, now: Now, no: PathNo) {
        if let Some(live) = self.live.take_if(|live| live.no == no) {
            if self.attempts.is_empty() {
                self.leases.failed(live.via.gateway);
            } else {
                // The service has left it for one of those: no other is needed at once.
                self.race_at = now.time + RACE_AFTER;
            }
        }
        if self.attempts.iter().any(|attempt| attempt.no == no) {
            // It may be that others spend more, or that the service asks for it by now.
            self.refused = true;
            self.effort = (2 * self.effort).min(EFFORT_MAX);
        }
        self.attempt_failed(now.time, no, false);
    }

    /// A unit came.
    pub(super) fn receive(&mut self, now: Now, no: PathNo, unit: &mut [u8]) {
        if let Some(live) = self.live.as_mut().filter(|live| live.no == no) {
            match self.conversation.receive(now.time, &mut live.path, unit) {
                Ok(Heard::Something) => {}
                Ok(Heard::Hello { .. }) | Err(Trouble::Path) => self.live_lost(),
                Ok(Heard::Close) => self.end_session(ResetReason::SessionLost),
                Err(Trouble::Session) => self.break_session(),
            }
        } else if let Some(attempt) = self.take_attempt(no) {
            self.attempt_heard(now, attempt, unit);
        }
        self.events();
    }

    fn live_lost(&mut self) {
        if let Some(live) = self.live.take() {
            self.outputs.push_back(ClientOutput::ClosePath { path: live.no });
        }
    }

    fn attempt_heard(&mut self, now: Now, mut attempt: Attempt, unit: &mut [u8]) {
        match attempt.step {
            Step::Request { .. } => self.attempt_broken(now.time, attempt.no, attempt.via),
            Step::Asked { handshake, continues, early, .. } => {
                let previous = self.session.as_ref().filter(|_| continues);
                let Some((keys, answer)) = handshake.finish(unit) else {
                    return self.attempt_broken(now.time, attempt.no, attempt.via);
                };
                let previous = previous.filter(|_| answer == Answer::Continued);
                let (secret, keys) =
                    ResumeSecret::new(keys, Role::Client, previous.map(|session| &session.secret));
                match (continues, answer) {
                    (false, Answer::Taken | Answer::Resend) => {
                        self.conversation.early_taken(answer == Answer::Taken, early);
                    }
                    (_, Answer::Continued) => {
                        let path = Path::continuing(now.time, keys);
                        attempt.step = Step::Resuming { path, fresh: Some(secret) };
                        attempt.deadline = now.time + RESUME_TIME;
                        self.attempts.push(attempt);
                        return;
                    }
                    (true, Answer::Forgotten) => self.start_over(ResetReason::SessionLost),
                    _ => return self.attempt_broken(now.time, attempt.no, attempt.via),
                }
                self.established(now.time, secret);
                if self.effort == 0 {
                    self.conversation.rtt.guess(now.time.since(attempt.since));
                }
                self.go_live(attempt.no, Path::opened(now.time, keys), attempt.via);
            }
            Step::Resuming { mut path, fresh } => {
                let heard = self.conversation.receive(now.time, &mut path, unit);
                let resumed = match heard {
                    Ok(Heard::Hello { received, from }) => {
                        self.conversation.resume(&mut path, received, from)
                    }
                    Ok(_) => Err(Trouble::Path),
                    Err(trouble) => Err(trouble),
                };
                match resumed {
                    Ok(()) => {
                        if let Some(secret) = fresh {
                            self.established(now.time, secret);
                        } else if let Some(session) = &mut self.session {
                            session.numbers.authenticated(path.number());
                        }
                        self.go_live(attempt.no, path, attempt.via);
                    }
                    Err(Trouble::Path) => self.attempt_broken(now.time, attempt.no, attempt.via),
                    Err(Trouble::Session) => {
                        self.outputs.push_back(ClientOutput::ClosePath { path: attempt.no });
                        self.break_session();
                    }
                }
            }
        }
    }

    fn established(&mut self, now: Time, secret: ResumeSecret) {
        self.close_attempts(|_| false);
        self.session = Some(Established { secret, numbers: Numbers::new(), since: now });
    }

    fn go_live(&mut self, no: PathNo, path: Path, via: Avoid) {
        tracing::debug!(path = no.0, number = path.number(), "path is live");
        self.effort = self.asked_effort;
        self.outputs.push_back(ClientOutput::Live);
        self.tunnels.trust(via.tunnel);
        self.failures = 0;
        // A higher number that has been shown may be where the service is by now.
        let number = path.number();
        self.close_attempts(|other| other.shown() && other.number() > Some(number));
        let live = Live { no, path, via, watch: Watch::default(), silent: false };
        if let Some(old) = self.live.replace(live) {
            self.outputs.push_back(ClientOutput::ClosePath { path: old.no });
            if old.silent && old.via.gateway != via.gateway {
                self.leases.failed(old.via.gateway);
            }
            if old.silent && old.via.tunnel != via.tunnel && self.tunnels.suspect(old.via.tunnel) {
                self.outputs.push_back(ClientOutput::TunnelFailed { tunnel: old.via.tunnel });
            }
        }
    }

    /// The session is over: its streams end, its paths close.
    /// The other side said what none says.
    fn break_session(&mut self) {
        self.broken += 1;
        self.end_session(ResetReason::SessionLost);
    }

    fn end_session(&mut self, reason: ResetReason) {
        self.live_lost();
        self.close_attempts(|_| false);
        self.start_over(reason);
    }

    /// Bytes in the session's buffers.
    pub(super) fn held(&self) -> usize {
        self.conversation.held()
    }

    /// Since when the session keeps something that nobody takes, and how many bytes.
    pub(super) fn waiting(&self) -> Option<(Time, usize)> {
        self.conversation.waiting()
    }

    /// Ends the session because the router is short of memory.
    pub(super) fn shed(&mut self) {
        self.end_session(ResetReason::Busy);
    }

    /// Nothing is left of the session but its client.
    fn start_over(&mut self, reason: ResetReason) {
        self.conversation.mux.reset_all(reason);
        self.events();
        self.conversation = Conversation::new(Side::Client);
        self.nonce = self.rng.bytes();
        self.session = None;
        self.down_since = None;
    }

    /// Writes the path's next unit, if it has one.
    pub(super) fn fill(&mut self, now: Now, no: PathNo, unit: &mut Unit) -> Option<usize> {
        if let Some(live) = self.live.as_mut().filter(|live| live.no == no) {
            let closing = live.path.close_due;
            let len = self.conversation.fill(now.time, &mut live.path, unit);
            if closing && !live.path.close_due {
                self.end_session(ResetReason::Closed);
            }
            self.events();
            return len;
        }
        let at = self.attempts.iter().position(|attempt| attempt.no == no)?;
        if let Step::Request { continues } = self.attempts.get(at)?.step {
            let Some(step) = self.request(now, continues) else {
                self.attempt_failed(now.time, no, false);
                return None;
            };
            self.attempts.get_mut(at)?.step = step;
        }
        match &mut self.attempts.get_mut(at)?.step {
            Step::Request { .. } => None,
            Step::Asked { units, .. } => {
                let next = units.pop_front()?;
                unit.get_mut(..next.len())?.copy_from_slice(&next);
                Some(next.len())
            }
            Step::Resuming { path, .. } => self.conversation.fill(now.time, path, unit),
        }
    }

    fn request(&mut self, now: Now, continues: bool) -> Option<Step> {
        let target = self.target.as_ref()?;
        let mark = self.session.as_ref().filter(|_| continues).map(|session| session.secret.mark());
        let early = if mark.is_some() { Vec::new() } else { self.conversation.early(EARLY_MAX) };
        let purpose = match mark {
            Some(mark) => Purpose::Continue { mark },
            None => Purpose::New { early: &early, nonce: self.nonce },
        };
        let (handshake, request) =
            ClientHandshake::start(&mut self.rng, target, now.wall, purpose)?;
        let units = super::handshake::units(&request).map(<[u8]>::to_vec).collect();
        Some(Step::Asked { handshake, continues, early: early.len(), units })
    }

    /// Does what is due. Call after each batch of inputs, and when the timer fires.
    ///
    /// `requests` if a tunnel is needed for something else too.
    pub(super) fn settle(&mut self, now: Now, requests: bool) {
        let time = now.time;
        self.timer = None;
        self.conversation.settle(time);
        let free = self.quota.saturating_sub(self.conversation.count(time));
        self.conversation.set_limit(free / 4);
        while let Some(late) = self.attempts.iter().find(|attempt| time >= attempt.deadline) {
            self.attempt_failed(time, late.no, true);
        }
        self.starved = false;
        let needed = self.judge_live(time);
        self.turn(time);
        let wanted = self.conversation.wants_path();
        if (needed && self.live.is_some()) || (wanted && self.live.is_none()) {
            self.begin(time);
        }
        for attempt in &self.attempts {
            self.timer = earlier(self.timer, Some(attempt.deadline));
        }
        self.give_up_or_rest(time, wanted);
        self.ask_for_tunnels(time, wanted, requests);
        self.timer = earlier(self.timer, self.tunnels.doubts_at(time));
        let live = self.live.iter().map(|live| live.via.tunnel);
        let in_use: Vec<_> =
            live.chain(self.attempts.iter().map(|attempt| attempt.via.tunnel)).collect();
        for tunnel in self.tunnels.take_free(|name| in_use.contains(&name)) {
            self.outputs.push_back(ClientOutput::TunnelFree { tunnel });
        }
    }

    /// Whether the live path must be replaced while it lives.
    fn judge_live(&mut self, now: Time) -> bool {
        let Some(live) = &mut self.live else { return false };
        let mut sign = live.watch.judge(now, live.path.heard, &self.conversation);
        let ask = sign == Sign::Ask;
        if ask {
            self.conversation.ping(now, &mut live.path);
            sign = live.watch.judge(now, live.path.heard, &self.conversation);
        }
        live.silent = sign == Sign::Silent;
        let leave = live.silent || self.tunnels.is_retiring(live.via.tunnel);
        if let Sign::Fine(due) = sign {
            self.timer = earlier(self.timer, due);
            // It spoke again: attempts that its silence caused are not needed, unless the service
            // may have gone over to them.
            self.close_attempts(|attempt| !attempt.for_silence || attempt.shown());
        }
        if ask {
            self.probe(now, now);
        }
        let old = self.session.as_ref().is_some_and(|s| now.since(s.since) >= REKEY_AFTER);
        leave || old
    }

    fn give_up_or_rest(&mut self, now: Time, wanted: bool) {
        if wanted && self.live.is_none() {
            self.idle_since = None;
            let since = *self.down_since.get_or_insert(now);
            if now.since(since) >= GIVE_UP_AFTER {
                self.end_session(ResetReason::Unreachable);
            } else {
                self.timer = earlier(self.timer, Some(since + GIVE_UP_AFTER));
            }
            return;
        }
        self.down_since = None;
        if wanted {
            self.idle_since = None;
        } else if let Some(live) = &mut self.live {
            let since = *self.idle_since.get_or_insert(now);
            if now.since(since) >= IDLE_MAX {
                live.path.close_due = true;
            } else {
                self.timer = earlier(self.timer, Some(since + IDLE_MAX));
            }
        } else if self.session.is_some() {
            self.end_session(ResetReason::Closed);
        }
    }

    fn ask_for_tunnels(&mut self, now: Time, wanted: bool, requests: bool) {
        let good = self.tunnels.good(now);
        let mut want = match (wanted || self.live.is_some(), requests) {
            // A silent router may be in both.
            (true, _) => {
                let silent = self.live.as_ref().is_some_and(|live| live.silent);
                TUNNELS_WANTED + usize::from(silent) + self.tunnels.doubtful(now)
            }
            (false, requests) => usize::from(requests),
        };
        if self.starved {
            want = want.max(good + 1);
        }
        let (last_want, last_good) = self.asked_tunnels;
        if want != last_want || (good < want && good < last_good) {
            self.outputs.push_back(ClientOutput::NeedTunnels { want });
        }
        self.asked_tunnels = (want, good);
    }

    fn events(&mut self) {
        while let Some(event) = self.names.poll_event(&mut self.conversation.mux) {
            self.outputs.push_back(ClientOutput::App(event));
        }
    }

    /// Paths that may have units to send.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathNo> + use<> {
        let live = self.live.iter().map(|live| live.no);
        let paths: Vec<_> = self.attempts.iter().map(|attempt| attempt.no).chain(live).collect();
        paths.into_iter()
    }

    /// The path that carries the session.
    #[cfg(test)]
    pub(super) fn live_path(&self) -> Option<PathNo> {
        self.live.as_ref().map(|live| live.no)
    }

    /// What is to be done next.
    pub(super) fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    /// When to settle next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let ack = self.live.as_ref().and_then(|_| self.conversation.poll_timeout());
        earlier(self.timer, ack)
    }
}
