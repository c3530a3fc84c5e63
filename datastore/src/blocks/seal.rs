//! Sealing what is stored, so that who has the disk without the key reads nothing.
//!
//! Lives here: the store's key, names of things on the disk, sealing of values. Does not live here:
//! the layout of the database (`rocks.rs`, `../rocks.rs`).
//!
//! Whatever is sealed has a key of its own, which follows from the store's key, where it belongs, and
//! (for what may change) from what it says. So no key ever seals two texts and the nonce can be zero:
//! a counter that a crash takes back, or a random nonce, would be one more thing that can go wrong.
//! Somebody with two copies of a disk sees which values did not change, and nothing more.

use std::fmt;

use warren_overlay::{
    block::{BLOCK_LEN, Block, BlockAddress},
    crypto::{
        aead::{Aead, TAG_LEN},
        kdf,
        secret::Secret,
    },
};

use super::Shelf;

const NAME_CONTEXT: &str = "warren stored name 1";
const BLOCK_CONTEXT: &str = "warren stored block 1";
const VALUE_CONTEXT: &str = "warren stored value 1";
const CHECK_CONTEXT: &str = "warren stored check 1";
/// Length of the check in front of a sealed value.
const CHECK_LEN: usize = 32;

/// Bytes of a sealed block.
pub(crate) const SEALED_BLOCK_LEN: usize = BLOCK_LEN + TAG_LEN;

/// The key of a router's stores: a file in its folder, apart from the databases.
pub(crate) struct StoreKey(Secret<32>);

impl StoreKey {
    pub(crate) const fn new(key: Secret<32>) -> Self {
        Self(key)
    }

    /// What something is called on the disk: nothing that an address or key can be read from, or
    /// compared with.
    pub(crate) fn name(&self, space: &[u8], address: &[u8]) -> [u8; 32] {
        kdf::derive(NAME_CONTEXT, &[self.0.expose_secret(), space, address])
    }

    fn block_aead(&self, on: Shelf, address: &BlockAddress) -> Aead {
        let on = [on as u8];
        let parts: [&[u8]; 3] = [self.0.expose_secret(), &on, address.as_bytes()];
        Aead::new(&kdf::derive_secret(BLOCK_CONTEXT, &parts))
    }

    /// A block as it is stored. Its key follows from its address, which stands for its bytes.
    pub(crate) fn seal_block(&self, on: Shelf, block: &Block) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(SEALED_BLOCK_LEN);
        sealed.extend_from_slice(block.as_bytes());
        let tag = self.block_aead(on, &block.address()).seal_in_place(0, &[], &mut sealed);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Undoes `seal_block`; `None` for anything else, whatever the disk did to it.
    pub(crate) fn open_block(
        &self,
        on: Shelf,
        address: &BlockAddress,
        sealed: &[u8],
    ) -> Option<Block> {
        let (bytes, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let mut bytes = (bytes.len() == BLOCK_LEN).then(|| bytes.to_vec())?;
        self.block_aead(on, address).open_in_place(0, &[], &mut bytes, tag).ok()?;
        Block::verified(*address, &bytes)
    }

    /// A value that may change under one name: check 32, ciphertext, tag 16. The check, which depends
    /// on the value, is part of its key.
    pub(crate) fn seal(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        let key = self.0.expose_secret();
        let check = kdf::hash(CHECK_CONTEXT, &[key, name, value]);
        let mut text = value.to_vec();
        let tag = self.value_aead(name, &check).seal_in_place(0, &[], &mut text);
        [&check[..], &text, &tag].concat()
    }

    /// Undoes `seal`; `None` for anything else.
    pub(crate) fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (check, rest) = sealed.split_first_chunk::<CHECK_LEN>()?;
        let (text, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let mut value = text.to_vec();
        self.value_aead(name, check).open_in_place(0, &[], &mut value, tag).ok()?;
        Some(value)
    }

    fn value_aead(&self, name: &[u8], check: &[u8; CHECK_LEN]) -> Aead {
        let parts: [&[u8]; 3] = [self.0.expose_secret(), name, check];
        Aead::new(&kdf::derive_secret(VALUE_CONTEXT, &parts))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::blocks::testing::block;

    fn key(seed: u8) -> StoreKey {
        StoreKey::new(Secret::take(&mut [seed; 32]))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_block_comes_back_only_whole_from_its_shelf_under_its_address_and_key(
            at in 0..SEALED_BLOCK_LEN, with in 1u8.., cut in 0..SEALED_BLOCK_LEN,
        ) {
            let it = block(1);
            let sealed = key(1).seal_block(Shelf::Owned, &it);
            let open = |key: &StoreKey, on, address, sealed: &[u8]| key.open_block(on, &address, sealed);
            let address = it.address();
            prop_assert_eq!(open(&key(1), Shelf::Owned, address, &sealed), Some(it));
            prop_assert_eq!(open(&key(2), Shelf::Owned, address, &sealed), None);
            prop_assert_eq!(open(&key(1), Shelf::Cache, address, &sealed), None);
            prop_assert_eq!(open(&key(1), Shelf::Owned, block(2).address(), &sealed), None);
            prop_assert_eq!(open(&key(1), Shelf::Owned, address, &sealed[..cut]), None);
            let mut flipped = sealed;
            flipped[at] ^= with;
            prop_assert_eq!(open(&key(1), Shelf::Owned, address, &flipped), None);
        }

        #[test]
        fn a_value_comes_back_only_whole_and_under_its_name(
            value in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, with in 1u8..,
        ) {
            let sealed = key(1).seal(b"a", &value);
            prop_assert_eq!(key(1).open(b"a", &sealed), Some(value));
            prop_assert_eq!(key(1).open(b"b", &sealed), None);
            let mut flipped = sealed;
            let at = at.index(flipped.len());
            flipped[at] ^= with;
            prop_assert_eq!(key(1).open(b"a", &flipped), None);
        }
    }

    #[test]
    fn two_values_of_one_name_share_no_keystream() {
        let (a, b) = (key(1).seal(b"n", &[0; 64]), key(1).seal(b"n", &[1; 64]));
        let xor: Vec<u8> = a[32..96].iter().zip(&b[32..96]).map(|(a, b)| a ^ b).collect();
        assert!(xor.iter().any(|byte| *byte != 1));
    }

    #[test]
    fn names_give_nothing_away_and_differ_by_space() {
        let address = block(1).address();
        assert_ne!(key(1).name(b"o", address.as_bytes()), key(2).name(b"o", address.as_bytes()));
        assert_ne!(key(1).name(b"o", address.as_bytes()), key(1).name(b"c", address.as_bytes()));
    }
}
