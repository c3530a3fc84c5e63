//! Carrying a file's blocks to and from the network.
//!
//! Lives here: which block goes through which exit and when, and what to do about answers: one
//! courier below, and above it fetching, storing and healing. No I/O: tunnels are the owner's. Does not
//! live here: what is in the blocks (`file/`). In words: docs/spec/file.md, section 7.
//!
//! ```text
//! Reader  ─ wants ─> Fetch ┐             Get / Put through exit n ──> owner's tunnels
//! Encoder ─ blocks > Store ┼─> Courier ─────────────────────────────────────────────
//! Repair  ─ both ──> Heal  ┤             Found, NotFound, NoRoute, Busy, nothing <── owner
//! blocks ──────────> Load  ┘
//! ```

use warren_overlay::{garlic::BlockAnswer, time::Time};

/// The verbs that all transfers leave to their courier, for `impl Transfer`; `answers` alone where the
/// rest is the transfer's own.
macro_rules! by_courier {
    (answers) => {
        fn exit_up(&mut self, now: Time, exit: ExitNo) {
            self.courier.exits.up(exit);
            self.step(now);
        }

        fn exit_gone(&mut self, now: Time, exit: ExitNo) {
            self.courier.exit_gone(now, exit);
            self.step(now);
        }

        fn no_more_exits(&mut self, now: Time) {
            self.courier.exits.relax();
            self.step(now);
        }

        fn handle_answer(&mut self, now: Time, ask: u64, routers: u8, answer: Option<BlockAnswer>) {
            self.courier.handle_answer(now, ask, routers, answer);
            self.step(now);
        }
    };
    () => {
        by_courier!(answers);

        fn handle_timeout(&mut self, now: Time) {
            self.courier.handle_timeout(now);
            self.step(now);
        }

        fn poll_timeout(&self, now: Time) -> Option<Time> {
            self.courier.poll_timeout(now)
        }

        fn poll_output(&mut self) -> Option<Output> {
            self.courier.poll_output()
        }
    };
}

mod courier;
mod exits;
mod fetch;
mod heal;
mod load;
mod state;
mod store;

#[cfg(test)]
mod tests;

pub use courier::{IN_FLIGHT_MAX, Output};
pub use exits::{EXITS_MAX, ExitNo, SEGMENT_BLOCKS_PER_EXIT};
pub use fetch::{Fetch, FetchProgress};
pub use heal::Heal;
pub use load::Load;
pub use state::{FetchState, StoreState};
pub use store::{Store, StoreProgress};

/// What fetching, storing and healing have in common: whoever owns a file's tunnels drives all
/// by these verbs. After each of them drain [`Transfer::poll_output`].
pub trait Transfer: Send {
    /// An exit for this file is there.
    fn exit_up(&mut self, now: Time, exit: ExitNo);
    /// An exit is gone: what it was asked is asked through others.
    fn exit_gone(&mut self, now: Time, exit: ExitNo);
    /// The network is too small for as many exits as were asked for: from now on one may see more of a
    /// segment. Say so to the user.
    fn no_more_exits(&mut self, now: Time);
    /// The answer to a request; `None` when none will come. `routers` is how many were asked.
    fn handle_answer(&mut self, now: Time, ask: u64, routers: u8, answer: Option<BlockAnswer>);
    /// Time passed.
    fn handle_timeout(&mut self, now: Time);
    /// When to be woken.
    fn poll_timeout(&self, now: Time) -> Option<Time>;
    /// The next thing to do.
    fn poll_output(&mut self) -> Option<Output>;
}
