//! Whom this router names to its neighbours beside each other: a public view.
//!
//! Lives here: 64 routers, a uniform draw from those heard of within the last half hour. Does not live here:
//! when one of them is named, and to whom (`gossip.rs`), the private sample (`view.rs`).
//!
//! The draw is made as the private one is (`view.rs`), under another key, from what is heard and never from
//! what is known: so whoever collects it learns whom this router heard of, and not whom its tunnels go
//! through. A new key each half hour names others, and those who are gone are soon named no more.

use std::{sync::Arc, time::Duration};

use super::view::rank;
use crate::{
    crypto::secret::Secret,
    id::RouterId,
    rng::Rng,
    time::{Time, Wall},
    wire::RouterDescriptor,
};

/// Routers of the public view.
const RUMOURS_MAX: usize = 64;
/// How long they are drawn from what is heard, until others are.
const RUMOURS_LIFE: Duration = Duration::from_mins(30);

/// The public view.
#[derive(Debug)]
pub(super) struct Rumours {
    key: Secret<32>,
    until: Time,
    /// In the order of their ranks.
    kept: Vec<(u64, Arc<RouterDescriptor>)>,
}

impl Rumours {
    /// An empty one; its time begins with the first [`Rumours::turn`].
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { key: Secret::random(rng), until: Time::ZERO, kept: Vec::new() }
    }

    /// Begins anew if it is time; true if it did.
    pub(super) fn turn(&mut self, now: Time, rng: &mut Rng) -> bool {
        if now < self.until {
            return false;
        }
        // The first of all goes on with what was heard before it.
        if self.until > Time::ZERO {
            self.key = Secret::random(rng);
            self.kept.clear();
        }
        self.until = now + RUMOURS_LIFE;
        true
    }

    /// The rank of a router, and where it is or would be.
    fn place(&self, id: &RouterId) -> (u64, usize) {
        let rank = rank(self.key.expose_secret(), id);
        let full = self.kept.len() >= RUMOURS_MAX;
        if full && self.kept.last().is_some_and(|last| last.0 < rank) {
            return (rank, RUMOURS_MAX);
        }
        (rank, self.kept.partition_point(|it| it.0 < rank))
    }

    /// Whether hearing of a router would change anything.
    pub(super) fn is_news(&self, descriptor: &RouterDescriptor) -> bool {
        let (_, at) = self.place(&descriptor.id());
        let known = self.kept.get(at).filter(|it| it.1.id() == descriptor.id());
        let published = descriptor.fields().published;
        at < RUMOURS_MAX && known.is_none_or(|it| it.1.fields().published < published)
    }

    /// A router was named; true if it is one of the 64 now and was not before.
    pub(super) fn hear(&mut self, descriptor: &Arc<RouterDescriptor>) -> bool {
        let id = descriptor.id();
        let (rank, at) = self.place(&id);
        if at >= RUMOURS_MAX {
            return false;
        }
        if let Some((_, known)) = self.kept.get_mut(at).filter(|it| it.1.id() == id) {
            if known.fields().published < descriptor.fields().published {
                *known = Arc::clone(descriptor);
            }
            return false;
        }
        self.kept.truncate(RUMOURS_MAX - 1); // before there is no room: it would be made for twice as many
        self.kept.insert(at, (rank, Arc::clone(descriptor)));
        true
    }

    /// It is gone, or lied.
    pub(super) fn forget(&mut self, id: &RouterId) {
        self.kept.retain(|it| it.1.id() != *id);
    }

    /// Drops what has expired.
    pub(super) fn expire(&mut self, wall: Wall) {
        self.kept.retain(|it| it.1.is_current(wall));
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.kept.iter().map(|it| &it.1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ring::testing::{WALL, descriptor, signed_at};

    fn ids(rumours: &Rumours) -> BTreeSet<RouterId> {
        rumours.kept.iter().map(|it| it.1.id()).collect()
    }

    #[test]
    fn sixty_four_are_kept_and_others_after_half_an_hour() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut rumours = Rumours::new(&mut rng);
        let hear = |rumours: &mut Rumours| (0..300).for_each(|n| _ = rumours.hear(&descriptor(n)));
        assert!(rumours.turn(Time::from_micros(1), &mut rng));
        hear(&mut rumours);
        let first = ids(&rumours);
        hear(&mut rumours);
        assert_eq!((first.len(), &ids(&rumours)), (RUMOURS_MAX, &first));
        let later = Time::from_micros(1) + RUMOURS_LIFE;
        assert!(!rumours.turn(Time::from_micros(0) + RUMOURS_LIFE, &mut rng));
        assert!(rumours.turn(later, &mut rng));
        assert!(ids(&rumours).is_empty());
        hear(&mut rumours);
        let both = ids(&rumours).intersection(&first).count();
        assert!(both < 40, "{both} of 64 are the same: 14 by chance");
    }

    #[test]
    fn the_public_view_is_no_part_of_the_private_one() {
        let mut rng = Rng::from_seed([2; 32]);
        let mut rumours = Rumours::new(&mut rng);
        let mut view = crate::ring::view::View::new(&descriptor(0), 64, Secret::random(&mut rng));
        let now = crate::time::Now { time: Time::ZERO, wall: WALL };
        for n in 1..1_000 {
            rumours.hear(&descriptor(n));
            view.insert(now, &descriptor(n), true, |_| false);
        }
        let told = ids(&rumours);
        let both = view.fit(|_| false).filter(|it| told.contains(&it.id())).count();
        assert!(both < 15, "{both} of 64: four by chance");
    }

    #[test]
    fn the_fresher_descriptor_is_told_and_what_is_gone_is_not() {
        let mut rng = Rng::from_seed([3; 32]);
        let mut rumours = Rumours::new(&mut rng);
        let (old, new) = (signed_at(1, WALL), signed_at(1, WALL.plus(5)));
        assert!(rumours.hear(&old) && !rumours.hear(&new) && !rumours.hear(&old));
        assert_eq!(rumours.all().collect::<Vec<_>>(), [&new]);
        rumours.expire(new.fields().expiry.plus(11));
        assert_eq!(rumours.all().count(), 0);
        rumours.hear(&descriptor(2));
        rumours.forget(&descriptor(2).id());
        assert_eq!(rumours.all().count(), 0);
    }
}
