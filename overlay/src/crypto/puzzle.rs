//! The price of an identity: an Argon2id puzzle.
//!
//! Lives here: one evaluation, the difficulty, and the search, one nonce per call so that the caller
//! can show progress, stop, or save where it was. Does not live here: how a location follows from
//! the output and when proofs are checked (`ring/admission.rs`; PROTOCOL P2).

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Version};

use super::suite::{self, Suite};
use crate::id::{NetworkId, RouterId};

/// The puzzle's domain, part of Argon2's salt.
const CONTEXT: &str = "warren puzzle 1";

/// How much one evaluation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Memory, in KiB; at least 8.
    pub memory_kib: u32,
    /// Passes over it; at least 1.
    pub passes: u32,
}

impl Params {
    /// What every network uses: about 13 ms on one core of 2026.
    ///
    /// Memory rather than passes, because memory is what special hardware cannot make cheap; and no
    /// more than fits beside a small home server's other work.
    pub const STANDARD: Self = Self { memory_kib: 20 * 1024, passes: 2 };
}

/// How many leading bits of the output must be zero: 2^bits evaluations on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difficulty(pub u8);

impl Difficulty {
    /// The public network's: 1.6 s of one core on average (2^7 evaluations). The tail is long: 1 in 20
    /// searches takes over 3 times that.
    pub const PUBLIC: Self = Self(7);
    /// Demo and local test networks: the first nonce will do, and the network id says so.
    pub const NONE: Self = Self(0);

    /// Whether this output is under the target.
    pub fn is_met_by(self, output: &[u8; 32]) -> bool {
        let zeros: u32 = match output.iter().position(|byte| *byte != 0) {
            None => 256,
            Some(at) => {
                let first = output.get(at).copied().unwrap_or(0);
                u32::try_from(at).unwrap_or(0) * 8 + first.leading_zeros()
            }
        };
        zeros >= u32::from(self.0)
    }
}

/// What the puzzle gives for one nonce; `None` for parameters that Argon2 does not take, or when
/// there is no memory.
///
/// Argon2id (RFC 9106) version 0x13, one lane: password = identity ‖ nonce (u64, little-endian),
/// salt = domain ‖ network id. Not secret and not constant time in anything that matters.
pub fn output(network: &NetworkId, id: &RouterId, nonce: u64, params: Params) -> Option<[u8; 32]> {
    let mut search = Search::new(*network, *id, params, Difficulty::NONE, nonce)?;
    search.step().map(|proof| proof.output)
}

/// A nonce that meets the difficulty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// What goes into the descriptor.
    pub nonce: u64,
    /// What the location follows from.
    pub output: [u8; 32],
}

/// Mute: it follows from an identity.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A search for a proof, with its memory held from step to step.
pub struct Search {
    argon2: Argon2<'static>,
    /// Empty under a stand-in.
    memory: Vec<Block>,
    stand_in: Option<&'static dyn Suite>,
    salt: Vec<u8>,
    id: RouterId,
    difficulty: Difficulty,
    next: u64,
}

impl Search {
    /// Ready to try `first_nonce` and those after it; `None` for parameters that Argon2 does not
    /// take.
    pub fn new(
        network: NetworkId,
        id: RouterId,
        params: Params,
        difficulty: Difficulty,
        first_nonce: u64,
    ) -> Option<Self> {
        let params = argon2::Params::new(params.memory_kib, params.passes, 1, Some(32)).ok()?;
        let stand_in = suite::entered();
        let blocks = if stand_in.is_some() { 0 } else { params.block_count() };
        let memory = vec![Block::default(); blocks];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = [CONTEXT.as_bytes(), network.as_bytes()].concat();
        Some(Self { argon2, memory, stand_in, salt, id, difficulty, next: first_nonce })
    }

    /// Tries one nonce.
    pub fn step(&mut self) -> Option<Proof> {
        let nonce = self.next;
        self.next = self.next.wrapping_add(1);
        let password = [&self.id.as_bytes()[..], &nonce.to_le_bytes()].concat();
        let mut output = [0; 32];
        match self.stand_in {
            None => self
                .argon2
                .hash_password_into_with_memory(
                    &password,
                    &self.salt,
                    &mut output,
                    &mut self.memory,
                )
                .ok()?,
            Some(suite) => output = suite.puzzle(&password, &self.salt),
        }
        self.difficulty.is_met_by(&output).then_some(Proof { nonce, output })
    }

    /// The nonce that the next step tries.
    pub fn next_nonce(&self) -> u64 {
        self.next
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER as HEX;

    use super::*;

    const NETWORK: NetworkId = NetworkId([1; 32]);
    const ID: RouterId = RouterId([2; 32]);
    const CHEAP: Params = Params { memory_kib: 8, passes: 1 };

    /// The C reference's own test: Argon2id 0x13, t = 2, m = 64 MiB, p = 1.
    #[test]
    fn the_library_gives_the_published_answer() {
        let params = argon2::Params::new(1 << 16, 2, 1, Some(32)).unwrap();
        let mut out = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(b"password", b"somesalt", &mut out)
            .unwrap();
        assert_eq!(
            HEX.encode(&out),
            "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
        );
    }

    #[test]
    fn a_found_proof_checks_and_those_before_it_do_not() {
        let difficulty = Difficulty(6);
        let mut search = Search::new(NETWORK, ID, CHEAP, difficulty, 0).unwrap();
        let proof = (0..10_000).find_map(|_| search.step()).unwrap();
        assert_eq!(search.next_nonce(), proof.nonce + 1);
        assert_eq!(output(&NETWORK, &ID, proof.nonce, CHEAP), Some(proof.output));
        for nonce in 0..proof.nonce {
            assert!(!difficulty.is_met_by(&output(&NETWORK, &ID, nonce, CHEAP).unwrap()));
        }
    }

    #[test]
    fn network_identity_nonce_and_cost_all_count() {
        let base = output(&NETWORK, &ID, 7, CHEAP).unwrap();
        let dearer = Params { passes: 2, ..CHEAP };
        for other in [
            output(&NetworkId([9; 32]), &ID, 7, CHEAP),
            output(&NETWORK, &RouterId([9; 32]), 7, CHEAP),
            output(&NETWORK, &ID, 8, CHEAP),
            output(&NETWORK, &ID, 7, dearer),
        ] {
            assert_ne!(other, Some(base));
        }
    }

    #[test]
    fn difficulty_counts_leading_zero_bits() {
        let mut output = [0; 32];
        assert!(Difficulty(255).is_met_by(&output));
        output[1] = 0b0001_0000;
        assert!(Difficulty(11).is_met_by(&output));
        assert!(!Difficulty(12).is_met_by(&output));
        assert!(Difficulty::NONE.is_met_by(&[0xff; 32]));
        assert!(!Difficulty(1).is_met_by(&[0xff; 32]));
    }

    #[test]
    fn impossible_costs_are_refused() {
        assert_eq!(output(&NETWORK, &ID, 0, Params { memory_kib: 1, passes: 1 }), None);
        assert_eq!(output(&NETWORK, &ID, 0, Params { memory_kib: 8, passes: 0 }), None);
    }

    /// Frozen: every router must compute the same.
    #[test]
    fn the_standard_puzzle_stays_as_it_was_frozen() {
        let output = output(&NETWORK, &ID, 0, Params::STANDARD).unwrap();
        assert_eq!(
            HEX.encode(&output),
            "dea82599960c8dae8f400aeee1d969cc379a75c916d4a3778416a6609abc23ef"
        );
    }
}
