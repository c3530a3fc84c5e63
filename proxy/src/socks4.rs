//! SOCKS4 and SOCKS4a: one request, one reply.
//!
//! Lives here: the bytes of both. Does not live here: what becomes of a request (`mixed.rs`).
//!
//! | bytes | field |
//! |-------|-------|
//! | 1     | version: 4 |
//! | 1     | command: 1 connect; anything else is refused |
//! | 2     | port, big-endian |
//! | 4     | address; 0.0.0.x with x not 0 means that a name follows (4a) |
//! | n + 1 | user id, ends with a zero byte: isolation |
//! | n + 1 | name, ends with a zero byte (4a only) |
//!
//! Plain SOCKS4 knows addresses only, so it is always refused.

/// Most bytes of a user id or name.
const FIELD_MAX: usize = 255;

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Not complete.
    More,
    /// A request; it took so many bytes.
    Request { took: usize, command: u8, port: u16, user: &'a [u8], name: Option<&'a [u8]> },
    /// No SOCKS4.
    Bad,
}

/// Reads one request.
pub(crate) fn parse(buffer: &[u8]) -> Parsed<'_> {
    let Some((&[_, command, high, low, a, b, c, d], rest)) = buffer.split_first_chunk() else {
        return Parsed::More;
    };
    let port = u16::from_be_bytes([high, low]);
    let (user, rest) = match text(rest) {
        Text::Whole(user, rest) => (user, rest),
        Text::More => return Parsed::More,
        Text::TooLong => return Parsed::Bad,
    };
    if [a, b, c] != [0; 3] || d == 0 {
        let took = buffer.len() - rest.len();
        return Parsed::Request { took, command, port, user, name: None };
    }
    match text(rest) {
        Text::Whole(name, rest) => Parsed::Request {
            took: buffer.len() - rest.len(),
            command,
            port,
            user,
            name: Some(name),
        },
        Text::More => Parsed::More,
        Text::TooLong => Parsed::Bad,
    }
}

/// The reply: 0, 0x5A granted or 0x5B refused, and six bytes that nobody reads.
pub(crate) fn reply(granted: bool) -> Vec<u8> {
    vec![0, if granted { 0x5A } else { 0x5B }, 0, 0, 0, 0, 0, 0]
}

enum Text<'a> {
    Whole(&'a [u8], &'a [u8]),
    More,
    TooLong,
}

/// A field up to its zero byte, and what follows.
fn text(bytes: &[u8]) -> Text<'_> {
    match bytes.iter().take(FIELD_MAX + 1).position(|&byte| byte == 0) {
        Some(end) => match (bytes.get(..end), bytes.get(end + 1..)) {
            (Some(field), Some(rest)) => Text::Whole(field, rest),
            _ => Text::More,
        },
        None if bytes.len() > FIELD_MAX => Text::TooLong,
        None => Text::More,
    }
}
