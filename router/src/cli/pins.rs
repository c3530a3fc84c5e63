//! `warren pin`, `unpin`, `pins`.

use clap::Args;
use hyper::Method;

use super::{
    Failure, Report, client,
    files::{Common, Progress, ask},
    print, print_json,
};
use crate::driver::pins::{PinList, PinRequest, PinStatus, Unpinned};

/// `warren pin URI`
#[derive(Args, Debug)]
pub(super) struct Pin {
    /// Any key of a file or folder, also one that only checks; or a site, whose newest version is kept
    uri: String,
    /// Ask the network for all of it, and put back from here what it has lost: now and not within a day
    #[arg(long)]
    renew: bool,
    #[command(flatten)]
    common: Common,
}

/// `warren unpin URI`
#[derive(Args, Debug)]
pub(super) struct Unpin {
    /// As `warren pins` shows it
    uri: String,
    #[command(flatten)]
    report: Report,
}

pub(super) async fn pin(args: Pin) -> Result<(), Failure> {
    let Pin { uri, renew, common } = args;
    let request = PinRequest { uri, renew, hops: common.hops };
    let tell = |progress: &Progress, status: &PinStatus| progress.heal(&status.news);
    let done: PinStatus = ask(&common, "/v1/pins", &request, tell).await?;
    if common.json {
        print_json(&done)?;
    } else {
        print(format_args!("{} blocks pinned", done.blocks))?;
    }
    match done.lost {
        0 => Ok(()),
        lost => Err(Failure::InPart(format!(
            "{lost} parts of it are lost, nobody has them: try again when more routers are there"
        ))),
    }
}

pub(super) async fn unpin(args: Unpin) -> Result<(), Failure> {
    let Unpin { uri, report } = args;
    let body = serde_json::to_string(&PinRequest { uri, ..PinRequest::default() })?;
    let dir = report.place.dir()?;
    let gone: Unpinned = client::call(&dir, Method::POST, "/v1/pins/remove", Some(body)).await?;
    if report.json {
        return print_json(&gone);
    }
    match gone.blocks {
        Some(blocks) => print(format_args!("{blocks} blocks dropped")),
        None => print(format_args!("its blocks go once what is being pinned now is here")),
    }
}

pub(super) async fn pins(report: Report) -> Result<(), Failure> {
    let dir = report.place.dir()?;
    let list: PinList = client::call(&dir, Method::GET, "/v1/pins", None).await?;
    if report.json {
        return print_json(&list);
    }
    for PinStatus { uri, done, blocks, lost, version, news, .. } in &list.pins {
        let version = if *version > 0 { format!("  version {version}") } else { String::new() };
        let state = match done {
            true if *lost == 0 => format!("{blocks} blocks"),
            true => format!("{blocks} blocks, {lost} parts lost"),
            false => format!("being fetched: {} blocks so far", news.found + news.rebuilt),
        };
        print(format_args!("{uri}{version}  {state}"))?;
    }
    super::say(format_args!(
        "{} of {} MiB for pins are taken",
        list.bytes >> 20,
        list.bytes_max >> 20
    ));
    Ok(())
}
