//! Several who ask for one block share one search.
//!
//! Lives here: who follows whose search, and what happens when one of them goes away (more methods of
//! the engine of `request.rs`). Does not live here: the search.
//!
//! Only a search that has gone nowhere but closer to its key is followed: so of routers that wait for
//! each other each is closer than the one before, and they never wait in a circle. A follower has its
//! own number and its own time limit with whoever asked; it gets the very answer that the first gets.

use super::{
    job::{From, Job, Phase},
    request::Requests,
    wire::Body,
};
use crate::{id::LinkNo, time::Time, unit::UnitKey};

/// Who may follow one search; more make searches of their own.
const FOLLOWERS_MAX: usize = 32;

impl Requests {
    /// Lets `from` follow a search for the same block, if there is one that may be followed.
    pub(super) fn follow(&mut self, body: &Body, from: From) -> bool {
        let Body::Get(key @ UnitKey::Block(_)) = body else { return false };
        let Some(job) = self.gets.get(key).and_then(|number| self.jobs.get_mut(number)) else {
            return false;
        };
        let back = |it: &Phase| it.waits().iter().any(|wait| Some(wait.link) == from.link());
        if !job.closer || back(&job.phase) || job.followers.len() >= FOLLOWERS_MAX {
            return false;
        }
        job.followers.push(from);
        true
    }

    /// The link is gone: nobody on it waits for anything.
    pub(super) fn abandon_link(&mut self, now: Time, link: LinkNo) {
        self.forsake(now, |from| from.link() == Some(link));
    }

    /// This one does not wait any more.
    pub(super) fn abandon(&mut self, now: Time, who: From) {
        self.forsake(now, |from| *from == who);
    }

    fn forsake(&mut self, now: Time, gone: impl Fn(&From) -> bool) {
        let mut over = Vec::new();
        for (number, job) in self.jobs.iter_mut() {
            job.followers.retain(|from| !gone(from));
            if gone(&job.from) && !promote(job) {
                over.push(*number);
            }
        }
        for number in over {
            self.drop_job(now, number);
        }
    }
}

/// The first follower becomes the one for whom the search is.
fn promote(job: &mut Job) -> bool {
    if job.followers.is_empty() {
        return false;
    }
    job.from = job.followers.remove(0);
    job.said_accepted = true; // followers are told at once
    true
}
