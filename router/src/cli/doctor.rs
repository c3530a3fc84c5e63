//! `warren doctor`: what may be wrong with a router, why, and what to do.
//!
//! Lives here: the order of the checks, and printing what they found. Does not live here: the checks
//! of a folder and its machine (`local.rs`), those of a running router (`running.rs`).

mod local;
mod running;

use std::path::Path;

use clap::Args;
use hyper::Method;
use serde::Serialize;

use super::{Failure, Report, client, print, print_json};
use crate::{config::ConfigFile, home::Home, status::Status};

/// `warren doctor`
#[derive(Args, Debug)]
pub(super) struct Doctor {
    #[command(flatten)]
    report: Report,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    /// As it should be.
    Ok,
    /// It works, and worse than it could.
    Warning,
    /// It does not work.
    Failed,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    grade: Grade,
    /// What is so, in words.
    cause: String,
    /// What to do about it; nothing when all is well.
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, words: impl Into<String>) -> Self {
        Self { check, grade: Grade::Ok, cause: words.into(), remedy: None }
    }

    fn warning(check: &'static str, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (cause, remedy) = (cause.into(), Some(remedy.into()));
        Self { check, grade: Grade::Warning, cause, remedy }
    }

    fn failed(check: &'static str, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Failed, ..Self::warning(check, cause, remedy) }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    /// The worst of all.
    grade: Grade,
    findings: &'a [Finding],
}

pub(super) async fn doctor(args: Doctor) -> Result<(), Failure> {
    let dir = args.report.place.dir()?;
    let findings = examine(&dir).await;
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok);
    if args.report.json {
        print_json(&Outcome { grade: worst, findings: &findings })?;
    } else {
        for finding in &findings {
            let grade = match finding.grade {
                Grade::Ok => "ok",
                Grade::Warning => "WARNING",
                Grade::Failed => "FAILED",
            };
            print(format_args!("{grade:<8} {:<12} {}", finding.check, finding.cause))?;
            if let Some(remedy) = &finding.remedy {
                print(format_args!("{:<21} -> {remedy}", ""))?;
            }
        }
    }
    let failed = findings.iter().filter(|finding| finding.grade == Grade::Failed).count();
    match failed {
        0 => Ok(()),
        1 => Err(Failure::Other("one check failed: see its line for what to do".into())),
        n => Err(Failure::Other(format!("{n} checks failed: see their lines for what to do"))),
    }
}

async fn examine(dir: &Path) -> Vec<Finding> {
    let mut findings = vec![local::folder(dir)];
    if findings.iter().any(|finding| finding.grade == Grade::Failed) && !dir.is_dir() {
        // Everything else would only say the same once more.
        return findings;
    }
    let settings = settings(dir);
    findings.push(match &settings {
        Ok(_) => Finding::ok("settings", "they can be read, and every value is good"),
        Err(error) => Finding::failed(
            "settings",
            error.to_string(),
            "correct warren.toml in the folder; config/warren.toml names every setting",
        ),
    });
    findings.extend([local::clock(dir), local::disk(dir)]);
    let status = client::call::<Status>(dir, Method::GET, "/v1/status", None).await;
    match status {
        Ok(status) => findings.extend(running::examine(dir, &status).await),
        Err(error) => {
            findings.push(Finding::warning(
                "router",
                error.to_string(),
                "what is below was looked at without it",
            ));
            findings.push(local::files());
            if let Ok(settings) = &settings {
                findings.push(local::ports(dir, settings));
            }
        }
    }
    findings
}

fn settings(dir: &Path) -> Result<ConfigFile, Failure> {
    let file = match Home::settings(dir)? {
        Some(text) => ConfigFile::parse(&text)?,
        None => ConfigFile::default(),
    };
    file.resolve()?;
    Ok(file)
}
