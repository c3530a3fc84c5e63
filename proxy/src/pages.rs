//! Every way to fail, and what each protocol says about it.
//!
//! Lives here: the table from a failure to its HTTP status, SOCKS5 code, title and words, and the
//! page made of them. Does not live here: who decides that something failed.
//!
//! A page stands under the site's own origin, so the site's scripts can read it (PROTOCOL P13): its
//! bytes are the same on every router at every time, and the reason in detail is on the router's
//! own page only. No style and no script, because the policy forbids both: a centred column made of
//! a table, and the reader's own light or dark colours.

/// What went wrong with a request. The router reports those above [`Self::NotOverlay`], the machine
/// finds the others itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This router has no tunnels yet.
    Building,
    /// This router, the ring or the service has too much to do just now.
    Busy,
    /// Too many new contexts in one minute ([`crate::ContextLimiter`]).
    TooManyContexts,
    /// No descriptor is stored under the name.
    NotFound,
    /// A descriptor is there but is not what its owner signed, or has run out.
    BadDescriptor,
    /// None of the service's gateways could be reached or knew the service's tunnel.
    NoGateway,
    /// A gateway was reached, but no session came about.
    NoSession,
    /// The service lets only known clients in, and this router has no key for it.
    NeedsAuthorization,
    /// The key for the service is not, or no longer, accepted.
    WrongAuthorization,
    /// The service did not answer in time.
    TimedOut,
    /// The service answers, but has nothing at this port.
    PortRefused,
    /// The way to the service broke before it answered.
    Broken,
    /// What the service sent is no HTTP answer, or one that only a proxy may give (407, 101).
    BadAnswer,
    /// A fault of this router.
    Internal,
    /// Neither `.warren` nor `.warren.alt`, or an IP literal.
    NotOverlay,
    /// Ends like a name of the overlay, but is none: mistyped.
    BadName,
    /// An `https://` or other URI that is not `http://`.
    BadScheme,
    /// A method that a proxy must not pass on (TRACE).
    BadMethod,
    /// Not sent to a proxy: origin form or `*`. Gets an empty page.
    Misdirected,
    /// Not a request by its protocol's rules, or one that two parsers could read differently.
    Malformed,
    /// The request's head is over its limit.
    TooLarge,
    /// The request was not complete in time.
    Slow,
    /// SOCKS BIND or UDP ASSOCIATE.
    BadCommand,
    /// A SOCKS5 address kind that does not exist.
    BadAddressKind,
    /// No record of a stored site under this name.
    NoSite,
    /// What is stored under a site's name is damaged, not its owner's, or older than what was read.
    BadSite,
    /// A site's key signed two things as one version.
    Forked,
    /// Too many blocks of a stored site are not to be found.
    Incomplete,
    /// A stored site has nothing at this path.
    NoPage,
    /// A stored site was sent something other than GET or HEAD.
    ReadOnly,
    /// A stored file has no such range of bytes.
    BadRange,
    /// A stored file is not the one that the application has (`If-Match`).
    Changed,
}

/// What a failure looks like from outside.
struct Row {
    status: u16,
    phrase: &'static str,
    socks5: u8,
    /// Seconds until the page loads itself again; for what passes by itself.
    retry_s: Option<u8>,
    title: &'static str,
    words: &'static [&'static str],
}

impl Failure {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 32] = [
        Self::Building,
        Self::Busy,
        Self::TooManyContexts,
        Self::NotFound,
        Self::BadDescriptor,
        Self::NoGateway,
        Self::NoSession,
        Self::NeedsAuthorization,
        Self::WrongAuthorization,
        Self::TimedOut,
        Self::PortRefused,
        Self::Broken,
        Self::BadAnswer,
        Self::Internal,
        Self::NotOverlay,
        Self::BadName,
        Self::BadScheme,
        Self::BadMethod,
        Self::Misdirected,
        Self::Malformed,
        Self::TooLarge,
        Self::Slow,
        Self::BadCommand,
        Self::BadAddressKind,
        Self::NoSite,
        Self::BadSite,
        Self::Forked,
        Self::Incomplete,
        Self::NoPage,
        Self::ReadOnly,
        Self::BadRange,
        Self::Changed,
    ];

    /// The HTTP status that says it.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// The SOCKS5 reply code that says it: of RFC 1928, or of Tor's extended ones (0xF0 to 0xF7,
    /// Tor proposal 304).
    pub fn socks5_code(self) -> u8 {
        self.row().socks5
    }

    /// What happened, in a few words.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// The whole HTTP response; `with_body` is false for HEAD.
    pub fn response(self, with_body: bool) -> Vec<u8> {
        self.response_with(with_body, "")
    }

    /// The same with more header lines, each with its end.
    pub(crate) fn response_with(self, with_body: bool, more: &str) -> Vec<u8> {
        let row = self.row();
        let body = if self == Self::Misdirected { String::new() } else { row.page() };
        let content = if body.is_empty() {
            String::new()
        } else {
            "Content-Type: text/html; charset=utf-8\r\n".to_owned()
        };
        let retry = row.retry_s.map_or(String::new(), |seconds| {
            format!("Refresh: {seconds}\r\nRetry-After: {seconds}\r\n")
        });
        let mut out = format!(
            "HTTP/1.1 {} {}\r\n{content}Content-Length: {}\r\n{retry}{more}",
            row.status,
            row.phrase,
            body.len()
        );
        out.push_str(concat!(
            "Cache-Control: no-store\r\n",
            "Content-Security-Policy: default-src 'none'; sandbox\r\n",
            "Cross-Origin-Resource-Policy: same-origin\r\n",
            "Referrer-Policy: no-referrer\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Connection: close\r\n\r\n",
        ));
        if with_body {
            out.push_str(&body);
        }
        out.into_bytes()
    }

    fn row(self) -> Row {
        let row = |status, phrase, socks5, title, words| Row {
            status,
            phrase,
            socks5,
            retry_s: None,
            title,
            words,
        };
        match self {
            Self::Building => Row {
                retry_s: Some(2),
                ..row(
                    503,
                    "Service Unavailable",
                    0x03,
                    "Building tunnels",
                    &[
                        "Your router is still building the tunnels that hide you. This takes a few \
                     seconds after it starts.",
                        "This page tries again by itself.",
                    ],
                )
            },
            Self::Busy => Row {
                retry_s: Some(10),
                ..row(
                    503,
                    "Service Unavailable",
                    0x01,
                    "Busy",
                    &[
                        "The way to this service has too much to do just now.",
                        "This page tries again by itself.",
                    ],
                )
            },
            Self::TooManyContexts => Row {
                retry_s: Some(10),
                ..row(
                    429,
                    "Too Many Requests",
                    0x01,
                    "Too many new conversations",
                    &[
                        "Programs on this computer began conversations with too many services at \
                     once. Each gets tunnels of its own, so only some may begin each minute.",
                        "This page tries again by itself.",
                    ],
                )
            },
            Self::NotFound => row(
                404,
                "Not Found",
                0xF0,
                "No such service now",
                &[
                    "Nothing is published under this name. The service is offline, has moved, or the \
                 name is not quite right.",
                    "Compare every character of the name with where you got it from, or try later.",
                ],
            ),
            Self::BadDescriptor => row(
                502,
                "Bad Gateway",
                0xF1,
                "Unusable description",
                &[
                    "What is published under this name is not usable: damaged, out of date, or made \
                 by a newer version.",
                    "Only the owner of the service can mend that. Try later.",
                ],
            ),
            Self::NoGateway => row(
                502,
                "Bad Gateway",
                0xF2,
                "Service not connected",
                &[
                    "The service published where it can be met, but is not there now.",
                    "It has probably just stopped or lost its connection. Try again in a minute.",
                ],
            ),
            Self::NoSession => row(
                502,
                "Bad Gateway",
                0xF3,
                "No conversation came about",
                &[
                    "The service was reached, but no secured conversation with it came about.",
                    "Try again. If it stays so, its owner has to look into it.",
                ],
            ),
            Self::NeedsAuthorization => row(
                403,
                "Forbidden",
                0xF4,
                "For known visitors only",
                &[
                    "This service lets in only visitors whose key its owner has added, and your \
                 router has no key for it.",
                    "Ask the owner for access.",
                ],
            ),
            Self::WrongAuthorization => row(
                403,
                "Forbidden",
                0xF5,
                "Key not accepted",
                &[
                    "This service does not accept the key that your router has for it.",
                    "Ask the owner for a new one.",
                ],
            ),
            Self::TimedOut => row(
                504,
                "Gateway Timeout",
                0xF7,
                "No answer in time",
                &[
                    "The service did not answer in time. It may be overloaded, or a part of the way \
                 to it is slow.",
                    "Try again.",
                ],
            ),
            Self::PortRefused => row(
                502,
                "Bad Gateway",
                0x05,
                "Nothing at this port",
                &[
                    "The service is there, but answers nothing at this port.",
                    "Check the port in the address, or ask the owner.",
                ],
            ),
            Self::Broken => row(
                502,
                "Bad Gateway",
                0x04,
                "Connection lost",
                &["The way to the service broke before it answered.", "Try again."],
            ),
            Self::BadAnswer => row(
                502,
                "Bad Gateway",
                0x01,
                "Unusable answer",
                &[
                    "What the service sent is not a proper answer to a web request.",
                    "Perhaps something other than a web server is at this port. Otherwise its owner \
                 has to look into it.",
                ],
            ),
            Self::Internal => row(
                500,
                "Internal Server Error",
                0x01,
                "A fault of your router",
                &[
                    "Your router failed at something that should have worked.",
                    "The details help whoever mends it.",
                ],
            ),
            Self::NotOverlay => row(
                403,
                "Forbidden",
                0x02,
                "Not a Warren name",
                &[
                    "Through this proxy only names that end in .warren or .warren.alt can be reached. \
                 Everything else is refused at once: it is neither looked up nor passed on, so \
                 that nothing you do here can leak to the open network.",
                    "If you meant a Warren service but a number like 192.0.2.1 arrived here, your \
                 program looked the name up by itself. Let the proxy do it: socks5h:// instead of \
                 socks5://, --socks5-hostname with curl, \"remote DNS\" in Firefox.",
                    "For the open web use another browser or profile.",
                ],
            ),
            Self::BadName => row(
                400,
                "Bad Request",
                0xF6,
                "Mistyped name",
                &[
                    "This ends like a Warren name, but is none: 56 letters and digits, the last of \
                 which check the others, come before .warren.",
                    "Compare it with where you got it from. Nothing was looked up.",
                ],
            ),
            Self::BadScheme => row(
                400,
                "Bad Request",
                0x01,
                "Only http:// here",
                &[
                    "This proxy takes http:// addresses, and CONNECT for everything else.",
                    "Warren already encrypts from your router to the service: http:// is right.",
                ],
            ),
            Self::BadMethod => row(
                405,
                "Method Not Allowed",
                0x01,
                "Method not allowed",
                &[
                    "This method is not passed on, because it would give back to a page what it must \
                 not see.",
                ],
            ),
            Self::Misdirected => row(421, "Misdirected Request", 0x01, "Misdirected", &[]),
            Self::Malformed => row(
                400,
                "Bad Request",
                0x01,
                "Not understood",
                &["What your program sent is not a proper request to a proxy."],
            ),
            Self::TooLarge => row(
                431,
                "Request Header Fields Too Large",
                0x01,
                "Too large",
                &[
                    "The head of the request is over 16 KiB or 100 lines.",
                    "Deleting this site's cookies often helps.",
                ],
            ),
            Self::Slow => row(
                408,
                "Request Timeout",
                0x01,
                "Request not finished",
                &["Your program began a request and did not finish it within 10 seconds."],
            ),
            Self::BadCommand => row(
                501,
                "Not Implemented",
                0x07,
                "Command not supported",
                &["Only outgoing byte streams are possible."],
            ),
            Self::BadAddressKind => row(
                400,
                "Bad Request",
                0x08,
                "Address kind unknown",
                &["This kind of address does not exist."],
            ),
            Self::NoSite => row(
                404,
                "Not Found",
                0xF0,
                "No such site",
                &[
                    "No site is stored under this name: it was never published, has run out, or the \
                 name is not quite right.",
                    "Compare every character of the name with where you got it from.",
                ],
            ),
            Self::Forked => row(
                502,
                "Bad Gateway",
                0xF1,
                "Published twice",
                &[
                    "The key of this site signed two different things as its newest version, and \
                 nothing says which one is meant. So neither is shown.",
                    "Its owner ends this by publishing again; or somebody else has the key.",
                ],
            ),
            Self::Incomplete => row(
                502,
                "Bad Gateway",
                0x04,
                "Not all of it is left",
                &[
                    "Too many pieces of this could not be found. The routers that keep them may be \
                 away for a while, or the pieces are lost.",
                    "Try again later.",
                ],
            ),
            Self::NoPage => row(
                404,
                "Not Found",
                0x01,
                "No such page",
                &["This site has nothing at this address."],
            ),
            Self::ReadOnly => row(
                405,
                "Method Not Allowed",
                0x01,
                "Only to be read",
                &["This site is stored: it can be read, and nothing can be sent to it."],
            ),
            Self::BadRange => row(
                416,
                "Range Not Satisfiable",
                0x01,
                "No such part",
                &["The file does not have the bytes that your program asked for."],
            ),
            Self::Changed => row(
                412,
                "Precondition Failed",
                0x01,
                "Changed meanwhile",
                &["This file is not the one that your program has a part of."],
            ),
            Self::BadSite => row(
                502,
                "Bad Gateway",
                0xF1,
                "Unusable site",
                &[
                    "What is stored under this name is not usable: damaged, made by a newer version, \
                 or older than what you have read before.",
                    "Only the owner of the site can mend that. Try later.",
                ],
            ),
        }
    }
}

impl Row {
    fn page(&self) -> String {
        let words = format!("<p>{}</p>", self.words.join("</p>\n<p>"));
        format!(
            "<!doctype html>\n\
             <html lang=\"en\">\n\
             <meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n\
             <table role=\"presentation\" align=\"center\" cellpadding=\"24\"><tr>\
             <td width=\"560\"><font face=\"system-ui, sans-serif\">\n\
             <p><small>Warren &middot; {status}</small></p>\n\
             <h1>{title}</h1>\n\
             {words}\n\
             <hr>\n\
             <p><small><a href=\"http://127.0.0.1:7730/\" rel=\"noreferrer\">Details on your \
             router's own page</a></small></p>\n\
             </font></td></tr></table>\n\
             </html>\n",
            title = self.title,
            status = self.status,
        )
    }
}

#[cfg(test)]
mod tests;
