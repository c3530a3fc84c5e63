//! Where one HTTP request ends, so that nothing after it reaches the service.
//!
//! Lives here: counting a request's body as it passes, without copying it. Does not live here: the
//! head (`http.rs`), which says how the body is framed.
//!
//! Why: clients use one proxy connection for several sites (curl does). What follows the first
//! request may be a request to another site, with that site's cookies; passed on raw, the first
//! site would read it. So the bytes after the body are never passed.
//!
//! ```text
//! Size --digits, CRLF--> Data --n bytes--> DataEnd --CRLF--> Size
//!   \---- 0, CRLF -----> Trailer --line--> Trailer --empty line--> Over
//! any byte that does not fit -> Over
//! ```

/// Longest chunk-size line, extensions included; real clients send under 20 bytes.
const LINE_MAX: u32 = 256;
/// Longest trailer section. Nobody sends one; RFC 9112 allows it.
const TRAILER_MAX: u32 = 4096;
/// Most digits of a chunk size: up to 4 GiB a chunk, and no overflow.
const DIGITS_MAX: u32 = 8;

/// How many of the client's bytes may still go to the service.
#[derive(Debug, PartialEq, Eq)]
pub struct Upload(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// A tunnel (SOCKS, CONNECT): everything.
    Raw,
    /// So many bytes of body.
    Length(u64),
    /// A chunked body.
    Chunked(Chunk),
    /// Nothing more.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { value: u64, digits: u32, seen: u32, part: SizePart },
    Data(u64),
    DataEnd { carriage_return: bool },
    Trailer { seen: u32, line: u32, carriage_return: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizePart {
    Digits,
    Extension,
    LineFeed,
}

impl Upload {
    /// Everything passes.
    pub(crate) const fn raw() -> Self {
        Self(State::Raw)
    }

    /// `length` bytes pass.
    pub(crate) const fn length(length: u64) -> Self {
        Self(if length == 0 { State::Over } else { State::Length(length) })
    }

    /// One chunked body passes (RFC 9112, section 7.1).
    pub(crate) const fn chunked() -> Self {
        Self(State::Chunked(Chunk::START))
    }

    /// How many leading bytes of `bytes` may pass; the rest, and all that comes later, is to be
    /// thrown away once this is less than `bytes.len()`.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        match &mut self.0 {
            State::Raw => bytes.len(),
            State::Over => 0,
            State::Length(left) => {
                let pass = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left = left.saturating_sub(pass as u64);
                if *left == 0 {
                    self.0 = State::Over;
                }
                pass
            }
            State::Chunked(_) => self.pass_chunked(bytes),
        }
    }

    /// Whether the request is complete and nothing more will pass.
    pub fn is_over(&self) -> bool {
        self.0 == State::Over
    }

    fn pass_chunked(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while let (State::Chunked(chunk), Some(rest @ [first, ..])) =
            (&mut self.0, bytes.get(passed..))
        {
            if let Chunk::Data(left) = chunk {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left = left.saturating_sub(take as u64);
                passed += take;
                if *left == 0 {
                    *chunk = Chunk::DataEnd { carriage_return: false };
                }
                continue;
            }
            match chunk.step(*first) {
                Step::Next(next) => *chunk = next,
                Step::End => self.0 = State::Over,
                Step::Bad => {
                    self.0 = State::Over;
                    return passed;
                }
            }
            passed += 1;
        }
        passed
    }
}

/// What one byte of framing does.
enum Step {
    Next(Chunk),
    /// It was the last byte of the body.
    End,
    /// It does not belong there.
    Bad,
}

impl Chunk {
    const START: Self = Self::Size { value: 0, digits: 0, seen: 0, part: SizePart::Digits };

    fn step(self, byte: u8) -> Step {
        match self {
            Self::Size { value, digits, seen, part } if seen < LINE_MAX => {
                Self::size(value, digits, seen + 1, part, byte)
            }
            Self::DataEnd { carriage_return: false } if byte == b'\r' => {
                Step::Next(Self::DataEnd { carriage_return: true })
            }
            Self::DataEnd { carriage_return: true } if byte == b'\n' => Step::Next(Self::START),
            Self::Trailer { seen, line, carriage_return } if seen < TRAILER_MAX => {
                Self::trailer(seen + 1, line, carriage_return, byte)
            }
            // Data is counted by the caller and never comes here.
            Self::Size { .. } | Self::Data(_) | Self::DataEnd { .. } | Self::Trailer { .. } => {
                Step::Bad
            }
        }
    }

    fn trailer(seen: u32, line: u32, carriage_return: bool, byte: u8) -> Step {
        let next =
            |line, carriage_return| Step::Next(Self::Trailer { seen, line, carriage_return });
        match (byte, carriage_return) {
            (b'\r', false) => next(line, true),
            (b'\n', true) if line == 0 => Step::End,
            (b'\n', true) => next(0, false),
            (b'\n', false) | (_, true) => Step::Bad,
            (_, false) => next(line + 1, false),
        }
    }

    fn size(value: u64, digits: u32, seen: u32, part: SizePart, byte: u8) -> Step {
        let next = |part| Step::Next(Self::Size { value, digits, seen, part });
        match (part, byte) {
            (SizePart::Digits, _) if byte.is_ascii_hexdigit() && digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Step::Next(Self::Size {
                    value: value * 16 + u64::from(digit),
                    digits: digits + 1,
                    seen,
                    part,
                })
            }
            (SizePart::Digits, _) if digits == 0 => Step::Bad,
            (SizePart::Digits | SizePart::Extension, b'\r') => next(SizePart::LineFeed),
            (SizePart::Digits, b';' | b' ' | b'\t') => next(SizePart::Extension),
            (SizePart::Extension, _) if byte >= b' ' || byte == b'\t' => next(SizePart::Extension),
            (SizePart::LineFeed, b'\n') if value == 0 => {
                Step::Next(Self::Trailer { seen: 0, line: 0, carriage_return: false })
            }
            (SizePart::LineFeed, b'\n') => Step::Next(Self::Data(value)),
            _ => Step::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What passes when `bytes` come in pieces that end at `cuts`.
    fn passed(mut upload: Upload, bytes: &[u8], cuts: &[usize]) -> (usize, bool) {
        let mut total = 0;
        let mut start = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        for end in ends {
            let piece = &bytes[start..end];
            let pass = upload.pass(piece);
            total += pass;
            if pass < piece.len() {
                assert!(upload.is_over());
            }
            start = end;
        }
        (total, upload.is_over())
    }

    #[test]
    fn a_second_request_on_the_connection_never_passes() {
        let next = b"GET http://other.warren/ HTTP/1.1\r\nCookie: secret\r\n\r\n";
        for (upload, body) in [
            (Upload::length(0), &b""[..]),
            (Upload::length(5), b"hello"),
            (Upload::chunked(), b"0\r\n\r\n"),
            (Upload::chunked(), b"5\r\nhello\r\n0\r\n\r\n"),
            (Upload::chunked(), b"5;a=b\r\nhello\r\n00\r\nX: y\r\n\r\n"),
        ] {
            let all = [body, next].concat();
            assert_eq!(passed(upload, &all, &[]), (body.len(), true));
        }
    }

    #[test]
    fn a_tunnel_passes_everything() {
        assert_eq!(passed(Upload::raw(), &[7; 999], &[3, 500]), (999, false));
    }

    #[test]
    fn framing_that_two_parsers_could_read_differently_is_cut_off() {
        for (bad, passes) in [
            (&b"5\nhello"[..], 1),
            (b"\r\n", 0),
            (b"+5\r\n", 0),
            (b"0x5\r\n", 1),
            (b"5\r\nhelloX", 8),
            (b"5\r\nhello\n", 8),
            (b"5\r\nhello\rX", 9),
            (b"123456789\r\n", 8),
            (b"0\r\nA: b\n\n", 7),
            (b"0\r\nA: b\rc", 8),
            (b"5;\0\r\n", 2),
        ] {
            assert_eq!(passed(Upload::chunked(), bad, &[]), (passes, true), "{bad:?}");
        }
        let endless = [b"5;".as_slice(), &[b'a'; 1000]].concat();
        assert_eq!(passed(Upload::chunked(), &endless, &[]), (LINE_MAX as usize, true));
        let trailers = [b"0\r\n".as_slice(), &b"a:b\r\n".repeat(2000)].concat();
        assert_eq!(passed(Upload::chunked(), &trailers, &[]), (TRAILER_MAX as usize + 3, true));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            let body = bytes.len();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(passed(Upload::chunked(), &bytes, &cuts), (body, true));
            let want = body.min(bytes.len());
            prop_assert_eq!(passed(Upload::length(body as u64), &bytes, &cuts), (want, true));
        }

        #[test]
        fn garbage_is_cut_at_the_same_place_however_it_comes(
            bytes in prop::collection::vec(
                prop::sample::select(&b"0123afAF;\r\n\r\n x\0"[..]), 0..60),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let whole = passed(Upload::chunked(), &bytes, &[]);
            prop_assert_eq!(passed(Upload::chunked(), &bytes, &cuts), whole);
        }
    }
}
