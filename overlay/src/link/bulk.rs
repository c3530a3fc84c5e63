//! Messages too long for one frame: blocks on their way to a neighbour, in parts.
//!
//! Lives here: the queue of large messages by class, cutting the one under way into parts, putting
//! parts together again. Does not live here: when a part may go (`transmit.rs`: one a frame while
//! cells wait), how many large messages there may be (the ring's windows).
//!
//! ```text
//!   Ring message --> interactive: [m m m]  --\
//!                                             >-- parts of 8,000 B --> frames --> Joiner --> Ring message
//!   Ring message --> bulk:        [m m]    --/
//! ```
//!
//! Of each class one message is under way at a time; parts of an interactive one go before those of a
//! bulk one. So a peer can make this router hold two unfinished messages a link, 68 KiB, and no more.

use std::collections::VecDeque;

use crate::{
    id::NetworkId,
    ring::{Class, RingMessage, WINDOW_MAX},
    wire::{LinkMessage, Reader, WireError, Writer},
};

/// Large messages that wait, per class: as many puts as the peer's widest window takes, and as many
/// answers as this router's. A block waits unencoded, and shares its bytes with whoever else has it.
pub(super) const LARGE_WAITING_MAX: usize = 2 * WINDOW_MAX as usize;

/// One class of the queue.
#[derive(Debug, Default)]
struct Waiting {
    /// The encoding of the message under way, and how much of it is gone.
    current: Option<(Vec<u8>, usize)>,
    messages: VecDeque<RingMessage>,
}

/// Large messages that wait for frames. Nothing on a link that carries none.
#[derive(Debug)]
pub(super) struct BulkQueue(Option<Box<[Waiting; 2]>>);

impl BulkQueue {
    /// Nothing waits.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Queues a message; false, and it is dropped, if too many wait.
    pub(super) fn push(&mut self, message: RingMessage) -> bool {
        let [interactive, bulk] = &mut **self.0.get_or_insert_default();
        let class = if message.class() == Class::Bulk { bulk } else { interactive };
        let room = class.messages.len() < LARGE_WAITING_MAX;
        if room {
            class.messages.push_back(message);
        }
        room
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let mut classes = self.0.iter().flat_map(|it| it.iter());
        classes.all(|it| it.current.is_none() && it.messages.is_empty())
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// The next part as a link message, encoded over `scratch`; false if nothing waits. At most
    /// 4 bytes more than [`LinkMessage::PART_LEN`].
    pub(super) fn next_part(&mut self, scratch: &mut Vec<u8>) -> bool {
        let classes = self.0.iter_mut().flat_map(|it| it.iter_mut());
        for (waiting, class) in classes.zip(Class::ALL) {
            if waiting.current.is_none()
                && let Some(message) = waiting.messages.pop_front()
            {
                let mut w = Writer::with_capacity(LinkMessage::LARGE_MAX);
                message.encode(&mut w);
                waiting.current = Some((w.into_bytes(), 0));
            }
            let Some((bytes, at)) = &mut waiting.current else { continue };
            let rest = bytes.get(*at..).unwrap_or_default();
            let piece = rest.get(..LinkMessage::PART_LEN).unwrap_or(rest);
            let last = piece.len() == rest.len();
            *at += piece.len();
            let part = LinkMessage::Part { class, last, bytes: piece.to_vec() };
            let mut w = Writer::over(std::mem::take(scratch));
            part.encode(&mut w);
            *scratch = w.into_bytes();
            if last {
                waiting.current = None;
            }
            return true;
        }
        false
    }
}

/// Puts parts together, one message of each class at a time.
#[derive(Debug)]
pub(super) struct Joiner(Option<Box<[Vec<u8>; 2]>>);

impl Joiner {
    /// Nothing has come.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Whether no message lacks a part.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().flat_map(|it| it.iter()).all(Vec::is_empty)
    }

    /// A part came; the message, if it is whole now.
    ///
    /// # Errors
    /// On more than [`LinkMessage::LARGE_MAX`] bytes, and on what is no large ring message: such have
    /// one spelling, and it is not this.
    pub(super) fn take(
        &mut self,
        network: NetworkId,
        class: Class,
        last: bool,
        bytes: &[u8],
    ) -> Result<Option<RingMessage>, WireError> {
        let [interactive, bulk] = &mut **self.0.get_or_insert_default();
        let buffer = if class == Class::Bulk { bulk } else { interactive };
        if buffer.len() + bytes.len() > LinkMessage::LARGE_MAX {
            return Err(WireError::Bad("large message"));
        }
        buffer.extend_from_slice(bytes);
        if !last {
            return Ok(None);
        }
        let whole = std::mem::take(buffer);
        let mut r = Reader::new(&whole);
        let message = RingMessage::decode(&mut r, network)?;
        r.finish()?;
        if message.is_large() && message.class() == class {
            Ok(Some(message))
        } else {
            Err(WireError::Bad("large message"))
        }
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::Answer,
        block::{BLOCK_LEN, Block},
        ring::Found,
    };

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn answer(id: u32, class: Class) -> RingMessage {
        let fill = u8::try_from(id % 256).unwrap();
        let block = Block::copy_from(&vec![fill; BLOCK_LEN]).unwrap();
        let answer = Answer::Found(Found::Unit(block.into()));
        RingMessage::Answer { id, class, asked: 1, answer }
    }

    fn parts(queue: &mut BulkQueue) -> Vec<(Class, bool, Vec<u8>)> {
        let mut scratch = Vec::new();
        let mut parts = Vec::new();
        while queue.next_part(&mut scratch) {
            assert!(scratch.len() <= LinkMessage::PART_LEN + 4);
            match LinkMessage::decode(&mut Reader::new(&scratch), NETWORK).unwrap() {
                LinkMessage::Part { class, last, bytes } => parts.push((class, last, bytes)),
                _ => panic!(),
            }
        }
        parts
    }

    #[test]
    fn what_is_cut_is_put_together_and_the_urgent_overtakes() {
        let mut queue = BulkQueue::none();
        for id in 0..3 {
            assert!(queue.push(answer(id, Class::Bulk)));
        }
        let mut scratch = Vec::new();
        assert!(queue.next_part(&mut scratch));
        let LinkMessage::Part { class, last, bytes } =
            LinkMessage::decode(&mut Reader::new(&scratch), NETWORK).unwrap()
        else {
            panic!()
        };
        let mut joiner = Joiner::none();
        assert_eq!(joiner.take(NETWORK, class, last, &bytes), Ok(None));
        assert!(queue.push(answer(9, Class::Interactive)));
        let rest = parts(&mut queue);
        assert_eq!(rest.len(), 4 * 5 - 1);
        let whole: Vec<_> = rest
            .iter()
            .filter_map(|(class, last, bytes)| joiner.take(NETWORK, *class, *last, bytes).unwrap())
            .collect();
        let order = [(9, Class::Interactive), (0, Class::Bulk), (1, Class::Bulk), (2, Class::Bulk)];
        assert_eq!(whole, order.map(|(id, class)| answer(id, class)));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_peer_cannot_have_more_held_than_one_message_of_each_class() {
        let mut joiner = Joiner::none();
        let part = vec![0; LinkMessage::PART_LEN];
        for class in Class::ALL {
            for _ in 0..4 {
                assert_eq!(joiner.take(NETWORK, class, false, &part), Ok(None));
            }
            assert!(joiner.take(NETWORK, class, false, &part).is_err());
        }
    }

    #[test]
    fn a_small_message_in_parts_is_refused() {
        let mut w = Writer::default();
        RingMessage::Accepted { id: 7 }.encode(&mut w);
        let bytes = w.into_bytes();
        assert!(Joiner::none().take(NETWORK, Class::Interactive, true, &bytes).is_err());
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut queue = BulkQueue::none();
        let pushed = (0..200).filter(|id| queue.push(answer(*id, Class::Bulk))).count();
        assert_eq!(pushed, LARGE_WAITING_MAX);
    }
}
