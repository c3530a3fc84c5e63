//! `warren key backup` and `warren key restore`: moving a router, or only its services, to another
//! machine.
//!
//! Lives here: which files go into a backup and come out of it, and asking for the passphrase. Does
//! not live here: the file's bytes (`backup`).

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Failure, Place, print, say};
use crate::{
    backup::{self, BackupError, Cost, Entry},
    driver::{services, setup},
    entropy,
    home::{Home, HomeError},
    remedy,
};

/// What makes a router the one it is, besides its services. Its peers, so that it needs no new
/// invite; its guards, so that a move does not expose it to new ones.
const OWN_FILES: [&str; 7] =
    ["network", "router.key", "admission", "membership", "invited", "guards", "peers"];
/// Folders of files that nobody could make again: services, stored sites, what files are keyed from,
/// what private services share with this router, friends.
const FOLDERS: [&str; 5] = ["services", "sites", "contexts", "access", "friends"];
/// Those that may move to a router that stays who it is. Its contexts, and what it is admitted to, are
/// its own.
const MOVABLE: [&str; 2] = ["services", "sites"];
/// The shortest passphrase for a new backup, in bytes.
const PASSPHRASE_MIN: usize = 12;
/// The longest passphrase, in bytes.
const PASSPHRASE_MAX: usize = 1_024;

/// `warren key`
#[derive(Args, Debug)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the router's identity, services and sites to a new file, sealed with a passphrase
    Backup(Backup),
    /// Bring back what a backup holds; nothing that exists is replaced
    Restore(Restore),
    /// Print this router's identity: what a member needs to invite it
    Id(Place),
}

#[derive(Args, Debug)]
struct Backup {
    /// The file to make
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Restore {
    /// The file that `warren key backup` made
    file: PathBuf,
    /// Only services and stored sites, into the folder of a router that stays who it is
    #[arg(long)]
    services: bool,
    /// Where a service's streams go on this router, if not where they went; may be repeated
    #[arg(long, value_name = "LABEL=HOST:PORT", requires = "services")]
    target: Vec<String>,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Passphrase {
    /// Read the passphrase from the first line of a file that only you can read, instead of asking
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(super) fn key(args: &Key) -> Result<(), Failure> {
    match &args.verb {
        Verb::Backup(args) => back_up(args),
        Verb::Restore(args) => restore(args),
        Verb::Id(place) => id(place),
    }
}

/// The identity is public: every member of its network learns it.
fn id(place: &Place) -> Result<(), Failure> {
    let dir = place.dir()?;
    let id = match Home::open(&dir) {
        Ok(home) => setup::identity(&home)?,
        // It runs: then it has its key.
        Err(HomeError::Locked(_)) => setup::identity(&Home::look(&dir))?,
        Err(error) => return Err(error.into()),
    };
    print(format_args!("{id}"))
}

fn back_up(args: &Backup) -> Result<(), Failure> {
    let home = Home::look(&args.place.dir()?);
    let entries = collect(&home)?;
    if args.file.exists() {
        return Err(exists(&args.file));
    }
    let passphrase = args.passphrase.fresh()?;
    let bytes = backup::seal(&entries, &passphrase, Cost::NORMAL, &mut entropy::generator())?;
    // `create_new`: it may have come into being while the passphrase was typed.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(&args.file),
        _ => Failure::Other(remedy::at(&args.file, &error)),
    })?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    let count = |folder| entries.iter().filter(|(name, _)| is_in(folder, name)).count();
    say(format_args!(
        "kept the router, {} services and {} sites in {}; without its passphrase it is worth nothing",
        count("services"),
        count("sites"),
        args.file.display()
    ));
    Ok(())
}

fn exists(file: &Path) -> Failure {
    let file = file.display();
    Failure::Refused(format!("{file} exists and is not overwritten: name another file"))
}

/// Every file of a router that a backup holds.
fn collect(home: &Home) -> Result<Vec<Entry>, Failure> {
    let mut names: Vec<String> = OWN_FILES.map(str::to_owned).into();
    for folder in FOLDERS {
        names.extend(home.list(folder)?.into_iter().map(|name| format!("{folder}/{name}")));
    }
    let mut entries = Vec::new();
    for name in names {
        if let Some(bytes) = home.read(&name)? {
            entries.push((name, bytes));
        }
    }
    if entries.iter().all(|(name, _)| name != "router.key") {
        return Err(Failure::NotFound(format!(
            "{} has no router's key: choose the router's folder with --dir",
            home.dir().display()
        )));
    }
    Ok(entries)
}

fn restore(args: &Restore) -> Result<(), Failure> {
    let bytes = read(&args.file)?;
    let passphrase = args.passphrase.known()?;
    let mut entries = backup::open(&bytes, &passphrase)?;
    // Sealed by who knows the passphrase, and still no reason to write anywhere else.
    if entries.iter().any(|(name, _)| !is_ours(name)) {
        return Err(BackupError::Malformed.into());
    }
    if args.services {
        entries.retain(|(name, _)| MOVABLE.iter().any(|folder| is_in(folder, name)));
    }
    args.target.iter().try_for_each(|target| retarget(&mut entries, target))?;
    let home = Home::open(&args.place.dir()?)?;
    for (name, _) in &entries {
        // Whatever is there, even if it cannot be read as a file of ours.
        if home.dir().join(name).exists() {
            return Err(Failure::Refused(format!(
                "{} exists and is not overwritten: choose another folder with --dir{}",
                home.dir().join(name).display(),
                if args.services { ", or withdraw that service first" } else { "" }
            )));
        }
    }
    // The router's own key last: whoever is interrupted starts anew with an unfinished folder.
    entries.sort_by_key(|(name, _)| name == "router.key");
    for (name, content) in &entries {
        home.write(name, content)?;
    }
    let dir = home.dir().display();
    let count = entries.len();
    if args.services {
        say(format_args!(
            "brought back {count} services and sites: `warren run --dir {dir}` publishes them; the \
             router that was backed up may go on publishing the same services"
        ));
    } else {
        say(format_args!(
            "brought back {count} files: `warren run --dir {dir}` starts the router; the one that was \
             backed up must not run any more"
        ));
    }
    Ok(())
}

/// Has one of the services lead somewhere else.
fn retarget(entries: &mut [Entry], asked: &str) -> Result<(), Failure> {
    let (label, target) = asked.split_once('=').ok_or_else(|| {
        Failure::Refused(format!("--target {asked}: write it as LABEL=HOST:PORT"))
    })?;
    let file = format!("services/{label}");
    let (_, content) = entries.iter_mut().find(|(name, _)| *name == file).ok_or_else(|| {
        Failure::NotFound(format!(
            "--target {asked}: the backup has no service {label:?}; choose one of those that it has"
        ))
    })?;
    *content = services::with_target(label, content, target).map_err(Failure::Refused)?;
    Ok(())
}

/// Whether a backup may hold a file of this name.
fn is_ours(name: &str) -> bool {
    OWN_FILES.contains(&name) || FOLDERS.iter().any(|folder| is_in(folder, name))
}

/// Whether `name` is that of a file in `folder`, and in no other place that it could lead to.
fn is_in(folder: &str, name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    name.strip_prefix(folder)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|label| !label.is_empty() && label.len() <= 63 && label.chars().all(plain))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let open = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(backup::FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|error| Failure::NotFound(remedy::at(path, &error)))
}

impl Passphrase {
    /// For a new backup: long enough, and typed twice.
    fn fresh(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let first = self.known()?;
        if first.len() < PASSPHRASE_MIN {
            return Err(Failure::Refused(format!(
                "a passphrase needs at least {PASSPHRASE_MIN} characters: take six words of a list, \
                 drawn at random"
            )));
        }
        if self.passphrase_file.is_none() && prompt("Passphrase once more: ")? != first {
            return Err(Failure::Refused("these were two different passphrases: try again".into()));
        }
        Ok(first)
    }

    fn known(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match &self.passphrase_file {
            None => prompt("Passphrase: "),
            Some(path) => first_line(path),
        }
    }
}

fn prompt(words: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match rpassword::prompt_password(words) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        Err(error) => Err(Failure::Other(format!(
            "no terminal to ask for the passphrase ({error}): name a file with --passphrase-file"
        ))),
    }
}

fn first_line(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fail = |error: io::Error| Failure::NotFound(remedy::at(path, &error));
    let file = fs::File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let path = path.display();
        return Err(Failure::Refused(format!(
            "{path} can be read by others: run `chmod 600 {path}` and check who has seen it"
        )));
    }
    // Reserved whole: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX));
    file.take(PASSPHRASE_MAX as u64).read_to_end(&mut text).map_err(fail)?;
    let len = text.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(text.len());
    text.truncate(len);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_a_router_come_out_of_a_backup() {
        for good in
            ["network", "router.key", "services/a-b_9", "sites/abc", "contexts/me", "access/abc"]
        {
            assert!(is_ours(good), "{good}");
        }
        for bad in [
            "",
            "warren.toml",
            "services",
            "services/",
            "services/../router.key",
            "/etc/passwd",
            "services/a/b",
            "services//a",
            "../x",
            "store.key",
            "services/.hidden",
        ] {
            assert!(!is_ours(bad), "{bad}");
        }
    }
}
