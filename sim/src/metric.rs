//! What is measured, by name.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number that a run gives. Times are in seconds.
#[derive(
    Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of the routers that live which are ready at the end.
    Ready,
    /// From a router's first start until it is ready: median.
    ReadyP50,
    /// The same: 95th percentile.
    ReadyP95,
    /// Wishes that are over and whose router lived.
    Fetches,
    /// Share of those that brought everything; of lookups: that found a holder.
    Success,
    /// From a wish to the first byte: median, of those that succeeded.
    FirstP50,
    /// The same: 95th percentile.
    FirstP95,
    /// The same: 99th percentile.
    FirstP99,
    /// From a wish to the last byte: median.
    DoneP50,
    /// The same: 95th percentile.
    DoneP95,
    /// The same: 99th percentile.
    DoneP99,
    /// Longest wait within one answer: 99th percentile of the wishes.
    StallP99,
    /// The same: the longest of all.
    StallMax,
    /// Cells moved for others, all routers that live at the end.
    CellsRelayed,
    /// Lookups over the ring's links as they are at the end: share that found a holder.
    Found,
    /// Mean hops of the lookups that succeeded.
    Hops,
    /// The same: 99th percentile.
    HopsP99,
    /// Mean links of a node; of routers, their neighbours on the ring.
    Degree,
    /// Frames of padding that all routers which live at the end have sent, or counted.
    PadFrames,
    /// Their bytes.
    PadBytes,
    /// Puts that are over and whose router lived.
    Puts,
    /// Share of those that were stored.
    PutSuccess,
    /// From a put to its end: median, of those that were stored.
    PutP50,
    /// The same: 95th percentile.
    PutP95,
    /// Gets that are over and whose router lived, sweeps not counted.
    Gets,
    /// Share of those that brought everything.
    GetSuccess,
    /// Share of the gets of what was there that did not find it: present but not found.
    GetMissed,
    /// Share of all gets that were of what was not there.
    GetLost,
    /// From a get to its end: median, of those that succeeded.
    GetP50,
    /// The same: 95th percentile.
    GetP95,
    /// The same: 99th percentile.
    GetP99,
    /// Share of all items that the first sweep brought.
    SweepFirst,
    /// The same: of those that were there.
    SweepFirstThere,
    /// Share of all items that the last sweep brought.
    SweepLast,
    /// The same: of those that were there.
    SweepLastThere,
    /// Share of the items that are there at the end.
    ItemsThere,
    /// Mean copies of those: routers that run and own the block.
    Copies,
    /// Members online at the end.
    Online,
    /// Blocks that neighbours gave each other because one lacked them.
    BlocksRepaired,
    /// Addresses of blocks that neighbours offered each other, 32 bytes each.
    AddressesOffered,
    /// Bytes of what neighbours said to find out whether both hold the same.
    BytesCompared,
    /// How unevenly the load lies, 0 to 1: cells moved for others; of graphs, lookups that came by.
    Gini,
    /// Share of tunnels whose owner the adversary names, hostile at both ends.
    BothEnds,
    /// Share of users or initiators whom the adversary has named rightly by the end.
    Exposed,
    /// Share of users that have had a hostile guard by the end.
    GuardHostile,
    /// Share of tunnels, or of initiators, for whom the adversary names somebody else.
    NamedWrongly,
    /// Share of paths of which the adversary sees what tells him something.
    Sightings,
    /// Share of those that show the initiator.
    Named,
    /// What one of those leaves open about the initiator: Shannon's, in bits.
    Entropy,
    /// The same: minus the logarithm of the best guess.
    MinEntropy,
    /// Degree of anonymity: entropy over that of all honest members.
    Anonymity,
    /// Share of keys whose holders are all hostile.
    Captured,
    /// Share of keys of whose holders one is hostile, or more.
    Touched,
    /// Share of holders that are hostile.
    HostileHolders,
    /// Proofs that the adversary makes for one key.
    Proofs,
    /// Tries of a lookup that were swallowed, on average.
    Swallowed,
    /// Share of neighbours of readers that would accuse them, where one in a hundred others is accused too.
    Detected,
    /// Requests for a file's blocks that a neighbour of its reader has from him, on average.
    FromReader,
    /// The same of those that only passed some on.
    FromOthers,
    /// Share of the routers that an honest one would make tunnels of which are hostile, on average.
    ViewHostile,
    /// The same: the highest of any.
    ViewHostileMost,
    /// The same of a view that keeps whom it heard of last.
    ViewHostileSimple,
    /// Share of the honest routers that no other honest one would make tunnels of.
    Unsampled,
    /// Share of the marks that a hostile end hop reads whole.
    MarksRead,
    /// Share of a mark's bits that are right at the end: a half is noise.
    MarkBits,
    /// Share of the marked tunnels that carry nothing more.
    TunnelsEnded,
    /// Users who could have made a path, on average.
    Candidates,
    /// Share of the routers that crawlers know of.
    Enumerated,
    /// Until they knew of half.
    EnumeratedHalf,
    /// Share of the honest routers that are in the most crowded tenth of the ring.
    Crowded,
    /// Packets of a flow that an observer sees, on average.
    Packets,
    /// Share of the wishes whose first byte came within ten seconds.
    InTime,
    /// Builds for tunnels of their own that routers which live at the end have made; in floods, the honest.
    Builds,
    /// Share of those that came about.
    BuildSuccess,
    /// The same for each wish and each errand to the store that is over.
    BuildsPerWish,
    /// Bytes that routers have received over links, handshakes and sent padding included.
    BytesMoved,
    /// The same for each byte that people have got.
    BytesOverhead,
    /// Builds of others that an honest router refused, a second.
    BuildsRefused,
    /// The most work that a service asked of its clients: tries of a hash, on average.
    Effort,
    /// Share of the services one of whose guards the adversary has found by the end.
    GuardFound,
    /// Until that was half of them.
    GuardFoundHalf,
    /// Share of the victim's neighbours that are hostile.
    NeighboursHostile,
    /// Whether all its neighbours are, and all that it would make tunnels of: 0 or 1.
    Eclipsed,
}

impl Metric {
    /// Whether `routing` runs give it, with or without `keep`.
    pub const fn is_of_routing(self) -> bool {
        matches!(
            self,
            Self::Success
                | Self::Found
                | Self::Hops
                | Self::HopsP99
                | Self::Degree
                | Self::SweepFirst
                | Self::SweepFirstThere
                | Self::SweepLast
                | Self::SweepLastThere
                | Self::ItemsThere
                | Self::Copies
                | Self::Online
                | Self::BlocksRepaired
                | Self::AddressesOffered
                | Self::BytesCompared
                | Self::Gini
                | Self::BothEnds
                | Self::Exposed
                | Self::GuardHostile
                | Self::NamedWrongly
                | Self::Sightings
                | Self::Named
                | Self::Entropy
                | Self::MinEntropy
                | Self::Anonymity
                | Self::Captured
                | Self::Touched
                | Self::HostileHolders
                | Self::Proofs
                | Self::Swallowed
                | Self::Detected
                | Self::FromReader
                | Self::FromOthers
                | Self::ViewHostile
                | Self::ViewHostileMost
                | Self::ViewHostileSimple
                | Self::Unsampled
                | Self::MarksRead
                | Self::MarkBits
                | Self::TunnelsEnded
                | Self::Candidates
                | Self::Enumerated
                | Self::EnumeratedHalf
                | Self::Crowded
                | Self::Packets
                | Self::FirstP50
                | Self::FirstP95
                | Self::InTime
                | Self::Builds
                | Self::BuildSuccess
                | Self::BuildsRefused
                | Self::Effort
                | Self::GuardFound
                | Self::GuardFoundHalf
                | Self::NeighboursHostile
                | Self::Eclipsed
        )
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The metrics of one run; those without a value are missing.
pub type Metrics = BTreeMap<Metric, f64>;

/// The value below which this share of `values` lies (nearest rank); they ascend.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count"
)]
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let rank = libm::ceil(share * values.len() as f64) as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.99), Some(5.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_metric_is_shown_as_scenarios_write_it() {
        assert_eq!(Metric::FirstP50.to_string(), "first_p50");
    }
}
