//! The limits, in a form.
//!
//! Lives here: the form, and reading what comes of it. Does not live here: who may see and send it
//! (`page.rs`), writing the file and holding to it (`task.rs`).

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};

use super::{Page, answer, door, frame, token_first};
use crate::{
    config::LimitsFile,
    driver::control::{self, Ask},
};

pub(super) async fn show(State(page): State<Page>, headers: HeaderMap) -> Response {
    page.limits_page(&headers, None).await
}

/// A form's values; what they are is checked by the same code as the file.
pub(super) async fn save(State(page): State<Page>, headers: HeaderMap, body: String) -> Response {
    if !page.is_known(&headers) {
        return token_first();
    }
    let Ok(now) = control::ask_task(&page.events, Ask::LimitsNow).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let changed = match read(&body, &now) {
        Ok(limits) => control::ask_task(&page.events, |sender| Ask::Edit { limits, sender }).await,
        Err(words) => Ok(Err(words)),
    };
    match changed {
        Ok(Ok(())) => Redirect::to("/").into_response(),
        Ok(Err(words)) => page.limits_page(&headers, Some(&words)).await,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

impl Page {
    async fn limits_page(&self, headers: &HeaderMap, wrong: Option<&str>) -> Response {
        let Ok(status) = control::ask_task(&self.events, Ask::Status).await else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        if !self.is_known(headers) {
            return answer(&frame(&status, &door()), None);
        }
        let Ok(limits) = control::ask_task(&self.events, Ask::LimitsNow).await else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        // No refresh: it would throw away what is being written.
        answer(&frame(&status, &form(&limits, wrong)), None)
    }
}

fn form(limits: &LimitsFile, wrong: Option<&str>) -> Markup {
    let number = |name: &str, label: &str, value: u32| {
        html! {
            p {
                label for=(name) { (label) }
                input id=(name) name=(name) type="number" min="0" value=(value) required;
            }
        }
    };
    html! {
        h2 { "Limits" }
        @if let Some(words) = wrong { p.verdict { (words) } }
        form.limits method="post" action="/limits" {
            (number("bandwidth_kbps", "Bandwidth of all links together, each way, kbit/s", limits.bandwidth_kbps))
            (number("burst_ms", "How long of it is kept while it is not used, and may go at once then, ms", limits.burst_ms))
            (number("memory_mib", "Memory for what waits, MiB", limits.memory_mib))
            (number("monthly_gib", "Traffic of a calendar month, both ways, GiB; 0 for no limit", limits.monthly_gib))
            p {
                label for="transit" { "Tunnels of others" }
                select id="transit" name="transit" {
                    option value="true" selected[limits.transit] { "carry them" }
                    option value="false" selected[!limits.transit] { "carry none: whoever watches the line knows that all traffic is yours" }
                }
            }
            (number("transit_percent", "How much of the bandwidth they may take, per cent", limits.transit_percent.into()))
            p { button { "Save" } " " a href="/" { "Back" } }
        }
        p { "They hold at once, and are written to " code { "warren.toml" } "." }
    }
}

/// The limits with a form's values in place of what they were.
fn read(body: &str, now: &LimitsFile) -> Result<LimitsFile, String> {
    let value = |name: &str| {
        let pairs = body.trim().split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
        found.ok_or_else(|| format!("{name} is missing"))
    };
    let number = |name: &str| {
        let text = value(name)?;
        text.parse::<u32>().map_err(|_| format!("{name}: write a whole number"))
    };
    let transit = match value("transit")? {
        "true" => true,
        "false" => false,
        _ => return Err("transit: write true or false".into()),
    };
    Ok(LimitsFile {
        bandwidth_kbps: number("bandwidth_kbps")?,
        burst_ms: number("burst_ms")?,
        memory_mib: number("memory_mib")?,
        monthly_gib: number("monthly_gib")?,
        transit,
        transit_percent: u8::try_from(number("transit_percent")?)
            .map_err(|_| "transit_percent: 1 to 100")?,
        ..now.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_changes_what_it_has_and_nothing_else() {
        let now = LimitsFile { links: 99, ..LimitsFile::default() };
        let body = "burst_ms=80&bandwidth_kbps=9000&memory_mib=64&monthly_gib=7&transit=false\
                    &transit_percent=40\r\n";
        let read_back = read(body, &now).unwrap();
        let wanted = LimitsFile {
            bandwidth_kbps: 9_000,
            burst_ms: 80,
            memory_mib: 64,
            monthly_gib: 7,
            transit: false,
            transit_percent: 40,
            links: 99,
            ..LimitsFile::default()
        };
        assert_eq!(read_back, wanted);
        for body in [
            "",
            "bandwidth_kbps=9000&memory_mib=64&monthly_gib=7&transit=true&transit_percent=40",
            "burst_ms=80&bandwidth_kbps=9000&memory_mib=64&monthly_gib=7&transit_percent=40",
            "burst_ms=80&bandwidth_kbps=9000&memory_mib=64&monthly_gib=7&transit=true",
            "burst_ms=80&bandwidth_kbps=9&memory_mib=64&monthly_gib=7&transit=true&transit_percent=256",
            "burst_ms=80&bandwidth_kbps=&memory_mib=64&monthly_gib=7&transit=true&transit_percent=9",
            "burst_ms=80&bandwidth_kbps=9%30&memory_mib=64&monthly_gib=7&transit=true&transit_percent=9",
            "burst_ms=80&bandwidth_kbps=9&memory_mib=64&monthly_gib=99999999999&transit=true&transit_percent=9",
            "burst_ms=80&bandwidth_kbps=9&memory_mib=64&monthly_gib=7&transit=maybe&transit_percent=9",
        ] {
            assert!(read(body, &now).is_err(), "{body}");
        }
    }

    #[test]
    fn the_form_shows_what_holds_and_what_was_wrong_as_text() {
        let limits = LimitsFile { bandwidth_kbps: 4_321, transit: false, ..LimitsFile::default() };
        let text = form(&limits, Some("<b>")).0;
        assert!(text.contains("value=\"4321\"") && text.contains("&lt;b&gt;"), "{text}");
        assert!(text.contains("<option value=\"false\" selected>"), "{text}");
    }
}
