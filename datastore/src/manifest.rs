//! The root of a stored file: the one block that its capability points to.
//!
//! Lives here: the root's bytes, and which capability opens what of them. Does not live here: tables
//! that do not fit into a root (`file/`), directories (`directory/`).
//!
//! ```text
//! block = body 32,752 ‖ tail 16          tail = KDF(verify key, copy number): three copies
//! body  = sealed under the verify key: code, length, index key, children, top table, [ read part ]
//!                                                          sealed once more under the read key
//! ```
//!
//! The root is a block like any other: who holds one sees neither that it is a root nor where
//! the other copies are. The keys follow from a hash of all that they seal (PROTOCOL P12).

use std::fmt;

use warren_overlay::{
    block::{BLOCK_LEN, BODY_LEN, Block, BlockAddress, BodyHash},
    crypto::{
        aead::{Aead, TAG_LEN},
        kdf,
        secret::Secret,
    },
    wire::{Reader, WireError, Writer},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    capability::{ROOT_COPIES, ReadCap, VerifyCap},
    erasure::Code,
    file::{KeySource, Layout},
};

const READ_PART: &str = "warren read part key 1";
const VERIFY_PART: &str = "warren verify part key 1";

/// The only format there is.
const FORMAT: u8 = 1;
/// Length of what the verify key seals.
const PLAIN_LEN: usize = BODY_LEN - TAG_LEN;
/// Longest content that stands in the root itself, in bytes.
pub const INLINE_MAX: u64 = 32_000;
/// Longest type in bytes.
pub const MIME_MAX: usize = 127;
/// Longest name in bytes.
pub const NAME_MAX: usize = 255;

/// What a stored thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Bytes.
    File,
    /// A directory: its bytes are read by `directory::Directory`.
    Directory,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
        }
    }
}

/// What a file says of itself to who may read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Meta {
    /// File or directory.
    pub kind: Kind,
    /// Type, such as `text/html`; empty when unknown. See [`valid_mime`].
    pub mime: String,
    /// Name, only when its publisher wished it. See [`valid_name`].
    pub name: Option<String>,
}

impl Default for Meta {
    fn default() -> Self {
        Self { kind: Kind::File, mime: String::new(), name: None }
    }
}

/// Mute: what a person stores and reads is never logged (DESIGN section 3).
impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Whether a text may stand as a type: empty, or `token/token` in lower case with parameters of
/// printable ASCII; at most [`MIME_MAX`] bytes. Nothing that could end a header line.
pub fn valid_mime(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_end_matches(' ');
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&^_.+-".contains(&b))
    };
    text.is_empty()
        || text.len() <= MIME_MAX
            && text.bytes().all(|b| (b' '..=b'~').contains(&b))
            && essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// Whether a text may stand as a file's name: one component of a path, as
/// `directory::valid_component` says.
pub fn valid_name(text: &str) -> bool {
    crate::directory::valid_component(text)
}

/// What who verifies knows of a file.
pub struct VerifyPart {
    /// Where its blocks are; `None` when the content stands in the root.
    pub layout: Option<Layout>,
    pub(crate) index_key: Secret<32>,
    /// A file that lists the verify capabilities of all that a directory holds.
    pub children: Option<ReadCap>,
    pub(crate) table: Vec<BlockAddress>,
    len: u64,
    code: Option<Code>,
    sealed: Vec<u8>,
}

impl fmt::Debug for VerifyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What who reads knows besides.
pub struct ReadPart {
    /// Kind, type, name.
    pub meta: Meta,
    pub(crate) secret: ContentSecret,
}

impl fmt::Debug for ReadPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// The content itself, or the key to its blocks.
pub(crate) enum ContentSecret {
    Inline(Zeroizing<Vec<u8>>),
    Key(Secret<32>),
}

/// A root that does not open: the capability is another's, or the publisher wrote nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Capability and block do not fit. (Its address was right: the capability is forged or cut.)
    #[error("the key does not open the file's root: ask its publisher for the key again")]
    Unauthentic,
    /// It opens and says what no encoder writes.
    #[error("the file's root is malformed: ask its publisher for another key")]
    Malformed(#[from] WireError),
    /// Written by a later version.
    #[error("the file's root is of a format that this version does not know: update warren")]
    Format,
}

/// A root to be written.
pub(crate) struct Draft<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) children: Option<&'a ReadCap>,
    pub(crate) content: &'a DraftContent<'a>,
}

pub(crate) enum DraftContent<'a> {
    Inline(&'a [u8]),
    Blocks {
        len: u64,
        code: Code,
        file_key: &'a Secret<32>,
        index_key: &'a Secret<32>,
        table: &'a [BlockAddress],
    },
}

/// Seals a root: its capability and its copies.
pub(crate) fn seal(
    source: &KeySource,
    draft: &Draft<'_>,
) -> Result<(ReadCap, [Block; ROOT_COPIES]), WireError> {
    let mut head = Writer::with_capacity(PLAIN_LEN);
    let mut read = Zeroizing::new(Vec::with_capacity(PLAIN_LEN));
    read.push(draft.meta.kind.byte());
    let name = draft.meta.name.as_deref().unwrap_or_default();
    if !valid_mime(&draft.meta.mime) || draft.meta.name.is_some() && !valid_name(name) {
        return Err(WireError::Bad("type or name"));
    }
    for text in [&draft.meta.mime, name] {
        read.push(u8::try_from(text.len()).map_err(|_| WireError::Bad("name length"))?);
        read.extend_from_slice(text.as_bytes());
    }
    head.u8(FORMAT);
    match draft.content {
        DraftContent::Inline(content) => {
            head.u8(0).u64(0).bytes(&[0; 32]);
            read.extend_from_slice(content);
        }
        DraftContent::Blocks { len, code, file_key, index_key, .. } => {
            head.u8(code.byte()).u64(*len).bytes(index_key.expose_secret());
            read.extend_from_slice(file_key.expose_secret());
        }
    }
    match draft.children {
        None => head.u8(0).bytes(&[0; ReadCap::LEN]),
        Some(children) => head.u8(1).bytes(children.to_bytes().expose_secret()),
    };
    if let DraftContent::Blocks { table, .. } = draft.content {
        for address in *table {
            head.bytes(address.as_bytes());
        }
    }
    let mut plain = Zeroizing::new(head.into_bytes());
    let key = source.root_key(&[&plain, &read]);
    let tag = part_aead(READ_PART, &key).seal_in_place(0, &[], &mut read);
    let sealed_len =
        u16::try_from(read.len() + TAG_LEN).map_err(|_| WireError::Bad("read part length"))?;
    plain.extend_from_slice(&sealed_len.to_be_bytes());
    plain.extend_from_slice(&read);
    plain.extend_from_slice(&tag);
    if plain.len() > PLAIN_LEN {
        return Err(WireError::Bad("root length"));
    }
    plain.resize(PLAIN_LEN, 0);
    // The capability's root hash is not known before the body is sealed; the keys do not need it.
    let mut cap = ReadCap { root: BodyHash([0; 32]), key };
    let tag = part_aead(VERIFY_PART, &cap.verify().key).seal_in_place(0, &[], &mut plain);
    let body: &[u8] = &[plain.as_slice(), &tag].concat();
    cap.root = BodyHash::of(body.try_into().map_err(|_| WireError::Bad("root length"))?);
    let copies = copies(&cap.verify(), body).ok_or(WireError::Bad("root length"))?;
    Ok((cap, copies))
}

/// All copies of a root with this body.
pub(crate) fn copies(cap: &VerifyCap, body: &[u8]) -> Option<[Block; ROOT_COPIES]> {
    let copy = |number| Block::copy_from(&[body, &cap.tail(number)].concat());
    let copies: Vec<Block> = (0..ROOT_COPIES).map_while(copy).collect();
    copies.try_into().ok()
}

fn part_aead(context: &'static str, key: &Secret<32>) -> Aead {
    Aead::new(&kdf::derive_secret(context, &[key.expose_secret()]))
}

/// Opens what a verify capability may see.
pub(crate) fn open(cap: &VerifyCap, block: &[u8; BLOCK_LEN]) -> Result<VerifyPart, RootError> {
    let (body, _tail) = block.split_at(BODY_LEN);
    let (text, tag) = body.split_at(PLAIN_LEN);
    let tag = tag.try_into().map_err(|_| RootError::Unauthentic)?;
    let mut plain = Zeroizing::new(text.to_vec());
    part_aead(VERIFY_PART, &cap.key)
        .open_in_place(0, &[], &mut plain, tag)
        .map_err(|_| RootError::Unauthentic)?;
    decode(&plain)
}

fn decode(plain: &[u8]) -> Result<VerifyPart, RootError> {
    let mut r = Reader::new(plain);
    if r.u8("root format")? != FORMAT {
        return Err(RootError::Format);
    }
    let code = r.u8("root code")?;
    let len = r.u64("root length")?;
    let mut index_key = r.array::<32>("root index key")?;
    let (code, layout) = match code {
        0 if len == 0 && index_key == [0; 32] => (None, None),
        0 => return Err(WireError::Bad("root of inline content").into()),
        code => {
            let code = Code::of_byte(code).ok_or(WireError::Bad("root code"))?;
            let large =
                matches!(code, Code::Large) != matches!(Code::of_file(len, true), Code::Large);
            if len <= INLINE_MAX || large {
                return Err(WireError::Bad("root length").into());
            }
            let layout = Layout::of(len, code).ok_or(WireError::Bad("root length"))?;
            (Some(code), Some(layout))
        }
    };
    let index_key = Secret::take(&mut index_key);
    let has_children = r.u8("root children")?;
    let mut children = r.array::<{ ReadCap::LEN }>("root children")?;
    let children = match has_children {
        0 if children == [0; ReadCap::LEN] => None,
        1 => Some(ReadCap::take(&mut children)),
        _ => return Err(WireError::Bad("root children").into()),
    };
    let table_len = layout.as_ref().map_or(0, Layout::root_table_len);
    let (table, _) = r.slice(table_len, "root table")?.as_chunks::<32>();
    let table = table.iter().map(|address| BlockAddress(*address)).collect();
    let sealed_len = usize::from(r.u16("read part length")?);
    let sealed = r.slice(sealed_len, "read part")?.to_vec();
    if r.rest().iter().any(|byte| *byte != 0) {
        return Err(WireError::Bad("root padding").into());
    }
    Ok(VerifyPart { layout, index_key, children, table, len, code, sealed })
}

impl VerifyPart {
    /// Length of the content in bytes, where blocks hold it.
    pub const fn content_len(&self) -> u64 {
        self.len
    }

    /// Whether the root holds the content itself.
    pub const fn is_inline(&self) -> bool {
        self.code.is_none()
    }

    /// Opens the rest for who may read.
    pub(crate) fn read(&self, cap: &ReadCap) -> Result<ReadPart, RootError> {
        let mut text = Zeroizing::new(self.sealed.clone());
        let at = text.len().checked_sub(TAG_LEN).ok_or(RootError::Unauthentic)?;
        let tag = text.split_off(at).try_into().map_err(|_| RootError::Unauthentic)?;
        part_aead(READ_PART, &cap.key)
            .open_in_place(0, &[], &mut text, &tag)
            .map_err(|_| RootError::Unauthentic)?;
        let mut r = Reader::new(&text);
        let kind = match r.u8("kind")? {
            1 => Kind::File,
            2 => Kind::Directory,
            _ => return Err(RootError::Format),
        };
        let mut text_of = |field| {
            let len = usize::from(r.u8(field)?);
            let text = std::str::from_utf8(r.slice(len, field)?);
            text.map(str::to_owned).map_err(|_| WireError::Bad(field))
        };
        let mime = text_of("type")?;
        let name = text_of("name")?;
        if !valid_mime(&mime) || !name.is_empty() && !valid_name(&name) {
            return Err(WireError::Bad("type or name").into());
        }
        let secret = if self.is_inline() {
            let content = r.rest();
            if content.len() as u64 > INLINE_MAX {
                return Err(WireError::Bad("content length").into());
            }
            ContentSecret::Inline(Zeroizing::new(content.to_vec()))
        } else {
            let mut key = r.array::<32>("file key")?;
            let secret = Secret::take(&mut key);
            key.zeroize();
            r.finish()?;
            ContentSecret::Key(secret)
        };
        let name = (!name.is_empty()).then_some(name);
        Ok(ReadPart { meta: Meta { kind, mime, name }, secret })
    }
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
