//! The page of a folder that has no index.
//!
//! Lives here: a plain list of what is in it. Names are a stranger's: in links they are encoded, in the
//! text escaped.

use std::fmt::Write as _;

use super::{path::encoded, responder::Listed};

/// Most lines of a list.
pub(super) const LINES_MAX: usize = 2_000;

/// The page for a folder, whose path is empty for the top.
pub(super) fn page(folder: &str, listed: &[Listed]) -> String {
    let title = escaped(&if folder.is_empty() { "/".to_owned() } else { format!("/{folder}/") });
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if !folder.is_empty() {
        page.push_str("<li><a href=\"../\">../</a>\n");
    }
    for Listed { name, is_folder } in listed.iter().take(LINES_MAX) {
        let slash = if *is_folder { "/" } else { "" };
        let (link, name) = (encoded(name), escaped(name));
        // Writing to a text cannot fail.
        let _ = writeln!(page, "<li><a href=\"{link}{slash}\">{name}{slash}</a>");
    }
    let more = listed.len().saturating_sub(LINES_MAX);
    if more > 0 {
        let _ = writeln!(page, "<li>and {more} more");
    }
    page.push_str("</ul>\n</html>\n");
    page
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
