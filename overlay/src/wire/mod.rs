//! Bytes on the wire: the cursor, and the plain bounded types that two routers exchange.

mod cursor;

pub use cursor::{Reader, WireError, Writer};
