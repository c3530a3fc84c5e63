//! Somebody who puts or gets one block, without a file around it.
//!
//! Lives here: how patient that person is. Does not live here: the block's way (the production job and
//! its tunnels), transfers of whole files (`warren_datastore::transfer`), whose patience with a single
//! block is taken over here: a get that is told no asks once more through another exit.

use std::{collections::VecDeque, time::Duration};

use warren_datastore::transfer::{ExitNo, Output, Transfer};
use warren_overlay::{
    answer::Answer,
    block::{Block, BlockAddress},
    garlic::BlockAnswer,
    time::Time,
};

/// Exits that it wants: the second is for when the first says no.
const EXITS: usize = 2;
/// Times that a get may be told no.
const FAILURES_MAX: u32 = 2;
/// Times that it may be told to come back, or hear nothing.
const PATIENCE_MAX: u32 = 8;
/// Before it asks again.
const RETRY: Duration = Duration::from_secs(2);
/// Without an answer for so long, a request is lost.
const LOST_AFTER: Duration = Duration::from_mins(1);

/// What it wants.
#[derive(Debug)]
enum Want {
    Get(BlockAddress),
    Put(Block),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The block came.
    Found,
    /// So many routers keep it.
    Stored(u8),
    /// It is not there, or there is no way to where it would be.
    Missing,
    /// Nobody answered, or only that there is no time.
    Nothing,
}

/// One block's errand.
#[derive(Debug)]
pub(crate) struct Asker {
    want: Want,
    exits: Vec<ExitNo>,
    /// Exits that said no or nothing.
    tried: Vec<ExitNo>,
    /// There are no more exits to be had.
    relaxed: bool,
    open: Option<(u64, ExitNo, Time)>,
    /// When it asks again.
    again_at: Option<Time>,
    next_ask: u64,
    failures: u32,
    put_off: u32,
    /// Routers that were asked, the most in one answer.
    routers: u8,
    told: Option<Told>,
    out: VecDeque<Output>,
}

impl Asker {
    pub(crate) fn get(address: BlockAddress) -> Self {
        Self::new(Want::Get(address))
    }

    pub(crate) fn put(block: Block) -> Self {
        Self::new(Want::Put(block))
    }

    fn new(want: Want) -> Self {
        Self {
            want,
            exits: Vec::new(),
            tried: Vec::new(),
            relaxed: false,
            open: None,
            again_at: None,
            next_ask: 0,
            failures: 0,
            put_off: 0,
            routers: 0,
            told: None,
            out: VecDeque::from([Output::NeedExits { want: EXITS }]),
        }
    }

    /// How it ended, once it has.
    pub(crate) const fn told(&self) -> Option<Told> {
        self.told
    }

    /// Requests so far.
    pub(crate) const fn asks(&self) -> u64 {
        self.next_ask
    }

    /// Most routers that were asked for one answer.
    pub(crate) const fn routers(&self) -> u8 {
        self.routers
    }

    /// Asks, if it waits for nothing and there is an exit for it.
    fn step(&mut self, now: Time) {
        if self.open.is_some() || self.told.is_some() || self.again_at.is_some_and(|at| at > now) {
            return;
        }
        let fresh = self.exits.iter().find(|exit| !self.tried.contains(exit)).copied();
        let all_there = self.relaxed || self.exits.len() >= EXITS;
        let any = self.exits.last().copied().filter(|_| all_there);
        let Some(exit) = fresh.or(any) else { return };
        self.again_at = None;
        let ask = self.next_ask;
        self.next_ask += 1;
        self.open = Some((ask, exit, now));
        self.out.push_back(match &self.want {
            Want::Get(address) => Output::Get { ask, exit, address: *address },
            Want::Put(block) => Output::Put { ask, exit, block: block.clone() },
        });
    }

    /// It comes back later, if it has the patience.
    fn later(&mut self, now: Time, pause: Duration) {
        self.put_off += 1;
        if self.put_off >= PATIENCE_MAX {
            self.told = Some(Told::Nothing);
        } else {
            self.again_at = Some(now + pause);
        }
    }
}

impl Transfer for Asker {
    fn exit_up(&mut self, now: Time, exit: ExitNo) {
        self.exits.push(exit);
        self.step(now);
    }

    fn exit_gone(&mut self, now: Time, exit: ExitNo) {
        self.exits.retain(|it| *it != exit);
        if self.open.is_some_and(|(_, through, _)| through == exit) {
            self.open = None;
            self.later(now, Duration::ZERO);
        }
        self.step(now);
    }

    fn no_more_exits(&mut self, now: Time) {
        self.relaxed = true;
        self.step(now);
    }

    fn handle_answer(&mut self, now: Time, ask: u64, routers: u8, answer: Option<BlockAnswer>) {
        let Some((_, exit, _)) = self.open.take_if(|(open, ..)| *open == ask) else { return };
        self.routers = self.routers.max(routers);
        match (answer, &self.want) {
            (Some(Answer::Found(block)), Want::Get(address)) if block.address() == *address => {
                self.told = Some(Told::Found);
            }
            (Some(Answer::Stored { copies }), Want::Put(_)) => {
                self.told = Some(Told::Stored(copies));
            }
            (Some(Answer::Busy { retry_s }), _) => {
                self.later(now, Duration::from_secs(retry_s.into()));
            }
            (Some(_), Want::Get(_)) => {
                self.tried.push(exit);
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    self.told = Some(Told::Missing);
                } else {
                    self.again_at = Some(now + RETRY);
                }
            }
            (Some(_), Want::Put(_)) | (None, _) => {
                self.tried.push(exit);
                self.later(now, RETRY);
            }
        }
        self.step(now);
    }

    fn handle_timeout(&mut self, now: Time) {
        if let Some((ask, _, since)) = self.open
            && since + LOST_AFTER <= now
        {
            self.handle_answer(now, ask, 0, None);
        }
        self.step(now);
    }

    fn poll_timeout(&self, now: Time) -> Option<Time> {
        if self.told.is_some() {
            return None;
        }
        let lost = self.open.map(|(.., since)| since + LOST_AFTER);
        // Who could not ask when it was time waits for an exit and not for a moment that is over: it would be
        // woken again and again, and no time would pass.
        let again = self.again_at.filter(|at| *at > now);
        lost.or(again)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block::copy_from(&vec![7; warren_overlay::block::BLOCK_LEN]).unwrap()
    }

    fn asked(asker: &mut Asker) -> (u64, ExitNo) {
        loop {
            match asker.poll_output() {
                Some(Output::Get { ask, exit, .. } | Output::Put { ask, exit, .. }) => {
                    return (ask, exit);
                }
                Some(_) => {}
                None => panic!("nothing is asked"),
            }
        }
    }

    #[test]
    fn who_is_told_no_asks_once_more_through_another_exit() {
        let mut asker = Asker::get(block().address());
        let now = Time::ZERO;
        asker.exit_up(now, ExitNo(1));
        let (ask, first) = asked(&mut asker);
        asker.exit_up(now, ExitNo(2));
        asker.handle_answer(now, ask, 4, Some(Answer::NotFound));
        assert_eq!(asker.told(), None);
        let now = asker.poll_timeout(now).expect("it comes back");
        asker.handle_timeout(now);
        let (ask, second) = asked(&mut asker);
        assert_ne!(first, second);
        asker.handle_answer(now, ask, 9, Some(Answer::NotFound));
        assert_eq!((asker.told(), asker.asks(), asker.routers()), (Some(Told::Missing), 2, 9));
        assert_eq!(asker.poll_timeout(now), None);
    }

    #[test]
    fn who_has_no_exit_left_to_ask_waits_for_one_and_for_no_moment_that_is_over() {
        let mut asker = Asker::get(block().address());
        let now = Time::ZERO;
        asker.exit_up(now, ExitNo(1));
        let (ask, _) = asked(&mut asker);
        asker.handle_answer(now, ask, 4, Some(Answer::NotFound));
        let now = asker.poll_timeout(now).expect("it comes back");
        asker.handle_timeout(now);
        assert_eq!((asker.poll_timeout(now), asker.poll_output()), (None, None));
        asker.exit_up(now, ExitNo(2));
        assert_eq!(asked(&mut asker).1, ExitNo(2));
    }

    #[test]
    fn who_hears_nothing_gives_up_after_a_while() {
        let mut asker = Asker::put(block());
        let mut now = Time::ZERO;
        asker.no_more_exits(now);
        asker.exit_up(now, ExitNo(1));
        for _ in 0..2 * PATIENCE_MAX {
            let Some(due) = asker.poll_timeout(now) else { break };
            now = due;
            asker.handle_timeout(now);
        }
        assert_eq!(asker.told(), Some(Told::Nothing));
        assert!(now.since(Time::ZERO) < Duration::from_mins(10));
    }
}
