//! Two links joined in memory, and the handshakes that make them.

mod bandwidth;
mod blocks;
mod end_hop;
mod handshake;
mod hostile;
mod relay;
mod support;
mod timing;
