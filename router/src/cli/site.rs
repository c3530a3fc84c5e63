//! `warren site publish`, `update`, `history`, `watch`, `fork`, `list`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;

use super::{Failure, Report, client, files, print, print_json};
use crate::{
    driver::{
        files::frame,
        sites::{PublishRequest, SiteDone, SiteStatus, VersionStatus, WatchNews, api::SiteRequest},
    },
    remedy,
};

/// `warren site`
#[derive(Args, Debug)]
pub(super) struct Site {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Store a folder of pages as a new site and print its name
    Publish(Publish),
    /// Store a folder of pages as the next version of a site
    Update(Update),
    /// List the versions of any site, newest first
    History(Which),
    /// Print the newest version of any site, and each further one as it is published; runs until Ctrl-C
    Watch(Which),
    /// Begin a site of your own with the pages that another one has now
    Fork(Fork),
    /// List the sites whose keys are here
    List(Report),
}

#[derive(Args, Debug)]
struct Publish {
    /// The folder; what lies at its top as index.html is shown first
    #[arg(value_name = "DIR")]
    pages: PathBuf,
    /// What to call this version, for everybody to read
    #[arg(long, default_value = "")]
    label: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Update {
    /// The site: NAME.warren or warren:site:LETTERS
    site: String,
    /// The folder
    #[arg(value_name = "DIR")]
    pages: PathBuf,
    /// What to call this version, for everybody to read
    #[arg(long, default_value = "")]
    label: String,
    /// Follow whatever is newest, also what another router published with this site's key
    #[arg(long)]
    onto_newest: bool,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Which {
    /// The site: NAME.warren or warren:site:LETTERS
    site: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Fork {
    /// The other site: NAME.warren or warren:site:LETTERS
    uri: String,
    /// What to call the first version, for everybody to read
    #[arg(long, default_value = "")]
    label: String,
    #[command(flatten)]
    report: Report,
}

pub(super) async fn site(args: Site) -> Result<(), Failure> {
    match args.verb {
        Verb::Publish(Publish { pages, label, report }) => {
            let (path, site) = (whole(&pages)?, None);
            publish(report, PublishRequest { path, label, site, onto_newest: false }).await
        }
        Verb::Update(Update { site, pages, label, onto_newest, report }) => {
            let (path, site) = (whole(&pages)?, Some(site));
            publish(report, PublishRequest { path, label, site, onto_newest }).await
        }
        Verb::History(Which { site, report }) => history(report, site).await,
        Verb::Watch(Which { site, report }) => watch(report, site).await,
        Verb::Fork(Fork { uri, label, report }) => fork(report, uri, label).await,
        Verb::List(report) => list(report).await,
    }
}

fn whole(dir: &PathBuf) -> Result<PathBuf, Failure> {
    let cannot = |error| Failure::Other(remedy::at(dir, &error));
    let path = std::fs::canonicalize(dir).map_err(cannot)?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(Failure::Other(format!("{} is no folder: name a folder of pages", dir.display())))
    }
}

async fn publish(report: Report, request: PublishRequest) -> Result<(), Failure> {
    let done = files::publish(report.place, report.json, &request).await?;
    files::tell_left_out(done.left_out, report.json);
    published(report.json, &done)
}

async fn fork(report: Report, site: String, label: String) -> Result<(), Failure> {
    let body = serde_json::to_string(&SiteRequest { site, label })?;
    let dir = report.place.dir()?;
    let done: SiteDone = client::call(&dir, Method::POST, "/v1/sites/fork", Some(body)).await?;
    published(report.json, &done)
}

fn published(json: bool, done: &SiteDone) -> Result<(), Failure> {
    if json { print_json(done) } else { print(format_args!("{}", done.name)) }
}

async fn history(report: Report, site: String) -> Result<(), Failure> {
    let body = serde_json::to_string(&SiteRequest { site, label: String::new() })?;
    let dir = report.place.dir()?;
    let versions: Vec<VersionStatus> =
        client::call(&dir, Method::POST, "/v1/sites/history", Some(body)).await?;
    if report.json {
        return print_json(&versions);
    }
    if let Some(fork) = versions.iter().find(|version| version.branch > 0) {
        super::say(format_args!(
            "note: a fork: the site's key signed several things as version {}; each is shown",
            fork.number
        ));
    }
    versions.iter().try_for_each(version)
}

fn version(it: &VersionStatus) -> Result<(), Failure> {
    let VersionStatus { number, published, label, uri, branch } = it;
    let branch = if *branch > 0 { format!("/{branch}") } else { String::new() };
    print(format_args!("{number}{branch}  {}  {uri}  {label}", date(*published)))
}

async fn watch(report: Report, site: String) -> Result<(), Failure> {
    let body = serde_json::to_string(&SiteRequest { site, label: String::new() })?;
    let dir = report.place.dir()?;
    let mut answer = client::Answer::of(&dir, "/v1/sites/watch", body).await?;
    loop {
        let (_, news) = answer.next().await?;
        match frame::read(&news).map_err(Failure::Other)? {
            WatchNews::Version(it) if report.json => print_json(&it)?,
            WatchNews::Version(it) => version(&it)?,
            WatchNews::Not(why) => super::say(format_args!("note: {why}; watching on")),
        }
    }
}

async fn list(report: Report) -> Result<(), Failure> {
    let dir = report.place.dir()?;
    let sites: Vec<SiteStatus> = client::call(&dir, Method::GET, "/v1/sites", None).await?;
    if report.json {
        return print_json(&sites);
    }
    for SiteStatus { site, label, ends } in sites {
        let until = date(ends);
        print(format_args!("{}  version {}  kept until {until}  {label}", site.url, site.number))?;
    }
    Ok(())
}

/// Minutes since the Unix epoch as year, month and day of the Gregorian calendar, UTC; `-` for zero.
fn date(minutes: u32) -> String {
    if minutes == 0 {
        return "-".into();
    }
    // Counted in years that begin in March, so that the leap day is the last.
    let day = minutes / 1_440 + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_dates() {
        for (day, text) in [
            (1, "1970-01-02"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_786, "2026-11-29"),
            (20_818, "2026-12-31"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day * 1_440 + 17), text);
        }
        assert_eq!(date(0), "-");
    }
}
