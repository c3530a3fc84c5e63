//! The oracle of handing over: who leaves in order takes nothing along.
//!
//! Lives here: what a leaver owes to whom, and whether it came. Does not live here: who leaves when
//! (`run/wire.rs`), all other oracles (`oracle.rs`).
//!
//! A router that leaves owes each record and each block that it holds to those of the three of its
//! neighbours closest to it that lack it. A debt is looked at in the very event in which the neighbour
//! learns that the leaver is gone: what was sent came before, on the same connection; and repair, which
//! would hide that nothing was, begins a second later. A neighbour that sleeps, leaves too, or is cut off
//! meanwhile is owed nothing.
//!
//! Handing over may end with its time, a full queue or a store that refuses, and who has a copy of a record
//! is presumed and not known. So one missing unit proves nothing; most of several missing do, if it were most with one more paid. A router
//! holds few records: all leavers of a run are counted together, records and blocks apart.

use std::collections::{BTreeMap, BTreeSet};

use warren_overlay::{
    id::{Key, Location},
    ring::REPLICAS,
    unit::UnitKey,
};

use crate::{net::HostNo, world::World};

/// With fewer neighbours somebody is about to be cut off: what the two or three have is presumed from before.
const AROUND_MIN: usize = 2 * REPLICAS;
/// A router with more has not the time to hand all of it over.
const UNITS_MAX: usize = 500;

/// A router on its way out.
#[derive(Debug, Default)]
struct Leaver {
    debts: BTreeMap<HostNo, Vec<UnitKey>>,
    /// Its neighbours as long as it has any.
    around: BTreeSet<HostNo>,
    /// It has parted with all of them.
    goodbye: bool,
    tally: Tally,
}

/// Copies of records and of blocks.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    owed: [u32; 2],
    paid: [u32; 2],
}

/// All who leave.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    leavers: BTreeMap<HostNo, Leaver>,
    /// Of all who are gone.
    tally: Tally,
}

/// A router's neighbours on the ring.
fn around(world: &World, no: HostNo) -> impl Iterator<Item = (HostNo, Location)> {
    let ring = world.net.host(no).map(|host| host.node_ref().ring());
    let neighbours = ring.into_iter().flat_map(warren_overlay::ring::Ring::neighbours);
    neighbours.filter_map(|it| Some((world.author(it)?, it.location())))
}

fn place(unit: &UnitKey) -> Location {
    match unit {
        UnitKey::Record(key) => Key::location(key),
        UnitKey::Block(address) => address.location(),
    }
}

impl Replicas {
    /// A router is about to be told to leave.
    pub(crate) fn leaves(&mut self, world: &World, no: HostNo) {
        let units = world.held(no);
        let neighbours: Vec<_> = around(world, no).collect();
        let counts = units.len() <= UNITS_MAX && neighbours.len() >= AROUND_MIN;
        let mut leaver = Leaver::default();
        for unit in units.into_iter().filter(|_| counts) {
            let mut closest = neighbours.clone();
            closest.sort_by_key(|(_, it)| it.distance(place(&unit)));
            for (to, _) in closest.into_iter().take(REPLICAS) {
                let there = world.net.hear(no, to) && !self.leavers.contains_key(&to);
                if there && !world.holds(to, &unit) {
                    leaver.debts.entry(to).or_default().push(unit);
                }
            }
        }
        self.leavers.insert(no, leaver);
        // Whoever leaves is owed nothing any more.
        for leaver in self.leavers.values_mut() {
            leaver.debts.remove(&no);
        }
    }

    /// Something happened at a router.
    pub(crate) fn event(&mut self, world: &World, no: HostNo) {
        if let Some(leaver) = self.leavers.get_mut(&no)
            && !leaver.goodbye
        {
            let now: BTreeSet<HostNo> = around(world, no).map(|it| it.0).collect();
            if now.is_empty() {
                leaver.goodbye = true;
            } else {
                leaver.around = now;
            }
        }
        for (from, leaver) in &mut self.leavers {
            let last = leaver.goodbye && leaver.around.contains(&no);
            if !last || !leaver.debts.contains_key(&no) || around(world, no).any(|it| it.0 == *from)
            {
                continue;
            }
            let debts = leaver.debts.remove(&no).unwrap_or_default();
            if world.net.host(*from).is_some() && world.net.hear(*from, no) {
                for unit in &debts {
                    let [records, blocks] = &mut leaver.tally.owed;
                    let [records_paid, blocks_paid] = &mut leaver.tally.paid;
                    let (owed, paid) = match unit {
                        UnitKey::Record(_) => (records, records_paid),
                        UnitKey::Block(_) => (blocks, blocks_paid),
                    };
                    *owed += 1;
                    *paid += u32::from(world.holds(no, unit));
                }
            }
        }
    }

    /// A leaver's time is over; words if those who left so far did not hand over.
    pub(crate) fn gone(&mut self, no: HostNo) -> Option<String> {
        let new = self.leavers.remove(&no)?.tally;
        let mut words = None;
        let sums = self.tally.owed.iter_mut().zip(&mut self.tally.paid);
        let news = new.owed.into_iter().zip(new.paid);
        for (((owed, paid), (new, new_paid)), what) in sums.zip(news).zip(["records", "blocks"]) {
            (*owed, *paid) = (*owed + new, *paid + new_paid);
            if new > 0 && (*paid + 1) * 2 < *owed {
                words = Some(format!(
                    "those who left handed over {paid} of {owed} copies of {what} that were lacking"
                ));
            }
        }
        words
    }
}
