//! Under which keys a file is sealed (PROTOCOL P12).
//!
//! Lives here: where keys come from, and the sealing of one block. Does not live here: capabilities
//! (`capability.rs`), hashing the content (`hash.rs`).
//!
//! ```text
//! file key  = KDF("warren file key 1";  source, content hash, length, code)
//! index key = KDF("warren index key 1"; file key)                  verify capabilities hold it
//! block key = KDF("warren block key 1"; file or index key, level, block number)
//! ```
//!
//! A key follows from all that it seals, and a block's key from its place: no (key, nonce) seals two
//! texts. The same context gets the same blocks again; without its secret nobody can confirm that
//! it holds a file, also not who has that file.

use std::{fmt, sync::Arc};

use warren_overlay::{
    block::{BLOCK_LEN, BODY_LEN, Block},
    crypto::{
        aead::{Aead, Unauthentic},
        kdf,
        secret::Secret,
    },
    id::NetworkId,
    rng::Rng,
};

use super::hash::Content;
use crate::erasure::Code;

const FILE_KEY: &str = "warren file key 1";
const INDEX_KEY: &str = "warren index key 1";
const BLOCK_KEY: &str = "warren block key 1";
const ROOT_KEY: &str = "warren root key 1";
const NETWORK_SECRET: &str = "warren dedup network 1";

/// Who gets the same key for the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One context: a plain `put`, one `--as NAME`, one site. The default.
    Context,
    /// All who know one secret, or the whole network: `--dedup`. Blocks are shared, and who has
    /// the content and the secret can find out who stores or asks for it.
    Dedup,
    /// Nobody, also not the same person again: `--random-key`.
    Random,
}

/// Where a file's keys come from.
pub struct KeySource {
    sharing: Sharing,
    secret: Secret<32>,
}

impl KeySource {
    /// A context's own secret, made once and kept.
    pub const fn context(secret: Secret<32>) -> Self {
        Self { sharing: Sharing::Context, secret }
    }

    /// `--dedup` with a secret of a community.
    pub const fn dedup(secret: Secret<32>) -> Self {
        Self { sharing: Sharing::Dedup, secret }
    }

    /// `--dedup` with everybody in the network.
    pub fn dedup_network(network: NetworkId) -> Self {
        Self::dedup(kdf::derive_secret(NETWORK_SECRET, &[network.as_bytes()]))
    }

    /// `--random-key`: good for one file. To go on after a restart, keep [`KeySource::secret`] and
    /// come back by [`KeySource::restored`].
    pub fn random(rng: &mut Rng) -> Self {
        Self { sharing: Sharing::Random, secret: Secret::random(rng) }
    }

    /// A source that was kept.
    pub const fn restored(sharing: Sharing, secret: Secret<32>) -> Self {
        Self { sharing, secret }
    }

    /// Who gets the same keys.
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// What to keep, sealed, so that an interrupted put goes on with the same keys.
    pub const fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    const fn tag(&self) -> u8 {
        match self.sharing {
            Sharing::Context => 1,
            Sharing::Dedup => 2,
            Sharing::Random => 3,
        }
    }

    pub(crate) fn file_key(&self, content: &Content, code: Code) -> Secret<32> {
        let parts: [&[u8]; 5] = [
            &[self.tag()],
            self.secret.expose_secret(),
            content.hash(),
            &content.len().to_le_bytes(),
            &[code.byte()],
        ];
        kdf::derive_secret(FILE_KEY, &parts)
    }

    /// The read key of a root with this plaintext.
    pub(crate) fn root_key(&self, plain: &[&[u8]]) -> Secret<32> {
        let tag = [self.tag()];
        let mut parts: Vec<&[u8]> = vec![&tag, self.secret.expose_secret()];
        parts.extend_from_slice(plain);
        kdf::derive_secret(ROOT_KEY, &parts)
    }
}

/// The key that seals a file's tables; who verifies has it, who only holds blocks has not.
pub(crate) fn index_key(file_key: &Secret<32>) -> Secret<32> {
    kdf::derive_secret(INDEX_KEY, &[file_key.expose_secret()])
}

/// Seals block `number` of a level; `text` is a block long, and its last 16 bytes do not count.
pub(crate) fn seal(key: &Secret<32>, level: usize, number: u64, text: &[u8; BLOCK_LEN]) -> Block {
    let mut bytes: Arc<[u8; BLOCK_LEN]> =
        Arc::<[u8]>::from(text.as_slice()).try_into().expect("the length is a block's");
    let whole = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
    let (body, tail) = whole.split_at_mut(BODY_LEN);
    let tag = block_aead(key, level, number).seal_in_place(number, &[], body);
    tail.copy_from_slice(&tag);
    Block::new(bytes)
}

/// Opens block `number` of a level into `body`.
pub(crate) fn open(
    key: &Secret<32>,
    level: usize,
    number: u64,
    block: &Block,
    body: &mut Vec<u8>,
) -> Result<(), Unauthentic> {
    let (text, tail) = block.as_bytes().split_at(BODY_LEN);
    body.clear();
    body.extend_from_slice(text);
    let tag = tail.try_into().map_err(|_| Unauthentic)?;
    block_aead(key, level, number).open_in_place(number, &[], body, tag)
}

fn block_aead(key: &Secret<32>, level: usize, number: u64) -> Aead {
    let parts: [&[u8]; 3] =
        [key.expose_secret(), &(level as u64).to_le_bytes(), &number.to_le_bytes()];
    Aead::new(&kdf::derive_secret(BLOCK_KEY, &parts))
}

/// Mute.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
