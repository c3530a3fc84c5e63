//! What a router says of itself to everybody on its local network: a notice that only its own network
//! reads.
//!
//! Lives here: the notice's bytes. Does not live here: how it is spread and found (`driver/lan.rs`).
//!
//! A notice comes with 16 random bytes, drawn for it: its name. It is sealed (AES-256-GCM, nonce 0, nothing
//! beside it) under a key that is BLAKE3 in KDF mode, domain "warren lan 1", over network id and name; so no
//! key seals two. Of:
//!
//! | bytes | field |
//! |-------|-------|
//! | 32    | identity |
//! | 32    | link key, X25519 |
//! | 2     | link port |
//!
//! and 16 bytes of tag behind.

use warren_overlay::{
    crypto::{
        aead::{Aead, TAG_LEN},
        kdf,
    },
    id::{NetworkId, RouterId},
    wire::{Reader, WireError, Writer},
};

/// Bytes of a notice's name.
pub(crate) const NAME_LEN: usize = 16;
/// Bytes of a sealed notice.
pub(crate) const NOTICE_LEN: usize = 32 + 32 + 2 + TAG_LEN;

/// Whom to dial, all but the address: that is where the notice came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Who should answer.
    pub(crate) id: RouterId,
    /// The key that it proves in the handshake.
    pub(crate) link_key: [u8; 32],
    /// The TCP port at which it should.
    pub(crate) port: u16,
}

fn key(network: NetworkId, name: &[u8; NAME_LEN]) -> Aead {
    Aead::new(&kdf::derive_secret("warren lan 1", &[&network.0, name]))
}

impl Notice {
    /// Seals it for the members of `network`. A `name` is used once.
    pub(crate) fn seal(&self, network: NetworkId, name: &[u8; NAME_LEN]) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes(&self.id.0).bytes(&self.link_key).u16(self.port);
        let mut bytes = w.into_bytes();
        let tag = key(network, name).seal_in_place(0, &[], &mut bytes);
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Opens one; `None` if it is another network's, or none.
    pub(crate) fn open(network: NetworkId, name: &[u8; NAME_LEN], sealed: &[u8]) -> Option<Self> {
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let mut text: [u8; NOTICE_LEN - TAG_LEN] = text.try_into().ok()?;
        key(network, name).open_in_place(0, &[], &mut text, tag).ok()?;
        let mut r = Reader::new(&text);
        let read = || -> Result<Self, WireError> {
            let (id, link_key) = (RouterId(r.array("identity")?), r.array("link key")?);
            let notice = Self { id, link_key, port: r.u16("link port")? };
            r.finish().map(|()| notice)
        };
        read().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([7; 32]);
    const NAME: [u8; NAME_LEN] = [8; NAME_LEN];

    fn notice() -> Notice {
        Notice { id: RouterId([1; 32]), link_key: [2; 32], port: 40_001 }
    }

    #[test]
    fn a_notice_is_read_in_its_own_network_under_its_own_name_and_nowhere_else() {
        let sealed = notice().seal(NETWORK, &NAME);
        assert_eq!(sealed.len(), NOTICE_LEN);
        assert_eq!(Notice::open(NETWORK, &NAME, &sealed), Some(notice()));
        assert_eq!(Notice::open(NetworkId([6; 32]), &NAME, &sealed), None);
        assert_eq!(Notice::open(NETWORK, &[9; NAME_LEN], &sealed), None);
    }

    #[test]
    fn a_notice_that_was_changed_or_cut_is_none() {
        let sealed = notice().seal(NETWORK, &NAME);
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(Notice::open(NETWORK, &NAME, &other), None, "byte {at}");
            assert_eq!(Notice::open(NETWORK, &NAME, &sealed[..at]), None, "{at} bytes");
        }
        assert_eq!(Notice::open(NETWORK, &NAME, &[&sealed[..], &[0]].concat()), None);
    }

    #[test]
    fn notices_of_one_router_have_nothing_in_common() {
        let (one, two) = (notice().seal(NETWORK, &NAME), notice().seal(NETWORK, &[9; NAME_LEN]));
        let same = one.iter().zip(&two).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{same} bytes of {NOTICE_LEN}");
        assert!(!one.windows(4).any(|it| it == [1; 4] || it == [2; 4]), "in the clear");
    }

    #[test]
    fn a_notice_has_the_documented_bytes() {
        // The vector of docs/spec/lan.md.
        let sealed = notice().seal(NETWORK, &NAME);
        let (head, tag) = (&sealed[..8], &sealed[NOTICE_LEN - 8..]);
        let hex = |bytes| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(head), "6569b915377f4272");
        assert_eq!(hex(tag), "deba39271a8d4918");
    }
}
