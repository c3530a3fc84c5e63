//! Runs tests one after the other, in the order they are listed.
//!
//! Lives here: the command line (filters, `--list`), time limits, skipping, figures, the closing
//! count. Does not live here: which tests there are (`whole/main.rs`).
//!
//! Not libtest, because tests here share networks of a dozen processes on two cores: what runs at
//! the same time and what is torn down when must be written down, not left to a thread pool.

use std::{
    any::Any,
    panic,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// One true sentence and the code that proves it.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The sentence.
    pub name: &'static str,
    /// Panics when it is not true.
    pub run: fn(),
}

/// Tests of one subject, in the order they run.
#[derive(Clone, Debug)]
pub struct Group {
    /// The subject.
    pub name: &'static str,
    /// Its tests.
    pub tests: Vec<Test>,
    /// Whether they use the shared network, which is kept until the first group that does not.
    pub shares: bool,
}

/// Makes a [`Group`] of functions, named as they are.
#[macro_export]
macro_rules! group {
    ($name:literal, shares: $shares:literal, $($test:ident),+ $(,)?) => {
        $crate::runner::Group {
            name: $name,
            shares: $shares,
            tests: vec![$($crate::runner::Test { name: stringify!($test), run: $test }),+],
        }
    };
}

/// A test that runs longer hangs. Far more than any of them needs.
const TEST_LIMIT: Duration = Duration::from_mins(8);
/// The same with `WARREN_LONG`: one of them takes half an hour.
const TEST_LIMIT_LONG: Duration = Duration::from_mins(45);

/// Set once anything failed: scratch folders are kept from then on.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Whether a test has failed so far.
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// The payload of a test that cannot run here.
struct Skipped {
    why: String,
    /// Whether `WARREN_REQUIRE` makes it a failure.
    counts: bool,
}

/// Ends the test: it cannot run here, because of `why`. A failure when `WARREN_REQUIRE=1`.
pub fn skip(why: &str) -> ! {
    panic::panic_any(Skipped { why: why.to_owned(), counts: true })
}

/// Ends the test: it needs a program that `./warren test` does not install, for its size. Never a
/// failure.
pub fn skip_extra(why: &str) -> ! {
    panic::panic_any(Skipped { why: why.to_owned(), counts: false })
}

/// Prints a measured value: for people and for the closing note, no assertion.
pub fn figure(name: &str, value: impl std::fmt::Display) {
    println!("  figure: {name}: {value}");
}

/// Whether an environment variable is set to anything but nothing or 0.
pub fn flag(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Calls `attempt` until it gives something; panics after `limit` with `what` was waited for.
pub fn wait_for<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

enum Verdict {
    Passed,
    Skipped { why: String, counts: bool },
    Failed,
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
}

impl Asked {
    fn parse(args: impl Iterator<Item = String>) -> Self {
        let mut asked = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => asked.list = true,
                "--exact" => asked.exact = true,
                "--skip" => asked.skips.extend(args.next()),
                // libtest's options that mean nothing here, so that `cargo test` lines keep working.
                "--test-threads" | "--format" | "--color" => drop(args.next()),
                other if other.starts_with('-') => {}
                _ => asked.filters.push(arg),
            }
        }
        asked
    }

    fn takes(&self, name: &str) -> bool {
        let fits =
            |pattern: &String| if self.exact { name == pattern } else { name.contains(pattern) };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skips.iter().any(fits)
    }
}

/// Runs what the command line asks for and returns the process's exit code. `between` is called
/// before each group with whether it shares the network, and at the end with `false`.
pub fn main(groups: &[Group], between: fn(bool)) -> i32 {
    let asked = Asked::parse(std::env::args().skip(1));
    let named = |group: &Group, test: &Test| format!("{}::{}", group.name, test.name);
    if asked.list {
        for group in groups {
            for test in group.tests.iter().filter(|test| asked.takes(&named(group, test))) {
                println!("{}: test", named(group, test));
            }
        }
        return 0;
    }
    report_panics_shortly();
    let (mut passed, mut skipped, mut failures) = (0, 0, Vec::new());
    let start = Instant::now();
    for group in groups {
        let wanted: Vec<_> =
            group.tests.iter().filter(|test| asked.takes(&named(group, test))).collect();
        if wanted.is_empty() {
            continue;
        }
        between(group.shares);
        for test in wanted {
            let name = named(group, test);
            println!("test {name} ...");
            let begun = Instant::now();
            let verdict = run(test);
            let took = begun.elapsed().as_secs_f64();
            match verdict {
                Verdict::Passed => {
                    passed += 1;
                    println!("test {name} ... ok ({took:.1} s)");
                }
                Verdict::Skipped { why, counts } => {
                    println!("test {name} ... SKIPPED: {why}");
                    if counts && flag("WARREN_REQUIRE") {
                        failures.push(format!("{name} (skipped, and WARREN_REQUIRE is set)"));
                    } else {
                        skipped += 1;
                    }
                }
                Verdict::Failed => {
                    FAILED.store(true, Ordering::Relaxed);
                    println!("test {name} ... FAILED ({took:.1} s)");
                    failures.push(name);
                }
            }
        }
    }
    between(false);
    println!();
    for failure in &failures {
        println!("failed: {failure}");
    }
    println!("{skipped} skipped, {:.0} s", start.elapsed().as_secs_f64());
    println!("{passed} passed, {} failed", failures.len());
    i32::from(!failures.is_empty())
}

/// Each test has a thread of its own, so that one that hangs is reported and left behind.
fn run(test: &Test) -> Verdict {
    let (done, verdict) = mpsc::channel();
    let body = test.run;
    let thread = thread::Builder::new().name(test.name.to_owned()).spawn(move || {
        let _ = done.send(panic::catch_unwind(body));
    });
    if thread.is_err() {
        return Verdict::Failed;
    }
    let limit = if flag("WARREN_LONG") { TEST_LIMIT_LONG } else { TEST_LIMIT };
    match verdict.recv_timeout(limit) {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(panic)) => match skip_reason(panic.as_ref()) {
            Some(skipped) => skipped,
            None => Verdict::Failed,
        },
        Err(_) => {
            println!("  still running after {limit:?}: given up");
            Verdict::Failed
        }
    }
}

fn skip_reason(panic: &(dyn Any + Send)) -> Option<Verdict> {
    let Skipped { why, counts } = panic.downcast_ref::<Skipped>()?;
    Some(Verdict::Skipped { why: why.clone(), counts: *counts })
}

/// A failure in one line, without a backtrace: tests are found by their names. A skip is no failure,
/// and nothing about it belongs on standard error.
fn report_panics_shortly() {
    panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<Skipped>().is_none() {
            let words = info.payload_as_str().unwrap_or("(no words)");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            println!("  failed at {place}: {words}");
        }
    }));
}
