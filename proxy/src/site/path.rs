//! The path of a request, as a site's directory knows it.
//!
//! Lives here: from the request's letters to a path, and back for a redirect. Does not live here: what
//! is there. A path is only ever looked up in a directory, never on a disk; what no directory can
//! hold (`..`, an encoded slash, a control character) is refused all the same, so that nobody has
//! to think about it again.

use std::fmt::{self, Write as _};

/// A path inside a site.
#[derive(Clone, PartialEq, Eq)]
pub struct SitePath {
    path: String,
    is_folder: bool,
}

impl SitePath {
    /// Reads the path of a request, without its query. `None`: no directory has such a path.
    pub(super) fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let (rest, is_folder) = match rest.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (rest, rest.is_empty()),
        };
        // "//" is not a second spelling of "/".
        if rest.is_empty() {
            return (text == "/").then(|| Self { path: String::new(), is_folder });
        }
        let components: Option<Vec<String>> = rest.split('/').map(component).collect();
        Some(Self { path: components?.join("/"), is_folder })
    }

    /// Components with one slash between them, none before or behind; empty for the top.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether the request ended with a slash.
    pub const fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The same place as a folder, as a browser is sent there. One slash at the beginning and never two:
    /// two would be another host.
    pub(super) fn folder_location(&self) -> String {
        if self.path.is_empty() { "/".to_owned() } else { format!("/{}/", encoded(&self.path)) }
    }
}

/// A path as it stands in a link: everything but letters, digits, `/` and `-._~` as `%XX`, so that
/// nothing in it is taken for the end of the link, or for its scheme.
pub(super) fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Undoes the percent encoding of one component.
fn component(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            _ => byte,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    let good = !text.is_empty()
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == '\\' || c.is_control());
    good.then_some(text)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Mute: nobody logs what a person reads.
impl fmt::Debug for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
