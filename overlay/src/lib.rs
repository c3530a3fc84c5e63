//! The protocol between Warren routers, as pure state machines.
//!
//! Lives here: identities and cryptography, links, the ring, tunnels, garlic, sessions and
//! services. Does not live here: sockets, clocks, files, threads or global randomness; all of
//! these come in as arguments (see ARCHITECTURE.md, "Sans-IO").
//!
//! Every machine has the same verbs: `handle_input(now, input)`, `handle_timeout(now)`,
//! `poll_output() -> Option<Output>` and `poll_timeout() -> Option<Time>`.

pub mod answer;
pub mod block;
pub mod bucket;
pub mod crypto;
pub mod garlic;
pub mod id;
pub mod link;
pub mod plane;
pub mod record;
pub mod ring;
pub mod rng;
pub mod room;
pub mod service;
pub mod session;
pub mod table;
pub mod time;
pub mod tunnel;
pub mod unit;
pub mod wire;
