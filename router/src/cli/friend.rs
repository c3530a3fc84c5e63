//! `warren friend add`, `remove`, `list`: with whom a router of a network of friends has links.
//!
//! Lives here: the verbs; they work whether the router runs or not. Does not live here: the files
//! (`driver/friends.rs`), the line (`invite`).

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Serialize;

use super::{
    Failure, Place, Report, client, invite, print, print_json, say, services::path_segment,
};
use crate::{
    driver::{
        friends::{self, FriendAnswer, FriendRequest},
        setup,
    },
    home::Home,
};

/// `warren friend`
#[derive(Args, Debug)]
pub(super) struct Friend {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Have links with the router whose line this is, as soon as its operator adds this one too
    Add(Add),
    /// Have no link with a friend any more
    Remove(Remove),
    /// List the friends of this router
    List(Report),
}

#[derive(Args, Debug)]
struct Add {
    /// The line that `warren invite` printed there, or a file that holds it
    line: String,
    /// What you call this friend [default: letters of its identity]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Remove {
    /// What you call it
    name: String,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn friend(args: Friend) -> Result<(), Failure> {
    match args.verb {
        Verb::Add(args) => add(args).await,
        Verb::Remove(args) => remove(&args).await,
        Verb::List(report) => list(&report),
    }
}

async fn add(args: Add) -> Result<(), Failure> {
    let dir = args.place.dir()?;
    let line = invite::read(&args.line)?.to_line();
    let request = FriendRequest { line, name: args.name };
    let body = serde_json::to_string(&request)?;
    let name = match client::call(&dir, Method::POST, "/v1/friends", Some(body)).await {
        Ok(FriendAnswer { name }) => name,
        Err(Failure::NotRunning(_)) => {
            let home = Home::open(&dir)?;
            friends::take(&home, &setup::network(&home)?, &request)?
        }
        Err(failure) => return Err(failure),
    };
    say(format_args!(
        "{name} is a friend: there is a link as soon as its operator adds the line that `warren invite \
         --dir {}` prints",
        dir.display()
    ));
    Ok(())
}

async fn remove(args: &Remove) -> Result<(), Failure> {
    let dir = args.place.dir()?;
    let route = format!("/v1/friends/{}", path_segment(&args.name)?);
    match client::call(&dir, Method::DELETE, &route, None).await {
        Err(Failure::NotRunning(_)) => {
            let home = Home::open(&dir)?;
            Ok(friends::remove(&home, &setup::network(&home)?, &args.name)?)
        }
        done => done,
    }
}

fn list(report: &Report) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Json {
        name: String,
        id: String,
    }
    let home = Home::look(&report.place.dir()?);
    let all = friends::load(&home, &setup::network(&home)?)?;
    let all: Vec<_> =
        all.into_iter().map(|(name, it)| Json { name, id: it.id().to_string() }).collect();
    if report.json {
        return print_json(&all);
    }
    all.iter().try_for_each(|it| print(format_args!("{}  {}", it.name, it.id)))
}
