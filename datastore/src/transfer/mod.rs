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

/// What fetching, storing and healing have in common: whoever owns a file's tunnels drives all three
/// by these verbs. After each of them drain [`Transfer::poll_output`].
pub trait Transfer: Send {
    /// An exit for this file is there.
    fn exit_up(&mut self, now: Time, exit: ExitNo);
    /// An exit is gone: what it was asked is asked through others.
    fn exit_gone(&mut self, now: Time, exit: ExitNo);
    /// There are no more exits to be had: one may see more of a segment.
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

macro_rules! transfer {
    ($($machine:ident),*) => {$(
        impl Transfer for $machine {
            fn exit_up(&mut self, now: Time, exit: ExitNo) {
                self.exit_up(now, exit);
            }
            fn exit_gone(&mut self, now: Time, exit: ExitNo) {
                self.exit_gone(now, exit);
            }
            fn no_more_exits(&mut self, now: Time) {
                self.no_more_exits(now);
            }
            fn handle_answer(
                &mut self,
                now: Time,
                ask: u64,
                routers: u8,
                answer: Option<BlockAnswer>,
            ) {
                self.handle_answer(now, ask, routers, answer);
            }
            fn handle_timeout(&mut self, now: Time) {
                self.handle_timeout(now);
            }
            fn poll_timeout(&self, now: Time) -> Option<Time> {
                self.poll_timeout(now)
            }
            fn poll_output(&mut self) -> Option<Output> {
                self.poll_output()
            }
        }
    )*};
}
transfer!(Fetch, Store, Heal, Load);
