//! The checks that need no running router: its folder, its machine's clock, disk and ports.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::Finding;
use crate::{
    config::ConfigFile,
    driver::{open_files, setup},
    home::Home,
};

/// Below this the stores may fail to write at any time.
const DISK_MIN: u64 = 100 << 20;
/// Below this it will soon be too little.
const DISK_LOW: u64 = 1 << 30;
/// Fewer files than this are not enough for a few dozen links and a browser.
const FILES_LOW: u64 = 1_024;

/// The folder and everything in it are this user's alone.
pub(super) fn folder(dir: &Path) -> Finding {
    let Ok(meta) = fs::metadata(dir) else {
        return Finding::failed(
            "folder",
            format!("{} is not there, or may not be entered", dir.display()),
            "name the router's folder with --dir, or make one with `warren init`",
        );
    };
    if meta.uid() != rustix::process::getuid().as_raw() {
        return Finding::failed(
            "folder",
            format!("{} belongs to another user", dir.display()),
            "run the router and its commands as that user, or name another folder with --dir",
        );
    }
    let mut open = open_to_others(dir, 0);
    if meta.mode() & 0o077 != 0 {
        open.push(dir.to_owned());
    }
    match open.first() {
        None => Finding::ok("folder", format!("{} is yours alone", dir.display())),
        Some(first) => {
            let more = open.len() - 1;
            Finding::failed(
                "folder",
                format!("{} can be read by others, and {more} more", first.display()),
                format!("run `chmod -R go= {}` and check who has seen it", dir.display()),
            )
        }
    }
}

/// Files that others may read, but for settings and the log, which hold no secret.
fn open_to_others(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut open = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let public = ["warren.toml", "log"].iter().any(|name| entry.file_name() == *name);
        // What RocksDB keeps is sealed, and its folders are shut.
        let secret = meta.is_file() && !public;
        let keys = ["services", "sites", "contexts", "access"]
            .iter()
            .any(|name| entry.file_name() == *name);
        if meta.is_dir() && depth == 0 && keys {
            open.extend(open_to_others(&entry.path(), 1));
        } else if secret && meta.mode() & 0o077 != 0 {
            open.push(entry.path());
        }
    }
    open
}

/// The clock is not behind what was written here.
#[expect(clippy::disallowed_methods, reason = "the clock is what is looked at")]
pub(super) fn clock(dir: &Path) -> Finding {
    let now = SystemTime::now();
    let newest = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    // Peers refuse what is off by ten minutes.
    let ahead = newest.and_then(|newest| newest.duration_since(now).ok());
    match ahead.filter(|ahead| *ahead > Duration::from_mins(5)) {
        None => Finding::ok("clock", "it is not behind what the router wrote"),
        Some(ahead) => Finding::failed(
            "clock",
            format!("the folder has a file from {} minutes in the future", ahead.as_secs() / 60),
            "set the clock, and let it be kept (systemd-timesyncd, chrony): others refuse a router \
             that is ten minutes off",
        ),
    }
}

/// There is room for what is held.
pub(super) fn disk(dir: &Path) -> Finding {
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return Finding::warning("disk", "its room cannot be told", "look with `df`");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let words = format!("{} MiB free", free >> 20);
    let remedy =
        "make room, or move the folder to a larger disk: on a full one nothing more is held";
    if free < DISK_MIN {
        Finding::failed("disk", words, remedy)
    } else if free < DISK_LOW {
        Finding::warning("disk", words, remedy)
    } else {
        Finding::ok("disk", words)
    }
}

/// A router that is started from here may open enough files.
pub(super) fn files() -> Finding {
    let limit = open_files::raise_limit();
    if limit < FILES_LOW {
        return too_few(limit);
    }
    Finding::ok("files", format!("a router started from here may open {limit}"))
}

pub(super) fn too_few(limit: u64) -> Finding {
    Finding::warning(
        "files",
        format!("at most {limit} files and sockets may be open"),
        "raise the hard limit: LimitNOFILE= in the unit, or `ulimit -Hn` and limits.conf",
    )
}

/// Nobody else has the ports that the settings name.
pub(super) fn ports(dir: &Path, settings: &ConfigFile) -> Finding {
    let mut link = settings.link.listen;
    if link.port() == 0 {
        // The port of the last start, if there was one.
        let drawn = setup::load_port(&Home::look(dir)).ok().flatten();
        link.set_port(drawn.unwrap_or(0));
    }
    let listens = settings.link.announce != "none";
    let named: [(Option<SocketAddr>, &str); 3] = [
        (listens.then_some(link), "link.listen"),
        (Some(settings.proxy.listen), "proxy.listen"),
        (Some(settings.api.listen), "api.listen"),
    ];
    for (address, key) in named {
        if let Some(address) = address
            && let Err(error) = TcpListener::bind(address)
        {
            return Finding::failed(
                "ports",
                format!("cannot listen on {address}: {error}"),
                format!("end what has that port, or choose another with {key} in warren.toml"),
            );
        }
    }
    Finding::ok("ports", "all that the settings name are free")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{super::Grade, *};

    #[test]
    fn a_secret_that_others_can_read_is_found_and_settings_may_be_read() {
        let dir = std::env::temp_dir().join(format!("warren-doctor-{}", std::process::id()));
        let home = Home::open(&dir).unwrap();
        home.write("services/blog", b"key").unwrap();
        let mode = |name: &str, mode| {
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::write(dir.join("warren.toml"), "").unwrap();
        mode("warren.toml", 0o644);
        assert_eq!(folder(&dir).grade, Grade::Ok);
        mode("services/blog", 0o640);
        let found = folder(&dir);
        assert_eq!(found.grade, Grade::Failed);
        assert!(found.cause.contains("blog") && found.remedy.unwrap().contains("chmod"));
        mode("services/blog", 0o600);
        mode("", 0o755);
        assert_eq!(folder(&dir).grade, Grade::Failed);
        let _ = fs::remove_dir_all(&dir);
        assert_eq!(folder(&dir).grade, Grade::Failed);
    }
}
