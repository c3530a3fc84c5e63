//! Standard input, kept on disk while its hash is being found out.
//!
//! Lives here: the cipher of that file. Does not live here: the file.
//!
//! `put -` cannot read its input twice, so the caller writes it to a temporary file and reads that in
//! the second pass. Its key is made for this one file, lives in memory only and dies with the
//! process: what a crash or a seized disk shows of the spool is its length.

use std::fmt;

use warren_overlay::{
    crypto::{
        aead::{Aead, TAG_LEN, Unauthentic},
        secret::Secret,
    },
    rng::Rng,
};

/// Plaintext bytes of a chunk; the last one may be shorter.
pub const SPOOL_CHUNK: usize = 1 << 16;
/// Bytes that a full chunk takes on disk.
pub const SPOOL_SEALED: usize = SPOOL_CHUNK + TAG_LEN;

/// Seals the chunks of one spool.
pub struct SpoolCipher {
    aead: Aead,
    next: u64,
}

impl SpoolCipher {
    /// A key for one spool.
    pub fn new(rng: &mut Rng) -> Self {
        Self { aead: Aead::new(&Secret::random(rng)), next: 0 }
    }

    /// Seals the next chunk in place and appends its tag. Each chunk is sealed once: the number is
    /// counted here.
    pub fn seal_next(&mut self, chunk: &mut Vec<u8>) {
        let tag = self.aead.seal_in_place(self.next, &[], chunk);
        self.next += 1;
        chunk.extend_from_slice(&tag);
    }

    /// Opens chunk `number` (from zero) in place and cuts its tag off.
    ///
    /// # Errors
    /// When the disk gave back something else than was written there.
    pub fn open(&self, number: u64, chunk: &mut Vec<u8>) -> Result<(), Unauthentic> {
        let at = chunk.len().checked_sub(TAG_LEN).ok_or(Unauthentic)?;
        let tag = chunk.split_off(at).try_into().map_err(|_| Unauthentic)?;
        self.aead.open_in_place(number, &[], chunk, &tag)
    }
}

/// Mute.
impl fmt::Debug for SpoolCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_gives_back_its_chunks_and_notices_every_change() {
        let mut cipher = SpoolCipher::new(&mut Rng::from_seed([1; 32]));
        let (mut one, mut two) = (vec![7; SPOOL_CHUNK], b"end".to_vec());
        cipher.seal_next(&mut one);
        cipher.seal_next(&mut two);
        assert_eq!((one.len(), two.len()), (SPOOL_SEALED, 3 + TAG_LEN));
        assert!(cipher.open(1, &mut one.clone()).is_err(), "chunks have places");
        let mut bad = two.clone();
        bad[1] ^= 1;
        assert!(cipher.open(1, &mut bad).is_err());
        assert!(cipher.open(1, &mut vec![0; 3]).is_err());
        cipher.open(0, &mut one).unwrap();
        cipher.open(1, &mut two).unwrap();
        assert_eq!((one, two), (vec![7; SPOOL_CHUNK], b"end".to_vec()));
    }
}
