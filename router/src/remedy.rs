//! What to do about an error of the operating system.
//!
//! Lives here: a next step for each kind of it. Does not live here: errors of our own, whose texts name
//! theirs.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

/// The error and what to do, for people.
pub(crate) fn words(error: &io::Error) -> String {
    format!("{error}; {}", step(error))
}

/// The same about a file.
pub(crate) fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {}", path.display(), words(error))
}

/// What to do.
pub(crate) fn step(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "look whether the name is right",
        ErrorKind::PermissionDenied => "see with `ls -ld` whose it is and who may use it",
        ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            "choose another name"
        }
        ErrorKind::AddrInUse => "choose another port",
        ErrorKind::AddrNotAvailable => "choose an address of this machine",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some room on that disk"
        }
        ErrorKind::ReadOnlyFilesystem => "choose a folder that can be written",
        ErrorKind::IsADirectory => "name a file in it",
        ErrorKind::NotADirectory => "name a folder",
        ErrorKind::OutOfMemory => "free some memory",
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
            "see with `warren status` whether the router still runs, and try again"
        }
        _ => "try again; `warren doctor` looks at folder, disk and ports",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_named_with_what_to_do() {
        let error = std::fs::read("/no/such").unwrap_err();
        let said = at(Path::new("/no/such"), &error);
        assert!(
            said.starts_with("/no/such: ") && said.ends_with("; look whether the name is right"),
            "{said}"
        );
    }
}
