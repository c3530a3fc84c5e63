//! What is said when something goes wrong: the cause, and what to do next.
//!
//! Lives here: all texts of errors that a person can meet, read from the sources. Does not live here:
//! what single commands do when something is wrong (`commands`). `WARREN_LIST=1` prints them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use harness::{
    binary::root,
    group,
    runner::{Group, figure, flag},
};

pub(crate) fn group() -> Group {
    group!("errors", shares: false,
        every_error_names_its_cause_and_what_to_do_next,
    )
}

/// Where errors for people come from. Protocol machines have none: their errors concern peers.
const SOURCES: [&str; 2] = ["router/src", "datastore/src"];
/// What comes before an error's text.
const BEFORE: [&str; 11] = [
    "#[error(",
    "Failure::Other(",
    "Failure::Refused(",
    "Failure::NotFound(",
    "Failure::TooLong(",
    "Failure::InPart(",
    "FileError::Source(",
    "StartError::Setup(",
    "SiteError::Other(",
    "Err(",
    "ok_or(",
];
/// Words with which a next step begins.
const STEPS: [&str; 46] = [
    "add", "ask", "build", "check", "choose", "close", "copy", "end", "forget", "free", "get",
    "give", "go", "install", "leave", "look", "make", "move", "name", "open", "pick", "publish",
    "put", "raise", "remove", "report", "restore", "run", "say", "see", "set", "share", "start",
    "stop", "take", "try", "type", "unpin", "update", "use", "wait", "write", "`warren", "`ls",
    "`cargo", "`chmod",
];

/// All `.rs` files of the program, tests and benchmarks left out.
fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            if !["bench", "tests"].contains(&name.as_str()) {
                files(&path, all);
            }
        } else if path.extension().is_some_and(|it| it == "rs")
            && !name.contains("tests")
            && name != "bench_main.rs"
        {
            all.push(path);
        }
    }
}

/// The string literal at the beginning of `code`, whole, its broken lines joined.
fn literal(code: &str) -> Option<String> {
    let mut signs = code.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match signs.next()? {
            '"' => return Some(text),
            '\\' => match signs.next()? {
                '\n' => signs = signs.as_str().trim_start().chars(),
                sign => text.push(sign),
            },
            sign => text.push(sign),
        }
    }
}

/// The texts of errors in a file: behind what makes an error, and whatever passes another error on.
fn texts(code: &str) -> BTreeSet<String> {
    let code = code.split("#[cfg(test)]").next().unwrap();
    let behind = |before: &str| -> Vec<String> {
        let places = code.match_indices(before).map(|(at, _)| &code[at + before.len()..]);
        let inner = places.map(str::trim_start);
        let inner = inner.map(|rest| rest.strip_prefix("format!(").map_or(rest, str::trim_start));
        inner.filter_map(literal).collect()
    };
    let passes = |text: &String| text.contains("{error}") || text.contains("{source}");
    let made = behind("format!(").into_iter().filter(passes);
    BEFORE.into_iter().flat_map(behind).chain(made).collect()
}

/// Whether there is nothing in it but other errors: these have their own next steps.
fn is_passed_on(text: &str) -> bool {
    let mut outside =
        text.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    outside.all(|part| !part.contains(char::is_alphabetic))
}

/// Whether it says what to do, after its cause or as its only words; or ends with another error that does:
/// not with one of the operating system, which is passed on by its name.
fn names_a_step(text: &str) -> bool {
    let starts = |part: &str| {
        let word = part.split([' ', ',']).next().unwrap_or_default();
        STEPS.contains(&word.trim_start_matches('(').to_lowercase().as_str())
    };
    let parts: Vec<&str> =
        [": ", "; ", ", ", ". ", " or "].iter().flat_map(|cut| text.split(cut)).collect();
    parts.into_iter().any(starts) || [": {}", ": {1}", "; {}"].iter().any(|end| text.ends_with(end))
}

fn every_error_names_its_cause_and_what_to_do_next() {
    let mut sources = Vec::new();
    for folder in SOURCES {
        files(&root().join(folder), &mut sources);
    }
    let (mut count, mut bare) = (0, Vec::new());
    for path in sources {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        for text in texts(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            if flag("WARREN_LIST") {
                println!("  {place}: {text}");
            }
            // What a report of `doctor` finds has its remedy beside it (`operation`).
            let found = place.starts_with("router/src/cli/doctor/");
            if !(found || is_passed_on(&text) || names_a_step(&text)) {
                bare.push(format!("{place}: {text}"));
            }
        }
    }
    figure("errors", count);
    assert!(count > 120, "the sources are written otherwise: only {count} found");
    assert!(bare.is_empty(), "no next step: {bare:#?}");
    // It would see one without.
    assert!(!names_a_step("the file changed while it was being stored"));
    assert!(!is_passed_on("records: {error}"));
}
