//! Stored sites in the browser: what stands in the place of a web server.
//!
//! Lives here: HTTP as a stored site speaks it, one connection a [`Responder`]. Does not live here:
//! finding the site and its files (router, datastore), the way from the application to here
//! (`mixed.rs`). In words: docs/spec/front-door.md, section 9.
//!
//! ```text
//!  application            Responder                            driver
//!  --bytes--> Bytes ------- Output::Find(path) ---------> what the site's directory has there
//!                   <------ Found | Failed(Failure) ----
//!  <---------------------- Output::Answer{head, body} --> writes head and these bytes of the file
//!                   <------ Sent | Failed(Failure) -----
//! ```
//!
//! A site is written by a stranger and read by somebody who must stay hidden, also from the site's
//! author: so nothing that a page holds may reach anybody but this router (`answer.rs`).

mod answer;
mod condition;
mod head;
mod list;
mod path;
mod responder;
#[cfg(test)]
mod tests;

pub use path::SitePath;
pub use responder::{File, Found, IDLE_WAIT, Input, Listed, Output, REQUESTS_MAX, Responder};
