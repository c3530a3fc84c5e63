//! A member's side of a network by invitation: its own signatures, and those that it gives.
//!
//! Lives here: how many were given in the week, and signing for a newcomer. Does not live here: whether
//! others are members (`overlay::ring::members`), the invite line.

use warren_overlay::{
    crypto::sign::IdentityKey,
    id::RouterId,
    ring::{
        admission::{Mode, Network},
        members::{MEMBER_WEEKS, Members, Stranger},
    },
    time::Wall,
    wire::{CHAIN_MAX, Reader, Vouch, WireError, Writer, week},
};

/// A membership that ends within so many weeks is worth a word.
const ENDING_WEEKS: u16 = 4;

/// What a router has to show, and what it gave to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who signed for it, the founder's signature first; empty for the founder and in other networks.
    pub chain: Vec<Vouch>,
    /// For whom it signed.
    pub given: Given,
}

/// For whom a member signed in one week, in order: the place is the signature's number.
///
/// | bytes | field |
/// |-------|-------|
/// | 2     | week: weeks since the Unix epoch |
/// | 1     | count |
/// | 32 n  | newcomers |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    week: u16,
    to: Vec<RouterId>,
}

/// Why no signature is given. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVouch {
    /// Not that kind of network.
    #[error("this network does not admit by invitation: `warren invite` alone prints its line")]
    NotAsked,
    /// It signs for itself.
    #[error(
        "this is this router's own identity: ask the newcomer for what `warren key id` prints there"
    )]
    Oneself,
    /// Not a member any more.
    #[error(
        "this router is no member itself: {0}; ask a member for a new line, and `warren join` it"
    )]
    Stranger(#[from] Stranger),
    /// The chain would be too long.
    #[error(
        "this router is {CHAIN_MAX} signatures away from the network's founder, and more are not \
         believed: ask a member who has been here longer to invite"
    )]
    TooFar,
    /// The week's are given.
    #[error(
        "all {0} invitations of this week are given: wait for Thursday (UTC), or ask another member"
    )]
    WeekOver(u8),
}

impl Given {
    /// What to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u16(self.week).u8(u8::try_from(self.to.len()).unwrap_or(u8::MAX));
        for id in &self.to {
            w.bytes(id.as_bytes());
        }
        w.into_bytes()
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// On anything that `to_bytes` does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let week = r.u16("week")?;
        let count = r.u8("newcomers")?;
        let to = (0..count).map(|_| r.array("newcomer").map(RouterId)).collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self { week, to })
    }

    /// The number of the signature for `newcomer` in `week`: the one it has, or the next of `weekly`.
    fn number(&mut self, week: u16, weekly: u8, newcomer: RouterId) -> Option<u8> {
        // A clock that was set back does not give a week's places out again.
        if week > self.week {
            *self = Self { week, to: Vec::new() };
        }
        let place = self.to.iter().position(|id| *id == newcomer).unwrap_or(self.to.len());
        if place >= usize::from(weekly) {
            return None;
        }
        if place == self.to.len() {
            self.to.push(newcomer);
        }
        u8::try_from(place).ok()
    }
}

impl Membership {
    /// Signs for `newcomer`; its chain. What is [`given`](Self::given) then must be kept before the chain
    /// is shown to anybody: a number that is given twice is worth nothing.
    ///
    /// # Errors
    /// When this router may not.
    pub(super) fn vouch(
        &mut self,
        wall: Wall,
        network: &Network,
        key: &IdentityKey,
        newcomer: RouterId,
    ) -> Result<Vec<Vouch>, NoVouch> {
        let Mode::Invite { weekly, .. } = network.mode else { return Err(NoVouch::NotAsked) };
        if newcomer == key.id() {
            return Err(NoVouch::Oneself);
        }
        Members::new(network).check(wall, key.id(), &self.chain)?;
        if self.chain.len() >= CHAIN_MAX {
            return Err(NoVouch::TooFar);
        }
        let number = self.given.number(week(wall), weekly, newcomer);
        let number = number.ok_or(NoVouch::WeekOver(weekly))?;
        let vouch = Vouch::sign(network.id(), key, newcomer, self.given.week, number);
        Ok(self.chain.iter().copied().chain([vouch]).collect())
    }

    /// What its operator should know: that the membership ends, or has ended.
    pub(super) fn words(&self, wall: Wall) -> Option<&'static str> {
        let ends = self.chain.last()?.week.saturating_add(MEMBER_WEEKS);
        if week(wall) > ends {
            Some("Its invitation has ended: ask a member for a new line, and `warren join` it.")
        } else if week(wall) > ends.saturating_sub(ENDING_WEEKS) {
            Some(
                "Its invitation ends within a month: ask a member for a new line, and `warren join` it.",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_overlay::{
        crypto::{puzzle::Difficulty, secret::Secret},
        ring::admission::{NetworkName, SUITE_HYBRID},
    };

    use super::*;

    fn key(n: u8) -> IdentityKey {
        IdentityKey::from_seed(Secret::take(&mut [n; 32]))
    }

    fn network() -> Network {
        Network {
            name: NetworkName::Named("test".into()),
            mode: Mode::Invite { founder: key(0).id(), weekly: 2 },
            difficulty: Difficulty::NONE,
            suite: SUITE_HYBRID,
            local: true,
        }
    }

    fn at(week: u32) -> Wall {
        Wall::from_minutes(week * 7 * 24 * 60 + 9)
    }

    #[test]
    fn whom_a_member_signs_for_is_a_member_and_may_sign_for_the_next() {
        let mut before = Membership::default();
        for n in 1..=8 {
            let chain = before.vouch(at(100), &network(), &key(n - 1), key(n).id()).unwrap();
            let mut members = Members::new(&network());
            assert_eq!(members.check(at(100), key(n).id(), &chain), Ok(()));
            before = Membership { chain, given: Given::default() };
        }
        let far = before.vouch(at(100), &network(), &key(8), key(9).id());
        assert_eq!(far, Err(NoVouch::TooFar));
    }

    #[test]
    fn a_member_signs_for_so_many_a_week_and_again_for_the_same_ones() {
        let mut founder = Membership::default();
        let mut sign = |week, n| founder.vouch(at(week), &network(), &key(0), key(n).id());
        let first = sign(100, 1).unwrap();
        assert_eq!(sign(100, 1), Ok(first), "asked for twice, given once");
        assert!(sign(100, 2).is_ok());
        assert_eq!(sign(100, 3), Err(NoVouch::WeekOver(2)));
        assert_eq!(sign(99, 3), Err(NoVouch::WeekOver(2)), "a clock that was set back");
        assert!(sign(101, 3).is_ok());
        assert_eq!(sign(101, 0), Err(NoVouch::Oneself));
        let given = Given::from_bytes(&founder.given.to_bytes());
        assert_eq!(given.as_ref(), Ok(&founder.given), "kept over a restart");
        assert!(Given::from_bytes(&founder.given.to_bytes()[1..]).is_err());
    }

    #[test]
    fn who_is_no_member_cannot_sign_and_hears_when_its_time_is_over() {
        let mut stranger = Membership::default();
        let refused = stranger.vouch(at(100), &network(), &key(5), key(6).id());
        assert_eq!(refused, Err(NoVouch::Stranger(Stranger::Unsigned)));
        let chain = Membership::default().vouch(at(100), &network(), &key(0), key(5).id());
        let mut member = Membership { chain: chain.unwrap(), given: Given::default() };
        assert_eq!(member.words(at(140)), None);
        assert!(member.words(at(150)).unwrap().contains("ends within a month"));
        assert!(member.words(at(153)).unwrap().contains("has ended"));
        let refused = member.vouch(at(153), &network(), &key(5), key(6).id());
        assert_eq!(refused, Err(NoVouch::Stranger(Stranger::Over)));
    }
}
