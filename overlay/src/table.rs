//! A map of few entries that takes no more room than they do.
//!
//! Lives here: the sorted list. Does not live here: anything that is looked up among thousands all the
//! time, or changed in the middle often (a `BTreeMap` is right there).
//!
//! What a router knows of each of its links lies in tables of this kind: some forty entries, made in
//! the order of their numbers, seldom removed. A tree's nodes stay half empty then.

/// Entries in the order of their keys, each key once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<K, V>(Vec<(K, V)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Table<K, V> {
    /// An empty table, which takes no room.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The entry with the least key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.0.first().map(|(key, value)| (key, value))
    }

    /// All entries, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// All values, and the table is no more.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    /// Takes out the entries for which `out` says so, in their order.
    pub fn extract_if(
        &mut self,
        mut out: impl FnMut(&K, &mut V) -> bool,
    ) -> impl Iterator<Item = (K, V)> {
        self.0.extract_if(.., move |(key, value)| out(key, value))
    }

    /// Gives back room that its entries do not need, where it is more than one insertion makes.
    pub fn rest(&mut self) {
        if self.0.is_empty() || self.0.capacity() - self.0.len() > Self::spare(self.0.len()) {
            self.0.shrink_to_fit();
        }
    }

    /// How much room is made at a time: doubling would leave half of it empty.
    const fn spare(len: usize) -> usize {
        if len < 32 { 2 } else { len / 16 }
    }
}

impl<K: Ord, V> Table<K, V> {
    fn index(&self, key: &K) -> Result<usize, usize> {
        // Mostly the youngest is meant, or a new one.
        match self.0.last() {
            Some((last, _)) if last < key => Err(self.0.len()),
            None => Err(0),
            Some(_) => self.0.binary_search_by(|(other, _)| other.cmp(key)),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let at = self.index(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.index(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Whether there is an entry for `key`.
    pub fn contains_key(&self, key: &K) -> bool {
        self.index(key).is_ok()
    }

    /// Sets the value of `key`; gives the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.index(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.make_room();
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// The value of `key`, which `make` gives if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = self.index(&key).unwrap_or_else(|at| {
            self.make_room();
            self.0.insert(at, (key, make()));
            at
        });
        let (_, value) = self.0.get_mut(at).expect("it is there, or was put there");
        value
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index(key).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Takes out the entry that follows `key`; behind the last comes the first.
    pub fn remove_after(&mut self, key: &K) -> Option<(K, V)> {
        let after = self.index(key).map_or_else(|at| at, |at| at + 1);
        let at = if after < self.0.len() { after } else { 0 };
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    fn make_room(&mut self) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(Self::spare(self.0.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(
            acts in prop::collection::vec((0u8..6, 0u8..20, any::<u16>()), 0..200),
        ) {
            let (mut table, mut model) = (Table::new(), BTreeMap::new());
            for (act, key, value) in acts {
                match act {
                    0 => prop_assert_eq!(table.insert(key, value), model.insert(key, value)),
                    1 => prop_assert_eq!(table.remove(&key), model.remove(&key)),
                    2 => {
                        let known = *model.entry(key).or_insert(value);
                        prop_assert_eq!(*table.get_or_insert_with(key, || value), known);
                    }
                    3 => {
                        let mut round = model.range(key..).filter(|it| *it.0 > key).chain(&model);
                        let after = round.next().map(|(key, value)| (*key, *value));
                        prop_assert_eq!(table.remove_after(&key), after);
                        after.map(|(key, _)| model.remove(&key));
                    }
                    4 => table.rest(),
                    _ => {
                        table.retain(|_, other| *other <= value);
                        model.retain(|_, other| *other <= value);
                    }
                }
                prop_assert!(table.iter().eq(model.iter()));
                prop_assert_eq!(table.get(&key), model.get(&key));
                prop_assert_eq!(table.contains_key(&key), model.contains_key(&key));
            }
        }
    }

    #[test]
    fn it_has_little_room_to_spare() {
        let mut table = Table::new();
        let has_little =
            |table: &Table<u32, ()>| table.0.capacity() <= table.len() + (table.len() / 16).max(2);
        for key in 0..1_000u32 {
            table.insert(key, ());
            assert!(has_little(&table));
        }
        for key in (0..1_000).rev() {
            table.remove(&key);
            table.rest();
            assert!(has_little(&table));
        }
        assert_eq!(table.0.capacity(), 0);
    }
}
