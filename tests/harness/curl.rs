//! curl, as a person would call it.
//!
//! Lives here: the call and its limits. Does not live here: which proxy it is told to use.

use std::{ffi::OsStr, process::Command};

use crate::{
    binary::{Ended, finish},
    runner,
};

/// Runs `curl ARGS`, with no settings and no proxy of the environment, for at most a minute and a half.
pub fn curl<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    if Command::new("curl").arg("--version").output().is_err() {
        runner::skip("curl is not installed");
    }
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--max-time", "90"]).args(args);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("no_proxy", "");
    finish(&mut command)
}
