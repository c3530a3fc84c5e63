//! `warren invite`: a line, a file, or a picture for the next router; and reading them.
//!
//! Lives here: the three forms. Does not live here: the line's bytes (`crate::invite`), becoming a member
//! (`run.rs`).

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use hyper::Method;
use serde::Serialize;
use warren_overlay::ring::admission::Mode;

use super::{Failure, Report, client, print, print_json, qr, say};
use crate::{
    driver::{
        control::{InviteAnswer, InviteRequest},
        setup,
    },
    home::Home,
    invite::Invite,
    remedy,
};

/// What every line begins with; anything else names a file.
const PREFIX: &str = "warren-invite-";
/// Longest file that is looked at, in bytes.
const FILE_MAX: u64 = 64 * 1_024;

/// `warren invite`
#[derive(Args, Debug)]
pub(super) struct InviteArgs {
    #[command(flatten)]
    report: Report,
    /// Write the line to FILE instead, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// In a network by invitation: the newcomer, as `warren key id` prints it there. The line is for it alone
    #[arg(long = "for", value_name = "ID")]
    newcomer: Option<String>,
    /// Show a QR code of it too; to fit, it names one router alone
    #[arg(long, conflicts_with_all = ["json", "to"])]
    qr: bool,
}

pub(super) async fn invite(args: InviteArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Json<'a> {
        line: &'a str,
    }
    let dir = args.report.place.dir()?;
    let mode = setup::load_network(&Home::look(&dir))?.map(|network| network.mode);
    let request = match (mode, args.newcomer) {
        (_, Some(newcomer)) => Some(serde_json::to_string(&InviteRequest { newcomer })?),
        (Some(Mode::Invite { .. }), None) => {
            return Err(Failure::Refused(
                "this network admits by invitation: ask the newcomer for what `warren key id` prints, \
                 and name it with --for"
                    .into(),
            ));
        }
        (_, None) => None,
    };
    let method = if request.is_some() { Method::POST } else { Method::GET };
    let answer: InviteAnswer = client::call(&dir, method, "/v1/invite", request).await?;
    let line = answer.line;
    if line.parse::<Invite>().is_err() {
        return Err(Failure::Refused(
            "nobody can dial this router and it knows no other: ask somebody of the network for a line, \
             or forward a port to it and name that address with link.announce. A network for one house or lab begins \
             with `warren init --local`"
                .into(),
        ));
    }
    if let Some(path) = &args.to {
        return write(path, &line);
    }
    if args.report.json {
        return print_json(&Json { line: &line });
    }
    if args.qr {
        let whole: Invite = line.parse()?;
        let own = Invite { routers: whole.routers.into_iter().take(1).collect(), ..whole };
        let line = own.to_line();
        print(format_args!("{}", qr::picture(&line)?))?;
        return print(format_args!("{line}"));
    }
    print(format_args!("{line}"))
}

/// Whoever has the file can join: nobody else may read it.
fn write(path: &Path, line: &str) -> Result<(), Failure> {
    let fail = |error| Failure::Other(remedy::at(path, &error));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    writeln!(file.map_err(fail)?, "{line}").map_err(fail)?;
    say(format_args!("`warren join {}` takes it, on any machine", path.display()));
    Ok(())
}

/// The invite that a person names: the line itself, or a file that holds it.
pub(super) fn read(named: &str) -> Result<Invite, Failure> {
    let named = named.trim();
    let is_line = |text: &str| {
        text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    };
    if is_line(named) {
        return Ok(named.parse()?);
    }
    let text = fs::File::open(named).and_then(|file| {
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text).map(|_| text)
    });
    let text = text.map_err(|error| {
        Failure::Other(format!(
            "{named} is no invite line and no file that holds one ({error}): copy the whole line \
             that `warren invite` printed, or name the file that `warren invite --to FILE` wrote"
        ))
    })?;
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_one_router_fits_into_a_picture() {
        let line = format!("{PREFIX}{}", "abcdefg2345".repeat(220));
        assert!(line.len() > 2_400);
        let picture = qr::picture(&line).unwrap();
        let rows: Vec<_> = picture.lines().collect();
        assert!(rows.len() <= 75 && rows[0].chars().count() <= 150, "{} rows", rows.len());
        assert!(qr::picture(&"a".repeat(9_300)).is_err());
    }

    #[test]
    fn what_is_neither_line_nor_file_is_refused_with_what_to_do() {
        let error = read("no-such-file").unwrap_err().to_string();
        assert!(error.contains("warren invite --to FILE"), "{error}");
        assert!(read("WARREN-INVITE-AAAA").is_err());
    }
}
