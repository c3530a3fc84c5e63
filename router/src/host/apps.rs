//! Applications: what they say of their streams, and what they hear.
//!
//! Lives here: from an application's words to mail for its end, and from an end's events to outputs.
//! Does not live here: streams themselves (`session`), opening them (`node/contexts.rs`).

use warren_overlay::{
    id::EndNo,
    session::{AppCommand, AppEvent, EndInput, ResetReason},
    time::Now,
};
use warren_proxy::Failure;

use super::{
    Host, HostOutput,
    mail::{Address, Letter},
};
use crate::app::{StreamEvent, StreamNo};

impl Host {
    /// An application says something about one of its streams.
    pub fn app(&mut self, now: Now, end: EndNo, command: AppCommand) {
        if self.ends.contains_key(&end) {
            let bytes = if let AppCommand::Data { bytes, .. } = &command { bytes.len() } else { 0 };
            let look = self.memory.grew(bytes);
            // By the node's mail, so that it does not overtake the stream's own opening.
            let letter = Letter::ToEnd(Box::new(EndInput::App(command)));
            self.mail.post(now.time, Address::Node, Address::End(end), letter);
            self.settle(now);
            self.look_at_memory(now, look);
        }
    }

    /// Bytes that may be given for a stream now.
    pub fn writable(&self, stream: StreamNo) -> usize {
        let room = self.ends.get(&stream.end).map_or(0, |end| end.writable(stream.stream));
        room.saturating_sub(self.mail.unread(stream))
    }

    pub(super) fn app_event(&mut self, end: EndNo, event: AppEvent) {
        let (stream, event) = match event {
            AppEvent::Incoming { stream, .. } => {
                self.out.push_back(HostOutput::Incoming(StreamNo { end, stream }));
                return;
            }
            AppEvent::Opened { stream } => (stream, StreamEvent::Opened),
            AppEvent::Data { stream, bytes } => (stream, StreamEvent::Data(bytes)),
            AppEvent::Finished { stream } => (stream, StreamEvent::Finished),
            AppEvent::Closed { stream } => (stream, StreamEvent::Closed),
            AppEvent::Writable { stream } => (stream, StreamEvent::Writable),
            AppEvent::Reset { stream, reason } => {
                (stream, StreamEvent::Reset(self.failure(end, reason)))
            }
        };
        self.out.push_back(HostOutput::Stream(StreamNo { end, stream }, event));
    }

    fn failure(&self, end: EndNo, reason: ResetReason) -> Failure {
        match reason {
            ResetReason::Refused => Failure::PortRefused,
            ResetReason::Busy => Failure::Busy,
            ResetReason::SessionLost => Failure::Broken,
            ResetReason::Closed | ResetReason::Unreachable => {
                self.failing.get(&end).copied().unwrap_or(Failure::Building)
            }
        }
    }
}
