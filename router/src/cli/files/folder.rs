//! Where fetched files end up: standard output, a file, a folder.
//!
//! Lives here: files that are not complete yet, and finding them again. Does not live here: what comes
//! (`mod.rs`).
//!
//! Nothing stands under its own name before it is complete. What came so far waits beside it as
//! `.NAME.warren-LETTERS`, the letters being the end of the key, so that the same command goes on there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use warren_datastore::directory::valid_path;

use super::Failure;
use crate::{driver::files::frame::Begin, remedy};

/// Letters of the key in the name of an incomplete file: its checksum, which opens nothing.
const LETTERS: usize = 8;

/// Where to.
#[derive(Debug)]
pub(super) enum Target {
    Stdout { closed: bool },
    Disk(Disk),
}

/// A file or a folder.
#[derive(Debug)]
pub(super) struct Disk {
    out: PathBuf,
    /// What came so far: a file, or the folder of complete files.
    part: PathBuf,
    /// A folder's file that is coming.
    coming: PathBuf,
    open: Option<(File, PathBuf)>,
}

fn letters(uri: &str) -> &str {
    let key = uri.split('/').next().unwrap_or_default();
    key.get(key.len().saturating_sub(LETTERS)..).unwrap_or_default()
}

/// The last part of the path, or a name made from the key.
pub(super) fn default_name(uri: &str) -> PathBuf {
    let inner = uri.split_once('/').map(|(_, path)| path.trim_end_matches('/'));
    let last = inner.and_then(|path| path.rsplit('/').next()).filter(|name| valid_path(name));
    last.map_or_else(|| format!("warren-{}", letters(uri)).into(), PathBuf::from)
}

fn fail(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    |error| Failure::Other(remedy::at(path, &error))
}

impl Target {
    pub(super) const fn stdout() -> Self {
        Self::Stdout { closed: false }
    }

    /// Into `out`, which may be a file that is replaced.
    pub(super) fn new(uri: &str, out: PathBuf) -> Result<Self, Failure> {
        if out.is_dir() {
            let words = format!("{} is there already: choose another -o OUT", out.display());
            return Err(Failure::Refused(words));
        }
        let name = out.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name
            .ok_or_else(|| Failure::Other("-o needs the name of a file: write -o FILE".into()))?;
        let part = out.with_file_name(format!(".{name}.warren-{}", letters(uri)));
        let coming = out.with_file_name(format!(".{name}.warren-{}.file", letters(uri)));
        Ok(Self::Disk(Disk { out, part, coming, open: None }))
    }

    /// What an earlier command left: bytes of the file, or paths of a folder's files.
    pub(super) fn there(&self) -> Result<(u64, Vec<String>), Failure> {
        let Self::Disk(disk) = self else { return Ok((0, Vec::new())) };
        let Ok(about) = fs::metadata(&disk.part) else { return Ok((0, Vec::new())) };
        if about.is_file() {
            return Ok((about.len(), Vec::new()));
        }
        let (mut files, mut folders) = (Vec::new(), vec![disk.part.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(fail(&folder))? {
                let path = entry.map_err(fail(&folder))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(inner) =
                    path.strip_prefix(&disk.part).ok().and_then(Path::to_str)
                {
                    files.push(inner.to_owned());
                }
            }
        }
        Ok((0, files))
    }

    /// Whether nobody reads what is written.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Stdout { closed: true })
    }

    /// A file begins.
    pub(super) fn begin(&mut self, begin: &Begin) -> Result<(), Failure> {
        self.end()?;
        let Self::Disk(disk) = self else {
            if begin.path.is_empty() {
                return Ok(());
            }
            let words = "this is a folder: list it with `warren ls`, and add /PATH of a file";
            return Err(Failure::Refused(words.into()));
        };
        let path = if begin.path.is_empty() {
            disk.part.clone()
        } else if valid_path(&begin.path) {
            disk.coming.clone()
        } else {
            return Err(Failure::Other(
                "the folder holds a path that leads elsewhere: get its files one by one".into(),
            ));
        };
        let mut open = OpenOptions::new();
        if begin.from == 0 {
            open.create(true).write(true).truncate(true);
        } else {
            open.append(true);
        }
        let file = open.open(&path).map_err(fail(&path))?;
        if file.metadata().map_err(fail(&path))?.len() != begin.from {
            return Err(Failure::Other(format!("{} changed meanwhile: try again", path.display())));
        }
        let inner = disk.part.join(&begin.path);
        disk.open = Some((file, if begin.path.is_empty() { path } else { inner }));
        Ok(())
    }

    /// Bytes of it.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout { closed } => io::stdout().write_all(bytes).map_err(|error| {
                *closed = error.kind() == io::ErrorKind::BrokenPipe;
                error.into()
            }),
            Self::Disk(disk) => {
                let Some((file, _)) = &mut disk.open else {
                    return Err(Failure::Other("the router sent bytes of no file: start it again, it may be of another version".into()));
                };
                file.write_all(bytes).map_err(fail(&disk.out))
            }
        }
    }

    /// The file that was coming is complete.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let Self::Disk(disk) = self else { return Ok(()) };
        let Some((_, to)) = disk.open.take() else { return Ok(()) };
        if to == disk.part {
            return Ok(());
        }
        let folder = to.parent().unwrap_or(&disk.part);
        fs::create_dir_all(folder).map_err(fail(folder))?;
        fs::rename(&disk.coming, &to).map_err(fail(&to))
    }

    /// All is there: it gets its name, which is given back.
    pub(super) fn finish(self, folder: bool) -> Result<PathBuf, Failure> {
        let Self::Disk(disk) = self else { return Ok(PathBuf::new()) };
        if folder {
            fs::create_dir_all(&disk.part).map_err(fail(&disk.part))?;
        } else {
            File::open(&disk.part).and_then(|file| file.sync_all()).map_err(fail(&disk.part))?;
        }
        fs::rename(&disk.part, &disk.out).map_err(fail(&disk.out))?;
        Ok(disk.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_from_the_path_or_the_key() {
        assert_eq!(default_name("warren:dir:abcdefghijkl/docs/a.txt"), Path::new("a.txt"));
        assert_eq!(default_name("warren:dir:abcdefghijkl/docs/"), Path::new("docs"));
        assert_eq!(default_name("warren:file:abcdefghijkl"), Path::new("warren-efghijkl"));
        assert_eq!(default_name("warren:dir:abcdefghijkl/.."), Path::new("warren-efghijkl"));
    }
}
