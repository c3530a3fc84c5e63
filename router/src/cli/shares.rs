//! `warren service share`, `revoke`, `shares`, `accept`, `accepted`, `forget`: who reaches a private
//! service.
//!
//! Lives here: the verbs, and how a share line is shown. Does not live here: the line's bytes
//! (`driver/private.rs`).

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use hyper::Method;

use super::{Failure, Place, Report, client, print, print_json, qr, say, services::path_segment};
use crate::driver::private::{AccessAnswer, AccessRequest, ShareAnswer, ShareRequest};

/// `warren service`
#[derive(Args, Debug)]
pub(super) struct Service {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let one more reach a service, and nobody else but those; prints the line that they need
    Share(Share),
    /// Let one of them reach it no longer
    Revoke(Revoke),
    /// List those who may reach a service
    Shares(Shares),
    /// Take the line that somebody printed for you: their service opens on this router from now on
    Accept(Accept),
    /// List the private services that open on this router
    Accepted(Report),
    /// Forget a private service that opens on this router
    Forget(Forget),
}

#[derive(Args, Debug)]
struct Share {
    /// The service's label or name
    label: String,
    /// What you call whoever gets the line
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Show no QR code beside the line
    #[arg(long)]
    no_qr: bool,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Revoke {
    /// The service's label or name
    label: String,
    /// What you called whoever got the line
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Shares {
    /// The service's label or name
    label: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Accept {
    /// The line, `warren-share-` and 109 letters and digits
    line: String,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Forget {
    /// NAME.warren
    name: String,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn service(args: Service) -> Result<(), Failure> {
    match args.verb {
        Verb::Share(args) => share(args).await,
        Verb::Revoke(Revoke { label, name, place }) => {
            let (label, name) = (path_segment(&label)?, path_segment(&name)?);
            let route = format!("/v1/services/{label}/shares/{name}");
            client::call(&place.dir()?, Method::DELETE, &route, None).await
        }
        Verb::Shares(Shares { label, report }) => {
            let route = format!("/v1/services/{}/shares", path_segment(&label)?);
            list(&report, &route).await
        }
        Verb::Accept(args) => accept(args).await,
        Verb::Accepted(report) => list(&report, "/v1/access").await,
        Verb::Forget(Forget { name, place }) => {
            let route = format!("/v1/access/{}", path_segment(&name)?);
            client::call(&place.dir()?, Method::DELETE, &route, None).await
        }
    }
}

async fn share(args: Share) -> Result<(), Failure> {
    let Share { label, to, no_qr, report } = args;
    let route = format!("/v1/services/{}/shares", path_segment(&label)?);
    let body = serde_json::to_string(&ShareRequest { to })?;
    let shared: ShareAnswer =
        client::call(&report.place.dir()?, Method::POST, &route, Some(body)).await?;
    if report.json {
        return print_json(&shared);
    }
    if shared.was_public {
        say(format_args!(
            "{label} is private from now on: whoever knew its name reaches it no longer, without a \
             line like this one"
        ));
    }
    print(format_args!("{}", shared.line))?;
    // For a camera in front of a screen: a file of it would be one more copy of a key.
    if !no_qr && std::io::stderr().is_terminal() {
        say(format_args!("{}", qr::picture(&shared.line)?));
    }
    Ok(())
}

async fn accept(args: Accept) -> Result<(), Failure> {
    let Accept { line, report } = args;
    let body = serde_json::to_string(&AccessRequest { line })?;
    let taken: AccessAnswer =
        client::call(&report.place.dir()?, Method::POST, "/v1/access", Some(body)).await?;
    if report.json { print_json(&taken) } else { print(format_args!("{}", taken.name)) }
}

async fn list(report: &Report, route: &str) -> Result<(), Failure> {
    let names: Vec<String> = client::call(&report.place.dir()?, Method::GET, route, None).await?;
    if report.json {
        return print_json(&names);
    }
    names.iter().try_for_each(|name| print(format_args!("{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_of_a_line_fits_a_small_terminal() {
        let picture = qr::picture(&format!("warren-share-{}", "a7".repeat(54))).unwrap();
        let widest = picture.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 80 && picture.lines().count() <= 24, "{widest}:\n{picture}");
    }
}
