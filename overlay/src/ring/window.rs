//! Windows: how many requests for blocks may be under way between this router and a neighbour.
//!
//! Lives here: per neighbour and class, what it allows and what is open or waits for room; what it was
//! allowed. Does not live here: which requests there are (`request.rs`), the parts that carry blocks
//! over a link (`link/bulk.rs`).
//!
//! The receiver decides: it says how many requests it takes at once, and each holds at most one block
//! here. So what a neighbour can make this router hold is its window times 32 KiB, in each class; and
//! a sender that has used up its window keeps the rest to itself, where it can still choose another
//! way. A request that is answered, or given up, makes room for the next.

use std::collections::{BTreeSet, VecDeque};

use super::wire::{Class, WINDOW_MAX};
use crate::{id::LinkNo, table::Table, time::Time};

/// What a neighbour is allowed before it is told anything, in each class.
const WINDOW_START: u8 = 4;
/// Requests that wait for room, per neighbour and class; with more, the neighbour counts as busy.
const QUEUE_MAX: usize = 64;

/// One class towards one neighbour that was asked for blocks.
#[derive(Debug, Default)]
struct Side {
    /// Numbers of the requests that it has not answered.
    open: BTreeSet<u32>,
    /// Requests that wait: their number and their job.
    queue: VecDeque<(u32, u32)>,
    /// It asked to be left alone until then.
    closed_until: Time,
}

impl Side {
    fn has_room(&self, allowed: u8) -> bool {
        self.open.len() < usize::from(allowed)
    }

    /// Requests that may go now.
    fn fill(&mut self, allowed: u8) -> Vec<(u32, u32)> {
        let mut go = Vec::new();
        while self.has_room(allowed)
            && let Some((id, job)) = self.queue.pop_front()
        {
            self.open.insert(id);
            go.push((id, job));
        }
        go
    }
}

/// Each pair is interactive, bulk.
#[derive(Debug)]
struct Neighbour {
    allowed: [u8; 2],
    granted: Option<[u8; 2]>,
    /// None until it is asked for a block, and when it has not been for long.
    sides: Option<Box<[Side; 2]>>,
}

impl Default for Neighbour {
    fn default() -> Self {
        Self { allowed: [WINDOW_START; 2], granted: None, sides: None }
    }
}

/// A class's half of a pair.
const fn half<T>([interactive, bulk]: &[T; 2], class: Class) -> &T {
    match class {
        Class::Interactive => interactive,
        Class::Bulk => bulk,
    }
}

/// All windows of one router.
#[derive(Debug, Default)]
pub(super) struct Windows(Table<LinkNo, Neighbour>);

impl Windows {
    /// A side, and how many it is allowed.
    fn side(&mut self, link: LinkNo, class: Class) -> (&mut Side, u8) {
        let it = self.0.get_or_insert_with(link, Neighbour::default);
        let [interactive, bulk] = &mut **it.sides.get_or_insert_default();
        let side = match class {
            Class::Interactive => interactive,
            Class::Bulk => bulk,
        };
        (side, *half(&it.allowed, class))
    }

    /// Whether another request may be meant for this neighbour, if need be after a wait.
    pub(super) fn is_ready(&self, now: Time, link: LinkNo, class: Class) -> bool {
        let Some(sides) = self.0.get(&link).and_then(|it| it.sides.as_deref()) else {
            return true;
        };
        let side = half(sides, class);
        now >= side.closed_until && side.queue.len() < QUEUE_MAX
    }

    /// Request `id` of `job` is for `link`: true if it may go at once; else it waits, or comes to
    /// nothing where too many wait (its time limit ends it).
    pub(super) fn take(&mut self, link: LinkNo, class: Class, id: u32, job: u32) -> bool {
        let (side, allowed) = self.side(link, class);
        if side.queue.is_empty() && side.has_room(allowed) {
            return side.open.insert(id);
        }
        if side.queue.len() < QUEUE_MAX {
            side.queue.push_back((id, job));
        }
        false
    }

    /// Request `id` is over, whatever came of it: those that may go in its place.
    pub(super) fn done(&mut self, link: LinkNo, id: u32) -> Vec<(u32, u32)> {
        let Some(it) = self.0.get_mut(&link) else { return Vec::new() };
        for (side, allowed) in it.sides.iter_mut().flat_map(|it| it.iter_mut()).zip(it.allowed) {
            if side.open.remove(&id) {
                return side.fill(allowed);
            }
            side.queue.retain(|(other, _)| *other != id);
        }
        Vec::new()
    }

    /// The neighbour says what it allows: those that may go now.
    pub(super) fn allow(&mut self, link: LinkNo, windows: [u8; 2]) -> Vec<(u32, u32)> {
        let it = self.0.get_or_insert_with(link, Neighbour::default);
        it.allowed = windows.map(|window| window.clamp(1, WINDOW_MAX));
        let sides = it.sides.iter_mut().flat_map(|it| it.iter_mut());
        sides.zip(it.allowed).flat_map(|(side, allowed)| side.fill(allowed)).collect()
    }

    /// The neighbour is busy for `until`.
    pub(super) fn close(&mut self, link: LinkNo, class: Class, until: Time) {
        let (side, _) = self.side(link, class);
        side.closed_until = side.closed_until.max(until);
    }

    /// What the neighbour was allowed.
    pub(super) fn granted(&self, link: LinkNo, class: Class) -> usize {
        let granted = self.0.get(&link).and_then(|it| it.granted).unwrap_or([WINDOW_START; 2]);
        usize::from(*half(&granted, class))
    }

    /// What the neighbour is to be allowed: whether that is worth telling it.
    pub(super) fn grant(&mut self, link: LinkNo, windows: [u8; 2]) -> bool {
        let it = self.0.get_or_insert_with(link, Neighbour::default);
        let near = |old: u8, new: u8| old.abs_diff(new) * 4 <= old;
        if it.granted.is_some_and(|old| old.iter().zip(windows).all(|(old, new)| near(*old, new))) {
            return false;
        }
        it.granted = Some(windows);
        true
    }

    /// Gives up the room of those that are not asked for anything.
    pub(super) fn rest(&mut self, now: Time) {
        let at_rest =
            |it: &Side| it.open.is_empty() && it.queue.is_empty() && it.closed_until <= now;
        for it in self.0.values_mut() {
            it.sides.take_if(|sides| sides.iter().all(at_rest));
        }
        self.0.rest();
    }

    /// The link is gone.
    pub(super) fn forget(&mut self, link: LinkNo) {
        self.0.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LINK: LinkNo = LinkNo(1);
    const BULK: Class = Class::Bulk;

    #[test]
    fn what_has_no_room_waits_and_goes_in_order() {
        let mut windows = Windows::default();
        assert!((0..4).all(|id| windows.take(LINK, BULK, id, 10 + id)));
        assert!((4..7).all(|id| !windows.take(LINK, BULK, id, 10 + id)));
        assert!(windows.take(LINK, Class::Interactive, 7, 17), "the other class has its own");
        assert_eq!(windows.done(LINK, 2), [(4, 14)]);
        assert_eq!(windows.done(LINK, 5), [], "it was waiting");
        assert_eq!(windows.done(LINK, 5), []);
        assert_eq!(windows.allow(LINK, [4, 6]), [(6, 16)]);
        assert_eq!(windows.allow(LINK, [4, 1]), []);
        assert_eq!(windows.done(LINK, 0), [], "more are open than are allowed now");
    }

    #[test]
    fn a_neighbour_that_is_busy_or_has_a_full_queue_is_not_asked() {
        let mut windows = Windows::default();
        let later = Time::ZERO + Duration::from_secs(3);
        windows.close(LINK, BULK, later);
        assert!(!windows.is_ready(Time::ZERO, LINK, BULK));
        assert!(windows.is_ready(Time::ZERO, LINK, Class::Interactive));
        assert!(windows.is_ready(later, LINK, BULK));
        for id in 0..200 {
            windows.take(LINK, BULK, id, id);
        }
        assert!(!windows.is_ready(later, LINK, BULK));
        windows.forget(LINK);
        assert!(windows.is_ready(later, LINK, BULK));
    }

    proptest! {
        #[test] // (what, id): take, done, allow
        fn no_more_are_open_than_allowed_and_none_is_lost(
            acts in prop::collection::vec((0u8..3, 0u32..12), 0..80),
        ) {
            let mut windows = Windows::default();
            let (mut open, mut waiting) = (BTreeSet::new(), BTreeSet::new());
            let mut allowed = 4;
            for (act, id) in acts {
                let go = match act {
                    0 if open.contains(&id) || waiting.contains(&id) => vec![],
                    0 => {
                        waiting.insert(id);
                        if windows.take(LINK, BULK, id, id) { vec![(id, id)] } else { vec![] }
                    }
                    1 => {
                        open.remove(&id);
                        waiting.remove(&id);
                        windows.done(LINK, id)
                    }
                    _ => {
                        allowed = usize::try_from(id).unwrap().max(1);
                        windows.allow(LINK, [1, u8::try_from(allowed).unwrap()])
                    }
                };
                for (id, _) in &go {
                    prop_assert!(waiting.remove(id) && open.insert(*id));
                }
                prop_assert!(go.is_empty() || open.len() <= allowed);
                prop_assert!(waiting.is_empty() || open.len() >= allowed);
            }
        }
    }
}
