//! `warren bundle export` and `import`.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{
    Failure, client,
    files::{Common, Progress, ask},
    print, print_json,
};
use crate::{
    driver::{
        bundles::{ExportNews, ExportRequest, ImportNews, ImportRequest},
        files::frame::{Kind, read},
    },
    remedy,
};

/// `warren bundle`
#[derive(Args, Debug)]
pub(super) struct Bundle {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write every block of stored files, folders or sites into one file
    Export(Export),
    /// Put what a bundle has into this network
    Import(Import),
}

#[derive(Args, Debug)]
struct Export {
    /// Keys of files or folders, also those that only check; or sites, as NAME.warren
    #[arg(required = true)]
    uris: Vec<String>,
    /// The bundle; it is there once it is whole
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Import {
    /// The bundle
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn bundle(args: Bundle) -> Result<(), Failure> {
    match args.verb {
        Verb::Export(export) => self::export(export).await,
        Verb::Import(import) => self::import(import).await,
    }
}

async fn export(args: Export) -> Result<(), Failure> {
    let Export { uris, out, common } = args;
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = out.with_file_name(name);
    let words = |error| Failure::Other(remedy::at(&new, &error));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).open(&new).map_err(words)?;
    let written = write(&common, uris, &mut file, words).await;
    let done = match written {
        Ok(done) => done,
        Err(failure) => {
            // Half a bundle is none.
            let _ = fs::remove_file(&new);
            return Err(failure);
        }
    };
    file.sync_all().map_err(words)?;
    fs::rename(&new, &out).map_err(words)?;
    // The name is on the stick once its folder is.
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(words)?;
    if common.json {
        print_json(&done)?;
    } else {
        let ExportNews { blocks, records, bytes, .. } = done;
        print(format_args!("{blocks} blocks and {records} records, {} MiB", bytes >> 20))?;
    }
    match done.found.lost {
        0 => Ok(()),
        lost => Err(Failure::InPart(format!(
            "{lost} parts are lost, nobody has them: try again when more routers are there"
        ))),
    }
}

async fn write(
    common: &Common,
    uris: Vec<String>,
    file: &mut File,
    words: impl Fn(std::io::Error) -> Failure,
) -> Result<ExportNews, Failure> {
    let request = serde_json::to_string(&ExportRequest { uris, hops: common.hops })?;
    let dir = common.place.dir()?;
    let progress = Progress::new(common.json);
    let mut answer = client::Answer::of(&dir, "/v1/bundles/export", request).await?;
    loop {
        let (kind, body) = answer.next().await?;
        match kind {
            Kind::Bytes => file.write_all(&body).map_err(&words)?,
            Kind::Done => return read(&body).map_err(Failure::Other),
            Kind::News => {
                progress.raw(&body);
                let news: ExportNews = read(&body).map_err(Failure::Other)?;
                progress.words(format!("{} blocks, {} MiB", news.blocks, news.bytes >> 20));
            }
            Kind::Begin | Kind::Failed => {}
        }
    }
}

async fn import(args: Import) -> Result<(), Failure> {
    let Import { file, common } = args;
    let cannot = |error| Failure::Other(remedy::at(&file, &error));
    let path = fs::canonicalize(&file).map_err(cannot)?;
    let request = ImportRequest { path, hops: common.hops };
    let tell = |progress: &Progress, news: &ImportNews| {
        let ImportNews { bytes, before, stored, .. } = news;
        progress.words(format!("{} MiB read, {} blocks stored", bytes >> 20, before + stored));
    };
    let done: ImportNews = ask(&common, "/v1/bundles/import", &request, tell).await?;
    let ImportNews { stored, before, records, records_refused, damaged, foreign, broken, .. } =
        &done;
    if common.json {
        print_json(&done)?;
    } else {
        print(format_args!("{} blocks and {records} records stored", before + stored))?;
        if *foreign {
            super::say(format_args!(
                "note: a bundle of another network: its files are good here, its sites are not"
            ));
        }
        if *records_refused > 0 {
            super::say(format_args!(
                "note: {records_refused} records were not taken: newer ones are there, or they ran out"
            ));
        }
    }
    match (broken, damaged) {
        (Some(broken), _) => Err(Failure::InPart(broken.clone())),
        (None, damaged) if *damaged > 0 && !foreign => Err(Failure::InPart(format!(
            "{damaged} blocks or records were damaged and left out: get the bundle anew for them"
        ))),
        (None, _) => Ok(()),
    }
}
