//! `warren why`: which part of the way to something is slow or fails, measured, in words.
//!
//! Lives here: what each part's trouble means and what to do about it. Does not live here: the
//! attempt (`driver/why.rs`), the looking for blocks (`driver/files`).

use std::time::{Duration, Instant};

use clap::Args;
use hyper::Method;
use serde::Serialize;
use warren_overlay::service::{Name, NameKind};

use super::{Failure, Report, client, files, print, print_json};
use crate::{
    driver::{
        sites::{VersionStatus, api::SiteRequest},
        why::{STEPS, WhyAnswer, WhyRequest},
    },
    status::Status,
};

/// A part of the way that takes longer is named as slow.
const SLOW_MS: u64 = 1_000;
/// Blocks looked for in each part of a file.
const SAMPLE: u16 = 16;

/// `warren why`
#[derive(Args, Debug)]
pub(super) struct Why {
    /// A service's label or name, a stored site's name, or the URI of a file, folder or site
    what: String,
    #[command(flatten)]
    report: Report,
}

/// One part of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Part {
    part: &'static str,
    /// How long it took; none if it was not reached, or failed.
    took_ms: Option<u64>,
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Verdict {
    /// Whether the end was reached.
    well: bool,
    /// One sentence.
    verdict: String,
    /// Why it is likely so.
    cause: String,
    /// What to do.
    next: String,
    parts: Vec<Part>,
}

pub(super) async fn why(args: Why) -> Result<(), Failure> {
    let Why { what, report } = args;
    let dir = report.place.dir()?;
    let status: Status = client::call(&dir, Method::GET, "/v1/status", None).await?;
    let site = what.parse::<Name>().is_ok_and(|name| name.kind() == NameKind::Site);
    let verdict = if site || what.starts_with("warren:") {
        stored(&report, what, site).await?
    } else {
        let body = serde_json::to_string(&WhyRequest { what })?;
        let answer = client::call(&dir, Method::POST, "/v1/why", Some(body)).await?;
        judge(&status, &answer)
    };
    if report.json {
        print_json(&verdict)?;
    } else {
        show(&verdict)?;
    }
    if verdict.well {
        Ok(())
    } else {
        Err(Failure::TooLong(format!("{}: {}", verdict.cause, verdict.next)))
    }
}

fn show(verdict: &Verdict) -> Result<(), Failure> {
    print(format_args!("{}", verdict.verdict))?;
    for Part { part, took_ms } in &verdict.parts {
        match took_ms {
            Some(took) => print(format_args!("  {part:<12} {took:>7} ms"))?,
            None => print(format_args!("  {part:<12}       - "))?,
        }
    }
    if verdict.well && !verdict.cause.is_empty() {
        print(format_args!("{}: {}", verdict.cause, verdict.next))?;
    }
    Ok(())
}

/// How long each part of the way took, from when each was done.
fn parts(names: &[&'static str], done_ms: &[u64]) -> Vec<Part> {
    let mut before = 0;
    let took = |(at, part): (usize, &&'static str)| {
        let took_ms = done_ms.get(at).map(|done| {
            let took = done.saturating_sub(before);
            before = before.max(*done);
            took
        });
        Part { part, took_ms }
    };
    names.iter().enumerate().map(took).collect()
}

fn judge(status: &Status, answer: &WhyAnswer) -> Verdict {
    let parts = parts(&STEPS, &answer.done_ms);
    let failed = parts.iter().position(|part| part.took_ms.is_none());
    let verdict = |well, words: String, (cause, next): (&str, &str), parts| Verdict {
        well,
        verdict: words,
        cause: cause.to_owned(),
        next: next.to_owned(),
        parts,
    };
    if let Some(at) = failed {
        let part = parts.get(at).map_or("", |part| part.part);
        let why = answer.failure.as_deref().unwrap_or("no answer");
        let took = answer.took_ms;
        let words = format!("Fails at the {part}, after {took} ms: {why}.{}", which(answer));
        return verdict(false, words, failing(at, status, answer), parts);
    }
    let total: u64 = parts.iter().filter_map(|part| part.took_ms).sum();
    let slowest = parts.iter().max_by_key(|part| part.took_ms);
    let (name, most) = slowest.map_or(("", 0), |part| (part.part, part.took_ms.unwrap_or(0)));
    let mut words = format!("Works: first byte after {total} ms, {most} ms of it for the {name}.");
    words.push_str(which(answer));
    let at = STEPS.iter().position(|step| *step == name).unwrap_or(0);
    let about = if most >= SLOW_MS { slow(at) } else { ("", "") };
    verdict(true, words, about, parts)
}

/// Of a service of several routers nobody is told with which he talks.
fn which(answer: &WhyAnswer) -> &'static str {
    if answer.others == 0 {
        ""
    } else {
        " Other routers publish it too: this went to one of them all, and would have gone to another if \
         that one did not answer."
    }
}

/// Cause and remedy of a part that fails.
fn failing(at: usize, status: &Status, answer: &WhyAnswer) -> (&'static str, &'static str) {
    match at {
        0 if !status.ready => (
            "this router has no tunnel to give: it is not ready",
            "`warren status` says what it waits for, `warren doctor` what is wrong",
        ),
        0 => (
            "no tunnel came about in time",
            "look again in a minute; if it stays so, `warren doctor`",
        ),
        1 if answer.private => (
            "the service is private, and this router has not accepted a line of it",
            "try from a router that has: `warren service share LABEL --to NAME`, then `warren service \
             accept LINE` there",
        ),
        1 if answer.own => (
            "its descriptor is not found where strangers look",
            "`warren services` says whether it is published; a moment after the start it is not",
        ),
        1 => (
            "nobody holds a descriptor of this name, or it could not be asked for",
            "check the name with whoever gave it to you; else the service is off, or private and you \
             need its line (`warren service accept LINE`)",
        ),
        2 => (
            "none of the service's gateways could be reached",
            "its router may have just gone or moved: its descriptor is renewed within seconds if it \
             is still there; try again",
        ),
        3 => (
            "gateways are there, but the service does not answer through them",
            "its router is overloaded, asleep or just gone: try again in a minute",
        ),
        4 => (
            "the service's router answers, but its server did not take the connection on port 80",
            if answer.own {
                "start what listens there; `warren services` says where that is"
            } else {
                "its operator must start the server; if it serves another port, use that one"
            },
        ),
        _ => (
            "the server took the connection and sent nothing within 10 s of an HTTP request",
            "fine if it speaks something else than HTTP; else look at the server",
        ),
    }
}

/// Cause and remedy of a part that takes long.
fn slow(at: usize) -> (&'static str, &'static str) {
    match at {
        0 => (
            "no tunnel was in stock, so one was built first",
            "normal just after the start or after many new conversations; else first hops are slow \
             (`warren status`)",
        ),
        1 => (
            "some of those who keep descriptors answer late, or not",
            "nothing to do: others are asked after 1.5 s",
        ),
        2 => (
            "the first gateway that was tried did not answer",
            "nothing to do: the next one is tried; the service renews its gateways by itself",
        ),
        3 => (
            "the service's tunnel is long or its router busy",
            "if it is yours: `warren status` there, and --hops of `warren expose`",
        ),
        4 => (
            "the service's server is slow to take connections",
            "look at the server, if it is yours",
        ),
        _ => ("the server thinks long about its answer", "look at the server, if it is yours"),
    }
}

/// A stored site or file: where its newest version is found, then a sample of its blocks.
#[expect(clippy::disallowed_methods, reason = "what a person waits for")]
async fn stored(report: &Report, what: String, site: bool) -> Result<Verdict, Failure> {
    let start = Instant::now();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (mut names, mut done) = (Vec::new(), Vec::new());
    let mut uri = what;
    if site || uri.starts_with("warren:site:") {
        names.push("record");
        let body = serde_json::to_string(&SiteRequest { site: uri, label: String::new() })?;
        let dir = report.place.dir()?;
        let found: Result<Vec<VersionStatus>, Failure> =
            client::call(&dir, Method::POST, "/v1/sites/history", Some(body)).await;
        match found.map(|versions| versions.into_iter().next()) {
            Ok(Some(newest)) => uri = newest.uri,
            Ok(None) => return Ok(lost(&names, &done, "record", "no version is known", start)),
            Err(Failure::NotRunning(dir)) => return Err(Failure::NotRunning(dir)),
            Err(error) => return Ok(lost(&names, &done, "record", &error.to_string(), start)),
        }
        done.push(ms(start.elapsed()));
    }
    names.extend(["root", "blocks"]);
    let mut root = None;
    let news = files::sample(&report.place, uri, SAMPLE, |news| {
        if news.found > 0 && root.is_none() {
            root = Some(ms(start.elapsed()));
        }
    })
    .await;
    match news {
        Err(Failure::NotRunning(dir)) => Err(Failure::NotRunning(dir)),
        Err(error) => {
            done.extend(root);
            let part = if root.is_some() { "blocks" } else { "root" };
            Ok(lost(&names, &done, part, &error.to_string(), start))
        }
        Ok(news) => {
            let all = ms(start.elapsed());
            done.extend([root.unwrap_or(all), all]);
            let asked = news.found + news.missing;
            let words = format!(
                "Works: {} of {asked} sampled blocks are there, after {all} ms.",
                news.found
            );
            let thin = news.missing * 10 > asked;
            let (cause, next) = if news.lost > 0 {
                ("parts of it are lost for good", "ask whoever stored it to put it again")
            } else if thin {
                ("more than a tenth of its blocks are gone", "`warren heal URI` puts them back")
            } else {
                ("", "")
            };
            let (cause, next) = (cause.to_owned(), next.to_owned());
            let parts = parts(&names, &done);
            Ok(Verdict { well: news.lost == 0, verdict: words, cause, next, parts })
        }
    }
}

fn lost(names: &[&'static str], done: &[u64], part: &str, why: &str, start: Instant) -> Verdict {
    Verdict {
        well: false,
        verdict: format!("Fails at the {part}, after {} ms: {why}.", start.elapsed().as_millis()),
        cause: why.to_owned(),
        next:
            "if others get it, this router's tunnels are the trouble: `warren doctor`; if nobody \
               does, it was never put here or is gone"
                .into(),
        parts: parts(names, done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(done_ms: &[u64], failure: Option<&str>) -> WhyAnswer {
        let failure = failure.map(str::to_owned);
        WhyAnswer { done_ms: done_ms.to_vec(), took_ms: 9_000, failure, ..WhyAnswer::default() }
    }

    #[test]
    fn the_first_part_that_was_not_reached_is_the_one_that_fails() {
        let ready = Status { ready: true, ..Status::default() };
        for (done, part) in [(0, "tunnel"), (1, "descriptor"), (3, "session"), (5, "first byte")] {
            let done: Vec<u64> = (0..done).map(|at| at * 10).collect();
            let verdict = judge(&ready, &answer(&done, Some("Why")));
            assert!(!verdict.well && verdict.verdict.starts_with(&format!("Fails at the {part},")));
            assert!(!verdict.cause.is_empty() && !verdict.next.is_empty(), "{part}");
        }
        let waits = judge(&Status::default(), &answer(&[], None));
        assert!(waits.cause.contains("not ready"), "{waits:?}");
    }

    #[test]
    fn the_slowest_part_is_named_with_its_own_time() {
        let ready = Status { ready: true, ..Status::default() };
        let verdict = judge(&ready, &answer(&[2, 30, 2_530, 2_540, 2_541, 2_600], None));
        assert_eq!(
            verdict.verdict,
            "Works: first byte after 2600 ms, 2500 ms of it for the gateway."
        );
        assert!(verdict.well && verdict.cause.contains("gateway"), "{verdict:?}");
        let took: Vec<_> = verdict.parts.iter().map(|part| part.took_ms.unwrap()).collect();
        assert_eq!(took, [2, 28, 2_500, 10, 1, 59]);
        let quick = judge(&ready, &answer(&[2, 30, 40, 50, 51, 60], None));
        assert_eq!(quick.cause, "");
    }

    #[test]
    fn every_part_has_words_for_being_slow() {
        assert!((0..STEPS.len()).all(|at| !slow(at).0.is_empty() && !slow(at).1.is_empty()));
    }
}
