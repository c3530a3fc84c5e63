//! The onion layers of a tunnel: chained UIV+.
//!
//! Lives here: one direction of one hop's layer as the relay holds it, and all layers of one
//! direction as the owner holds them. Does not live here: the cipher (`uiv.rs`), the cell's header
//! (`wire/`), what a recognised body says (tunnels).
//!
//! Relays only encrypt and owners only decrypt, in both directions, and each direction is a type of
//! its own:
//!
//! | type | holder | per cell |
//! |---|---|---|
//! | [`RelayForward`] | hop, cells from the owner | `relay` (middle) or `recognise` (end) |
//! | [`RelayBackward`] | hop, cells to the owner | `relay` (middle) or `originate` (end) |
//! | [`OwnerForward`] | owner, cells to the end | `originate` |
//! | [`OwnerBackward`] | owner, cells from the end | `open` |
//!
//! Each side keeps the last tag on the encrypted side, T', as the tweak of the next cell. So a cell
//! that was flipped, dropped, repeated or reordered anywhere garbles itself and every later one
//! (the tagging attack on Tor and I2P), and there is nothing to filter for replays. A cell is for
//! the end when its tag equals the nonce N; then, at the end layer alone, keys and nonce become
//! F(T', 1) (PROTOCOL P7).
//!
//! The first cell that is not recognised ends the tunnel, and this file enforces it: the cell is
//! wiped (towards the owner a garbled cell can keep a readable payload, since decryption garbles
//! the tag alone), and nothing is recognised from then on (towards the owner, the cells after one
//! that was repeated on the end's own link would be: the repeat leaves T' as it was).
//!
//! Nothing allocates per cell. A wrong direction does not compile:
//!
//! ```compile_fail
//! fn decrypt(layer: &mut warren_overlay::crypto::onion::RelayForward, cell: &mut [u8; 1024]) {
//!     layer.open(cell);
//! }
//! ```
//! ```compile_fail
//! fn send(layer: &mut warren_overlay::crypto::onion::RelayForward, cell: &mut [u8; 1024]) {
//!     layer.originate(cell);
//! }
//! ```

use std::fmt;

use super::{
    kdf,
    secret::Secret,
    suite::{self, LayerKey},
    uiv::{self, Decryptor, Encryptor, KEYS_LEN, TAG_LEN, Tweak},
};

/// Length of a cell's body in bytes: tag 16, payload 1,008.
pub const CELL_BODY_LEN: usize = 1024;
/// Length of what a cell carries for its end, in bytes. It starts at byte 16 of the body.
pub const CELL_PAYLOAD_LEN: usize = CELL_BODY_LEN - TAG_LEN;
/// Most hops of a tunnel (PROTOCOL P6).
pub const HOPS_MAX: usize = 4;

/// The one command, DATA, as it stands in the tweak (PROTOCOL P7). Tor has several; ours is
/// constant, and kept so that one code runs Tor's known answers and our cells.
const COMMAND_DATA: u8 = 1;

const LAYER_LEN: usize = KEYS_LEN + 2 * TAG_LEN;

const LAYER_CONTEXT: &str = "warren onion layer 1";

/// Which way cells go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the tunnel's owner to its end.
    Forward,
    /// From the tunnel's end to its owner.
    Backward,
}

/// What one hop and the owner share for one direction: keys 64, nonce N 16, first T' 16.
pub struct LayerKeys(Secret<LAYER_LEN>);

impl LayerKeys {
    /// Both sides derive the same from the secret of the build exchange.
    pub fn derive(secret: &Secret<32>, direction: Direction) -> Self {
        let direction = match direction {
            Direction::Forward => 0,
            Direction::Backward => 1,
        };
        Self(kdf::derive_secret(LAYER_CONTEXT, &[secret.expose_secret(), &[direction]]))
    }

    fn keys(&self) -> &[u8; KEYS_LEN] {
        self.split().0
    }

    fn nonce(&self) -> [u8; TAG_LEN] {
        *self.split().1
    }

    fn previous(&self) -> [u8; TAG_LEN] {
        *self.split().2
    }

    fn split(&self) -> (&[u8; KEYS_LEN], &[u8; TAG_LEN], &[u8; TAG_LEN]) {
        let whole = self.0.expose_secret();
        let (keys, rest) = whole.split_first_chunk().expect("96 bytes begin with 64");
        let (nonce, rest) = rest.split_first_chunk().expect("32 bytes begin with 16");
        let (previous, _) = rest.split_first_chunk().expect("16 bytes begin with 16");
        (keys, nonce, previous)
    }
}

/// A cipher in one direction. On the heap: most lanes rest most of the time, and layers move.
enum Cipher<C> {
    Uiv(Box<C>),
    StandIn(Box<dyn LayerKey>),
}

impl<C> Cipher<C> {
    fn new(keys: &LayerKeys, make: impl FnOnce(&[u8; KEYS_LEN]) -> C) -> Self {
        match suite::entered() {
            None => Self::Uiv(Box::new(make(keys.keys()))),
            Some(suite) => Self::StandIn(suite.layer(keys.keys())),
        }
    }
}

/// One direction of one layer, as a relay holds it.
struct RelayLayer {
    cipher: Cipher<Encryptor>,
    nonce: [u8; TAG_LEN],
    previous: [u8; TAG_LEN],
}

impl RelayLayer {
    fn new(keys: &LayerKeys) -> Self {
        let cipher = Cipher::new(keys, Encryptor::new);
        Self { cipher, nonce: keys.nonce(), previous: keys.previous() }
    }

    fn encrypt(&mut self, cell: &mut [u8; CELL_BODY_LEN]) {
        let (tag, payload) = halves(cell);
        let tweak = Tweak { previous: &self.previous, command: COMMAND_DATA };
        match &self.cipher {
            Cipher::Uiv(cipher) => cipher.encrypt(uiv::WARREN, tweak, tag, payload),
            Cipher::StandIn(cipher) => cipher.encrypt(&self.previous, tag, payload),
        }
        self.previous = *tag;
    }

    fn update(&mut self) {
        match &mut self.cipher {
            Cipher::Uiv(cipher) => {
                cipher.update(uiv::WARREN, &self.previous, &mut self.nonce);
            }
            Cipher::StandIn(cipher) => cipher.update(&self.previous, &mut self.nonce),
        }
    }
}

/// One direction of one layer, as the owner holds it.
struct OwnerLayer {
    cipher: Cipher<Decryptor>,
    nonce: [u8; TAG_LEN],
    previous: [u8; TAG_LEN],
}

impl OwnerLayer {
    fn new(keys: &LayerKeys) -> Self {
        let cipher = Cipher::new(keys, Decryptor::new);
        Self { cipher, nonce: keys.nonce(), previous: keys.previous() }
    }

    fn decrypt(&mut self, cell: &mut [u8; CELL_BODY_LEN]) {
        let (tag, payload) = halves(cell);
        let outside = *tag;
        let tweak = Tweak { previous: &self.previous, command: COMMAND_DATA };
        match &self.cipher {
            Cipher::Uiv(cipher) => cipher.decrypt(uiv::WARREN, tweak, tag, payload),
            Cipher::StandIn(cipher) => cipher.decrypt(&self.previous, tag, payload),
        }
        self.previous = outside;
    }

    fn update(&mut self) {
        match &mut self.cipher {
            Cipher::Uiv(cipher) => {
                cipher.update(uiv::WARREN, &self.previous, &mut self.nonce);
            }
            Cipher::StandIn(cipher) => cipher.update(&self.previous, &mut self.nonce),
        }
    }
}

/// A hop's layer for cells from the owner.
pub struct RelayForward {
    layer: RelayLayer,
    /// A cell was not recognised.
    ended: bool,
}

impl RelayForward {
    /// A new tunnel's layer; `keys` are of [`Direction::Forward`].
    #[expect(clippy::needless_pass_by_value, reason = "keys make one layer, then are wiped")]
    pub fn new(keys: LayerKeys) -> Self {
        Self { layer: RelayLayer::new(&keys), ended: false }
    }

    /// Middle hop: takes this layer off, ready for the next hop. Keys stay.
    pub fn relay(&mut self, cell: &mut [u8; CELL_BODY_LEN]) {
        self.layer.encrypt(cell);
    }

    /// End hop: takes the last layer off and says whether the cell is the owner's next one.
    ///
    /// If so the payload is in clear from byte 16 on, and keys move on. If not, the cell is all zero,
    /// no later cell will be recognised, and the tunnel must end.
    #[must_use]
    pub fn recognise(&mut self, cell: &mut [u8; CELL_BODY_LEN]) -> bool {
        self.layer.encrypt(cell);
        let known = kdf::eq(&self.layer.previous, &self.layer.nonce);
        if known && !self.ended {
            self.layer.update();
            return true;
        }
        self.ended = true;
        cell.fill(0);
        false
    }
}

/// A hop's layer for cells to the owner.
pub struct RelayBackward(RelayLayer);

impl RelayBackward {
    /// A new tunnel's layer; `keys` are of [`Direction::Backward`].
    #[expect(clippy::needless_pass_by_value, reason = "keys make one layer, then are wiped")]
    pub fn new(keys: LayerKeys) -> Self {
        Self(RelayLayer::new(&keys))
    }

    /// Middle hop: puts this layer on. Keys stay.
    pub fn relay(&mut self, cell: &mut [u8; CELL_BODY_LEN]) {
        self.0.encrypt(cell);
    }

    /// End hop: makes a cell of the payload from byte 16 on; bytes 0 to 15 are overwritten.
    pub fn originate(&mut self, cell: &mut [u8; CELL_BODY_LEN]) {
        *halves(cell).0 = self.0.nonce;
        self.0.encrypt(cell);
        self.0.update();
    }
}

/// All layers that the owner puts on cells to the end.
pub struct OwnerForward(Vec<OwnerLayer>);

impl OwnerForward {
    /// A new tunnel's layers, first hop first; `keys` are of [`Direction::Forward`].
    #[expect(clippy::needless_pass_by_value, reason = "keys make one layer, then are wiped")]
    pub fn new(keys: Vec<LayerKeys>) -> Self {
        Self(keys.iter().map(OwnerLayer::new).collect())
    }

    /// Makes a cell of the payload from byte 16 on; bytes 0 to 15 are overwritten.
    pub fn originate(&mut self, cell: &mut [u8; CELL_BODY_LEN]) {
        let Some((end, middles)) = self.0.split_last_mut() else { return };
        *halves(cell).0 = end.nonce;
        end.decrypt(cell);
        end.update();
        for layer in middles.iter_mut().rev() {
            layer.decrypt(cell);
        }
    }
}

/// All layers that the owner takes off cells from the end.
pub struct OwnerBackward {
    layers: Vec<OwnerLayer>,
    /// A cell was not recognised.
    ended: bool,
}

impl OwnerBackward {
    /// A new tunnel's layers, first hop first; `keys` are of [`Direction::Backward`].
    #[expect(clippy::needless_pass_by_value, reason = "keys make one layer, then are wiped")]
    pub fn new(keys: Vec<LayerKeys>) -> Self {
        Self { layers: keys.iter().map(OwnerLayer::new).collect(), ended: false }
    }

    /// Takes all layers off and says whether the cell is the end's next one.
    ///
    /// If so the payload is in clear from byte 16 on, and the end layer's keys move on. If not, the
    /// cell is all zero, no later cell will be recognised, and the tunnel must end.
    #[must_use]
    pub fn open(&mut self, cell: &mut [u8; CELL_BODY_LEN]) -> bool {
        for layer in &mut self.layers {
            layer.decrypt(cell);
        }
        if let Some(end) = self.layers.last_mut()
            && kdf::eq(halves(cell).0, &end.nonce)
            && !self.ended
        {
            end.update();
            return true;
        }
        self.ended = true;
        cell.fill(0);
        false
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}

mute!(LayerKeys, RelayForward, RelayBackward, OwnerForward, OwnerBackward);

fn halves(cell: &mut [u8; CELL_BODY_LEN]) -> (&mut [u8; TAG_LEN], &mut [u8]) {
    cell.split_first_chunk_mut().expect("1,024 bytes begin with 16")
}

#[cfg(test)]
#[path = "onion_tests.rs"]
mod tests;
