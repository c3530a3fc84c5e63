//! `warren expose`, `warren services`, `warren unexpose`.

use clap::Args;
use hyper::Method;

use super::{Failure, Place, Report, client, print, print_json};
use crate::{driver::control::ExposeRequest, status::ServiceStatus};

/// `warren expose HOST:PORT`
#[derive(Args, Debug)]
pub(super) struct Expose {
    /// Where the service's streams go
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// What you call it (default: made from HOST:PORT)
    #[arg(long)]
    label: Option<String>,
    /// Routers per tunnel of this service, 1 to 4 [default: as the router's own]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    hops: Option<u8>,
    /// Nobody reaches it but those whom `warren service share` names
    #[arg(long)]
    private: bool,
    #[command(flatten)]
    report: Report,
}

/// `warren unexpose LABEL`
#[derive(Args, Debug)]
pub(super) struct Unexpose {
    /// The service's label or name
    label: String,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn expose(args: Expose) -> Result<(), Failure> {
    let Expose { target, label, hops, private, report: _ } = &args;
    let (target, label) = (target.clone(), label.clone());
    let request = ExposeRequest { target, label, hops: *hops, private: *private };
    let body = serde_json::to_string(&request)?;
    let dir = args.report.place.dir()?;
    let service: ServiceStatus =
        client::call(&dir, Method::POST, "/v1/services", Some(body)).await?;
    if args.report.json { print_json(&service) } else { print(format_args!("{}", service.name)) }
}

pub(super) async fn list(args: Report) -> Result<(), Failure> {
    let dir = args.place.dir()?;
    let services: Vec<ServiceStatus> =
        client::call(&dir, Method::GET, "/v1/services", None).await?;
    if args.json {
        return print_json(&services);
    }
    for service in services {
        let state = if service.published {
            "published"
        } else if service.stands_by {
            "stands by"
        } else {
            "not yet published"
        };
        let others = match service.others {
            0 => String::new(),
            1 => ", also at another router".into(),
            others => format!(", at {others} other routers"),
        };
        let reachable = match service.reachable_s {
            Some(seconds) => format!(", reachable for {seconds} s"),
            None => String::new(),
        };
        let private = match service.shares {
            Some(shares) => format!(", private: shared with {shares}"),
            None => String::new(),
        };
        let ServiceStatus { label, name, target, gateways, .. } = service;
        print(format_args!(
            "{label}  http://{name}/  -> {target}  {state}, {gateways} gateways{others}{reachable}{private}"
        ))?;
    }
    Ok(())
}

pub(super) async fn unexpose(args: Unexpose) -> Result<(), Failure> {
    let route = format!("/v1/services/{}", path_segment(&args.label)?);
    client::call(&args.place.dir()?, Method::DELETE, &route, None).await
}

/// Labels and names need no escaping; anything else is neither.
pub(super) fn path_segment(text: &str) -> Result<&str, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        Ok(text)
    } else {
        Err(Failure::NotFound(format!("no service is called {text:?}: see `warren services`")))
    }
}
