//! The network that several groups use: 12 routers, two hidden services.
//!
//! Lives here: bringing it up when the first test asks, taking it down after the last group that
//! shares it. Does not live here: tests that break routers; they bring their own.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use harness::{
    origin::{Origin, Python},
    runner::figure,
    scratch::Scratch,
    testnet::Testnet,
};

/// Position of python's web server among the services.
pub(crate) const PYTHON: usize = 0;
/// Position of the harness's own origin.
pub(crate) const ORIGIN: usize = 1;
/// Length of `/page`, which python serves.
pub(crate) const PAGE_LEN: usize = 1 << 20;

/// The network, and what is behind its services.
#[derive(Debug)]
pub(crate) struct Standard {
    pub(crate) net: Testnet,
    pub(crate) origin: Origin,
    /// What python serves.
    pub(crate) files: PathBuf,
    _python: Python,
    _scratch: Scratch,
}

static STANDARD: Mutex<Option<Result<Arc<Standard>, ()>>> = Mutex::new(None);

/// The shared network; started by whoever asks first.
pub(crate) fn standard() -> Arc<Standard> {
    let mut place = STANDARD.lock().unwrap_or_else(PoisonError::into_inner);
    if place.is_none() {
        // Until it stands it counts as failed, so that one failure is reported once and not per test.
        *place = Some(Err(()));
        *place = Some(Ok(Arc::new(start())));
    }
    match &*place {
        Some(Ok(standard)) => Arc::clone(standard),
        _ => panic!("the shared network could not be brought up: see the first test that tried"),
    }
}

/// Called by the runner between groups: takes the network down when the next does not share it.
pub(crate) fn between(next_shares: bool) {
    if !next_shares {
        drop(STANDARD.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn start() -> Standard {
    let scratch = Scratch::new("files");
    scratch.write("files/page", &harness::origin::bytes(PAGE_LEN));
    let files = scratch.join("files");
    let python = Python::serve(&files);
    let origin = Origin::start();
    let net = Testnet::up(12, &[python.address, origin.address]);
    figure("12 routers ready, 2 services published, ms", net.ready_ms);
    Standard { net, origin, files, _python: python, _scratch: scratch }
}
