//! The demo's stored site: a few pages, and the folder they are published from.

use std::{fs, io, path::PathBuf};

use crate::entropy;

/// The first page.
pub(super) const INDEX: &str = "<!doctype html>\n<html lang=en><meta charset=utf-8>\
<meta name=color-scheme content=\"light dark\"><link rel=stylesheet href=style.css>\
<title>Hello from a stored site</title>\n\
<img src=rings.svg alt=\"\" width=96 height=96><h1>Hello from a stored site</h1>\n\
<p>No server answers you here. These pages are kept in sealed pieces by many routers, none of which can \
read them, and they stay when whoever published them has gone.\n\
<p><a href=more/>How it came to you</a>\n</html>\n";

const FILES: [(&str, &str); 4] = [
    ("index.html", INDEX),
    (
        "style.css",
        "body{font-family:system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em}\n",
    ),
    (
        "rings.svg",
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\" fill=\"none\" \
         stroke=\"#68a\" stroke-width=\"3\"><circle cx=\"16\" cy=\"16\" r=\"13\"/>\
         <circle cx=\"16\" cy=\"16\" r=\"7\"/><circle cx=\"16\" cy=\"16\" r=\"1\"/></svg>\n",
    ),
    (
        "more/index.html",
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\
         <meta name=color-scheme content=\"light dark\">\
         <link rel=stylesheet href=../style.css><title>How it came to you</title>\n\
         <h1>How it came to you</h1>\n\
         <p>Your router asked three places for a signed record, through three tunnels; the record named \
         a version, the version a folder, and the folder held this page.\n\
         <p><a href=../>Back</a>\n</html>\n",
    ),
];

/// A folder with the pages, removed when dropped.
pub(super) struct Pages {
    /// Where.
    pub(super) dir: PathBuf,
}

impl Pages {
    /// Writes them into a new folder.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn write() -> io::Result<Self> {
        let number = u64::from_be_bytes(entropy::generator().bytes());
        let pages = Self { dir: std::env::temp_dir().join(format!("warren-demo-{number:016x}")) };
        // Made by us and not found: nobody else's folder is written into, or removed.
        fs::create_dir(&pages.dir)?;
        for (path, text) in FILES {
            let path = pages.dir.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, text)?;
        }
        Ok(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
