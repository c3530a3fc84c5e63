//! Directories: many files under one capability.
//!
//! Lives here: the directory's own bytes, which paths are allowed, how small files are packed together,
//! types by file ending. Does not live here: files on disk (the command walks and writes those), and
//! storing (`file/`). In words: docs/spec/file.md, section 6.
//!
//! ```text
//! object 0, the directory itself:  manifest ‖ tail (small files)
//! object 1 ...                     packs of small files, up to 4 MiB; large files, one each
//! manifest: path -> type, object, offset, length
//! ```
//!
//! A site of a few small pages is one object: two round trips bring all of it.

mod manifest;
mod mime;
mod path;
mod plan;

#[cfg(test)]
mod tests;

pub use manifest::{
    Directory, DirectoryError, ENTRIES_MAX, Entry, HEAD_LEN, MANIFEST_MAX, Object, children,
    manifest_len,
};
pub use mime::mime_of;
pub use path::{COMPONENT_MAX, DEPTH_MAX, PATH_MAX, valid_component, valid_path};
pub use plan::{PACK_ITEM_MAX, PACK_MAX, Plan, Planned, TAIL_MAX};
