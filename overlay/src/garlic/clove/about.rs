//! What is known of a clove by its kind: whether it asks or answers, and which request.
//!
//! Lives here: that, and its mute `Debug`. Does not live here: bytes (`clove.rs`).

use std::fmt;

use super::Clove;

impl Clove {
    /// The request that this clove makes or answers.
    pub fn request(&self) -> Option<u32> {
        match self {
            Self::RecordGet { request, .. }
            | Self::RecordPut { request, .. }
            | Self::RecordWatch { request, .. }
            | Self::RecordAnswer { request, .. }
            | Self::BlockGet { request, .. }
            | Self::BlockPut { request, .. }
            | Self::BlockAnswer { request, .. }
            | Self::PutWork { request, .. }
            | Self::PutPrice { request, .. }
            | Self::RouterFind { request, .. }
            | Self::RouterAnswer { request, .. }
            | Self::Probe { request }
            | Self::Probed { request }
            | Self::LeaseRequest { request, .. }
            | Self::LeaseGranted { request, .. }
            | Self::LeaseRefused { request } => Some(*request),
            _ => None,
        }
    }

    /// Whether an owner asks this and an end hop answers it.
    pub(crate) const fn asks(&self) -> bool {
        matches!(
            self,
            Self::RecordGet { .. }
                | Self::RecordPut { .. }
                | Self::RecordWatch { .. }
                | Self::PutWork { .. }
                | Self::RouterFind { .. }
                | Self::Probe { .. }
                | Self::LeaseRequest { .. }
        ) || self.is_block()
    }

    /// Whether it is a request for a block.
    pub(crate) const fn is_block(&self) -> bool {
        matches!(self, Self::BlockGet { .. } | Self::BlockPut { .. })
    }

    /// Whether this is an end hop's answer to what an owner asked.
    pub(crate) const fn answers(&self) -> bool {
        matches!(
            self,
            Self::RecordAnswer { .. }
                | Self::BlockAnswer { .. }
                | Self::PutPrice { .. }
                | Self::RouterAnswer { .. }
                | Self::Probed { .. }
                | Self::LeaseGranted { .. }
                | Self::LeaseRefused { .. }
        )
    }
}

impl fmt::Debug for Clove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::RecordGet { .. } => "RecordGet",
            Self::RecordPut { .. } => "RecordPut",
            Self::RecordWatch { .. } => "RecordWatch",
            Self::RecordAnswer { .. } => "RecordAnswer",
            Self::BlockGet { .. } => "BlockGet",
            Self::BlockPut { .. } => "BlockPut",
            Self::BlockAnswer { .. } => "BlockAnswer",
            Self::Probe { .. } => "Probe",
            Self::Probed { .. } => "Probed",
            Self::PutWork { .. } => "PutWork",
            Self::PutPrice { .. } => "PutPrice",
            Self::RouterFind { .. } => "RouterFind",
            Self::RouterAnswer { .. } => "RouterAnswer",
            Self::SpliceOpen { .. } => "SpliceOpen",
            Self::SpliceOpened { .. } => "SpliceOpened",
            Self::SpliceClosed { .. } => "SpliceClosed",
            Self::SpliceData { .. } => "SpliceData",
            Self::SpliceCredit { .. } => "SpliceCredit",
            Self::SpliceIncoming { .. } => "SpliceIncoming",
            Self::LeaseRequest { .. } => "LeaseRequest",
            Self::LeaseCrowd(_) => "LeaseCrowd",
            Self::LeaseGranted { .. } => "LeaseGranted",
            Self::LeaseRefused { .. } => "LeaseRefused",
        };
        write!(f, "{name}(..)")
    }
}
