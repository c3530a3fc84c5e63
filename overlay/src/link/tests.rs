//! Two links joined in memory, and the handshakes that make them.

mod handshake;
mod hostile;
mod relay;
mod support;
mod timing;
