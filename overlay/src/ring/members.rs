//! Who is let in, besides the work for a place: what a network's mode asks (PROTOCOL P2).
//!
//! Lives here: checking of chains of members' signatures, cheap before expensive, and who is a friend.
//! Does not live here: a signature's bytes (`wire/vouch.rs`), work (`admission.rs`), making signatures
//! and counting one's own (the owner).
//!
//! ```text
//! founder ── signs for ──> A ── signs for ──> B          B's descriptor carries both signatures
//!   week 10, number 0       week 12, number 3
//! ```
//!
//! A chain is good if it begins with the founder, if each signer was a member when it signed (its own
//! signature is younger than [`MEMBER_WEEKS`] then), if the last is younger than that now, if no number
//! reaches the network's bound for a week, and if nobody else was seen with one of its numbers. So a
//! router takes in no more newcomers of one member and week than the bound, though nobody counts for all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::network::{Mode, Network};
use crate::{
    id::{NetworkId, RouterId},
    time::Wall,
    wire::{RouterDescriptor, Vouch, week},
};

/// Weeks for which a signature makes its newcomer a member; then somebody must sign again.
pub const MEMBER_WEEKS: u16 = 52;
/// Minutes by which clocks may differ.
const CLOCK_MINUTES: u32 = 10;
/// Signatures remembered, 100 bytes each. Who makes a router forget one must hold as many good ones.
const GIVEN_MAX: usize = 8_192;

/// Why a router is no member of a network by invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// Nobody signed for it.
    #[error("no member has signed for it")]
    Unsigned,
    /// The first signature is not the founder's.
    #[error("its signatures are of another network")]
    Foreign,
    /// A member signed for more in a week than the network allows.
    #[error("a member signed for more newcomers in one week than this network allows")]
    TooMany,
    /// The last signature is too old, one is of the future, or a signer was no member any more.
    #[error("the signature for it is too old, or a clock is wrong")]
    Over,
    /// A signature is none.
    #[error("a signature is false, or for another router")]
    Forged,
    /// Another router came with the same signature's number.
    #[error("a member gave the same place of a week to two newcomers")]
    Taken,
}

/// One of a member's signatures of a week.
type Number = (RouterId, u16, u8);

/// Who is let in.
#[derive(Debug)]
pub struct Members {
    mode: Mode,
    network: NetworkId,
    /// Good signatures, and whom each was for.
    given: BTreeMap<Number, RouterId>,
    order: VecDeque<Number>,
    friends: BTreeSet<RouterId>,
}

impl Members {
    /// Nobody was seen yet, and there are no friends.
    pub fn new(network: &Network) -> Self {
        Self {
            mode: network.mode,
            network: network.id(),
            given: BTreeMap::new(),
            order: VecDeque::new(),
            friends: BTreeSet::new(),
        }
    }

    /// From now on these are the friends.
    pub(super) fn set_friends(&mut self, friends: BTreeSet<RouterId>) {
        self.friends = friends;
    }

    /// Whether there may be a link with the router that describes itself so.
    pub fn admits(&mut self, wall: Wall, router: &RouterDescriptor) -> bool {
        self.may_dial(&router.id()) && self.is_member(wall, router)
    }

    /// Whether it belongs to the network: tunnels may go through it, the ring may lead to it.
    pub fn is_member(&mut self, wall: Wall, router: &RouterDescriptor) -> bool {
        self.check(wall, router.id(), &router.fields().vouches).is_ok()
    }

    /// Whether this router may open a link to that one.
    pub fn may_dial(&self, id: &RouterId) -> bool {
        self.is_open() || self.friends.contains(id)
    }

    /// Whether links are not only between friends.
    pub(super) fn is_open(&self) -> bool {
        self.mode != Mode::Friends
    }

    /// Whether `chain` makes `router` a member at `wall`. In networks of other modes all are.
    ///
    /// All that costs nothing is looked at before the first signature, and each signature is verified
    /// once: a false chain costs one verification, some 40 us.
    ///
    /// # Errors
    /// Why it is none.
    pub fn check(&mut self, wall: Wall, router: RouterId, chain: &[Vouch]) -> Result<(), Stranger> {
        let Mode::Invite { founder, weekly } = self.mode else { return Ok(()) };
        if router == founder {
            return Ok(());
        }
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            return Err(Stranger::Unsigned);
        };
        if first.by != founder {
            return Err(Stranger::Foreign);
        }
        if chain.iter().any(|vouch| vouch.number >= weekly) {
            return Err(Stranger::TooMany);
        }
        let lasts = |from: u16, to: u16| from <= to && to - from <= MEMBER_WEEKS;
        let in_turn = chain.iter().zip(chain.iter().skip(1)).all(|(a, b)| lasts(a.week, b.week));
        let now = week(wall);
        if !in_turn || last.week > week(wall.plus(CLOCK_MINUTES)) || !lasts(last.week.min(now), now)
        {
            return Err(Stranger::Over);
        }
        let newcomers = chain.iter().skip(1).map(|vouch| vouch.by).chain([router]);
        let unknown: Vec<_> = chain
            .iter()
            .zip(newcomers)
            .filter_map(|(vouch, newcomer)| {
                let number = (vouch.by, vouch.week, vouch.number);
                match self.given.get(&number) {
                    Some(other) if *other == newcomer => None,
                    Some(_) => Some(Err(Stranger::Taken)),
                    None => Some(Ok((number, vouch, newcomer))),
                }
            })
            .collect::<Result<_, _>>()?;
        for (number, vouch, newcomer) in unknown {
            if !vouch.is_for(self.network, newcomer) {
                return Err(Stranger::Forged);
            }
            self.remember(number, newcomer);
        }
        Ok(())
    }

    fn remember(&mut self, number: Number, newcomer: RouterId) {
        if self.given.insert(number, newcomer).is_none() {
            self.order.push_back(number);
        }
        if self.order.len() > GIVEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.given.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::testing::{key, network};

    const WEEK: u16 = 2_949;
    const WEEKLY: u8 = 4;

    fn id(n: u32) -> RouterId {
        key(n).id()
    }

    fn by_invitation() -> Network {
        Network { mode: Mode::Invite { founder: id(0), weekly: WEEKLY }, ..network(0) }
    }

    fn at(week: u16) -> Wall {
        Wall::from_minutes(u32::from(week) * 7 * 24 * 60 + 5_000)
    }

    fn vouch(by: u32, newcomer: u32, week: u16, number: u8) -> Vouch {
        Vouch::sign(by_invitation().id(), &key(by), id(newcomer), week, number)
    }

    fn check(week: u16, newcomer: u32, chain: &[Vouch]) -> Result<(), Stranger> {
        Members::new(&by_invitation()).check(at(week), id(newcomer), chain)
    }

    #[test]
    fn the_founder_and_whom_a_chain_leads_to_are_members_and_nobody_else() {
        let chain = [vouch(0, 1, WEEK, 0), vouch(1, 2, WEEK, 1)];
        assert_eq!(check(WEEK, 0, &[]), Ok(()));
        assert_eq!(check(WEEK, 1, &chain[..1]), Ok(()));
        assert_eq!(check(WEEK, 2, &chain), Ok(()));
        assert_eq!(check(WEEK, 3, &[]), Err(Stranger::Unsigned));
        assert_eq!(check(WEEK, 3, &chain), Err(Stranger::Forged), "for another newcomer");
        assert_eq!(check(WEEK, 2, &chain[1..]), Err(Stranger::Foreign), "not from the founder on");
        let forged = [vouch(3, 1, WEEK, 0), vouch(1, 2, WEEK, 1)];
        assert_eq!(check(WEEK, 2, &forged), Err(Stranger::Foreign));
        let mut liar = vouch(3, 1, WEEK, 0);
        liar.by = id(0);
        let forged = [liar, vouch(1, 2, WEEK, 1)];
        assert_eq!(check(WEEK, 2, &forged), Err(Stranger::Forged));
        let other = Network { local: false, ..by_invitation() };
        let foreign = [Vouch::sign(other.id(), &key(0), id(1), WEEK, 0)];
        assert_eq!(check(WEEK, 1, &foreign), Err(Stranger::Forged), "of another network");
    }

    #[test]
    fn a_signature_ends_after_a_year_and_what_it_signed_before_stays() {
        let chain = [vouch(0, 1, WEEK, 0), vouch(1, 2, WEEK + MEMBER_WEEKS, 0)];
        assert_eq!(check(WEEK + MEMBER_WEEKS, 1, &chain[..1]), Ok(()));
        assert_eq!(check(WEEK + MEMBER_WEEKS + 1, 1, &chain[..1]), Err(Stranger::Over));
        assert_eq!(check(WEEK + MEMBER_WEEKS + 1, 2, &chain), Ok(()));
        let late = [vouch(0, 1, WEEK, 0), vouch(1, 2, WEEK + MEMBER_WEEKS + 1, 0)];
        let signed_late = check(WEEK + MEMBER_WEEKS + 1, 2, &late);
        assert_eq!(signed_late, Err(Stranger::Over), "by one that was no member any more");
        let early = [vouch(0, 1, WEEK, 0), vouch(1, 2, WEEK - 1, 0)];
        assert_eq!(check(WEEK, 2, &early), Err(Stranger::Over), "by one that was none yet");
        assert_eq!(check(WEEK, 1, &[vouch(0, 1, WEEK + 1, 0)]), Err(Stranger::Over), "to come");
    }

    #[test]
    fn a_week_of_one_member_has_so_many_places_and_nobody_gets_one_twice() {
        let mut members = Members::new(&by_invitation());
        let mut let_in = 0;
        for n in 0..20 {
            // Numbers beyond the bound, and numbers that somebody else has.
            for number in [n, n % WEEKLY] {
                let newcomer = 100 + u32::from(n);
                let chain = [vouch(0, newcomer, WEEK, number)];
                let_in += u8::from(members.check(at(WEEK), id(newcomer), &chain).is_ok());
            }
        }
        // Both of a newcomer's are the same one for the first few.
        assert_eq!(let_in, 2 * WEEKLY);
        let over = members.check(at(WEEK), id(9), &[vouch(0, 9, WEEK, WEEKLY)]);
        assert_eq!(over, Err(Stranger::TooMany));
        let taken = members.check(at(WEEK), id(9), &[vouch(0, 9, WEEK, 0)]);
        assert_eq!(taken, Err(Stranger::Taken));
        let next = members.check(at(WEEK + 1), id(9), &[vouch(0, 9, WEEK + 1, 0)]);
        assert_eq!(next, Ok(()), "a new week");
    }

    #[test]
    fn what_is_remembered_of_signatures_is_bounded() {
        let mut members = Members::new(&by_invitation());
        for n in 0..=u16::try_from(GIVEN_MAX).unwrap() {
            members.remember((id(0), n, 0), id(1));
        }
        assert_eq!((members.given.len(), members.order.len()), (GIVEN_MAX, GIVEN_MAX));
    }

    #[test]
    fn friends_alone_are_linked_where_the_network_says_so() {
        let router = crate::ring::testing::descriptor(1);
        let mut members = Members::new(&Network { mode: Mode::Friends, ..network(0) });
        assert!(members.is_member(at(WEEK), &router));
        assert!(!members.admits(at(WEEK), &router));
        members.set_friends(BTreeSet::from([router.id()]));
        assert!(members.admits(at(WEEK), &router));
        assert!(Members::new(&network(0)).admits(at(WEEK), &router));
    }
}
