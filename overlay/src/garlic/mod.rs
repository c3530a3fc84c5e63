//! Garlic: what travels inside a tunnel, between its owner and its end hop (docs/spec/garlic.md).

mod carrier;
mod cell;
mod clove;
mod end_hop;
mod flow;
mod hop_api;
mod hop_splice;
mod intake;
mod lease;
mod owned;
mod packer;
#[cfg(test)]
mod tests;
mod toll;

pub use carrier::{Carrier, CarrierOutput, OwnTunnelName, SpliceNo};
pub use cell::{DATA_MAX, leg_cell, leg_data};
pub use clove::{
    BlockAnswer, CLOVE_MAX, Clove, DescriptorBytes, RecordAnswer, RecordBytes, RouterAnswer,
};
pub use end_hop::{BLOCK_REQUESTS_MAX, EndHop, REQUESTS_MAX, SPLICES_MAX};
pub use flow::{GRANT_STEP, SPLICE_WINDOW_MAX, SPLICE_WINDOW_START, STALL_MAX};
pub use hop_api::{EndHopCommand, EndHopError, EndHopEvent, EndHopOutput};
pub use intake::{Crowd, Rate};
pub use lease::{Admission, LeaseBook, LeaseRefusal, LeaseSeal, seal_lease};
pub use packer::{CloveReader, CloveWriter, Piece};
pub use toll::{PUTS_PER_WORK, Price, Room, Toll, Unearned, put_challenge};
