//! The price of a client's turn at a service under attack.
//!
//! Lives here: the puzzle behind its trait, what an effort is, and the search in small steps, so that
//! whoever searches does other things between. Does not live here: what is solved for (`garlic/lease.rs`),
//! who waits for whom (`garlic/intake.rs`), how much a service asks (`session/effort.rs`).
//!
//! An effort is the mean number of tries: an output, 64 uniform bits, meets effort e if it is at most
//! (2^64 - 1) / e. Effort 0 is met by anything and is not looked at.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::suite::{self, Suite};

/// Most that anybody asks or pays: some 2 s of one core.
pub const EFFORT_MAX: u32 = 100_000;
/// The puzzle's domain, Argon2's salt.
const CONTEXT: &str = "warren effort 1";
/// Memory of one try, in KiB: what a core's own cache holds.
const MEMORY_KIB: u32 = 32;

/// A puzzle that is checked by doing one try again, in under 25 us.
pub trait Puzzle: fmt::Debug + Send {
    /// What a nonce gives: 64 bits, uniform to whoever has not tried.
    fn output(&mut self, challenge: &[u8; 32], nonce: u64) -> u64;
}

/// Whether an output is worth the effort.
pub const fn is_worth(output: u64, effort: u32) -> bool {
    match u64::MAX.checked_div(effort as u64) {
        Some(most) => output <= most,
        None => true,
    }
}

/// Argon2id (RFC 9106) version 0x13, 32 KiB, one pass, one lane: password = challenge ‖ nonce (u64,
/// little-endian), salt = domain; the first 8 bytes of the output, big-endian.
///
/// Small memory, because one try is what a check costs: it takes from special hardware the hundredfold
/// that a plain hash gives it, not all of its advantage.
pub struct MemoryPuzzle {
    argon2: Argon2<'static>,
    /// Empty under a stand-in.
    memory: Vec<Block>,
    stand_in: Option<&'static dyn Suite>,
}

impl Default for MemoryPuzzle {
    fn default() -> Self {
        let params = Params::new(MEMORY_KIB, 1, 1, Some(32)).expect("within Argon2's bounds");
        let stand_in = suite::entered();
        let blocks = if stand_in.is_some() { 0 } else { params.block_count() };
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Self { argon2, memory: vec![Block::default(); blocks], stand_in }
    }
}

impl Puzzle for MemoryPuzzle {
    fn output(&mut self, challenge: &[u8; 32], nonce: u64) -> u64 {
        let password = [&challenge[..], &nonce.to_le_bytes()].concat();
        let mut output = [0; 32];
        match self.stand_in {
            Some(suite) => output = suite.puzzle(&password, CONTEXT.as_bytes()),
            None => self
                .argon2
                .hash_password_into_with_memory(
                    &password,
                    CONTEXT.as_bytes(),
                    &mut output,
                    &mut self.memory,
                )
                .expect("lengths are within Argon2's bounds"),
        }
        let [a, b, c, d, e, f, g, h, ..] = output;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Mute, and it holds nothing to say.
impl fmt::Debug for MemoryPuzzle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryPuzzle")
    }
}

/// A search for a nonce.
#[derive(Debug)]
pub struct Search {
    challenge: [u8; 32],
    effort: u32,
    next: u64,
}

impl Search {
    /// Of a nonce that is worth `effort`.
    pub const fn new(challenge: [u8; 32], effort: u32) -> Self {
        Self { challenge, effort, next: 0 }
    }

    /// Makes at most `tries` tries.
    pub fn step(&mut self, puzzle: &mut dyn Puzzle, tries: u32) -> Option<u64> {
        for _ in 0..tries {
            let nonce = self.next;
            self.next += 1;
            if self.effort == 0 || is_worth(puzzle.output(&self.challenge, nonce), self.effort) {
                return Some(nonce);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_found_nonce_is_worth_its_effort_and_no_other_challenge() {
        let mut puzzle = MemoryPuzzle::default();
        let mut found = 0;
        for n in 0..20 {
            let nonce = Search::new([n; 32], 50).step(&mut puzzle, 10_000).unwrap();
            assert!(is_worth(puzzle.output(&[n; 32], nonce), 50));
            found += u32::from(is_worth(puzzle.output(&[n + 100; 32], nonce), 50));
        }
        assert!(found <= 4, "one in fifty by chance: {found}");
    }

    #[test]
    fn an_effort_is_the_mean_number_of_tries() {
        let mut puzzle = MemoryPuzzle::default();
        let tries: u64 =
            (0..100).map(|n| 1 + Search::new([n; 32], 20).step(&mut puzzle, 10_000).unwrap()).sum();
        assert!((1_500..2_600).contains(&tries), "{tries}");
    }

    #[test]
    fn no_effort_costs_no_try() {
        #[derive(Debug)]
        struct Never;
        impl Puzzle for Never {
            fn output(&mut self, _: &[u8; 32], _: u64) -> u64 {
                panic!("tried")
            }
        }
        assert_eq!(Search::new([1; 32], 0).step(&mut Never, 1), Some(0));
        assert!(is_worth(u64::MAX, 1) && is_worth(u64::MAX, 0) && !is_worth(u64::MAX, 2));
    }

    #[test]
    fn outputs_are_frozen() {
        assert_eq!(MemoryPuzzle::default().output(&[7; 32], 5), 11_254_496_558_457_016_461);
    }
}
