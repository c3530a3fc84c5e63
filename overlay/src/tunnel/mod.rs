//! Tunnels: layered paths through other routers, built and owned by one of them.
//!
//! Lives here: building in one pass, what a hop does with a build, which hops and guards an owner
//! chooses, and how it keeps tunnels ready. Does not live here: cells and their layers
//! (`crypto/onion.rs`), what cells carry (`garlic/`), links (`link/`).
//!
//! ```text
//!            owner                                    hop
//!  layers -> select -> pools -- build::create     transit -- build::open, build::Answer
//!                        |                           |
//!                        '--- Connect, Link{..} -----'---> Node
//! ```

pub mod build;
#[cfg(test)]
mod fabric;
pub mod guards;
pub mod layers;
pub mod pools;
pub mod select;
#[cfg(test)]
mod testkit;
pub mod transit;
