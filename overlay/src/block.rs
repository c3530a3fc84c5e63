//! Blocks: the 32 KiB units that files are stored as.
//!
//! Lives here: a block's length and its address. Does not live here: what is inside and how it is
//! sealed and coded (crate datastore), how blocks are routed (`ring/`), who holds them (crate
//! datastore).
//!
//! ```text
//! <------------ body 32,752 ------------><- tail 16 ->
//! address = H("warren block address 1", H("warren block body 1", body), tail)
//! ```
//!
//! All blocks have one size and look random, so that nobody who relays or holds one sees what it
//! belongs to. The address is a hash of all stored bytes in two steps: who knows only the body's hash
//! computes the addresses of copies that differ in their tails. So a short capability finds
//! several copies of a file's first block at unrelated places of the ring.

use std::{fmt, sync::Arc};

use crate::{
    crypto::kdf,
    id::{Key, Location},
};

const BODY_CONTEXT: &str = "warren block body 1";
const ADDRESS_CONTEXT: &str = "warren block address 1";

/// Length of every block in bytes.
pub const BLOCK_LEN: usize = 32_768;
/// Length of a block's tail in bytes: where a sealed block has its tag.
pub const TAIL_LEN: usize = 16;
/// Length of a block's body in bytes.
pub const BODY_LEN: usize = BLOCK_LEN - TAIL_LEN;

/// The hash of a block's body: one half of what its address is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyHash(pub [u8; 32]);

impl BodyHash {
    /// The hash of this body.
    pub fn of(body: &[u8; BODY_LEN]) -> Self {
        Self(kdf::hash_exact(BODY_CONTEXT, body))
    }

    /// Where the block is that has this body and `tail`.
    pub fn address(&self, tail: &[u8; TAIL_LEN]) -> BlockAddress {
        BlockAddress(kdf::hash(ADDRESS_CONTEXT, &[&self.0, tail]))
    }
}

/// Mute: which file a person asks for is never logged (DESIGN section 3).
impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Where a block belongs: the hash of its stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockAddress(pub [u8; 32]);

impl BlockAddress {
    /// Encoded length in bytes.
    pub const LEN: usize = 32;

    /// The address of these bytes.
    pub fn of(bytes: &[u8; BLOCK_LEN]) -> Self {
        let (body, tail) = bytes.split_first_chunk().expect("a block begins with its body");
        let tail = tail.first_chunk().expect("the tail is what the body leaves");
        BodyHash::of(body).address(tail)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The point of the ring whose nearest routers hold it.
    pub fn location(&self) -> Location {
        self.key().location()
    }

    /// The same 32 bytes as the routing engine's key. Blocks and records never share one: their
    /// hashes have contexts of their own.
    pub const fn key(&self) -> Key {
        Key(self.0)
    }
}

/// Mute: which file a person asks for is never logged (DESIGN section 3).
impl fmt::Debug for BlockAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A stored unit of exactly 32,768 bytes (spec/file.md) with its address. Cheap to clone: clones
/// share the bytes.
///
/// A value of this type always holds bytes that have its address.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    bytes: Arc<[u8; BLOCK_LEN]>,
    address: BlockAddress,
}

impl Block {
    /// The block of these bytes; hashes them (about 6 us).
    pub fn new(bytes: Arc<[u8; BLOCK_LEN]>) -> Self {
        let address = BlockAddress::of(&bytes);
        Self { bytes, address }
    }

    /// A copy of `bytes`; `None` unless they are 32,768.
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != BLOCK_LEN {
            return None;
        }
        Some(Self::new(Arc::<[u8]>::from(bytes).try_into().ok()?))
    }

    /// A copy of `bytes` if they are a block and have this address.
    ///
    /// For whatever came from elsewhere: what fails here was altered by who sent it.
    pub fn verified(address: BlockAddress, bytes: &[u8]) -> Option<Self> {
        (BlockAddress::of(bytes.try_into().ok()?) == address)
            .then(|| Arc::<[u8]>::from(bytes).try_into().ok())
            .flatten()
            .map(|bytes| Self { bytes, address })
    }

    /// Where it belongs.
    pub const fn address(&self) -> BlockAddress {
        self.address
    }

    /// The stored bytes.
    pub fn as_bytes(&self) -> &[u8; BLOCK_LEN] {
        &self.bytes
    }
}

/// Mute: its address follows from somebody's file.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Block(_)")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn bytes(seed: u8) -> Vec<u8> {
        let mut next = seed;
        (0..BLOCK_LEN)
            .map(|_| {
                next = next.wrapping_mul(29).wrapping_add(17);
                next
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_changed_bit_is_another_address(seed: u8, at in 0..BLOCK_LEN, bit in 0..8u32) {
            let block = Block::copy_from(&bytes(seed)).unwrap();
            prop_assert_eq!(Block::verified(block.address(), &bytes(seed)), Some(block.clone()));
            let mut other = bytes(seed);
            other[at] ^= 1 << bit;
            prop_assert_eq!(Block::verified(block.address(), &other), None);
            prop_assert_ne!(Block::copy_from(&other).unwrap().address(), block.address());
        }

        #[test]
        fn only_32_768_bytes_are_a_block(len in 0..2 * BLOCK_LEN) {
            let long = [bytes(1), bytes(2)].concat();
            let block = Block::copy_from(&long[..len]);
            prop_assert_eq!(block.is_some(), len == BLOCK_LEN);
            let address = Block::copy_from(&bytes(1)).unwrap().address();
            prop_assert_eq!(Block::verified(address, &long[..len]).is_some(), len == BLOCK_LEN);
        }
    }

    #[test]
    fn the_body_s_hash_gives_the_addresses_of_all_copies() {
        let mut copy = bytes(3);
        let body = BodyHash::of(copy.first_chunk().unwrap());
        copy[BODY_LEN..].copy_from_slice(b"another tail of.");
        let block = Block::copy_from(&copy).unwrap();
        assert_eq!(block.address(), body.address(b"another tail of."));
        assert_eq!(block.as_bytes()[..], copy[..]);
    }

    /// Frozen: addresses of everything that was ever stored follow from this.
    #[test]
    fn a_block_has_the_documented_address() {
        let address = Block::copy_from(&vec![0; BLOCK_LEN]).unwrap().address();
        assert_eq!(HEXLOWER.encode(address.as_bytes()), VECTOR);
        assert_eq!(address.location().0.to_be_bytes()[..], address.0[..8]);
        assert_eq!(address.key().0, address.0);
    }

    #[test]
    fn debug_gives_nothing_away() {
        let block = Block::copy_from(&vec![0; BLOCK_LEN]).unwrap();
        assert_eq!(format!("{block:?} {:?}", block.address()), "Block(_) _");
    }

    const VECTOR: &str = "f1df79ad0d4169190504b5a1bc89db3860d742ca31080c8a8c88ee018bfc41eb";
}
