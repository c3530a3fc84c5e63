//! Whole-system tests: what must hold of Warren, shown with real processes, real clients and real
//! sockets.
//!
//! Lives here: the list of groups in the order they run. Does not live here: what tests are made of
//! (`harness/`), what holds of one crate alone (beside its code), or of networks on a virtual clock
//! (`sim/`).
//!
//! ```text
//! cargo test --release -p warren-tests -- [FILTER...] [--list] [--skip PART] [--exact]
//! WARREN_BIN=PATH      the program under test; built once when not set
//! WARREN_REQUIRE=1     a test that cannot run here fails instead of being skipped
//! WARREN_LONG=1        longer runs
//! WARREN_KEEP=1        scratch folders are kept (they are after a failure in any case)
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "test code: it fails by panicking, reports by printing, and measures real time"
)]

mod admission;
mod bench;
mod browse;
mod by_hand;
mod clients;
mod commands;
mod demo;
mod errors;
mod fail_closed;
mod files;
mod getting_in;
mod hostile;
mod isolation;
mod lan;
mod layers;
mod limits;
mod load;
mod logs;
mod long;
mod operation;
mod own_page;
mod private;
mod reach;
mod shared;
mod sites;
mod sleep;
mod survival;
mod tidy;
mod why;

use harness::runner;

fn main() {
    // A test that needs a network namespace runs this same program inside one.
    if let Some(name) =
        std::env::args().nth(1).and_then(|arg| arg.strip_prefix("--inside=").map(str::to_owned))
    {
        match name.as_str() {
            "fail_closed" => fail_closed::inside(),
            "browse" => browse::inside(),
            "lan" => lan::inside(),
            "line" => lan::inside_line(),
            "reach" => reach::inside(),
            _ => panic!("nothing runs inside as {name}"),
        }
        return;
    }
    let groups = [
        layers::group(),
        tidy::group(),
        bench::group(),
        commands::group(),
        errors::group(),
        demo::group(),
        clients::group(),
        isolation::group(),
        load::group(),
        files::group(),
        own_page::group(),
        hostile::group(),
        by_hand::group(),
        admission::group(),
        private::group(),
        reach::group(),
        lan::group(),
        getting_in::group(),
        sleep::group(),
        why::group(),
        operation::group(),
        limits::group(),
        files::outliving(),
        survival::group(),
        sites::group(),
        logs::group(),
        fail_closed::group(),
        browse::group(),
        long::group(),
    ];
    let code = runner::main(&groups, shared::between);
    std::process::exit(code);
}
