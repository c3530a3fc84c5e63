//! The front door: what programs speak to a Warren router, as machines without sockets.
//!
//! Lives here: SOCKS5, SOCKS4a and HTTP on one mixed port, who may share a conversation with whom
//! (isolation), the addresses that stand for names, the pages people see when something fails, and
//! what a stored site answers (`site`).
//! Does not live here: sockets and clocks (`router/src/driver`), tunnels and sessions (overlay).
//! The forms, codes and pages are in docs/spec/front-door.md.
//!
//! ```text
//!  application        Inbound (one per connection)                    driver
//!  --bytes--> handle_input ---- Output::Lookup -----> VirtualAddresses::answer --> looked_up
//!                          ---- Output::Connect ----> opens a stream in the context `isolation`
//!  <--bytes-- Output::Reply <--- connected / refused(Failure) ------- what became of it
//! ```
//!
//! Everything fails closed: what is no name of the overlay is refused at once, and nothing here can
//! ask anybody for the address of a name.
//!
//! ```
//! use std::sync::Arc;
//! use warren_overlay::{rng::Rng, time::Time};
//! use warren_proxy::{Inbound, IsolationSecret, Listener, Output};
//!
//! let secret = Arc::new(IsolationSecret::new(&mut Rng::from_seed([0; 32])));
//! let mut inbound = Inbound::new(Time::ZERO, Listener { number: 0, secret });
//! inbound.handle_input(Time::ZERO, b"GET http://example.com/ HTTP/1.1\r\n\r\n");
//! let Some(Output::Reply(page)) = inbound.poll_output() else { panic!("no reply") };
//! assert!(page.starts_with(b"HTTP/1.1 403 Forbidden\r\n"));
//! assert_eq!(inbound.poll_output(), Some(Output::Close));
//! ```

mod destination;
mod download;
mod http;
mod isolation;
mod mixed;
mod pages;
pub mod site;
mod socks4;
mod socks5;
#[cfg(test)]
mod testing;
mod upload;
mod virtual_addresses;

pub use destination::Destination;
pub use download::Download;
pub use isolation::{ContextLimiter, IsolationKey, IsolationSecret, Listener, Scope};
pub use mixed::{HEAD_MAX, HEAD_WAIT, Inbound, Output, Protocol, Request};
pub use pages::Failure;
pub use upload::Upload;
pub use virtual_addresses::{Answer, Lookup, VirtualAddresses};
