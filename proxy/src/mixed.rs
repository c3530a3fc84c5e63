//! One accepted connection on the mixed port, from its first byte to the stream it becomes.
//!
//! Lives here: telling SOCKS5, SOCKS4 and HTTP apart by the first byte, holding the limits of time
//! and size, and what each protocol answers when the stream is there or is not. Does not live here:
//! the protocols' bytes (`socks5.rs`, `socks4.rs`, `http.rs`) and sockets.
//!
//! ```text
//!  First --5--> Socks5(methods -> [password] -> request) --name-----> Opening --connected--> Over
//!    | \--4--> Socks4 ---------------------------------- --name---->    | \----- refused --> Over
//!    |  \-A..z--> Http ---------------------------------- --name---->   |
//!    |                     \--RESOLVE, virtual address--> Asking --looked_up--> Opening | Over
//!    \--other byte--> Over           any: refused, 10 s, 16 KiB ------------------------> Over
//! ```

use std::{collections::VecDeque, fmt, net::IpAddr, time::Duration};

use warren_overlay::{service::Name, time::Time};

use crate::{
    destination::{Destination, overlay_name},
    download::Download,
    http,
    isolation::{Credentials, IsolationKey, Listener, Scope},
    pages::Failure,
    socks4,
    socks5::{self, Command, Stage, Target},
    upload::Upload,
    virtual_addresses::{Answer, Lookup},
};

/// How long the first request may take to arrive whole (PROTOCOL P13).
pub const HEAD_WAIT: Duration = Duration::from_secs(10);

/// Most bytes of a request before its body (PROTOCOL P13).
pub const HEAD_MAX: usize = 16 * 1024;

/// What the driver must do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes to the application.
    Reply(Vec<u8>),
    /// Ask the map of virtual addresses and give the answer to [`Inbound::looked_up`].
    Lookup(Lookup),
    /// Open a stream. From here on the application's bytes belong to the stream and are not given
    /// to this machine; it waits for [`Inbound::connected`] or [`Inbound::refused`].
    Connect(Request),
    /// Nothing more is to come: finish writing what was replied, and close.
    Close,
}

/// A stream that an application asked for.
#[derive(PartialEq, Eq)]
pub struct Request {
    /// To where.
    pub destination: Destination,
    /// Who may share a session with it.
    pub isolation: IsolationKey,
    /// What the application wrote already, the first bytes of the stream. At most [`HEAD_MAX`] more
    /// than was given to [`Inbound::handle_input`] at once, plus 1 KiB.
    pub early: Vec<u8>,
    /// Which of the application's further bytes may follow.
    pub upload: Upload,
    /// What the application gets of the service's bytes.
    pub download: Download,
    /// How it was asked for.
    pub protocol: Protocol,
}

/// Mute but for the protocol and the size.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("protocol", &self.protocol)
            .field("early", &self.early.len())
            .finish_non_exhaustive()
    }
}

/// What an application speaks, for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SOCKS5.
    Socks5,
    /// SOCKS4a.
    Socks4,
    /// HTTP CONNECT.
    HttpConnect,
    /// HTTP with an absolute URI; `is_head` if the answer has no body.
    HttpForward {
        /// The method is HEAD.
        is_head: bool,
    },
}

enum State {
    /// No byte yet.
    First,
    Socks5 {
        stage: Stage,
        scope: Scope,
    },
    Socks4,
    Http,
    /// Waiting for the map of virtual addresses.
    Asking {
        scope: Scope,
        question: Question,
    },
    /// Waiting for the stream.
    Opening(Protocol),
    Over,
}

#[derive(Clone, Copy)]
enum Question {
    /// CONNECT to an address at this port.
    Connect {
        port: u16,
    },
    Resolve,
    ResolvePtr,
}

/// The machine. Made per accepted connection, at most [`HEAD_MAX`] bytes of memory and what the
/// driver gives it at once.
pub struct Inbound {
    listener: Listener,
    deadline: Time,
    state: State,
    buffer: Vec<u8>,
    outputs: VecDeque<Output>,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("listener", &self.listener.number).finish_non_exhaustive()
    }
}

impl Inbound {
    /// A connection that `listener` accepted just now.
    pub fn new(now: Time, listener: Listener) -> Self {
        Self {
            listener,
            deadline: now + HEAD_WAIT,
            state: State::First,
            buffer: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes bytes that the application wrote. How they are cut makes no difference.
    ///
    /// Bytes that arrive before [`Output::Connect`] was polled become its early data; after that
    /// they belong to the stream, and given here they are ignored.
    pub fn handle_input(&mut self, now: Time, bytes: &[u8]) {
        self.handle_timeout(now);
        match &self.state {
            State::Over => return,
            State::Opening(_) => {
                if let Some(Output::Connect(request)) = self.outputs.back_mut() {
                    let pass = request.upload.pass(bytes);
                    request.early.extend(bytes.iter().take(pass));
                }
                return;
            }
            State::First
            | State::Socks5 { .. }
            | State::Socks4
            | State::Http
            | State::Asking { .. } => self.buffer.extend_from_slice(bytes),
        }
        self.read();
    }

    /// Gives up on an application that is too slow with its request.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.deadline {
            return;
        }
        match self.state {
            State::First => self.close(),
            State::Socks5 { .. } | State::Socks4 | State::Http => self.fail(Failure::Slow),
            State::Asking { .. } | State::Opening(_) | State::Over => {}
        }
    }

    /// When to call [`Self::handle_timeout`]; none once the request is complete.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::First | State::Socks5 { .. } | State::Socks4 | State::Http => {
                Some(self.deadline)
            }
            State::Asking { .. } | State::Opening(_) | State::Over => None,
        }
    }

    /// What to do next; to be drained after each call of the others.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The map's answer to [`Output::Lookup`].
    pub fn looked_up(&mut self, answer: Answer) {
        let State::Asking { scope, question } = self.state else { return };
        match (question, answer) {
            (Question::Connect { port }, Answer::Name(name)) => {
                let early = std::mem::take(&mut self.buffer);
                let to = Destination { name, port };
                self.open(to, scope, early, Upload::raw(), Protocol::Socks5);
            }
            (Question::Resolve, Answer::Address(address)) => {
                self.reply(socks5::resolved(address));
                self.close();
            }
            (Question::ResolvePtr, Answer::Name(name)) => {
                self.reply(socks5::resolved_name(&name.to_string()));
                self.close();
            }
            (
                Question::Connect { .. } | Question::Resolve | Question::ResolvePtr,
                Answer::Unknown | Answer::Address(_) | Answer::Name(_),
            ) => self.fail(Failure::NotOverlay),
        }
    }

    /// The stream is open: drain the replies, then pass bytes both ways.
    pub fn connected(&mut self) {
        let State::Opening(protocol) = self.state else { return };
        self.state = State::Over;
        match protocol {
            Protocol::Socks5 => self.reply(socks5::reply(0)),
            Protocol::Socks4 => self.reply(socks4::reply(true)),
            Protocol::HttpConnect => self.reply(http::TUNNEL_OPEN.to_vec()),
            Protocol::HttpForward { .. } => {}
        }
    }

    /// The stream could not be opened: says so in the application's protocol and closes.
    pub fn refused(&mut self, failure: Failure) {
        let State::Opening(protocol) = self.state else { return };
        match protocol {
            Protocol::Socks5 => self.reply(socks5::reply(failure.socks5_code())),
            Protocol::Socks4 => self.reply(socks4::reply(false)),
            Protocol::HttpConnect => self.reply(failure.response(true)),
            Protocol::HttpForward { is_head } => self.reply(failure.response(!is_head)),
        }
        self.close();
    }

    /// Reads messages from the buffer until one is incomplete or the last is reached.
    fn read(&mut self) {
        while match self.state {
            State::First => self.read_first(),
            State::Socks5 { stage, scope } => self.read_socks5(stage, scope),
            State::Socks4 => self.read_socks4(),
            State::Http => self.read_http(),
            State::Asking { .. } | State::Opening(_) | State::Over => false,
        } {}
    }

    /// Here and in the other three: whether there may be more to read.
    fn read_first(&mut self) -> bool {
        let Some(first) = self.buffer.first() else { return false };
        match first {
            5 => {
                let scope = self.listener.scope(Credentials::None);
                self.state = State::Socks5 { stage: Stage::Methods, scope };
            }
            4 => self.state = State::Socks4,
            byte if byte.is_ascii_alphabetic() => self.state = State::Http,
            _ => self.close(), // TLS, or a program that expects the other side to speak first
        }
        true
    }

    fn read_socks5(&mut self, stage: Stage, scope: Scope) -> bool {
        match socks5::parse(stage, &self.buffer) {
            socks5::Parsed::More => return false,
            socks5::Parsed::Bad => self.fail(Failure::Malformed),
            socks5::Parsed::BadAddress => self.fail(Failure::BadAddressKind),
            socks5::Parsed::Methods { took, reply, next } => {
                self.took(took);
                self.reply(reply.to_vec());
                match next {
                    Some(stage) => self.state = State::Socks5 { stage, scope },
                    None => self.close(),
                }
            }
            socks5::Parsed::Password { took, user, password } => {
                let scope = self.listener.scope(Credentials::Password { user, password });
                self.took(took);
                self.reply(socks5::PASSWORD_TAKEN.to_vec());
                self.state = State::Socks5 { stage: Stage::Request, scope };
            }
            socks5::Parsed::Request { took, command, target, port } => {
                let target = match target {
                    Target::Name(host) => overlay_name(host).map(Ok),
                    Target::Ip(ip) => Ok(Err(ip)),
                };
                self.took(took);
                match target {
                    Ok(target) => self.socks5_request(command, target, port, scope),
                    Err(failure) => self.fail(failure),
                }
            }
        }
        true
    }

    fn socks5_request(
        &mut self,
        command: Command,
        target: Result<Name, IpAddr>,
        port: u16,
        scope: Scope,
    ) {
        match (command, target) {
            (Command::Other, _) => self.fail(Failure::BadCommand),
            (Command::Connect, _) if port == 0 => self.fail(Failure::Malformed),
            (Command::Connect, Ok(name)) => {
                let early = std::mem::take(&mut self.buffer);
                let to = Destination { name, port };
                self.open(to, scope, early, Upload::raw(), Protocol::Socks5);
            }
            (Command::Connect, Err(ip)) => {
                self.ask(scope, Question::Connect { port }, Lookup::Name(scope, ip));
            }
            (Command::Resolve, Ok(name)) => {
                self.ask(scope, Question::Resolve, Lookup::Address(scope, name));
            }
            (Command::ResolvePtr, Err(ip)) => {
                self.ask(scope, Question::ResolvePtr, Lookup::Name(scope, ip));
            }
            (Command::Resolve, Err(_)) | (Command::ResolvePtr, Ok(_)) => {
                self.fail(Failure::NotOverlay);
            }
        }
    }

    fn read_socks4(&mut self) -> bool {
        let (took, to, scope) = match socks4::parse(&self.buffer) {
            socks4::Parsed::More => return false,
            socks4::Parsed::Request {
                took,
                command: 1,
                port: port @ 1..,
                user,
                name: Some(host),
            } => {
                let scope = self.listener.scope(Credentials::UserId(user));
                (took, overlay_name(host).map(|name| Destination { name, port }), scope)
            }
            socks4::Parsed::Request { .. } | socks4::Parsed::Bad => {
                self.fail(Failure::NotOverlay);
                return false;
            }
        };
        self.took(took);
        match to {
            Ok(to) => {
                let early = std::mem::take(&mut self.buffer);
                self.open(to, scope, early, Upload::raw(), Protocol::Socks4);
            }
            Err(failure) => self.fail(failure),
        }
        false
    }

    fn read_http(&mut self) -> bool {
        let listener = &self.listener;
        let scope = |credentials: Option<&[u8]>| {
            listener.scope(credentials.map_or(Credentials::None, Credentials::Header))
        };
        let head = self.buffer.get(..HEAD_MAX).unwrap_or(&self.buffer);
        let (took, to, scope, mut early, mut upload, protocol) = match http::parse(head) {
            http::Parsed::More if self.buffer.len() < HEAD_MAX => return false,
            http::Parsed::More => {
                self.fail(Failure::TooLarge);
                return false;
            }
            http::Parsed::Refused { failure, is_head } => {
                self.reply(failure.response(!is_head));
                self.close();
                return false;
            }
            http::Parsed::Tunnel { took, to, credentials } => {
                let scope = scope(credentials.as_deref());
                (took, to, scope, Vec::new(), Upload::raw(), Protocol::HttpConnect)
            }
            http::Parsed::Forward { took, to, credentials, head, upload, is_head } => {
                let scope = scope(credentials.as_deref());
                (took, to, scope, head, upload, Protocol::HttpForward { is_head })
            }
        };
        let body = self.buffer.split_off(took.min(self.buffer.len()));
        early.extend(body.get(..upload.pass(&body)).unwrap_or_default());
        self.open(to, scope, early, upload, protocol);
        false
    }

    fn took(&mut self, count: usize) {
        self.buffer.drain(..count.min(self.buffer.len()));
    }

    fn ask(&mut self, scope: Scope, question: Question, lookup: Lookup) {
        self.state = State::Asking { scope, question };
        self.outputs.push_back(Output::Lookup(lookup));
    }

    fn open(
        &mut self,
        destination: Destination,
        scope: Scope,
        early: Vec<u8>,
        upload: Upload,
        protocol: Protocol,
    ) {
        let download = match protocol {
            Protocol::HttpForward { is_head } => Download::answer(!is_head),
            Protocol::Socks5 | Protocol::Socks4 | Protocol::HttpConnect => Download::raw(),
        };
        self.state = State::Opening(protocol);
        self.buffer = Vec::new();
        let isolation = self.listener.key(scope, destination.name);
        self.outputs.push_back(Output::Connect(Request {
            destination,
            isolation,
            early,
            upload,
            download,
            protocol,
        }));
    }

    /// Refuses in the words of the protocol, as far as it was recognised, and closes.
    fn fail(&mut self, failure: Failure) {
        match self.state {
            State::Socks5 { stage: Stage::Password, .. } => {
                self.reply(socks5::PASSWORD_REFUSED.to_vec());
            }
            State::Socks5 { stage: Stage::Request, .. } | State::Asking { .. } => {
                self.reply(socks5::reply(failure.socks5_code()));
            }
            State::Socks4 => self.reply(socks4::reply(false)),
            State::Http => self.reply(failure.response(true)),
            State::First
            | State::Socks5 { stage: Stage::Methods, .. }
            | State::Opening(_)
            | State::Over => {}
        }
        self.close();
    }

    fn reply(&mut self, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Reply(bytes));
    }

    fn close(&mut self) {
        self.state = State::Over;
        self.buffer = Vec::new();
        self.outputs.push_back(Output::Close);
    }
}

#[cfg(test)]
mod tests;
