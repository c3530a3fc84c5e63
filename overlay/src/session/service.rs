//! The service's side of all its sessions.
//!
//! Lives here: which sessions there are, which paths are theirs, when they end, and the quota over
//! them. Does not live here: paths that have not said whose they are (`fresh.rs`), streams and
//! offsets (`conversation.rs`), keys and tags (`handshake.rs`, `resume.rs`), splices and leases (`end.rs`).
//!
//! ```text
//!  fresh path --tag--> hello opens? ──────────────────────> live, older paths closed
//!             --units--> message 1 opens? ──new──> live ──hello──> confirmed
//!                                         ──known─> pending ──hello──> live, new secret
//!  live --path closed, 60 s silent--> waiting --120 s--> gone
//! ```

mod patience;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::patience::Overdue;
use super::{
    app::{AppCommand, AppEvent, StreamNo},
    conversation::{Conversation, Heard, Trouble},
    frame::ResetReason,
    fresh::{Fresh, Said},
    handshake::{Answer, Request, SessionSecret},
    mux::Side,
    names::{events, split},
    path::{Path, PathNo},
    record::Unit,
    replay::{HANDSHAKES, Replay, Verdict},
    resume::{PathNumber, ResumeSecret, Role, Tag, Tags},
    watch::earlier,
};
use crate::{
    bucket::Bucket,
    id::NetworkId,
    rng::Rng,
    time::{Now, Time},
};

/// Sessions of one service. Each costs some KiB when idle.
const SESSIONS_MAX: usize = 1_024;
/// Key sets that a service answers to: today's, and those of the 48 h before.
const SECRETS_MAX: usize = 4;

/// What a service wants done.
#[derive(Debug)]
pub(super) enum ServiceOutput {
    /// Close a path's splice.
    ClosePath { path: PathNo },
    /// A client that should have said something has not: a tunnel may be silent.
    Unheard,
    /// For the application.
    App(AppEvent),
}

/// A full handshake that continues the session, until its client's hello.
#[derive(Debug)]
struct Pending {
    no: PathNo,
    path: Path,
    secret: ResumeSecret,
}

#[derive(Debug)]
struct Session {
    conversation: Conversation,
    /// Whose it is: `Admitted::client`.
    client: u32,
    secret: ResumeSecret,
    /// Age of the secret.
    since: Time,
    /// Highest path that authenticated.
    highest: u32,
    live: Option<(PathNo, Path)>,
    pending: Option<Pending>,
    /// Set until the client has proved that it holds the keys.
    nonce: Option<Tag>,
    /// Since when there is no path.
    gone: Option<Time>,
    /// The silence that was told.
    doubted: Option<Time>,
    /// What of the quota is counted for it.
    counted: usize,
    timer: Option<Time>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Service {
    rng: Rng,
    network: NetworkId,
    quota: usize,
    used: usize,
    /// Sessions that ended because the client said what none says.
    pub(super) broken: u64,
    secrets: Vec<SessionSecret>,
    sessions: BTreeMap<u32, Session>,
    next_session: u32,
    owners: BTreeMap<PathNo, u32>,
    fresh: Fresh,
    tags: Tags,
    replay: Replay,
    budget: Bucket,
    ready: BTreeSet<PathNo>,
    /// The last unit of sessions that this side ended; at most one for each path there was.
    farewells: BTreeMap<PathNo, Vec<u8>>,
    timers: BTreeSet<(Time, u32)>,
    outputs: VecDeque<ServiceOutput>,
}

impl Service {
    /// A service without keys: it answers nobody. `quota` bounds the buffers of all sessions.
    pub(super) fn new(rng: Rng, network: NetworkId, quota: usize) -> Self {
        Self {
            rng,
            network,
            quota,
            used: 0,
            broken: 0,
            secrets: Vec::new(),
            sessions: BTreeMap::new(),
            next_session: 0,
            owners: BTreeMap::new(),
            fresh: Fresh::default(),
            tags: Tags::default(),
            replay: Replay::default(),
            budget: Bucket::full(),
            ready: BTreeSet::new(),
            farewells: BTreeMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The keys to answer to from now on, newest first; those not among them are wiped. Sessions of
    /// clients that none of them admits end.
    pub(super) fn secrets(&mut self, mut secrets: Vec<SessionSecret>) {
        secrets.truncate(SECRETS_MAX);
        self.secrets = secrets;
        let admitted = self.secrets.iter().flat_map(|secret| &secret.admitted);
        let admitted: BTreeSet<u32> = admitted.map(|admitted| admitted.client).collect();
        let over = self.sessions.iter().filter(|(_, it)| !admitted.contains(&it.client));
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.drop_session(id, ResetReason::Closed);
        }
    }

    /// How many sessions there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes in the buffers of all sessions.
    pub(super) const fn held(&self) -> usize {
        self.used
    }

    /// The sessions that keep something: since when, which, how many bytes.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Time, u32, usize)> {
        self.sessions.iter().filter_map(|(id, session)| {
            session.conversation.waiting().map(|(since, bytes)| (since, *id, bytes))
        })
    }

    /// The service ends: so do its sessions, and no new ones begin.
    pub(super) fn leave(&mut self) {
        self.secrets.clear();
        while let Some((&session, _)) = self.sessions.first_key_value() {
            self.drop_session(session, ResetReason::Closed);
        }
    }

    /// Ends a session because the router is short of memory.
    pub(super) fn shed(&mut self, session: u32) {
        self.drop_session(session, ResetReason::Busy);
    }

    /// Paths that have not said what they are.
    #[cfg(test)]
    pub(super) fn fresh_paths(&self) -> usize {
        self.fresh.len()
    }

    /// Tags and marks in the index.
    #[cfg(test)]
    pub(super) fn tags_kept(&self) -> usize {
        self.tags.len()
    }

    /// Somebody used a lease.
    pub(super) fn incoming(&mut self, now: Now, path: PathNo) {
        if let Some(path) = self.fresh.add(now.time, path) {
            self.outputs.push_back(ServiceOutput::ClosePath { path });
        }
    }

    /// A unit came.
    pub(super) fn receive(&mut self, now: Now, no: PathNo, unit: &mut [u8]) {
        if let Some(&id) = self.owners.get(&no) {
            self.session_unit(now.time, id, no, unit);
            self.touch(now.time, id);
            return;
        }
        let owner = match self.fresh.receive(&mut self.tags, no, unit) {
            None => return,
            Some(Said::Tag { session, number, record }) => {
                if !self.resume(now.time, session, number, no, record) {
                    self.outputs.push_back(ServiceOutput::ClosePath { path: no });
                }
                Some(session)
            }
            Some(Said::Request(request)) => self.request(now, no, &request),
            Some(Said::Nonsense) => None,
        };
        match owner {
            Some(id) => self.touch(now.time, id),
            None => self.outputs.push_back(ServiceOutput::ClosePath { path: no }),
        }
    }

    /// The splice of a path is over.
    pub(super) fn path_closed(&mut self, now: Now, no: PathNo) {
        self.fresh.remove(no);
        self.farewells.remove(&no);
        let Some(id) = self.owners.remove(&no) else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.live.take_if(|(live, _)| *live == no);
            session.pending.take_if(|pending| pending.no == no);
            self.touch(now.time, id);
        }
    }

    /// A tag was shown: the record after it must be the client's hello.
    fn resume(
        &mut self,
        now: Time,
        id: u32,
        number: PathNumber,
        no: PathNo,
        record: &mut [u8],
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let value = number.value();
        let mut path = Path::tagged(now, session.secret.path(number, Role::Service));
        let Ok(Heard::Hello { received, .. }) =
            session.conversation.receive(now, &mut path, record)
        else {
            return false;
        };
        if session.conversation.resumed(&mut path, received).is_err() {
            self.drop_session(id, ResetReason::SessionLost);
            return false;
        }
        self.tags.advance(id, &session.secret, session.highest, value);
        session.highest = value;
        self.go_live(id, no, path);
        true
    }

    /// Message 1, whole: whose session it is, or `None` if it is to be closed.
    fn request(&mut self, now: Now, no: PathNo, bytes: &[u8]) -> Option<u32> {
        if !self.budget.take(now.time, HANDSHAKES) {
            return None;
        }
        let request = Request::read(&mut self.rng, self.network, &self.secrets, bytes)?;
        let verdict = self.replay.judge(
            now.time,
            now.wall,
            request.minute,
            &request.ephemeral,
            request.restored,
        );
        if verdict == Verdict::Repeat {
            return None;
        }
        let known = self.tags.marked(&request.mark).filter(|id| {
            // The mark of a session continues it, its nonce opens it; neither does the other.
            let session = self.sessions.get(id);
            session.is_some_and(|s| {
                (s.nonce == Some(request.mark)) != request.continues && s.client == request.client
            })
        });
        match known {
            Some(id) => self.carry_on(now.time, id, no, request),
            None => self.open(now.time, no, request, verdict),
        }
    }

    fn carry_on(&mut self, now: Time, id: u32, no: PathNo, request: Request) -> Option<u32> {
        let session = self.sessions.get_mut(&id)?;
        let continues = request.continues;
        let (keys, answer) = request.answer(Answer::Continued)?;
        let previous = continues.then_some(&session.secret);
        let (secret, keys) = ResumeSecret::new(keys, Role::Service, previous);
        let path = Path::answering(now, keys, answer, false);
        if let Some(old) = session.pending.replace(Pending { no, path, secret }) {
            self.owners.remove(&old.no);
            self.outputs.push_back(ServiceOutput::ClosePath { path: old.no });
        }
        self.owners.insert(no, id);
        Some(id)
    }

    fn open(&mut self, now: Time, no: PathNo, request: Request, verdict: Verdict) -> Option<u32> {
        if self.sessions.len() >= SESSIONS_MAX || self.used >= self.quota {
            return None;
        }
        let mut conversation = Conversation::new(Side::Service);
        let answer = match (request.continues, verdict) {
            (true, _) => Answer::Forgotten,
            (false, Verdict::Fresh) => {
                conversation.take_early(now, &request.early).ok()?;
                Answer::Taken
            }
            (false, _) => Answer::Resend,
        };
        let (nonce, client) = (request.mark, request.client);
        let (keys, answer) = request.answer(answer)?;
        let (secret, keys) = ResumeSecret::new(keys, Role::Service, None);
        let mut path = Path::answering(now, keys, answer, true);
        path.at = conversation.received();
        let id = self.next_session;
        self.next_session = self.next_session.wrapping_add(1);
        self.tags.add(id, &secret);
        self.tags.add_nonce(id, nonce);
        self.owners.insert(no, id);
        let session = Session {
            conversation,
            client,
            secret,
            since: now,
            highest: 0,
            live: Some((no, path)),
            pending: None,
            nonce: Some(nonce),
            gone: None,
            doubted: None,
            counted: 0,
            timer: None,
        };
        if let Some(old) = self.sessions.insert(id, session) {
            // Only after 2^32 sessions.
            self.tags.forget(&old.secret, old.highest);
        }
        tracing::debug!(session = id, "session opened");
        Some(id)
    }

    fn session_unit(&mut self, now: Time, id: u32, no: PathNo, unit: &mut [u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(mut pending) = session.pending.take_if(|pending| pending.no == no) {
            let heard = session.conversation.receive(now, &mut pending.path, unit);
            let Ok(Heard::Hello { received, .. }) = heard else {
                self.close(no);
                return;
            };
            if session.conversation.resumed(&mut pending.path, received).is_err() {
                self.drop_session(id, ResetReason::SessionLost);
                return;
            }
            self.tags.forget(&session.secret, session.highest);
            self.tags.add(id, &pending.secret);
            session.secret = pending.secret;
            session.since = now;
            session.highest = 0;
            self.go_live(id, no, pending.path);
            return;
        }
        let Some((live, path)) = &mut session.live else { return };
        if *live != no {
            return;
        }
        let greeted = path.greeted;
        match session.conversation.receive(now, path, unit) {
            Ok(Heard::Something) => {}
            Ok(Heard::Hello { received, .. }) if !greeted => {
                if session.conversation.confirmed(path, received).is_err() {
                    self.broken += 1;
                    self.drop_session(id, ResetReason::SessionLost);
                } else if let Some(nonce) = session.nonce.take() {
                    self.tags.forget_nonce(&nonce);
                }
            }
            Ok(Heard::Hello { .. }) | Err(Trouble::Path) => {
                session.live = None;
                self.close(no);
            }
            Ok(Heard::Close) => self.drop_session(id, ResetReason::Closed),
            Err(Trouble::Session) => {
                self.broken += 1;
                self.drop_session(id, ResetReason::SessionLost);
            }
        }
    }

    fn close(&mut self, no: PathNo) {
        self.owners.remove(&no);
        self.ready.remove(&no);
        self.outputs.push_back(ServiceOutput::ClosePath { path: no });
    }

    /// The path's client has proved that it holds the keys: every other path closes.
    fn go_live(&mut self, id: u32, no: PathNo, path: Path) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let pending = session.pending.take().map(|pending| pending.no);
        let old = session.live.replace((no, path)).map(|(no, _)| no);
        if let Some(nonce) = session.nonce.take() {
            self.tags.forget_nonce(&nonce);
        }
        self.owners.insert(no, id);
        for old in old.into_iter().chain(pending).filter(|old| *old != no) {
            self.close(old);
        }
    }

    fn drop_session(&mut self, id: u32, reason: ResetReason) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        session.conversation.mux.reset_all(reason);
        events(id, &mut session.conversation.mux, &mut self.outputs, ServiceOutput::App);
        self.used = self.used.saturating_sub(session.counted);
        self.tags.forget(&session.secret, session.highest);
        if let Some(nonce) = session.nonce {
            self.tags.forget_nonce(&nonce);
        }
        if let Some(timer) = session.timer {
            self.timers.remove(&(timer, id));
        }
        if let Some(pending) = session.pending {
            self.close(pending.no);
        }
        // Its client need not find out by trying to resume.
        if let Some((no, mut path)) = session.live {
            if let Some(unit) = path.farewell() {
                self.owners.remove(&no);
                self.farewells.insert(no, unit);
                self.ready.insert(no);
            } else {
                self.close(no);
            }
        }
        tracing::debug!(session = id, ?reason, "session ended");
    }

    /// The application wants something.
    pub(super) fn command(&mut self, now: Now, command: AppCommand) {
        let (AppCommand::Open { stream, .. }
        | AppCommand::Accept { stream }
        | AppCommand::Data { stream, .. }
        | AppCommand::Finish { stream }
        | AppCommand::Reset { stream, .. }
        | AppCommand::Consumed { stream, .. }) = command;
        let (id, sub) = split(stream);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mux = &mut session.conversation.mux;
        match command {
            AppCommand::Open { .. } => {}
            AppCommand::Accept { .. } => mux.accept(sub),
            AppCommand::Data { bytes, .. } => mux.write(sub, bytes),
            AppCommand::Finish { .. } => mux.finish(sub),
            AppCommand::Reset { reason, .. } => mux.reset(sub, reason),
            AppCommand::Consumed { bytes, .. } => {
                session.conversation.consumed(now.time, sub, bytes);
            }
        }
        self.touch(now.time, id);
    }

    /// How many bytes the application may give for a stream.
    pub(super) fn writable(&self, stream: StreamNo) -> usize {
        let (id, sub) = split(stream);
        self.sessions.get(&id).map_or(0, |session| session.conversation.mux.writable(sub))
    }

    /// Something happened to a session: tell its application, count it, wake its path.
    fn touch(&mut self, now: Time, id: u32) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        events(id, &mut session.conversation.mux, &mut self.outputs, ServiceOutput::App);
        let held = session.conversation.count(now);
        self.used = (self.used + held).saturating_sub(session.counted);
        session.counted = held;
        session.conversation.set_limit(self.quota.saturating_sub(self.used) / 4);
        session.gone = if session.live.is_some() { None } else { session.gone.or(Some(now)) };
        let live = session.live.as_ref().map(|(no, _)| *no);
        self.ready.extend(live);
        self.ready.extend(session.pending.as_ref().map(|pending| pending.no));
        let next = session.next_timeout();
        // A timer that fires too early is cheaper than one that moves with each record.
        if next.is_some() && session.timer.is_none_or(|timer| next < Some(timer)) {
            if let Some(timer) = session.timer {
                self.timers.remove(&(timer, id));
            }
            session.timer = next;
            self.timers.extend(next.map(|next| (next, id)));
        }
        if self.used > self.quota
            && let Some((&largest, _)) = self.sessions.iter().max_by_key(|(_, s)| s.counted)
        {
            self.drop_session(largest, ResetReason::Busy);
        }
    }

    /// Writes a path's next unit, if it has one.
    pub(super) fn fill(&mut self, now: Now, no: PathNo, unit: &mut Unit) -> Option<usize> {
        if let Some(last) = self.farewells.remove(&no) {
            self.close(no);
            unit.get_mut(..last.len())?.copy_from_slice(&last);
            return Some(last.len());
        }
        let id = *self.owners.get(&no)?;
        let session = self.sessions.get_mut(&id)?;
        let path = match (&mut session.live, &mut session.pending) {
            (Some((live, path)), _) if *live == no => path,
            (_, Some(pending)) if pending.no == no => &mut pending.path,
            _ => return None,
        };
        let len = session.conversation.fill(now.time, path, unit);
        events(id, &mut session.conversation.mux, &mut self.outputs, ServiceOutput::App);
        len
    }

    /// A path that may have units to send; each once after something happened to it.
    pub(super) fn poll_ready(&mut self) -> Option<PathNo> {
        self.ready.pop_first()
    }

    /// A path's splice can take more.
    pub(super) fn wake(&mut self, path: PathNo) {
        self.ready.insert(path);
    }

    /// Does what is due.
    pub(super) fn settle(&mut self, now: Now) {
        while let Some(path) = self.fresh.take_late(now.time) {
            self.outputs.push_back(ServiceOutput::ClosePath { path });
        }
        while let Some(&(at, id)) = self.timers.first()
            && at <= now.time
        {
            self.timers.pop_first();
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.timer = None;
            session.conversation.settle(now.time);
            if session.unheard(now.time) {
                self.outputs.push_back(ServiceOutput::Unheard);
            }
            match session.overdue(now.time) {
                Overdue::Nothing => {}
                Overdue::Path(no) => {
                    session.live = None;
                    self.close(no);
                }
                Overdue::Session => self.drop_session(id, ResetReason::SessionLost),
            }
            self.touch(now.time, id);
        }
    }

    /// What is to be done next.
    pub(super) fn poll_output(&mut self) -> Option<ServiceOutput> {
        self.outputs.pop_front()
    }

    /// When to settle next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        earlier(self.fresh.poll_timeout(), self.timers.first().map(|(at, _)| *at))
    }
}
