//! Whether two holders hold the same where they should: sums of marks, then of sixteenths, down to single marks.
//!
//! Lives here: what a claim is answered with, from a set of addresses and nothing else. Does not live here: who is
//! asked when, and how fast (`compares.rs`), the bytes (`ring/repair.rs`). In words: docs/spec/blocks.md, section 4.
//!
//! ```text
//!  this holder                            the other
//!     |  Sum of a stretch -------------------->|   the same: nothing more is said
//!     |<------------- Parts: sixteen sums      |
//!     |  Parts of each part that differs ----->|   and so on, down to
//!     |<------------------------- Has: marks   |   what it does not name, it lacks
//!     |  Lacks: of these, I have not --------->|
//! ```
//!
//! Each answer follows from one claim alone: nobody remembers what was said before. Of what the answering one does not
//! take for both of theirs it says so (Apart), and nothing else.

use std::collections::BTreeMap;

use warren_overlay::{
    block::BlockAddress,
    crypto::kdf,
    id::Location,
    ring::{Claim, MARKS_MAX, Mark, PARTS, Says, Stretch},
};

const MARKS_CONTEXT: &str = "warren compared marks 1";

/// Marks under one salt.
pub(super) struct Marker([u8; 32]);

impl Marker {
    pub(super) fn new(salt: &[u8; 16]) -> Self {
        Self(kdf::derive(MARKS_CONTEXT, &[salt]))
    }

    fn mark(&self, address: &BlockAddress) -> Mark {
        let [a, b, c, d, e, f, g, h, ..] = kdf::mac16(&self.0, &[address.as_bytes()]);
        Mark::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What lies in a stretch, in order.
pub(super) fn inside<V>(
    all: &BTreeMap<BlockAddress, V>,
    stretch: Stretch,
) -> impl Iterator<Item = &BlockAddress> {
    let end = |place: u64, rest: u8| {
        let mut bytes = [rest; 32];
        if let Some(head) = bytes.first_chunk_mut() {
            *head = place.to_be_bytes();
        }
        BlockAddress(bytes)
    };
    let (from, to) = (end(stretch.first().0, 0), end(stretch.last().0, u8::MAX));
    all.range(from..=to).map(|(address, _)| address)
}

/// What a holder says about what it holds, under one salt; and what that cost.
pub(super) struct Teller<'a, V> {
    all: &'a BTreeMap<BlockAddress, V>,
    /// Where both are among the three closest: nothing is said of anywhere else.
    shared: &'a [Stretch],
    marker: &'a Marker,
    /// Marks computed so far.
    pub(super) marks: u64,
    /// What is to be said.
    pub(super) claims: Vec<Claim>,
    /// What the other lacks.
    pub(super) missing: Vec<BlockAddress>,
    /// What is not both of theirs, the other says.
    pub(super) apart: Vec<Stretch>,
}

impl<'a, V> Teller<'a, V> {
    pub(super) const fn new(
        all: &'a BTreeMap<BlockAddress, V>,
        shared: &'a [Stretch],
        marker: &'a Marker,
    ) -> Self {
        Self {
            all,
            shared,
            marker,
            marks: 0,
            claims: Vec::new(),
            missing: Vec::new(),
            apart: Vec::new(),
        }
    }

    fn marked(&mut self, stretch: Stretch) -> Vec<(Mark, BlockAddress)> {
        let marked: Vec<_> =
            inside(self.all, stretch).map(|it| (self.marker.mark(it), *it)).collect();
        self.marks += marked.len() as u64;
        marked
    }

    fn sum(&mut self, stretch: Stretch) -> Mark {
        let (mut sum, mut marks) = (0, 0);
        for address in inside(self.all, stretch) {
            sum ^= self.marker.mark(address);
            marks += 1;
        }
        self.marks += marks;
        sum
    }

    /// Says what all of a stretch comes to.
    pub(super) fn begin(&mut self, stretch: Stretch) {
        let says = Says::Sum(self.sum(stretch));
        self.claims.push(Claim { stretch, says });
    }

    /// Answers a claim.
    pub(super) fn answer(&mut self, claim: &Claim) {
        let stretch = claim.stretch;
        match &claim.says {
            Says::Sum(theirs) => self.settle(stretch, *theirs),
            Says::Parts(theirs) => {
                for (part, theirs) in stretch.parts().into_iter().flatten().zip(theirs) {
                    self.settle(part, *theirs);
                }
            }
            Says::Has(theirs) if self.is_shared(stretch) => self.subtract(stretch, theirs),
            Says::Lacks(theirs) if self.is_shared(stretch) => {
                let lacking = self.marked(stretch);
                let lacking = lacking.into_iter().filter(|(mark, _)| theirs.contains(mark));
                self.missing.extend(lacking.map(|(_, address)| address));
            }
            Says::Has(_) | Says::Lacks(_) => {}
            Says::Apart => {
                self.apart.extend(self.shared.iter().filter_map(|it| it.within(stretch)));
            }
        }
    }

    fn is_shared(&self, stretch: Stretch) -> bool {
        self.shared.iter().any(|it| it.within(stretch) == Some(stretch))
    }

    /// Says more about a stretch if what this holder has comes to something else than `theirs`. Where the two disagree
    /// on whose it is, what each piece of it is.
    fn settle(&mut self, stretch: Stretch, theirs: Mark) {
        if self.is_shared(stretch) {
            if self.sum(stretch) != theirs {
                self.tell(stretch);
            }
            return;
        }
        let shared = self.shared;
        let mut from = stretch.first().0;
        for piece in shared.iter().filter_map(|it| it.within(stretch)) {
            self.part_from(from, piece.first().0.checked_sub(1));
            self.begin(piece);
            let Some(next) = piece.last().0.checked_add(1) else { return };
            from = next;
        }
        self.part_from(from, Some(stretch.last().0));
    }

    fn part_from(&mut self, from: u64, to: Option<u64>) {
        let apart = to.and_then(|to| Stretch::new(Location(from), Location(to)));
        self.claims.extend(apart.map(|stretch| Claim { stretch, says: Says::Apart }));
    }

    fn tell(&mut self, stretch: Stretch) {
        let few = inside(self.all, stretch).nth(MARKS_MAX).is_none();
        let says = if few {
            let mut marks: Vec<Mark> = self.marked(stretch).into_iter().map(|it| it.0).collect();
            marks.sort_unstable();
            marks.dedup();
            Says::Has(marks)
        } else if let Some(parts) = stretch.parts() {
            let mut sums = [0; PARTS];
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = self.sum(part);
            }
            Says::Parts(sums)
        } else {
            return; // more than sixteen within sixteen points of 2^64: nobody can make that
        };
        self.claims.push(Claim { stretch, says });
    }

    /// `theirs` is all that the other has of this stretch.
    fn subtract(&mut self, stretch: Stretch, theirs: &[Mark]) {
        let mine = self.marked(stretch);
        let lacking = mine.iter().filter(|(mark, _)| !theirs.contains(mark));
        self.missing.extend(lacking.map(|(_, address)| *address));
        let unknown = theirs.iter().filter(|mark| mine.iter().all(|(other, _)| other != *mark));
        let unknown: Vec<Mark> = unknown.copied().collect();
        if !unknown.is_empty() {
            self.claims.push(Claim { stretch, says: Says::Lacks(unknown) });
        }
    }
}
