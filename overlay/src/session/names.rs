//! What a session's streams are called by its applications.
//!
//! Lives here: the client's table between its applications' numbers and the session's ids, and the
//! service's numbers, which need none. Does not live here: the streams (`mux.rs`).

use std::collections::{BTreeMap, VecDeque};

use super::{
    app::{AppEvent, StreamNo},
    mux::{Mux, MuxEvent},
};

/// A client's table: as many entries as the session has streams.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: BTreeMap<StreamNo, u32>,
    names: BTreeMap<u32, StreamNo>,
}

impl Names {
    /// A stream was opened.
    pub(super) fn insert(&mut self, name: StreamNo, id: u32) {
        self.ids.insert(name, id);
        self.names.insert(id, name);
    }

    /// The session's id for it.
    pub(super) fn id(&self, name: StreamNo) -> Option<u32> {
        self.ids.get(&name).copied()
    }

    /// The application gave it up.
    pub(super) fn remove(&mut self, name: StreamNo) -> Option<u32> {
        let id = self.ids.remove(&name)?;
        self.names.remove(&id);
        Some(id)
    }

    /// The next event, in the application's words.
    pub(super) fn poll_event(&mut self, mux: &mut Mux) -> Option<AppEvent> {
        loop {
            let event = mux.poll_event()?;
            let id = event.stream();
            // An application that gave a stream up hears nothing more of it.
            let Some(name) = self.names.get(&id).copied() else { continue };
            if matches!(event, MuxEvent::Reset { .. } | MuxEvent::Closed { .. }) {
                self.remove(name);
            }
            return Some(event.named(name));
        }
    }
}

/// A stream's number at a service's application: session and stream.
fn number(session: u32, stream: u32) -> StreamNo {
    StreamNo(u64::from(session) << 32 | u64::from(stream))
}

/// Session and stream of a service's number.
pub(super) fn split(stream: StreamNo) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = stream.0.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// All events of one of a service's sessions, in the application's words.
pub(super) fn events<T>(session: u32, mux: &mut Mux, to: &mut VecDeque<T>, of: fn(AppEvent) -> T) {
    while let Some(event) = mux.poll_event() {
        let stream = number(session, event.stream());
        to.push_back(of(event.named(stream)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_numbers_say_session_and_stream() {
        assert_eq!(split(number(7, 9)), (7, 9));
        assert_eq!(split(number(u32::MAX, u32::MAX)), (u32::MAX, u32::MAX));
    }
}
