//! `warren page`: the link that opens the running router's page.

use hyper::Method;
use serde::Serialize;

use super::{Failure, Report, client, print, print_json};
use crate::{home::Home, status::Status};

#[derive(Serialize)]
struct Link {
    url: String,
}

pub(super) async fn page(args: Report) -> Result<(), Failure> {
    let dir = args.place.dir()?;
    let status: Status = client::call(&dir, Method::GET, "/v1/status", None).await?;
    let home = Home::look(&dir);
    let token = home.read("api.token")?.ok_or_else(|| Failure::NotRunning(dir.clone()))?;
    let token = std::str::from_utf8(&token).map_err(|_| home.damaged("api.token"))?;
    let url = format!("http://{}/?token={token}", status.api);
    if args.json { print_json(&Link { url }) } else { print(format_args!("{url}")) }
}
