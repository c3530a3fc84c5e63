//! Asking those who should hold something, all at once: the end of every way.
//!
//! Lives here: the round of the other holders, and copies that the store wants one neighbour to have
//! (more methods of the engine of `request.rs`). Does not live here: the way to the holders.

use super::{
    job::{From, Job, Phase, Wait},
    neighbours::{KEEPERS, Neighbours, REPLICAS},
    request::{BLOCK_JOBS_MAX, RequestOutput, Requests},
    visited::Visited,
    waits::sibling_wait,
    wire::{Body, Class, RETRY_MAX_S},
};
use crate::{answer::Answer, block::Block, id::LinkNo, time::Time, unit::Unit};

impl Requests {
    /// The store wants the neighbour on `link` to have a copy of this.
    pub(super) fn push(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        push: u32,
        link: LinkNo,
        block: Block,
    ) {
        let blocks = self.block_jobs();
        let known = around.iter().any(|it| it.link == link);
        if !known || blocks >= BLOCK_JOBS_MAX || !self.windows.is_ready(now, link, Class::Bulk) {
            self.outputs.push_back(RequestOutput::Pushed { push, stored: false });
            return;
        }
        let body = Body::Put(Unit::Block(block));
        let from = From::Push { push };
        let mut visited = Visited::default();
        visited.insert(self.marks);
        let number = self.admit(now, Job::new(from, body, Class::Bulk, visited, 0));
        self.ask_holders(now, around, number, vec![link], 0);
    }

    /// Asks the other holders at once. `copies`: how many are sure already.
    pub(super) fn siblings(&mut self, now: Time, around: &mut Neighbours, number: u32, copies: u8) {
        let Some(job) = self.jobs.get(&number) else { return };
        let target = job.body.location();
        let getting = matches!(job.body, Body::Get(_));
        // Who is new among the three may have no copy yet; who was one of them keeps his (blocks.md, section 3).
        let holders_max = if getting && job.body.is_block() { KEEPERS } else { REPLICAS };
        let holders = around.closest(now, target, around.len());
        let others: Vec<LinkNo> = holders
            .into_iter()
            .filter(|it| !getting || !job.visited.contains(it.marks))
            .take(holders_max - 1)
            .map(|it| it.link)
            .collect();
        self.ask_holders(now, around, number, others, copies);
    }

    /// Asks these neighbours to answer from, or put into, what they have.
    fn ask_holders(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        number: u32,
        links: Vec<LinkNo>,
        copies: u8,
    ) {
        let asks: Vec<(LinkNo, u32)> =
            links.into_iter().map(|link| (link, self.fresh_id())).collect();
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let until = now + sibling_wait(job);
        let wait = |&(link, id)| Wait { link, id, accepted: false, queued: false, until };
        job.phase = Phase::Siblings { waits: asks.iter().map(wait).collect(), copies };
        for (link, id) in asks {
            self.send_ask(now, number, link, id);
        }
        self.set_timer(number);
        self.settle_siblings(now, around, number);
    }

    /// Ends a sibling round when nobody is waited for any more.
    pub(super) fn settle_siblings(&mut self, now: Time, around: &mut Neighbours, number: u32) {
        let Some(job) = self.jobs.get(&number) else { return };
        let Phase::Siblings { waits, copies } = &job.phase else { return };
        if !waits.is_empty() {
            return;
        }
        let answer = match (&job.body, *copies) {
            (Body::Put(_), 0) => Answer::Busy { retry_s: RETRY_MAX_S },
            (Body::Put(_), copies) => Answer::Stored { copies },
            // Only who could ask all that are closer may say that there is nothing.
            (Body::Get(_) | Body::Find(_) | Body::Watch(_), _)
                if around.is_cut_off(now, job.body.location()) =>
            {
                Answer::NoRoute { left: job.left() }
            }
            (Body::Get(_) | Body::Find(_) | Body::Watch(_), _) => Answer::NotFound,
        };
        self.finish(now, around, number, answer);
    }
}
