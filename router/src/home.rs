//! What a router keeps: its folder, and the files in it.
//!
//! Lives here: names, permissions and atomic writing of the files. Does not live here: what is in
//! them (each type encodes itself) and when they are written (the driver).
//!
//! | file | what | lost means |
//! |------|------|------------|
//! | `router.lock` | held while a router runs here | nothing |
//! | `network` | which network, base32 | another network |
//! | `router.key` | identity seed 32, link secret 32 | another router |
//! | `admission` | nonce 8, output 32 | the work is done again |
//! | `membership` | in a network by invitation: who signed for this router | it must be invited anew |
//! | `invited` | for whom this router signed this week | signatures given twice are worth nothing |
//! | `friends/NAME` | in a network of friends: one, as it last described itself | it must be added anew |
//! | `port` | the link port drawn at first start | another port |
//! | `peers` | descriptors of other routers | a new invite is needed |
//! | `guards` | hops that own tunnels keep: guards, second layer, gateways | new ones |
//! | `services/LABEL` | a hidden service: key, target | its name |
//! | `contexts/NAME` | the secret of a context: what is put there has its keys from it | the same files get other keys |
//! | `access/LETTERS` | what a private service shares with this router | it must be shared anew |
//! | `transfers/`, `transfers.key` | puts under way, and what seals them | they must be put again |
//! | `sites/LETTERS` | a stored site: key, newest version | nobody can update it |
//! | `store.key` | seals `records/` and `blocks/` | what is in them |
//! | `records/` | records held for others (RocksDB) | other replicas serve |
//! | `blocks/` | blocks held for others (RocksDB) | other replicas serve |
//! | `api.token`, `control.sock` | made anew at each start | nothing |

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use warren_overlay::crypto::secret::Secret;
use zeroize::Zeroizing;

use crate::{entropy, remedy};

/// The longest file that is read back, in bytes; all of them are far smaller.
const FILE_MAX: u64 = 1 << 20;

/// Why a folder cannot be used. Each text says how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// Another router runs there.
    #[error(
        "{0} is in use by a running router: stop that one, or give this one a folder of its own \
         with --dir"
    )]
    Locked(PathBuf),
    /// Others can read a secret.
    #[error("{0} can be read by others: run `chmod 600 {0}` and check who has seen it")]
    TooOpen(PathBuf),
    /// A file is not what was written.
    #[error("{0} is damaged: restore it from a backup, or move it away to start anew without it")]
    Damaged(PathBuf),
    /// The operating system said no.
    #[error("{}", remedy::at(path, source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// A router's folder, locked for as long as this lives (but for `look`).
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    _lock: Option<File>,
    /// Held by who looks for a secret and makes it if there is none.
    making: Mutex<()>,
}

impl Home {
    /// Opens `dir`, making it when it is missing, and locks it.
    ///
    /// # Errors
    /// When another router holds it or the file system refuses.
    pub(crate) fn open(dir: &Path) -> Result<Self, HomeError> {
        make_folder(dir).map_err(|source| HomeError::Io { path: dir.to_owned(), source })?;
        let path = dir.join("router.lock");
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| HomeError::Io { path: path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: Some(lock), making: Mutex::default() }),
            Err(TryLockError::WouldBlock) => Err(HomeError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(HomeError::Io { path, source }),
        }
    }

    /// `dir` for reading alone, whether a router runs there or not: every file is replaced whole.
    pub(crate) fn look(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None, making: Mutex::default() }
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings in `dir`: what an operator wrote, and no secret; `None` when there are none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn settings(dir: &Path) -> Result<Option<String>, HomeError> {
        let path = dir.join("warren.toml");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Io { path, source }),
        }
    }

    /// The whole of file `name`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or others could read it.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, HomeError> {
        let path = self.dir.join(name);
        let fail = |source| HomeError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(fail(source)),
        };
        let meta = file.metadata().map_err(fail)?;
        if meta.mode() & 0o077 != 0 {
            return Err(HomeError::TooOpen(path));
        }
        if meta.len() > FILE_MAX {
            return Err(HomeError::Damaged(path));
        }
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0)));
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(fail)?;
        Ok(Some(bytes))
    }

    /// Replaces file `name`: after a crash it holds either the old bytes or the new ones.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.dir.join(name);
        let new = self.dir.join(format!("{name}.new"));
        let attempt = || -> io::Result<()> {
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            // The rename is durable once the folder is.
            File::open(path.parent().unwrap_or(&self.dir))?.sync_all()
        };
        attempt().map_err(|source| HomeError::Io { path: path.clone(), source })
    }

    /// The secret in file `name`, made when there is none. Whoever asks at the same moment gets the same.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not 32 bytes.
    pub(crate) fn secret(&self, name: &str) -> Result<Secret<32>, HomeError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut bytes) = self.read(name)? {
            let bytes = bytes.as_mut_slice().try_into().map_err(|_| self.damaged(name))?;
            return Ok(Secret::take(bytes));
        }
        let secret = Secret::random(&mut entropy::generator());
        self.write(name, secret.expose_secret())?;
        Ok(secret)
    }

    /// Removes file `name`, if it is there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), HomeError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HomeError::Io { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// The names of the files in sub-folder `name`, sorted; unfinished writes left out.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, HomeError> {
        let path = self.dir.join(name);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(HomeError::Io { path, source }),
        };
        let mut names: Vec<_> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|file| !file.contains(".new"))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The error for a file whose bytes make no sense.
    pub(crate) fn damaged(&self, name: &str) -> HomeError {
        HomeError::Damaged(self.dir.join(name))
    }
}

/// Makes a folder where there is none, for its owner alone. That it is there is durable once the one around it
/// is, as far as its owner may open it.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let around = folder.parent().filter(|around| !around.as_os_str().is_empty());
    File::open(around.unwrap_or(Path::new("."))).map_or(Ok(()), |around| around.sync_all())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};

    use super::*;

    /// A folder of its own for each test, removed when it ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("warren-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_private() {
        let scratch = Scratch::new("home-read");
        let home = Home::open(&scratch.0).unwrap();
        assert!(home.read("router.key").unwrap().is_none());
        home.write("router.key", b"old").unwrap();
        home.write("router.key", b"new").unwrap();
        assert_eq!(home.read("router.key").unwrap().unwrap().as_slice(), b"new");
        let mode = fs::metadata(scratch.0.join("router.key")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_second_router_in_one_folder_is_told_how_to_go_on() {
        let scratch = Scratch::new("home-lock");
        let _home = Home::open(&scratch.0).unwrap();
        let error = Home::open(&scratch.0).unwrap_err();
        assert!(matches!(error, HomeError::Locked(_)));
        assert!(error.to_string().contains("--dir"));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let scratch = Scratch::new("home-open");
        let home = Home::open(&scratch.0).unwrap();
        home.write("router.key", b"secret").unwrap();
        let path = scratch.0.join("router.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(home.read("router.key"), Err(HomeError::TooOpen(_))));
    }

    #[test]
    fn whoever_asks_for_a_new_secret_at_the_same_moment_gets_the_same() {
        let scratch = Scratch::new("home-secret");
        let home = Home::open(&scratch.0).unwrap();
        let all: BTreeSet<[u8; 32]> = std::thread::scope(|scope| {
            let asks = (0..8)
                .map(|_| scope.spawn(|| *home.secret("contexts/me").unwrap().expose_secret()));
            let asks: Vec<_> = asks.collect();
            asks.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(all.len(), 1);
        let kept = home.read("contexts/me").unwrap().unwrap();
        assert!(all.contains(kept.as_slice()));
        home.write("contexts/me", &[7; 31]).unwrap();
        assert!(matches!(home.secret("contexts/me"), Err(HomeError::Damaged(_))));
    }

    #[test]
    fn services_are_listed_without_unfinished_writes() {
        let scratch = Scratch::new("home-list");
        let home = Home::open(&scratch.0).unwrap();
        home.write("services/b", b"").unwrap();
        home.write("services/a", b"").unwrap();
        fs::write(scratch.0.join("services/c.new"), b"").unwrap();
        assert_eq!(home.list("services").unwrap(), ["a", "b"]);
    }
}
