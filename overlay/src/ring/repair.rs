//! What holders of blocks say to each other, so that each block keeps its copies.
//!
//! Lives here: the messages, their bounds and their bytes. Does not live here: what anybody makes of
//! them (the store's owner; spec/blocks.md, section 4).

use crate::{
    block::BlockAddress,
    id::Location,
    wire::{Reader, WireError, Writer},
};

/// Most addresses in one `Offer` or `Want`: 2 KiB.
pub const OFFER_MAX: usize = 64;
/// Most claims in one [`Compare`]: 4.6 KiB.
pub const CLAIMS_MAX: usize = 32;
/// Parts that a stretch is cut into.
pub const PARTS: usize = 16;
/// Most marks in one claim.
pub const MARKS_MAX: usize = 16;

/// Eight bytes for an address, or for a set of them (the XOR of all its marks): they mean something only to
/// who knows the salt.
pub type Mark = u64;

/// A piece of the ring, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    first: Location,
    last: Location,
}

impl Stretch {
    /// From `first` up to `last`; `None` when that would lead over zero.
    pub fn new(first: Location, last: Location) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// All of the ring.
    pub const fn whole() -> Self {
        Self { first: Location(0), last: Location(u64::MAX) }
    }

    /// Where it begins.
    pub const fn first(self) -> Location {
        self.first
    }

    /// Its last point.
    pub const fn last(self) -> Location {
        self.last
    }

    /// What both have; `None` if that is nothing.
    #[must_use]
    pub fn within(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// The sixteen parts of a stretch, in order, of the same length give or take one; `None` for one of fewer than
    /// sixteen points.
    pub fn parts(self) -> Option<[Self; PARTS]> {
        let points = u128::from(self.last.0 - self.first.0) + 1;
        let start = |part: u128| {
            let ahead = points * part / PARTS as u128;
            // At most 2^64, which is the start of nothing that is asked for below.
            u64::try_from(u128::from(self.first.0) + ahead).unwrap_or(u64::MAX)
        };
        if points < PARTS as u128 {
            return None;
        }
        let mut number = 0;
        let mut parts = [self; PARTS];
        for part in &mut parts {
            part.first = Location(start(number));
            number += 1;
            if number < PARTS as u128 {
                part.last = Location(start(number) - 1);
            }
        }
        Some(parts)
    }
}

/// What a holder says of a stretch of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// 0: the mark of all that it holds there.
    Sum(Mark),
    /// 1: the same for each of the stretch's parts.
    Parts([Mark; PARTS]),
    /// 2: what it holds there, and nothing else: up to [`MARKS_MAX`], rising.
    Has(Vec<Mark>),
    /// 3: of what the other holds there, it lacks these: 1 to [`MARKS_MAX`], rising.
    Lacks(Vec<Mark>),
    /// 4: as far as it knows, not both are among the three closest there.
    Apart,
}

/// One claim.
///
/// | bytes | field |
/// |-------|-------|
/// | 8     | first location, big-endian |
/// | 8     | last location, big-endian, not below the first |
/// | 1     | kind: 0 sum, 1 parts, 2 has, 3 lacks, 4 apart (nothing follows) |
/// | 8     | sum: mark |
/// | 128   | parts: 16 marks, of a stretch of at least 16 points |
/// | 1     | has, lacks: count n, 0 to 16; for lacks at least 1 |
/// | 8 n   | has, lacks: marks, big-endian, each above the one before |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where.
    pub stretch: Stretch,
    /// What.
    pub says: Says,
}

impl Claim {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.stretch.first.0).u64(self.stretch.last.0);
        match &self.says {
            Says::Sum(mark) => {
                w.u8(0).u64(*mark);
            }
            Says::Parts(marks) => {
                w.u8(1);
                for mark in marks {
                    w.u64(*mark);
                }
            }
            Says::Has(marks) => encode_marks(w.u8(2), marks),
            Says::Lacks(marks) => encode_marks(w.u8(3), marks),
            Says::Apart => {
                w.u8(4);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let first = Location(r.u64("claim's first location")?);
        let last = Location(r.u64("claim's last location")?);
        let stretch = Stretch::new(first, last).ok_or(WireError::Bad("claim's locations"))?;
        let says = match r.u8("claim kind")? {
            0 => Says::Sum(r.u64("claim's sum")?),
            1 => {
                if stretch.parts().is_none() {
                    return Err(WireError::Bad("claim's parts"));
                }
                let mut marks = [0; PARTS];
                for mark in &mut marks {
                    *mark = r.u64("claim's part")?;
                }
                Says::Parts(marks)
            }
            2 => Says::Has(decode_marks(r, 0)?),
            3 => Says::Lacks(decode_marks(r, 1)?),
            4 => Says::Apart,
            _ => return Err(WireError::Bad("claim kind")),
        };
        Ok(Self { stretch, says })
    }
}

/// What one holder holds where another should hold the same, in marks under a salt.
///
/// | bytes | field |
/// |-------|-------|
/// | 16    | salt |
/// | 1     | count n, 1 to 32 |
/// |       | n claims |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Drawn by who began; what answers it has the same.
    pub salt: [u8; 16],
    /// 1 to [`CLAIMS_MAX`].
    pub claims: Vec<Claim>,
}

impl Compare {
    /// Bytes of it as a ring message.
    pub fn encoded_len(&self) -> usize {
        let claims = self.claims.iter().map(|claim| match &claim.says {
            Says::Apart => 17,
            Says::Sum(_) => 25,
            Says::Parts(_) => 17 + 8 * PARTS,
            Says::Has(marks) | Says::Lacks(marks) => 18 + 8 * marks.len(),
        });
        18 + claims.sum::<usize>()
    }
}

/// What holders say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Ring message 9: the sender holds these blocks, to which the receiver is among the closest; which are
    /// missing? 1 to [`OFFER_MAX`].
    Offer(Vec<BlockAddress>),
    /// Ring message 10: of those offered, these are wanted. 1 to [`OFFER_MAX`].
    Want(Vec<BlockAddress>),
    /// Ring message 11: do both hold the same?
    Compare(Compare),
}

impl Repair {
    /// Whether it says nothing: nobody sends that.
    pub(super) const fn is_empty(&self) -> bool {
        match self {
            Self::Offer(addresses) | Self::Want(addresses) => addresses.is_empty(),
            Self::Compare(compare) => compare.claims.is_empty(),
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Self::Offer(addresses) => encode_addresses(w.u8(9), addresses),
            Self::Want(addresses) => encode_addresses(w.u8(10), addresses),
            Self::Compare(Compare { salt, claims }) => {
                let count = claims.len().min(CLAIMS_MAX);
                w.u8(11).bytes(salt).u8(u8::try_from(count).unwrap_or(0));
                for claim in claims.iter().take(count) {
                    claim.encode(w);
                }
            }
        }
    }

    pub(super) fn decode(kind: u8, r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match kind {
            9 => Self::Offer(decode_addresses(r)?),
            10 => Self::Want(decode_addresses(r)?),
            11 => {
                let salt = r.array("salt")?;
                let count = usize::from(r.u8("claim count")?);
                if !(1..=CLAIMS_MAX).contains(&count) {
                    return Err(WireError::Bad("claim count"));
                }
                let claims = (0..count).map(|_| Claim::decode(r)).collect::<Result<_, _>>()?;
                Self::Compare(Compare { salt, claims })
            }
            _ => return Err(WireError::Bad("ring message kind")),
        })
    }
}

/// Count (1 byte, 1 to 64), then the addresses. More are cut off: no caller gives more.
fn encode_addresses(w: &mut Writer, addresses: &[BlockAddress]) {
    let count = addresses.len().min(OFFER_MAX);
    w.u8(u8::try_from(count).unwrap_or(0));
    for address in addresses.iter().take(count) {
        w.bytes(address.as_bytes());
    }
}

fn decode_addresses(r: &mut Reader<'_>) -> Result<Vec<BlockAddress>, WireError> {
    let count = usize::from(r.u8("address count")?);
    if !(1..=OFFER_MAX).contains(&count) {
        return Err(WireError::Bad("address count"));
    }
    (0..count).map(|_| r.array("address").map(BlockAddress)).collect()
}

/// Count (1 byte), then the marks. More than sixteen are cut off: no caller gives more.
fn encode_marks(w: &mut Writer, marks: &[Mark]) {
    let count = marks.len().min(MARKS_MAX);
    w.u8(u8::try_from(count).unwrap_or(0));
    for mark in marks.iter().take(count) {
        w.u64(*mark);
    }
}

fn decode_marks(r: &mut Reader<'_>, least: usize) -> Result<Vec<Mark>, WireError> {
    let count = usize::from(r.u8("mark count")?);
    if !(least..=MARKS_MAX).contains(&count) {
        return Err(WireError::Bad("mark count"));
    }
    let marks = (0..count).map(|_| r.u64("mark")).collect::<Result<Vec<_>, _>>()?;
    if marks.is_sorted_by(|one, next| one < next) {
        Ok(marks)
    } else {
        Err(WireError::Bad("order of marks"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn any_addresses() -> impl Strategy<Value = Vec<BlockAddress>> {
        prop::collection::vec(any::<[u8; 32]>().prop_map(BlockAddress), 1..=OFFER_MAX)
    }

    fn any_stretch() -> impl Strategy<Value = Stretch> {
        (any::<u64>(), any::<u64>()).prop_map(|(one, other)| {
            Stretch::new(Location(one.min(other)), Location(one.max(other))).unwrap()
        })
    }

    fn any_says() -> impl Strategy<Value = Says> {
        let marks = |least| prop::collection::btree_set(any::<u64>(), least..=MARKS_MAX);
        prop_oneof![
            any::<u64>().prop_map(Says::Sum),
            any::<[u64; PARTS]>().prop_map(Says::Parts),
            marks(0).prop_map(|marks| Says::Has(marks.into_iter().collect())),
            marks(1).prop_map(|marks| Says::Lacks(marks.into_iter().collect())),
            Just(Says::Apart),
        ]
    }

    pub(in crate::ring) fn any_repair() -> impl Strategy<Value = Repair> {
        // Of two points that are drawn at random fifteen steps apart at least, as good as always.
        let claim = (any_stretch(), any_says()).prop_map(|(stretch, says)| Claim { stretch, says });
        let claims = prop::collection::vec(claim, 1..=CLAIMS_MAX);
        prop_oneof![
            any_addresses().prop_map(Repair::Offer),
            any_addresses().prop_map(Repair::Want),
            (any::<[u8; 16]>(), claims)
                .prop_map(|(salt, claims)| Repair::Compare(Compare { salt, claims })),
        ]
    }

    proptest! {
        #[test]
        fn a_comparison_is_as_long_as_it_says(repair in any_repair()) {
            let mut w = Writer::default();
            repair.encode(&mut w);
            if let Repair::Compare(compare) = &repair {
                prop_assert_eq!(w.into_bytes().len(), compare.encoded_len());
            }
        }

        #[test]
        fn parts_of_a_stretch_are_all_of_it_once(stretch in any_stretch(), small in 0u64..64) {
            let last = Location(stretch.first.0.saturating_add(small));
            for stretch in [stretch, Stretch { last, ..stretch }, Stretch::whole()] {
                let points = u128::from(stretch.last.0 - stretch.first.0) + 1;
                let Some(parts) = stretch.parts() else {
                    prop_assert!(points < 16);
                    continue;
                };
                prop_assert_eq!(parts[0].first, stretch.first);
                prop_assert_eq!(parts[15].last, stretch.last);
                for pair in parts.windows(2) {
                    prop_assert_eq!(pair[0].last.0 + 1, pair[1].first.0);
                }
                let lens = parts.map(|it| u128::from(it.last.0 - it.first.0) + 1);
                prop_assert!(lens.iter().all(|it| it.abs_diff(points / 16) <= 1));
            }
        }
    }

    #[test]
    fn a_comparison_has_the_documented_bytes() {
        let stretch = Stretch::new(Location(1), Location(0x0102_0304_0506_0708)).unwrap();
        let claims = vec![
            Claim { stretch, says: Says::Sum(0xab) },
            Claim { stretch, says: Says::Lacks(vec![1, 2]) },
        ];
        let mut w = Writer::default();
        Repair::Compare(Compare { salt: [0x5a; 16], claims }).encode(&mut w);
        assert_eq!(
            HEXLOWER.encode(&w.into_bytes()),
            "0b\
             5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\
             02\
             0000000000000001\
             0102030405060708\
             00\
             00000000000000ab\
             0000000000000001\
             0102030405060708\
             03\
             02\
             0000000000000001\
             0000000000000002"
        );
    }

    #[test]
    fn claims_that_nobody_writes_are_refused() {
        let claim = |first: u64, last: u64, says: &[u8]| {
            let bytes = [&[0; 16][..], &[1], &first.to_be_bytes(), &last.to_be_bytes(), says];
            let bytes = bytes.concat();
            let mut r = Reader::new(&bytes);
            Repair::decode(11, &mut r).and_then(|it| r.finish().map(|()| it))
        };
        let one = [0, 0, 0, 0, 0, 0, 0, 1];
        assert!(claim(0, 9, &[&[0][..], &one].concat()).is_ok());
        assert!(claim(9, 0, &[&[0][..], &one].concat()).is_err()); // over zero
        assert!(claim(0, 14, &[&[1][..], &[0; 128]].concat()).is_err()); // nothing to cut
        assert!(claim(0, 15, &[&[1][..], &[0; 128]].concat()).is_ok());
        assert!(claim(0, 9, &[2, 0]).is_ok());
        assert!(claim(0, 9, &[3, 0]).is_err()); // lacks nothing
        assert!(claim(0, 9, &[&[2, 17][..], &[0; 136]].concat()).is_err());
        assert!(claim(0, 9, &[&[2, 2][..], &one, &one].concat()).is_err()); // twice the same
        assert!(claim(0, 9, &[4]).is_ok());
        assert!(claim(0, 9, &[4, 0]).is_err()); // more than that
        assert!(claim(0, 9, &[5]).is_err());
    }
}
