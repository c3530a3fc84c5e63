//! What a place on the ring costs (PROTOCOL P2).
//!
//! Lives here: the making of an admission proof, and the lazy checking of others' proofs. Does not
//! live here: a network's settings (`network.rs`), the puzzle itself (`crypto/puzzle.rs`), how the
//! location follows from a proof (`RouterDescriptor::location`), who may be a member at all
//! (`members.rs`).
//!
//! What it gives: a location follows from identity and paid-for work, and nobody moves. What it does
//! not give: who makes about N/3 proofs sits among the 3 routers closest to a key of his choice.

use std::{collections::VecDeque, fmt, net::IpAddr, sync::Arc, time::Duration};

pub use super::network::{
    DIFFICULTY_MAX, Mode, NETWORK_NAME_MAX, Network, NetworkName, SUITE_HYBRID, WEEKLY_MAX,
};
use crate::{
    crypto::puzzle::{self, Difficulty, Params, Search},
    id::{NetworkId, RouterId},
    room::Room,
    table::Table,
    time::Time,
    wire::{Address, Admission, RouterDescriptor},
};

/// Making one's own proof: one try a step, so that the owner can show progress and stop.
///
/// The number of tries is geometric, 2^difficulty on average: 5 % of routers need three times that.
#[derive(Debug)]
pub struct ProofWork {
    search: Search,
    tries: u32,
}

impl ProofWork {
    /// Work for the router `id`; nonces are tried from `nonce` on. `None` without the memory for it.
    pub fn new(network: &Network, id: RouterId, nonce: u64) -> Option<Self> {
        let search = Search::new(network.id(), id, network.cost(), network.difficulty, nonce)?;
        Some(Self { search, tries: 0 })
    }

    /// One try (in public networks about 13 ms); the proof when it succeeds.
    pub fn step(&mut self) -> Option<Admission> {
        self.tries = self.tries.saturating_add(1);
        let proof = self.search.step()?;
        Some(Admission { nonce: proof.nonce, output: proof.output })
    }

    /// Tries so far.
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

/// The network a proof came from: /24 of IPv4, /48 of IPv6. Prints as `_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source([u8; 7]);

impl Source {
    /// The source that an address lies in.
    pub fn of(address: Address) -> Self {
        Self(match address.socket().ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                [4, a, b, c, 0, 0, 0]
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                [6, a, b, c, d, e, f]
            }
        })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What the puzzle costs to check, as the spacing assumes: about 13 ms measured, a little more here.
const CHECK_COST: Duration = Duration::from_millis(15);
/// One check, then nineteen times as long none: at most 5 % of a core.
const CHECK_SPACING: Duration = Duration::from_millis(15 * 20);
/// How long a prefix that sent a bad proof is not listened to.
const BLOCK_TIME: Duration = Duration::from_mins(10);
/// Proofs waiting: at 300 ms each, four minutes' work. What does not fit is asked again on use.
const QUEUE_MAX: usize = 768;
/// Waiting per source: one prefix cannot fill the queue.
const QUEUE_PER_SOURCE_MAX: usize = 16;
/// Blocked sources kept; the oldest goes first.
const BLOCKED_MAX: usize = 1_024;

/// A finished check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whose proof it was.
    pub id: RouterId,
    /// Whether the work was done.
    pub good: bool,
}

#[derive(Debug)]
struct Waiting {
    source: Source,
    blame: bool,
    descriptor: Arc<RouterDescriptor>,
}

/// Lazy checking of others' proofs: one at a time, fair between sources, at most 5 % of a core.
///
/// In networks of difficulty 0 checks are next to free, and done at once.
#[derive(Debug)]
pub struct ProofChecks {
    network: NetworkId,
    difficulty: Difficulty,
    cost: Params,
    /// Results kept: about 40 bytes each.
    cache_max: usize,
    queue: VecDeque<Waiting>,
    /// Whose turn it was last: the next check is another source's if there is one.
    last: Option<Source>,
    next: Time,
    /// By what was claimed, which is a hash: what follows a new one is any of the others, and gives way
    /// where there are too many.
    cache: Table<[u8; 16], bool>,
    blocked: VecDeque<(Source, Time)>,
    done: VecDeque<Checked>,
}

impl ProofChecks {
    /// No proof known yet; so many results are kept.
    pub fn new(network: &Network, cache_max: usize) -> Self {
        Self {
            cache_max,
            network: network.id(),
            difficulty: network.difficulty,
            cost: network.cost(),
            queue: VecDeque::new(),
            last: None,
            next: Time::ZERO,
            cache: Table::new(),
            blocked: VecDeque::new(),
            done: VecDeque::new(),
        }
    }

    /// What is known of this proof without work: over the target is bad at once.
    pub fn known(&self, descriptor: &RouterDescriptor) -> Option<bool> {
        let claimed = descriptor.fields().admission;
        if !self.difficulty.is_met_by(&claimed.output) {
            return Some(false);
        }
        self.cache.get(descriptor.claim()).copied()
    }

    /// Asks for a check; the result comes from `poll_output`, at once if it is known.
    ///
    /// `source` is where it came from: the far end of the link that gave it. `blame` says that this
    /// far end is the router described: only then is a bad proof its own doing. (What an address in
    /// a descriptor says proves nothing, and who relays gossip may have been fooled itself; blocking
    /// on either would let a liar block others.)
    pub fn submit(
        &mut self,
        now: Time,
        descriptor: &Arc<RouterDescriptor>,
        source: Source,
        blame: bool,
    ) {
        let id = descriptor.id();
        if let Some(good) = self.known(descriptor) {
            self.conclude(now, id, source, blame, good);
            return;
        }
        if let Some(waiting) = self.queue.iter_mut().find(|other| other.descriptor.id() == id) {
            if blame {
                *waiting = Waiting { source, blame, descriptor: Arc::clone(descriptor) };
            }
            return;
        }
        if self.difficulty == Difficulty::NONE {
            let good = self.check(descriptor);
            return self.conclude(now, id, source, blame, good);
        }
        let of_source = self.queue.iter().filter(|other| other.source == source).count();
        if of_source < QUEUE_PER_SOURCE_MAX && self.queue.len() < QUEUE_MAX {
            let waiting = Waiting { source, blame, descriptor: Arc::clone(descriptor) };
            // Who is linked goes before who is only talked about.
            let at = if blame {
                self.queue.partition_point(|other| other.blame)
            } else {
                self.queue.len()
            };
            self.queue.insert(at, waiting);
        }
    }

    /// Whether proofs from there are not listened to for now.
    pub fn is_blocked(&self, now: Time, source: Source) -> bool {
        self.blocked.iter().any(|(blocked, until)| *blocked == source && now < *until)
    }

    /// Does the next check if it is time (about 13 ms of work).
    pub fn handle_timeout(&mut self, now: Time) {
        while now >= self.next && !self.queue.is_empty() {
            let turn = self.queue.iter().position(|waiting| Some(waiting.source) != self.last);
            let Some(waiting) = self.queue.remove(turn.unwrap_or(0)) else { return };
            let Waiting { source, blame, descriptor } = waiting;
            self.last = Some(source);
            self.next = now + CHECK_SPACING;
            let good = self.check(&descriptor);
            self.conclude(now, descriptor.id(), source, blame, good);
        }
    }

    fn check(&mut self, descriptor: &RouterDescriptor) -> bool {
        let claimed = descriptor.fields().admission;
        let output = puzzle::output(&self.network, &descriptor.id(), claimed.nonce, self.cost);
        let good = output == Some(claimed.output);
        let claim = *descriptor.claim();
        self.cache.insert(claim, good);
        if self.cache.len() > self.cache_max {
            self.cache.remove_after(&claim);
        }
        good
    }

    fn conclude(&mut self, now: Time, id: RouterId, source: Source, blame: bool, good: bool) {
        if !good && blame {
            self.blocked.retain(|(other, until)| *other != source && now < *until);
            if self.blocked.len() >= BLOCKED_MAX {
                self.blocked.pop_front();
            }
            self.blocked.push_back((source, now + BLOCK_TIME));
            self.queue.retain(|other| other.source != source);
        }
        self.done.push_back(Checked { id, good });
    }

    /// The next finished check.
    pub fn poll_output(&mut self) -> Option<Checked> {
        self.done.pop_front()
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.queue.rest();
        self.cache.rest();
        self.blocked.rest();
        self.done.rest();
    }

    /// When the next check is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        (!self.queue.is_empty()).then_some(self.next)
    }
}

// The spacing is what the 5 % promise rests on.
const _: () = assert!(CHECK_SPACING.as_millis() >= 20 * CHECK_COST.as_millis());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::sign::IdentityKey,
        ring::testing::{self, network, signed},
    };

    fn checks(difficulty: u8) -> ProofChecks {
        ProofChecks::new(&network(difficulty), 8_192)
    }

    fn source(n: u8) -> Source {
        Source([4, 127, n, 0, 0, 0, 0])
    }

    fn key(n: u32) -> IdentityKey {
        testing::key(n)
    }

    fn honest(n: u32, difficulty: u8) -> Arc<RouterDescriptor> {
        testing::member(&network(difficulty), n)
    }

    /// Claims an output that would be good and that nobody worked for.
    fn liar(n: u32, difficulty: u8) -> Arc<RouterDescriptor> {
        let admission = Admission { nonce: 0, output: [0; 32] };
        signed(&network(difficulty), &key(n), n, admission)
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    #[test]
    fn a_location_cannot_be_had_without_the_work() {
        let mut checks = checks(5);
        let one = honest(1, 5);
        checks.submit(at(0), &one, source(1), true);
        checks.submit(at(0), &liar(2, 5), source(2), true);
        checks.handle_timeout(at(0));
        checks.handle_timeout(at(400));
        assert_eq!(checks.poll_output(), Some(Checked { id: one.id(), good: true }));
        assert_eq!(checks.poll_output(), Some(Checked { id: key(2).id(), good: false }));
        // The place that a proof gives belongs to its identity and network alone.
        let stolen = signed(&network(5), &key(3), 3, one.fields().admission);
        assert_ne!(stolen.location(), one.location());
        checks.submit(at(800), &stolen, source(3), true);
        checks.handle_timeout(at(800));
        assert_eq!(checks.poll_output(), Some(Checked { id: key(3).id(), good: false }));
    }

    #[test]
    fn an_output_over_the_target_is_bad_without_any_work() {
        let admission = Admission { nonce: 0, output: [0xff; 32] };
        let it = signed(&network(5), &key(1), 1, admission);
        let mut checks = checks(5);
        checks.submit(at(0), &it, source(1), true);
        assert_eq!(checks.poll_output(), Some(Checked { id: it.id(), good: false }));
    }

    #[test]
    fn work_takes_two_to_the_difficulty_on_average() {
        let network = network(4);
        let tries: u32 = (0..400)
            .map(|n| {
                let mut work = ProofWork::new(&network, key(n).id(), 0).unwrap();
                while work.step().is_none() {}
                work.tries()
            })
            .sum();
        assert!((14 * 400..18 * 400).contains(&tries), "{tries}");
    }

    #[test]
    fn checks_are_spaced_to_a_twentieth_of_a_core() {
        let mut checks = checks(1);
        for n in 0..5 {
            checks.submit(at(0), &honest(n, 1), source(1), true);
        }
        let mut done = 0;
        for ms in 0..900 {
            checks.handle_timeout(at(ms));
            done += std::iter::from_fn(|| checks.poll_output()).count();
        }
        assert_eq!(done, 3);
        assert_eq!(checks.poll_timeout(), Some(at(900)));
    }

    #[test]
    fn one_source_cannot_starve_another() {
        let mut checks = checks(1);
        for n in 0..100 {
            checks.submit(at(0), &honest(n, 1), source(1), true);
        }
        let other = honest(200, 1);
        checks.submit(at(0), &other, source(2), true);
        checks.handle_timeout(at(0));
        checks.handle_timeout(at(300));
        let done: Vec<_> = std::iter::from_fn(|| checks.poll_output()).collect();
        assert_eq!(done.len(), 2);
        assert_eq!(done[1].id, other.id());
        assert_eq!(checks.queue.len(), QUEUE_PER_SOURCE_MAX - 1);
    }

    #[test]
    fn a_bad_proof_costs_its_prefix_ten_minutes() {
        let mut checks = checks(5);
        checks.submit(at(0), &liar(1, 5), source(1), true);
        checks.handle_timeout(at(0));
        assert!(checks.is_blocked(at(1_000), source(1)));
        assert!(!checks.is_blocked(at(1_000), source(2)));
        assert!(!checks.is_blocked(at(600_000), source(1)));
    }

    #[test]
    fn who_relays_a_bad_proof_is_not_blamed() {
        let mut checks = checks(5);
        checks.submit(at(0), &liar(1, 5), source(1), false);
        checks.handle_timeout(at(0));
        assert_eq!(checks.poll_output(), Some(Checked { id: key(1).id(), good: false }));
        assert!(!checks.is_blocked(at(1), source(1)));
    }

    #[test]
    fn where_checks_are_free_nothing_waits_and_so_many_results_are_kept_as_were_asked_for() {
        let mut checks = ProofChecks::new(&network(0), 8);
        for n in 0..50 {
            checks.submit(at(0), &honest(n, 0), source(1), true);
            assert_eq!(checks.known(&honest(n, 0)), Some(true));
        }
        assert_eq!(checks.poll_timeout(), None);
        assert_eq!((0..50).filter(|n| checks.known(&honest(*n, 0)).is_some()).count(), 8);
    }

    #[test]
    fn a_proof_is_checked_once() {
        let mut checks = checks(1);
        let one = honest(1, 1);
        checks.submit(at(0), &one, source(1), true);
        checks.handle_timeout(at(0));
        assert_eq!(checks.known(&one), Some(true));
        checks.submit(at(1), &one, source(1), true);
        assert_eq!(checks.poll_timeout(), None);
        assert_eq!(std::iter::from_fn(|| checks.poll_output()).count(), 2);
        // Another claim of the same identity is another proof.
        assert_eq!(checks.known(&liar(1, 1)), None);
    }
}
