//! The router's own page: how it is, without a script.
//!
//! Lives here: what the page says and how it is drawn, and who may see it. Does not live here: the
//! control API (`control.rs`), what the last hour was like (`history.rs`).
//!
//! Anybody on this machine sees the verdict, as at `/readyz`. The rest wants the token of the
//! router's folder once, in the form or in the link that `warren page` prints; a cookie remembers
//! it. Cookies go to every port of this machine, so the cookie is not the token: it opens this page
//! and nothing else: the page changes the limits (`limits.rs`), and puts and gets files (`files.rs`),
//! as whoever reaches the mixed port can.

pub(super) mod files;
mod limits;

use std::{
    fmt::Write,
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use tokio::sync::mpsc;
use warren_overlay::crypto::kdf;

use super::{
    Event,
    control::{self, Ask},
    files::Files,
    history::{History, Sample, Shared},
};
use crate::status::{ServiceStatus, Status};

/// Name of the cookie.
const COOKIE: &str = "warren-page";
/// Every answer of the page: nothing is loaded from elsewhere, no script runs, nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";
/// Width and height of a plot, in its own units.
const PLOT: (u64, u64) = (1_000, 200);

/// What the page is made from.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) history: Shared,
    pub(super) files: Files,
    pub(super) begun: files::Begun,
    /// What opens the API, and this page.
    pub(super) token: Arc<str>,
    /// What opens this page alone.
    pub(super) cookie: Arc<str>,
}

/// The page's routes.
pub(super) fn routes(page: Page) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/login", post(login))
        .route("/files", get(files::show))
        .route("/files/put", post(files::put).layer(DefaultBodyLimit::disable()))
        .route("/files/get", post(files::get))
        .route("/limits", get(limits::show).post(limits::save))
        .route("/style.css", get(style))
        .with_state(page)
}

#[derive(Deserialize)]
struct Link {
    token: Option<String>,
}

async fn show(State(page): State<Page>, Query(link): Query<Link>, headers: HeaderMap) -> Response {
    if let Some(token) = link.token {
        return page.enter(&token);
    }
    let Ok(status) = control::ask_task(&page.events, Ask::Status).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    if !page.is_known(&headers) {
        return answer(&frame(&status, &door()), None);
    }
    let Ok(services) = control::ask_task(&page.events, Ask::Services).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let history = page.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
    answer(&frame(&status, &inside(&status, &services, &history)), Some("5"))
}

async fn login(State(page): State<Page>, body: String) -> Response {
    // The token is letters and digits: a form encodes it as itself.
    page.enter(body.strip_prefix("token=").unwrap_or_default().trim())
}

async fn style() -> impl IntoResponse {
    let kind = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (kind, include_str!("page.css"))
}

impl Page {
    /// Lets in who knows the token, and takes it out of the address line.
    fn enter(&self, token: &str) -> Response {
        if !kdf::eq(self.token.as_bytes(), token.as_bytes()) {
            let words =
                "this is not the token of the running router: `warren page` prints the link";
            return (StatusCode::FORBIDDEN, words).into_response();
        }
        let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
        let headers = [
            (header::SET_COOKIE, cookie),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::REFERRER_POLICY, "no-referrer".to_owned()),
        ];
        (headers, Redirect::to("/")).into_response()
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| {
                name == COOKIE && kdf::eq(self.cookie.as_bytes(), value.as_bytes())
            })
    }
}

/// Pages of elsewhere get nothing: neither answers to read nor anything done. A person may follow a
/// link from elsewhere to the page itself.
pub(super) async fn require_own_origin(request: Request, next: Next) -> Response {
    if is_own(request.method(), request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "requests from other pages are refused").into_response()
}

fn is_own(method: &Method, headers: &HeaderMap) -> bool {
    // What is no text is nobody's own.
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST);
    let own_origin = match text(header::ORIGIN) {
        None => true,
        Some(origin) => host.is_some() && origin.strip_prefix("http://") == host,
    };
    let fetch = |name: &'static str| text(HeaderName::from_static(name));
    let followed = || {
        method == Method::GET
            && fetch("sec-fetch-mode") == Some("navigate")
            && fetch("sec-fetch-dest") == Some("document")
    };
    let own_site = match fetch("sec-fetch-site") {
        // No browser, or an old one: then `Origin` is what it says.
        None | Some("same-origin" | "none") => true,
        Some(_) => followed(),
    };
    own_origin && own_site
}

fn answer(page: &Markup, refresh: Option<&'static str>) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        // Not `no-referrer`: then a form's own origin would be hidden from ourselves.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = (headers, Html(page.0.clone())).into_response();
    if let Some(seconds) = refresh {
        response.headers_mut().insert(header::REFRESH, HeaderValue::from_static(seconds));
    }
    response
}

fn frame(status: &Status, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Warren" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                h1 { "Warren" }
                p.verdict.ready[status.ready] { (status.verdict) }
                (body)
                footer { "Version " (status.version) ", up " (span(Duration::from_secs(status.uptime_s))) }
            }
        }
    }
}

/// What a form gets from who does not know the token.
fn token_first() -> Response {
    (StatusCode::FORBIDDEN, "the token first: `warren page` prints the link").into_response()
}

/// What who does not know the token sees.
fn door() -> Markup {
    html! {
        p { "The rest is for who runs this router: " code { "warren page" } " prints the link." }
        form method="post" action="/login" {
            label for="token" { "Or the token in " code { "api.token" } " of its folder: " }
            input id="token" name="token" type="password" autocomplete="off" required;
            " "
            button { "Show" }
        }
    }
}

fn inside(status: &Status, services: &[ServiceStatus], history: &History) -> Markup {
    html! {
        div.columns {
            section {
                h2 { "Network" }
                (numbers(&[
                    ("Neighbours", status.neighbours.into()),
                    ("Links", status.links.into()),
                    ("Routers known", status.known_routers.into()),
                    ("Records held for others", status.records_held),
                    ("Blocks held for others", status.blocks_held),
                ]))
            }
            section {
                h2 { "Tunnels" }
                (numbers(&[
                    ("Own, waiting", status.tunnels_ready.into()),
                    ("Own, in use", status.tunnels_used.into()),
                    ("Of others", status.tunnels_transit.into()),
                    ("Builds accepted", status.builds_accepted),
                    ("Builds refused", status.builds_refused),
                    ("Cells moved for others", status.cells_relayed),
                ]))
            }
        }
        @if status.anonymity_set_small {
            p { strong { "Few routers are known: " } "whoever uses this network is one of a few." }
        }
        @if status.guard_fails {
            p { strong { "A first hop fails far more often than the other: " } "it is used less." }
        }
        p { strong { "Reachability: " } (status.reach_words) }
        h2 { "Bandwidth" }
        (plot(status, history.samples()))
        h2 { "Services" }
        (list(services, history))
        h2 { "Files" }
        p { a href="/files" { "Put and get files" } }
        h2 { "Limits" }
        (limit_table(status))
    }
}

fn numbers(rows: &[(&str, u64)]) -> Markup {
    html! {
        table {
            @for (name, value) in rows {
                tr { td { (name) } td.number { (value) } }
            }
        }
    }
}

fn plot(status: &Status, samples: impl ExactSizeIterator<Item = Sample> + Clone) -> Markup {
    let most = samples.clone().map(|sample| sample.sent.max(sample.received)).max();
    let most = most.unwrap_or_default().max(1);
    let sent = line(samples.clone().map(|sample| sample.sent), most);
    let received = line(samples.map(|sample| sample.received), most);
    let (width, height) = PLOT;
    html! {
        p {
            span.sent { "sent " (status.sent_kbps) " kbit/s" } ", "
            span.received { "received " (status.received_kbps) " kbit/s" }
            " over the last 10 s; at most " (most) " kbit/s in the last hour"
        }
        svg viewBox={ "0 0 " (width) " " (height) } preserveAspectRatio="none" role="img"
            aria-label="Bandwidth of the last hour" {
            polyline.received points=(received) {}
            polyline.sent points=(sent) {}
        }
    }
}

/// Points of a line that ends at the right edge now and grows to the left, an hour wide.
fn line(values: impl ExactSizeIterator<Item = u64>, most: u64) -> String {
    let (width, height) = PLOT;
    let first = 360u64.saturating_sub(values.len() as u64);
    let mut points = String::new();
    for (n, value) in (first..).zip(values) {
        // A line at the very edge would be cut in half.
        let y = height - 2 - value.min(most) * (height - 4) / most;
        let _ = write!(points, "{},{y} ", n * width / 359);
    }
    points
}

fn list(services: &[ServiceStatus], history: &History) -> Markup {
    if services.is_empty() {
        return html! { p { "None. " code { "warren expose HOST:PORT" } " publishes one." } };
    }
    html! {
        table {
            tr { th { "Label" } th { "Name" } th { "Goes to" } th { "Gateways" } th { "State" } }
            @for service in services {
                tr {
                    td.short { (service.label) }
                    td { code { (service.name) } }
                    td { (service.target) }
                    td.number { (service.gateways) }
                    td.short {
                        @match history.published_for(&service.name) {
                            Some(time) => { "published for " (span(time)) }
                            None if service.published => { "published" }
                            None if service.stands_by => { "stands by" }
                            None => { "not yet" }
                        }
                        @match service.others {
                            0 => {}
                            1 => { ", also at another router" }
                            others => { ", at " (others) " other routers" }
                        }
                        @if let Some(seconds) = service.reachable_s {
                            ", reachable for " (span(Duration::from_secs(seconds)))
                        }
                        @if let Some(shares) = service.shares {
                            ", private, shared with " (shares)
                        }
                    }
                }
            }
        }
    }
}

fn limit_table(status: &Status) -> Markup {
    html! {
        table {
            tr { th { "What" } th { "Now" } th { "Limit" } }
            tr {
                td { "Bandwidth, each way" }
                td { (status.sent_kbps.max(status.received_kbps)) " kbit/s" }
                td { (status.bandwidth_kbps) " kbit/s; after a pause " (status.burst_ms) " ms of it at once" }
            }
            tr {
                td { "Memory of what waits" }
                td { (status.memory_held_kib) " KiB" }
                td { (status.memory_mib) " MiB" }
            }
            tr {
                td { "Ended for want of memory" }
                td { (status.ended_for_memory) }
                td {}
            }
            tr {
                td { "Links" }
                td { (status.links) }
                td { (status.links_limit) }
            }
            tr {
                td { "Traffic of this month" }
                td { (status.month_mib) " MiB" }
                td {
                    @if status.month_limit_mib == 0 { "none" }
                    @else { (status.month_limit_mib) " MiB" }
                }
            }
            tr {
                td { "Blocks of others, and all stored blocks" }
                td { (status.blocks_held / 32) " MiB" }
                td { (status.disk_mib) " MiB" }
            }
            tr {
                td { "Tunnels of others" }
                td { (status.tunnels_transit) }
                td { @if status.transit { "carried" } @else { "not carried" } }
            }
            tr {
                td { "Bandwidth for them, each way" }
                td { (status.transit_kbps) " kbit/s" }
                td { (status.transit_percent) " %" }
            }
            tr {
                td { "Files and sockets" }
                td { (status.files_open) }
                td { (status.files_limit) }
            }
        }
        p {
            a href="/limits" { "Change" } " bandwidth, memory, the month's traffic and tunnels of others; the rest is set in "
            code { "warren.toml" } "."
        }
    }
}

/// "3 h 5 min", "12 s".
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn pages_of_elsewhere_are_refused_and_links_from_there_are_not() {
        let host = ("host", "127.0.0.1:7730");
        let own = [
            vec![host],
            vec![host, ("origin", "http://127.0.0.1:7730")],
            vec![host, ("sec-fetch-site", "same-origin")],
            vec![host, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
            vec![
                host,
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ];
        for pairs in own {
            assert!(is_own(&Method::GET, &headers(&pairs)), "{pairs:?}");
        }
        let foreign = [
            vec![host, ("origin", "http://evil.example")],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "http://127.0.0.1:8080")],
            vec![host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            vec![host, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
            vec![
                host,
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe"),
            ],
        ];
        for pairs in foreign {
            assert!(!is_own(&Method::GET, &headers(&pairs)), "{pairs:?}");
        }
        let posted = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(!is_own(&Method::POST, &headers(&posted)));
    }

    #[test]
    fn what_services_are_called_is_text_and_never_markup() {
        let service = ServiceStatus {
            label: "<b>".into(),
            name: "x.warren".into(),
            target: "\"><script>".into(),
            gateways: 3,
            published: true,
            ..ServiceStatus::default()
        };
        let page = list(&[service], &History::default()).0;
        assert!(!page.contains("<b>") && !page.contains("<script>"), "{page}");
    }

    #[test]
    fn a_plot_stays_in_its_frame_and_ends_at_the_right_edge() {
        let points = line([0, 50, 100].into_iter(), 100);
        assert_eq!(points, "994,198 997,100 1000,2 ");
        let whole = line((0..360u32).map(|n| u64::from(n % 7)), 6);
        assert!(whole.starts_with("0,198 ") && whole.ends_with("1000,133 "), "{whole}");
    }

    #[test]
    fn spans_are_said_in_the_units_that_matter() {
        let said = [12, 75, 3_700, 200_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(said, ["12 s", "1 min", "1 h 1 min", "2 d 7 h"]);
    }
}
