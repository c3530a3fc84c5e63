//! One connection to a stored site, from its first request to its last.
//!
//! Lives here: whose turn it is, limits of time and size. Does not live here: heads (`head.rs`,
//! `answer.rs`).
//!
//! ```text
//!           whole head            Found           Sent, kept open
//!  Waiting ------------> Finding -------> Sending ----------------> Waiting
//!     |                     | Failed         | Failed, nothing sent yet
//!     |refused, 16 KiB,     v                v
//!     |10 s, idle 60 s --> page ----------> Over (Close)    Sending --Sent, not kept--> Over
//! ```

use std::{collections::VecDeque, fmt, ops::Range, time::Duration};

use warren_overlay::{service::Name, time::Time};

use super::{
    answer,
    head::{self, Parsed, Request, Wanted},
    list,
    path::SitePath,
};
use crate::{
    mixed::{HEAD_MAX, HEAD_WAIT},
    pages::Failure,
};

/// How long a connection may wait for its next request.
pub const IDLE_WAIT: Duration = Duration::from_mins(1);
/// Requests of one connection.
pub const REQUESTS_MAX: u32 = 1_000;

/// One file of a site.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Type as its publisher says; empty when unknown.
    pub mime: String,
    /// Length in bytes.
    pub len: u64,
    /// Says which bytes it has: two files with one tag are one.
    pub tag: [u8; 16],
}

/// What a site has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file. For the path of a folder: its `index.html`.
    File(File),
    /// A folder, and the request had no slash at its end.
    Folder,
    /// A folder without `index.html`: what is in it. 2,000 are shown.
    List(Vec<Listed>),
    /// Nothing that can be shown.
    Nothing,
}

/// A line of a folder's list.
#[derive(Clone, PartialEq, Eq)]
pub struct Listed {
    /// One component of a path.
    pub name: String,
    /// Whether it is a folder itself.
    pub is_folder: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The application wrote these bytes. How they are cut makes no difference.
    Bytes(&'a [u8]),
    /// What is at the path of [`Output::Find`].
    Found(Found),
    /// The site or its file cannot be read, or not any more. After an [`Output::Answer`] only if nothing
    /// of it was written; a file that breaks in its middle is a connection to be cut.
    Failed(Failure),
    /// The answer was written, all of it.
    Sent,
}

/// What the driver must do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Find out what the site has there; answer with [`Input::Found`] or [`Input::Failed`].
    Find(SitePath),
    /// Write this head (and a page that may follow it), then these bytes of the file that was found last, then say [`Input::Sent`].
    Answer {
        /// The head.
        head: Vec<u8>,
        /// Which bytes; an empty range for none.
        body: Range<u64>,
    },
    /// Write these bytes.
    Reply(Vec<u8>),
    /// Nothing more is to come: finish writing, and close.
    Close,
}

enum State {
    Waiting {
        until: Time,
    },
    Finding(Request),
    /// An answer is being written.
    Sending {
        is_head: bool,
        keep: bool,
    },
    Over,
}

/// The machine. One per connection; holds at most two heads, 32 KiB.
pub struct Responder {
    site: Name,
    state: State,
    buffer: Vec<u8>,
    requests: u32,
    /// More came than is held: the present answer is the last.
    flooded: bool,
    outputs: VecDeque<Output>,
}

/// Mute but for the state.
impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Waiting { .. } => "Responder(waiting)",
            State::Finding(_) => "Responder(finding)",
            State::Sending { .. } => "Responder(sending)",
            State::Over => "Responder(over)",
        })
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: nobody logs what a person reads.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(File, Listed);

impl Responder {
    /// A connection to `site` that was opened just now.
    pub fn new(now: Time, site: Name) -> Self {
        let state = State::Waiting { until: now + HEAD_WAIT };
        let (buffer, outputs) = (Vec::new(), VecDeque::new());
        Self { site, state, buffer, requests: 0, flooded: false, outputs }
    }

    /// Something happened; what is not expected just now changes nothing.
    pub fn handle_input(&mut self, now: Time, input: Input<'_>) {
        self.handle_timeout(now);
        match (input, &self.state) {
            (Input::Bytes(bytes), State::Waiting { .. }) => {
                self.buffer.extend_from_slice(bytes);
                self.read(now);
            }
            (Input::Bytes(bytes), State::Finding(_) | State::Sending { .. }) => {
                // Requests sent ahead: as many as one head may have bytes.
                if self.buffer.len() + bytes.len() > HEAD_MAX {
                    self.flooded = true;
                } else if !self.flooded {
                    self.buffer.extend_from_slice(bytes);
                }
            }
            (Input::Found(found), State::Finding(_)) => self.found(found),
            (Input::Failed(failure), State::Finding(request)) => {
                let is_head = request.is_head;
                self.fail(failure, is_head, "");
            }
            (Input::Failed(failure), State::Sending { is_head, .. }) => {
                let is_head = *is_head;
                self.fail(failure, is_head, "");
            }
            (Input::Sent, State::Sending { keep, .. }) => {
                if *keep && !self.flooded {
                    self.state = State::Waiting { until: now + IDLE_WAIT };
                    self.read(now);
                } else {
                    self.close();
                }
            }
            (Input::Found(_) | Input::Failed(_) | Input::Sent, _)
            | (Input::Bytes(_), State::Over) => {}
        }
    }

    /// Gives up on an application that is too slow with a request, or has none.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.state {
            State::Waiting { until } if until <= now => {
                if self.buffer.is_empty() {
                    self.close();
                } else {
                    self.fail(Failure::Slow, false, "");
                }
            }
            State::Waiting { .. } | State::Finding(_) | State::Sending { .. } | State::Over => {}
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub const fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Finding(_) | State::Sending { .. } | State::Over => None,
        }
    }

    /// What to do next; to be drained after each call of the others.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    #[cfg(test)]
    pub(super) fn buffer_len(&self) -> usize {
        self.buffer.len()
    }

    /// Reads one request, if there is a whole one.
    fn read(&mut self, now: Time) {
        // Empty lines between two requests (RFC 9112, section 2.2).
        let blank = self.buffer.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.buffer.drain(..blank);
        if self.buffer.is_empty() {
            return;
        }
        let (taken, whole) = match self.buffer.get(..HEAD_MAX) {
            Some(taken) => (taken, true),
            None => (self.buffer.as_slice(), false),
        };
        match head::parse(taken, &self.site) {
            Parsed::More if whole => self.fail(Failure::TooLarge, false, ""),
            // From its first byte on a request has to be quick.
            Parsed::More => {
                if let State::Waiting { until } = &mut self.state {
                    *until = (*until).min(now + HEAD_WAIT);
                }
            }
            Parsed::Refused { failure, is_head } => {
                let allow = if failure == Failure::ReadOnly { "Allow: GET, HEAD\r\n" } else { "" };
                self.fail(failure, is_head, allow);
            }
            Parsed::Request { took, mut request } => {
                self.buffer.drain(..took.min(self.buffer.len()));
                self.flooded |= self.buffer.len() > HEAD_MAX;
                self.requests += 1;
                request.keep &= self.requests < REQUESTS_MAX;
                match request.path.clone() {
                    Some(path) => {
                        self.state = State::Finding(request);
                        self.outputs.push_back(Output::Find(path));
                    }
                    None => self.fail(Failure::NoPage, request.is_head, ""),
                }
            }
        }
    }

    fn found(&mut self, found: Found) {
        let State::Finding(request) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let keep = request.keep && !self.flooded;
        let file = match (found, &request.path) {
            (Found::File(file), _) => file,
            (Found::Folder, Some(path)) if !path.is_folder() => {
                let head = answer::moved(&path.folder_location(), &request.query, keep);
                return self.answer(&request, keep, head, 0..0);
            }
            (Found::List(listed), Some(path)) if path.is_folder() => {
                let page = list::page(path.as_str(), &listed);
                let mut answer = answer::list(&page, keep);
                if !request.is_head {
                    answer.extend_from_slice(page.as_bytes());
                }
                return self.answer(&request, keep, answer, 0..0);
            }
            (Found::Folder | Found::List(_) | Found::Nothing, _) => {
                return self.fail(Failure::NoPage, request.is_head, "");
            }
        };
        let tag = format!("\"{:032x}\"", u128::from_be_bytes(file.tag));
        let (head, body) = match request.wants(file.len, &tag) {
            Wanted::Whole => (answer::file(&file, &tag, None, keep), 0..file.len),
            Wanted::Part(part) => (answer::file(&file, &tag, Some(&part), keep), part),
            Wanted::NotModified => (answer::not_modified(&tag, keep), 0..0),
            Wanted::Refused(failure) => {
                let range = match failure {
                    Failure::BadRange => format!("Content-Range: bytes */{}\r\n", file.len),
                    _ => String::new(),
                };
                return self.fail(failure, request.is_head, &range);
            }
        };
        let body = if request.is_head { 0..0 } else { body };
        self.answer(&request, keep, head, body);
    }

    fn answer(&mut self, request: &Request, keep: bool, head: Vec<u8>, body: Range<u64>) {
        self.state = State::Sending { is_head: request.is_head, keep };
        self.outputs.push_back(Output::Answer { head, body });
    }

    fn fail(&mut self, failure: Failure, is_head: bool, more: &str) {
        self.outputs.push_back(Output::Reply(failure.response_with(!is_head, more)));
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Over;
        self.buffer = Vec::new();
        self.outputs.push_back(Output::Close);
    }
}
