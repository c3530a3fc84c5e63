//! `warren browse`: a browser that goes through the running router and nowhere else.
//!
//! Lives here: finding the browser, running it on a profile that is thrown away. Does not live here:
//! the flags and preferences that keep it from going anywhere else (`profile.rs`).

mod profile;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use hyper::Method;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};
use warren_overlay::service::Name;

use self::profile::Profile;
use super::{Failure, Place, client, say};
use crate::status::Status;

/// `warren browse [NAME]`
#[derive(Args, Debug)]
pub(super) struct Browse {
    /// What to open: NAME.warren, with a path if you like [default: an empty page]
    name: Option<String>,
    /// Which kind of browser [default: the first one that is installed]
    #[arg(long, value_enum)]
    browser: Option<Kind>,
    #[command(flatten)]
    place: Place,
    /// Words for the browser itself, after --; they can undo what keeps it from leaking
    #[arg(last = true, value_name = "WORDS")]
    extra: Vec<OsString>,
}

/// What is known how to shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Chromium, Chrome
    Chromium,
    /// Firefox
    Firefox,
}

/// Programs in the order they are looked for.
const PROGRAMS: [(&str, Kind); 6] = [
    ("chromium", Kind::Chromium),
    ("chromium-browser", Kind::Chromium),
    ("google-chrome", Kind::Chromium),
    ("google-chrome-stable", Kind::Chromium),
    ("firefox", Kind::Firefox),
    ("firefox-esr", Kind::Firefox),
];

pub(super) async fn browse(args: Browse) -> Result<(), Failure> {
    let url = match &args.name {
        Some(name) => url(name)?,
        None => "about:blank".to_owned(),
    };
    let dir = args.place.dir()?;
    let status: Status = client::call(&dir, Method::GET, "/v1/status", None).await?;
    let proxy = status.proxy.parse().map_err(|_| {
        Failure::Other(
            "the router names no proxy port: start it again with --proxy 127.0.0.1:7731".into(),
        )
    })?;
    let (program, kind) = find(args.browser)?;
    if !status.ready {
        say(format_args!("not ready yet: {}", status.verdict));
    }
    let profile = Profile::make()?;
    let mut command = Command::new(&program);
    match kind {
        Kind::Chromium => command.args(profile.chromium(proxy)),
        Kind::Firefox => command.args(profile.firefox(proxy)?),
    };
    command.args(&args.extra).arg(url).kill_on_drop(true);
    let mut browser = command.spawn()?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = tokio::select! {
        ended = browser.wait() => Some(ended?),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let Some(ended) = ended else {
        // It writes to its profile until it is gone.
        browser.kill().await?;
        return Ok(());
    };
    if ended.success() {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "{} ended with {ended}: try it by itself, or another one with --browser",
        program.display()
    )))
}

/// `NAME.warren/PATH`, with or without `http://`, as one address.
fn url(text: &str) -> Result<String, Failure> {
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = path.chars().all(|c| c.is_ascii_graphic());
    if host.parse::<Name>().is_err() || !plain {
        return Err(Failure::NotFound(format!(
            "{text:?} is no name: write 56 letters and digits, then .warren, as `warren services` \
             prints it"
        )));
    }
    Ok(format!("http://{host}/{path}"))
}

fn find(wanted: Option<Kind>) -> Result<(PathBuf, Kind), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let fits = |kind: Kind| wanted.is_none_or(|wanted| wanted == kind);
    for (name, kind) in PROGRAMS.into_iter().filter(|(_, kind)| fits(*kind)) {
        if let Some(program) = folders.iter().map(|dir| dir.join(name)).find(|file| is_file(file)) {
            return Ok((program, kind));
        }
    }
    Err(Failure::NotFound(
        "no browser that is known how to shut: install Chromium or Firefox (apt install chromium)"
            .into(),
    ))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_overlay_are_opened() {
        let key = warren_overlay::crypto::blind::ServiceKey::generate(
            &mut warren_overlay::rng::Rng::from_seed([1; 32]),
        );
        let name = Name::of_service(&key).to_string();
        assert_eq!(url(&name).unwrap(), format!("http://{name}/"));
        let deep = format!("http://{name}/a/b?c=d");
        assert_eq!(url(&deep).unwrap(), deep);
        for bad in [
            "example.com".to_owned(),
            "--proxy-server=x".into(),
            format!("https://{name}/"),
            format!("{name}@example.com"),
            format!("{name}/a b"),
            "file:///etc/passwd".into(),
            String::new(),
        ] {
            assert!(url(&bad).is_err(), "{bad}");
        }
    }
}
