//! The program under test.
//!
//! Lives here: where `warren` is, and running one of its commands to the end. Does not live here:
//! routers that keep running (`testnet`).

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// A command that takes longer hangs.
pub const COMMAND_LIMIT: Duration = Duration::from_mins(4);

/// `$WARREN_BIN`, or else what one `cargo build` of this checkout makes, without RocksDB.
pub fn warren() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| match std::env::var_os("WARREN_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "WARREN_BIN={} is no file", path.display());
            path
        }
        None => build(),
    })
}

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn build() -> PathBuf {
    println!("  WARREN_BIN is not set: building the router once");
    // .../target/release/deps/whole-*: the same folder, so that nothing compiles twice.
    let target = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(3)
        .expect("cargo puts tests three levels below its target folder")
        .to_owned();
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "-p", "warren-router"])
        .args(["--no-default-features", "--features", "app", "--target-dir"])
        .arg(&target)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success(), "the router does not compile");
    target.join("release/warren")
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Its results.
    pub stdout: String,
    /// Its words for people.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Ended {
    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Its results; panics with everything it said when it failed.
    pub fn success(self) -> String {
        assert!(self.status.success(), "{:?}: {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// Its results as one JSON value; panics when it failed or they are not JSON.
    pub fn json(self) -> serde_json::Value {
        let text = self.success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Runs `warren ARGS` to its end.
pub fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    let mut command = Command::new(warren());
    command.args(args);
    finish(&mut command)
}

/// Runs `command` to its end; kills it after [`COMMAND_LIMIT`].
pub fn finish(command: &mut Command) -> Ended {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let out = drain(child.stdout.take());
    let err = drain(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > COMMAND_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} still runs after {COMMAND_LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let took = start.elapsed();
    Ended { status, stdout: out.join().unwrap(), stderr: err.join().unwrap(), took }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
