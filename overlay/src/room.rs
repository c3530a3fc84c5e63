//! Room that nothing needs, given back.
//!
//! Lives here: what each kind of collection does for it. Does not live here: when (whoever owns the
//! collection knows when it rests).
//!
//! A queue keeps the room of its fullest moment, and a map the node that its last entry was in: eleven
//! entries' worth. A router has some fifty of either, nearly all of them empty while nothing happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A collection that can give back room.
pub trait Room {
    /// Gives back what its entries do not need; none of them changes.
    fn rest(&mut self);
}

impl<K, V> Room for BTreeMap<K, V> {
    fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<K> Room for BTreeSet<K> {
    fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<T> Room for VecDeque<T> {
    fn rest(&mut self) {
        self.shrink_to_fit();
    }
}

impl<T> Room for Vec<T> {
    fn rest(&mut self) {
        self.shrink_to_fit();
    }
}
