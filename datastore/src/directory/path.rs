//! Which paths a directory may hold.
//!
//! Lives here: the rule. It is checked when a directory is written and again when one is read: who
//! unpacks a stranger's directory must never write outside of the folder that was named, nor show a
//! name that is not what it looks like.

/// Longest component in bytes, as on most file systems.
pub const COMPONENT_MAX: usize = 255;
/// Longest path in bytes.
pub const PATH_MAX: usize = 1_024;
/// Most components of a path.
pub const DEPTH_MAX: usize = 32;

/// Whether a text may be one component of a path: 1 to 255 bytes, not `.` or `..`, no slash or
/// backslash, no control character, none that turns the direction of writing (U+202A to U+202E,
/// U+2066 to U+2069: they make `exe.txt` of `txt.exe`).
pub fn valid_component(text: &str) -> bool {
    let turns =
        |c: char| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    !text.is_empty()
        && text.len() <= COMPONENT_MAX
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == '\\' || c.is_control() || turns(c))
}

/// Whether a text may be a path: up to 32 good components with single slashes between them, 1,024
/// bytes in all. So it is relative, and has one spelling.
pub fn valid_path(text: &str) -> bool {
    text.len() <= PATH_MAX
        && text.split('/').all(valid_component)
        && text.split('/').count() <= DEPTH_MAX
}

/// The folders that a path lies in: `a` and `a/b` of `a/b/c`.
pub(super) fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}
