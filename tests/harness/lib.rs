//! What whole-system tests are made of.
//!
//! Lives here: running tests in order (`runner`), scratch folders that clean up even after a crash
//! (`scratch`), the program under test (`binary`), networks of real processes (`testnet`), web
//! servers to put behind a hidden service (`origin`), clients (`client`, `curl`, `browser`), and what a
//! machine tells about processes and sockets (`machine`, `flow`). Does not live here: any claim about Warren
//! (`whole/`), and any crate of Warren: the program is met as its users meet it.
//!
//! ```text
//!  runner --test by test--> whole/* --> testnet ---spawns---> warren, one process a router
//!                              |  \---> client, curl --proxy--^   |
//!                              |                                 v
//!                              \------> flow, machine        origin (behind the hidden service)
//! ```
//!
//! A test fails by panicking, as everywhere in Rust; so the whole crate may unwrap, index and print.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "this crate is test code: it fails by panicking, reports by printing, and measures real time"
)]

pub mod binary;
pub mod browser;
pub mod client;
pub mod curl;
pub mod flow;
pub mod invite;
pub mod machine;
pub mod origin;
pub mod runner;
pub mod scratch;
pub mod testnet;
