//! What the router's task has for one stream's pump.
//!
//! Lives here: news that wait for the pump, bytes gathered to pieces. Does not live here: the socket
//! (`streams.rs`), whose credit bounds how much can wait (`overlay::session`).
//!
//! ```text
//!  router's task --Outlet--> room, pieces, end, reset --Inbox--> pump
//! ```
//!
//! A channel of cells would take an allocation for each 900 bytes, and a reset would wait in it behind
//! bytes that an application does not read: memory that the router counts as free.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use warren_proxy::Failure;

/// What comes is joined up to so many bytes: hardly more memory than what waits is long, and few
/// pieces in a write.
const PIECE_LEN: usize = 16 * 1_024;

/// What waits for the pump.
#[derive(Debug, Default)]
struct State {
    opened: bool,
    room: usize,
    pieces: VecDeque<Vec<u8>>,
    finished: bool,
    over: Option<Over>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Both directions have ended.
    Closed,
    /// Before its time.
    Reset(Failure),
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes who waits for room.
    room: Notify,
    /// Wakes who waits for anything else.
    news: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pump is told next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Bytes arrived.
    Data(VecDeque<Vec<u8>>),
    /// The other side sends nothing more.
    Finished,
    /// Nothing more comes. After a reset some bytes may be left: [`Inbox::rest`].
    Over(Over),
}

/// The router task's side. Dropped, it is over in order.
#[derive(Debug)]
pub(super) struct Outlet(Arc<Shared>);

/// The pump's side.
#[derive(Debug)]
pub(super) struct Inbox(Arc<Shared>);

/// Both sides of a new stream's.
pub(super) fn new() -> (Outlet, Inbox) {
    let shared = Arc::new(Shared::default());
    (Outlet(Arc::clone(&shared)), Inbox(shared))
}

impl Outlet {
    /// The service accepted the stream.
    pub(super) fn opened(&self) {
        self.0.state().opened = true;
        self.0.news.notify_one();
    }

    /// That many more bytes may be sent.
    pub(super) fn room(&self, more: usize) {
        self.0.state().room += more;
        self.0.room.notify_one();
    }

    /// Bytes arrived; bounded by the stream's receive window.
    pub(super) fn data(&self, bytes: Vec<u8>) {
        join(&mut self.0.state().pieces, bytes);
        self.0.news.notify_one();
    }

    /// The other side sends nothing more.
    pub(super) fn finish(&self) {
        self.0.state().finished = true;
        self.0.news.notify_one();
    }

    /// It is over before its time. The pump hears of it also while the application does not read.
    pub(super) fn reset(self, failure: Failure) {
        self.over(Over::Reset(failure));
    }

    fn over(&self, over: Over) {
        self.0.state().over.get_or_insert(over);
        self.0.news.notify_one();
        self.0.room.notify_one();
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.over(Over::Closed);
    }
}

impl Inbox {
    /// Waits until the service has accepted the stream.
    ///
    /// # Errors
    /// Why there will be none.
    pub(super) async fn opened(&self) -> Result<(), Failure> {
        loop {
            {
                let state = self.0.state();
                if state.opened {
                    return Ok(());
                }
                if let Some(over) = state.over {
                    return Err(match over {
                        Over::Reset(failure) => failure,
                        Over::Closed => Failure::Broken,
                    });
                }
            }
            self.0.news.notified().await;
        }
    }

    /// Room that has come since it was last asked.
    pub(super) fn take_room(&self) -> usize {
        std::mem::take(&mut self.0.state().room)
    }

    /// Waits for room; `None` when there will be no more.
    pub(super) async fn room(&self) -> Option<usize> {
        loop {
            {
                let mut state = self.0.state();
                if state.over.is_some() {
                    return None;
                }
                if state.room > 0 {
                    return Some(std::mem::take(&mut state.room));
                }
            }
            self.0.room.notified().await;
        }
    }

    /// Waits for what comes next: a reset at once, else in order, bytes `most` or one piece more at a time.
    pub(super) async fn next(&self, most: usize) -> News {
        loop {
            if let Some(news) = self.0.state().next(most) {
                return news;
            }
            self.0.news.notified().await;
        }
    }

    /// Waits until it is over before its time.
    pub(super) async fn reset(&self) -> Failure {
        loop {
            if let Some(Over::Reset(failure)) = self.0.state().over {
                return failure;
            }
            self.0.news.notified().await;
        }
    }

    /// All bytes that wait.
    pub(super) fn rest(&self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.0.state().pieces)
    }
}

impl State {
    fn next(&mut self, most: usize) -> Option<News> {
        if let Some(over @ Over::Reset(_)) = self.over {
            return Some(News::Over(over));
        }
        if !self.pieces.is_empty() {
            return Some(News::Data(take(&mut self.pieces, most)));
        }
        if std::mem::take(&mut self.finished) {
            return Some(News::Finished);
        }
        self.over.map(News::Over)
    }
}

/// Adds `bytes` to the last piece as long as that is short.
fn join(pieces: &mut VecDeque<Vec<u8>>, mut bytes: Vec<u8>) {
    if let Some(last) = pieces.back_mut() {
        let len = last.len() + bytes.len();
        if len <= PIECE_LEN {
            if last.capacity() < len {
                let capacity = len.max(last.capacity() * 2).min(PIECE_LEN);
                last.reserve_exact(capacity - last.len());
            }
            last.extend_from_slice(&bytes);
            return;
        }
    }
    if bytes.capacity() > bytes.len() / 8 * 9 {
        bytes.shrink_to_fit();
    }
    pieces.push_back(bytes);
}

/// Pieces from the front, until they are `most` bytes.
fn take(pieces: &mut VecDeque<Vec<u8>>, most: usize) -> VecDeque<Vec<u8>> {
    let (mut taken, mut len) = (VecDeque::new(), 0);
    while len < most
        && let Some(piece) = pieces.pop_front()
    {
        len += piece.len();
        taken.push_back(piece);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of memory: 256 KiB in cells take hardly more.
    #[test]
    fn what_waits_takes_little_more_memory_than_it_is_long() {
        let (outlet, inbox) = new();
        let mut all = Vec::new();
        for n in 0..290u16 {
            let bytes = vec![u8::try_from(n % 256).unwrap(); 900];
            all.extend_from_slice(&bytes);
            outlet.data(bytes);
        }
        // As the session joins what comes at once: with room for more.
        let mut large = Vec::with_capacity(100_000);
        large.resize(60_000, 1);
        all.extend_from_slice(&large);
        outlet.data(large);
        let taken: usize = inbox.0.state().pieces.iter().map(Vec::capacity).sum();
        assert!(taken * 100 <= all.len() * 110, "{taken} for {}", all.len());
        let pieces = inbox.rest();
        assert_eq!(pieces.into_iter().flatten().collect::<Vec<_>>(), all);
    }

    #[tokio::test]
    async fn news_come_in_order_and_in_parts_as_large_as_asked_for() {
        let (outlet, inbox) = new();
        outlet.opened();
        outlet.data(vec![1; PIECE_LEN]);
        outlet.data(vec![2; PIECE_LEN]);
        outlet.data(vec![3; 10]);
        outlet.finish();
        drop(outlet);
        assert_eq!(inbox.opened().await, Ok(()));
        let first = VecDeque::from([vec![1; PIECE_LEN], vec![2; PIECE_LEN]]);
        assert_eq!(inbox.next(PIECE_LEN + 1).await, News::Data(first));
        assert_eq!(inbox.next(usize::MAX).await, News::Data(VecDeque::from([vec![3; 10]])));
        assert_eq!(inbox.next(1).await, News::Finished);
        assert_eq!(inbox.next(1).await, News::Over(Over::Closed));
        assert_eq!(inbox.room().await, None);
    }

    #[tokio::test]
    async fn a_reset_overtakes_what_waits() {
        let (outlet, inbox) = new();
        outlet.data(vec![1; 10]);
        outlet.room(5);
        outlet.reset(Failure::Busy);
        assert_eq!(inbox.opened().await, Err(Failure::Busy));
        assert_eq!(inbox.next(1).await, News::Over(Over::Reset(Failure::Busy)));
        assert_eq!(inbox.reset().await, Failure::Busy);
        assert_eq!(inbox.room().await, None);
        assert_eq!(inbox.rest(), VecDeque::from([vec![1; 10]]));
    }

    #[tokio::test]
    async fn a_stream_that_ends_unopened_is_broken() {
        let (outlet, inbox) = new();
        drop(outlet);
        assert_eq!(inbox.opened().await, Err(Failure::Broken));
    }
}
