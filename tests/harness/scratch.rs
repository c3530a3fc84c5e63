//! Scratch folders that leave nothing behind: no file and no process.
//!
//! Lives here: the folder and its janitor. Does not live here: what is started in it.
//!
//! Every process of a test names its scratch folder on its command line (`--dir`, `--directory`), so
//! that "what this test started" can be read from /proc, by this process or by another. The janitor
//! is a shell that waits for the end of its input: that comes when the folder is dropped and just as
//! well when the test program is killed.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::SystemTime,
};

use crate::runner;

const JANITOR: &str = r#"
exec 2>/dev/null
trap '' INT HUP TERM QUIT
cat >/dev/null
for line in /proc/[0-9]*/cmdline; do
  pid=${line#/proc/}; pid=${pid%/cmdline}
  if tr '\0' ' ' <"$line" | grep -qF -- "$1/"; then kill -9 "$pid"; fi
done
[ -e "$1/keep" ] || rm -rf "$1"
"#;

/// A folder of a test. When dropped, every process that names a path in it is killed, and the folder
/// is removed, unless the test that it belongs to has failed: then its place is printed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    janitor: Child,
    /// Open as long as the folder is needed.
    wanted: Option<ChildStdin>,
}

impl Scratch {
    /// Makes a new folder whose path contains `name`.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() % 1_000_000;
        // Short: a Unix socket's path has at most 107 bytes.
        let path =
            std::env::temp_dir().join(format!("warren-{name}-{}-{n}-{now}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let mut janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = janitor.stdin.take();
        Self { path, janitor, wanted }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Networks that tests share are dropped by the main thread, after their last test.
        let is_main = thread::current().name() == Some("main");
        let failed = thread::panicking() || is_main && runner::has_failed();
        if failed || runner::flag("WARREN_KEEP") {
            let _ = fs::write(self.path.join("keep"), "");
            let _ = writeln!(std::io::stdout(), "  kept: {}", self.path.display());
        }
        drop(self.wanted.take());
        let _ = self.janitor.wait();
    }
}
