//! `warren put`, `puts`, `get`, `cat`, `ls`, `check`, `heal`.
//!
//! Lives here: what a person types and reads. Does not live here: files and folders on this side
//! (`folder.rs`), bars and lines (`progress.rs`), everything else (the router, over its control socket).
//!
//! Results go to standard output, so that `KEY=$(warren put f)` works; how far it is to standard error:
//! a bar on a terminal, with `--json` one object a line.

mod folder;
mod progress;

use std::{io::Write, path::PathBuf};

use clap::Args;
use hyper::Method;
use serde::{Serialize, de::DeserializeOwned};

use self::folder::Target;
pub(super) use self::progress::Progress;
use super::{Failure, Place, Report, client, print, print_json};
use crate::{
    driver::{
        files::{
            HealNews,
            api::HealRequest,
            frame::{Begin, Kind, Pieces, read},
            get::{GetDone, GetNews, GetRequest},
            put::{PutNews, PutRequest},
            queue::UnderWay,
        },
        sites::{PublishRequest, SiteDone},
    },
    remedy,
};

/// Flags of every command about files.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) place: Place,
    /// Say how far it is as JSON, one object a line on standard error; the result as one object
    #[arg(long)]
    pub(super) json: bool,
    /// Routers per tunnel, 1 to 4 [default: as the router's own]. With 1 it is fast and hides little:
    /// the routers that are asked learn who asks
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(super) hops: Option<u8>,
}

/// `warren put PATH|-`
#[derive(Args, Debug)]
pub(super) struct Put {
    /// A file, a folder, or `-` for standard input
    path: PathBuf,
    /// A context of its own: files of different contexts show no common author, even if they are equal
    #[arg(long = "as", value_name = "NAME", conflicts_with_all = ["dedup", "random_key"])]
    context: Option<String>,
    /// The same blocks for everybody in this network who stores the same: less is stored, and who has
    /// the content can find out that somebody stores it
    #[arg(long, conflicts_with = "random_key")]
    dedup: bool,
    /// Blocks that nobody makes again, not even you
    #[arg(long)]
    random_key: bool,
    /// Twice the blocks instead of one and a half times: more of them may be lost
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    common: Common,
}

/// `warren puts [--cancel NUMBER]`
#[derive(Args, Debug)]
pub(super) struct Puts {
    /// End this one for good
    #[arg(long, value_name = "NUMBER")]
    cancel: Option<u64>,
    #[command(flatten)]
    report: Report,
}

/// `warren get URI [-o OUT]`
#[derive(Args, Debug)]
pub(super) struct Get {
    /// What `warren put` printed; of a folder perhaps with /PATH behind it
    uri: String,
    /// File or folder to write [default: the last part of PATH, or the beginning of the key]
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// `warren cat URI`
#[derive(Args, Debug)]
pub(super) struct Cat {
    /// What `warren put` printed; of a folder with /PATH behind it
    uri: String,
    #[command(flatten)]
    common: Common,
}

/// `warren ls URI`
#[derive(Args, Debug)]
pub(super) struct Ls {
    /// What `warren put` printed for a folder, perhaps with /PATH behind it
    uri: String,
    #[command(flatten)]
    common: Common,
}

/// `warren check URI`
#[derive(Args, Debug)]
pub(super) struct Check {
    /// Any key of a file or folder, also one that only checks
    uri: String,
    /// Random blocks that are asked for of each segment of up to 512
    #[arg(long, default_value_t = 16, value_name = "N")]
    sample: u16,
    #[command(flatten)]
    common: Common,
}

/// `warren heal URI`
#[derive(Args, Debug)]
pub(super) struct Heal {
    /// Any key of a file or folder, also one that only checks
    uri: String,
    #[command(flatten)]
    common: Common,
}

/// Asks the router and reports what it says meanwhile; what it says last.
pub(super) async fn ask<News, Done>(
    common: &Common,
    route: &str,
    request: &impl Serialize,
    mut tell: impl FnMut(&Progress, &News),
) -> Result<Done, Failure>
where
    News: DeserializeOwned,
    Done: DeserializeOwned,
{
    let dir = common.place.dir()?;
    let progress = Progress::new(common.json);
    let mut answer = client::Answer::of(&dir, route, serde_json::to_string(request)?).await?;
    loop {
        let (kind, body) = answer.next().await?;
        match kind {
            Kind::Done => return read(&body).map_err(Failure::Other),
            Kind::News => {
                progress.raw(&body);
                tell(&progress, &read(&body).map_err(Failure::Other)?);
            }
            Kind::Begin | Kind::Bytes | Kind::Failed => {}
        }
    }
}

/// Stores a folder as a version of a site, which is seen as a put is.
pub(super) async fn publish(
    place: Place,
    json: bool,
    request: &PublishRequest,
) -> Result<SiteDone, Failure> {
    let common = Common { place, json, hops: None };
    ask(&common, "/v1/sites/publish", request, |progress, news: &PutNews| progress.put(news)).await
}

pub(super) async fn put(args: Put) -> Result<(), Failure> {
    let Put { path, context, dedup, random_key, durable, common } = args;
    let hops = common.hops;
    let mut request =
        PutRequest { context, dedup, random_key, durable, hops, ..PutRequest::default() };
    if path.as_os_str() == "-" {
        request.spool = Some(spool(&common).await?);
    } else {
        let whole = std::fs::canonicalize(&path);
        let words = |error| Failure::Other(remedy::at(&path, &error));
        request.path = Some(whole.map_err(words)?);
    }
    let done: PutNews =
        ask(&common, "/v1/files/put", &request, |progress, news: &PutNews| progress.put(news))
            .await?;
    let Some(uri) = &done.uri else {
        return Err(Failure::Other(
            "the router gave no key: start it again, it may be of another version".into(),
        ));
    };
    if done.few_exits && !common.json {
        super::say(format_args!(
            "note: this network is small: each router that was asked saw a larger part of the file"
        ));
    }
    tell_left_out(done.left_out, common.json);
    if common.json { print_json(&done) } else { print(format_args!("{uri}")) }
}

/// Says what of a folder was not stored.
pub(super) fn tell_left_out(count: usize, json: bool) {
    if count > 0 && !json {
        super::say(format_args!(
            "note: {count} entries of the folder were left out: links that lead out of it or to folders, sockets, pipes"
        ));
    }
}

pub(super) async fn puts(args: Puts) -> Result<(), Failure> {
    let dir = args.report.place.dir()?;
    if let Some(number) = args.cancel {
        let route = format!("/v1/files/puts/{number}");
        return client::call(&dir, Method::DELETE, &route, None).await;
    }
    let puts: Vec<UnderWay> = client::call(&dir, Method::GET, "/v1/files/puts", None).await?;
    if args.report.json {
        return print_json(&puts);
    }
    for UnderWay { number, request, news } in puts {
        let what = request.path.map_or("standard input".into(), |path| path.display().to_string());
        let PutNews { stored, blocks, objects, objects_done, .. } = news;
        let part = (objects_done + 1).min(objects);
        print(format_args!(
            "{number}  {what}  part {part} of {objects}: {stored} of {blocks} blocks"
        ))?;
    }
    Ok(())
}

/// Standard input, to a spool of the router's.
async fn spool(common: &Common) -> Result<u64, Failure> {
    #[derive(serde::Deserialize)]
    struct Spooled {
        spool: u64,
    }
    let (to, pieces) = tokio::sync::mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut piece = vec![0; 1 << 16];
            let read = std::io::Read::read(&mut input, &mut piece).map(|len| {
                piece.truncate(len);
                piece
            });
            if matches!(&read, Ok(piece) if piece.is_empty()) {
                return;
            }
            let failed = read.is_err();
            if to.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    let dir = common.place.dir()?;
    let spooled: Spooled = client::upload(&dir, "/v1/files/spool", Pieces(pieces)).await?;
    Ok(spooled.spool)
}

pub(super) async fn get(args: Get) -> Result<(), Failure> {
    let Get { uri, out, common } = args;
    let out = out.unwrap_or_else(|| folder::default_name(&uri));
    let mut target = Target::new(&uri, out)?;
    let mut request = GetRequest { uri, hops: common.hops, ..GetRequest::default() };
    (request.from, request.skip) = target.there()?;
    let done = receive(&common, &request, &mut target).await?;
    let out = target.finish(done.folder)?;
    if common.json {
        #[derive(Serialize)]
        struct Got<'a> {
            out: &'a std::path::Path,
        }
        return print_json(&Got { out: &out });
    }
    print(format_args!("{}", out.display()))
}

pub(super) async fn cat(args: Cat) -> Result<(), Failure> {
    let request = GetRequest { uri: args.uri, hops: args.common.hops, ..GetRequest::default() };
    let mut target = Target::stdout();
    match receive(&args.common, &request, &mut target).await {
        // Whoever reads has enough.
        Err(_) if target.is_closed() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(std::io::stdout().flush()?),
    }
}

/// Takes files as they come.
async fn receive(
    common: &Common,
    request: &GetRequest,
    target: &mut Target,
) -> Result<GetDone, Failure> {
    let dir = common.place.dir()?;
    let progress = Progress::new(common.json);
    let body = serde_json::to_string(request)?;
    let mut answer = client::Answer::of(&dir, "/v1/files/get", body).await?;
    progress.search();
    loop {
        let (kind, body) = answer.next().await?;
        match kind {
            Kind::Done => {
                target.end()?;
                return read(&body).map_err(Failure::Other);
            }
            Kind::News => {
                progress.raw(&body);
                progress.get(&read::<GetNews>(&body).map_err(Failure::Other)?);
            }
            Kind::Begin => target.begin(&read::<Begin>(&body).map_err(Failure::Other)?)?,
            Kind::Bytes => {
                progress.bytes(body.len());
                target.bytes(&body)?;
            }
            Kind::Failed => {}
        }
    }
}

pub(super) async fn ls(args: Ls) -> Result<(), Failure> {
    let Ls { uri, common } = args;
    let request = GetRequest { uri, list: true, hops: common.hops, ..GetRequest::default() };
    let tell = |progress: &Progress, news: &GetNews| progress.get(news);
    let done: GetDone = ask(&common, "/v1/files/get", &request, tell).await?;
    if common.json {
        return print_json(&done);
    }
    for file in &done.files {
        let mime = if file.mime.is_empty() { "-" } else { &file.mime };
        print(format_args!("{:>12}  {:<24}  {}", file.len, mime, file.path))?;
    }
    Ok(())
}

async fn look(common: &Common, request: HealRequest) -> Result<HealNews, Failure> {
    let tell = |progress: &Progress, news: &HealNews| progress.heal(news);
    ask(common, "/v1/files/heal", &request, tell).await
}

/// Looks for `sample` random blocks of each part of what `uri` names, and tells each piece of news.
pub(super) async fn sample(
    place: &Place,
    uri: String,
    sample: u16,
    mut tell: impl FnMut(&HealNews),
) -> Result<HealNews, Failure> {
    let common = Common { place: place.clone(), json: false, hops: None };
    let request = HealRequest { uri, sample: Some(sample), hops: None };
    ask(&common, "/v1/files/heal", &request, |_, news: &HealNews| tell(news)).await
}

pub(super) async fn check(args: Check) -> Result<(), Failure> {
    let Check { uri, sample, common } = args;
    let request = HealRequest { uri, sample: Some(sample.max(1)), hops: common.hops };
    let news = look(&common, request).await?;
    if common.json {
        return print_json(&news);
    }
    let asked = news.found + news.missing;
    print(format_args!(
        "{} of {asked} sampled blocks found in {} parts",
        news.found, news.segments
    ))?;
    let Some(days) = news.days_without_repair else { return Ok(()) };
    let more = if days >= 365 { " or more" } else { "" };
    print(format_args!("would stay whole for {days} days{more} if nobody repaired it"))?;
    super::say(format_args!(
        "note: a guess from {asked} samples, on the safe side: as if blocks vanished as they did in a \
         network without repair, half of them in 14 days. This one repairs; more samples say more"
    ));
    Ok(())
}

pub(super) async fn heal(args: Heal) -> Result<(), Failure> {
    let Heal { uri, common } = args;
    let request = HealRequest { uri, sample: None, hops: common.hops };
    let news = look(&common, request).await?;
    if common.json {
        print_json(&news)?;
    } else {
        let HealNews { found, missing, rebuilt, .. } = news;
        print(format_args!("{found} blocks found, {missing} missing, {rebuilt} put back"))?;
    }
    match news.lost {
        0 => Ok(()),
        lost => Err(Failure::InPart(format!(
            "{lost} of {} parts are lost: `warren heal` puts back what can be found",
            news.segments
        ))),
    }
}
