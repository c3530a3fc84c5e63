//! What every file keeps to, read from the files.
//!
//! Lives here: what fails (a file without its header, `unsafe`, a path of somebody's machine, a page
//! cited that does not exist) and what is only reported (long files, logic in `mod.rs`). Does not
//! live here: what rustfmt and clippy say.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use harness::{
    binary::{finish, root},
    group,
    runner::Group,
};

pub(crate) fn group() -> Group {
    group!("tidy", shares: false,
        every_file_says_first_what_it_is,
        nothing_is_unsafe,
        no_file_knows_a_machine,
        every_page_that_is_cited_exists,
        long_files_and_logic_in_mod_rs_are_reported,
    )
}

/// Lines from which on a file is reported.
const LONG: usize = 600;

/// Path and text of every tracked file that is text.
fn files() -> Vec<(String, String)> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached"]).current_dir(root());
    let list = finish(&mut command).success();
    let files: Vec<_> = list
        .split('\0')
        .filter(|path| !path.is_empty())
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect();
    assert!(files.len() > 50, "git lists only {} files", files.len());
    files
}

fn sources() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|(path, _)| Path::new(path).extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

fn none(wrong: &[String], what: &str) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

fn every_file_says_first_what_it_is() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("//! ").is_none_or(|words| words.len() <= 10)
        })
        .map(|(path, _)| path)
        .collect();
    none(&wrong, "files that do not open with `//! what this is`");
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn nothing_is_unsafe() {
    let word = concat!("un", "safe");
    let forms = ["{", "fn", "impl", "trait", "extern"].map(|next| format!("{word} {next}"));
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (line, number) in text.lines().zip(1..) {
            if forms.iter().any(|form| code(line).contains(form.as_str())) {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none(&wrong, "unsafe code");
}

fn no_file_knows_a_machine() {
    // Written apart, so that this file does not find itself.
    let roots = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in files() {
        for (line, number) in text.lines().zip(1..) {
            let names_one = |root: &str| {
                line.match_indices(root).any(|(at, _)| {
                    // A path starts here; `a/home/b` is none.
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '-')
                })
            };
            if roots.into_iter().any(names_one) {
                wrong.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none(&wrong, "paths of somebody's machine");
}

/// The pages that `text` cites: `spec/x.md` and `decisions/0001-y.md`, wherever they are said to be.
fn cited(text: &str) -> BTreeSet<String> {
    let mut pages = BTreeSet::new();
    for folder in ["spec/", "decisions/"] {
        for (at, _) in text.match_indices(folder) {
            let rest = &text[at + folder.len()..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.'))
                .unwrap_or(rest.len());
            let name = rest[..end].trim_end_matches('.');
            if Path::new(name).extension().is_some_and(|ext| ext == "md") {
                pages.insert(format!("docs/{folder}{name}"));
            }
        }
    }
    pages
}

fn every_page_that_is_cited_exists() {
    let mut wrong = Vec::new();
    for (path, text) in files() {
        for page in cited(&text) {
            // Written as a pattern, or the examples above.
            let example = page.contains("NNNN") || path == "tests/whole/tidy.rs";
            if !example && !root().join(&page).is_file() {
                wrong.push(format!("{path} cites {page}"));
            }
        }
    }
    none(&wrong, "cited pages that do not exist");
}

fn long_files_and_logic_in_mod_rs_are_reported() {
    let mut functions = 0;
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LONG {
            println!("  long: {path}: {lines} lines");
        }
        let is_mod = Path::new(&path).file_name().is_some_and(|name| name == "mod.rs");
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        let logic = text[..tests].lines().filter(|line| code(line).contains("fn ")).count();
        functions += logic;
        if is_mod && logic > 0 {
            println!("  logic in {path}: {logic} functions");
        }
        let allow = concat!("#[al", "low(");
        let has_reason =
            |rest: &str| rest.split(")]").next().is_some_and(|all| all.contains("reason"));
        if !text.split(allow).skip(1).all(has_reason) {
            println!("  allow without a reason: {path}");
        }
    }
    assert!(functions > 100, "only {functions} functions found: this looks at the wrong files");
}
