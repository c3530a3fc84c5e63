//! Weeks of the datastore: production holders (`warren_datastore::Holder`) over a ring that is only a
//! graph.
//!
//! Lives here: `ring.rs` (who is whose neighbour), `lives.rs` (who comes and goes, for an hour or for
//! good), `machine.rs` (the holders, their messages and timers), `run.rs` (what is stored, looked for and
//! counted). Does not live here: what a holder does. Not simulated: links, tunnels, bytes on wires and the
//! time that they take; a message between neighbours arrives at once, everybody's absence is noticed at
//! once.

mod lives;
mod machine;
mod ring;
mod run;

pub(crate) use run::run;
