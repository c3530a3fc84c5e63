//! Files on the page: put one from here, get one to here.
//!
//! Lives here: the forms, an upload on its way to the spool, a get on its way to the browser. Does not
//! live here: what puts and gets are (`driver/files/`), who may see and send a form (`page.rs`).
//!
//! A key that reads is sent in a form's body, never in an address: addresses stay in a browser's
//! history. What is got is saved and never shown: here it could speak as the router's own page.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Form,
    body::Body,
    extract::{Multipart, State, multipart::MultipartRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use warren_datastore::uri::{Uri, UriKind};

use super::{Page, answer, door, frame, token_first};
use crate::driver::{
    control::{self, Ask},
    files::{
        api::{self, FRAMES_MAX, SPOOL_PIECES_MAX},
        frame::{Begin, Failed, FrameSender, Frames, Kind, Pieces, read},
        get::{GetDone, GetRequest, Listed},
        put::{PutNews, PutRequest},
    },
};

/// Puts that the page remembers; of more the oldest is forgotten.
const PUTS_MAX: usize = 16;
/// Files of a folder that are listed.
const LISTED_MAX: usize = 1_000;

/// Puts that were begun on the page, with the names of their files, oldest first. Clones share it; it
/// is nowhere else, and gone when the router ends.
#[derive(Clone, Default)]
pub(in crate::driver) struct Begun(Arc<Mutex<VecDeque<Named>>>);

/// A put, by the name of its file.
type Named = (String, watch::Receiver<PutNews>);

impl Begun {
    fn push(&self, name: String, news: watch::Receiver<PutNews>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back((name, news));
        if all.len() > PUTS_MAX {
            all.pop_front();
        }
    }

    /// Newest first.
    fn all(&self) -> Vec<(String, PutNews)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().map(|(name, news)| (name.clone(), news.borrow().clone())).collect()
    }
}

/// What somebody wants to have.
#[derive(Deserialize)]
pub(super) struct Wish {
    uri: String,
}

pub(super) async fn show(State(page): State<Page>, headers: HeaderMap) -> Response {
    page.files_page(&headers, &html! {}).await
}

pub(super) async fn put(
    State(page): State<Page>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    if !page.is_known(&headers) {
        return token_first();
    }
    let begun = match form {
        Ok(form) => page.begin(form).await,
        Err(error) => Err(error.body_text()),
    };
    match begun {
        Ok(()) => Redirect::to("/files").into_response(),
        Err(words) => page.files_page(&headers, &wrong(&words)).await,
    }
}

pub(super) async fn get(
    State(page): State<Page>,
    headers: HeaderMap,
    Form(wish): Form<Wish>,
) -> Response {
    if !page.is_known(&headers) {
        return token_first();
    }
    let uri = wish.uri.trim();
    let got = match page.folder(uri).await {
        Ok(Some(files)) => return page.files_page(&headers, &folder(uri, &files)).await,
        Ok(None) => page.download(uri).await,
        Err(words) => Err(words),
    };
    match got {
        Ok(download) => download,
        Err(words) => page.files_page(&headers, &wrong(&words)).await,
    }
}

impl Page {
    async fn files_page(&self, headers: &HeaderMap, news: &Markup) -> Response {
        let Ok(status) = control::ask_task(&self.events, Ask::Status).await else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        if !self.is_known(headers) {
            return answer(&frame(&status, &door()), None);
        }
        let puts = self.begun.all();
        // It would throw away what is being written, and so only while something happens.
        let refresh = puts.iter().any(|(_, news)| !news.is_over()).then_some("2");
        answer(&frame(&status, &inside(news, &puts)), refresh)
    }

    /// Takes the form's file, whole, and begins to put it.
    async fn begin(&self, mut form: Multipart) -> Result<(), String> {
        let words = |error: axum::extract::multipart::MultipartError| error.body_text();
        while let Some(mut field) = form.next_field().await.map_err(words)? {
            let Some(name) = field.file_name().filter(|name| !name.is_empty()) else { continue };
            let name = name.to_owned();
            let (to, pieces) = mpsc::channel(SPOOL_PIECES_MAX);
            let upload = async move {
                while let Some(bytes) = field.chunk().await.map_err(words)? {
                    if to.send(bytes.to_vec()).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let (spool, uploaded) = tokio::join!(self.files.spool(pieces), upload);
            let spool = uploaded.and(spool)?;
            let request =
                PutRequest { spool: Some(spool), name: name.clone(), ..PutRequest::default() };
            self.begun.push(name, self.files.put(request)?);
            return Ok(());
        }
        Err("choose a file first".into())
    }

    fn start_get(&self, request: GetRequest) -> Said {
        let (to, frames) = mpsc::channel(FRAMES_MAX);
        let files = self.files.clone();
        tokio::spawn(async move { api::get_all(&files, &request, &to).await });
        Said { frames, decoder: Frames::default() }
    }

    /// What a folder holds; none when one file is meant.
    async fn folder(&self, uri: &str) -> Result<Option<Vec<Listed>>, String> {
        let (parsed, _) = Uri::split_path(uri).map_err(|error| error.to_string())?;
        if parsed.kind() != UriKind::Directory {
            return Ok(None);
        }
        let request = GetRequest { uri: uri.to_owned(), list: true, ..GetRequest::default() };
        let mut said = self.start_get(request);
        while let Some((kind, body)) = said.next().await? {
            if kind == Kind::Done {
                let done: GetDone = read(&body)?;
                return Ok(done.folder.then_some(done.files));
            }
        }
        Err("the router is stopping: try again when it runs".into())
    }

    /// One file, as something to save.
    async fn download(&self, uri: &str) -> Result<Response, String> {
        let mut said = self.start_get(GetRequest { uri: uri.to_owned(), ..GetRequest::default() });
        let begin: Begin = loop {
            let (kind, body) =
                said.next().await?.ok_or("the router is stopping: try again when it runs")?;
            if kind == Kind::Begin {
                break read(&body)?;
            }
        };
        let (to, pieces) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(said.pass_on(to));
        let kind = if begin.mime.is_empty() { "application/octet-stream" } else { &begin.mime };
        let headers = [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_LENGTH, begin.len.to_string()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", saved_as(uri))),
            (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::REFERRER_POLICY, "no-referrer".to_owned()),
        ];
        Ok((headers, Body::new(Pieces(pieces))).into_response())
    }
}

/// What a get says. Dropping it ends the get.
struct Said {
    frames: mpsc::Receiver<io::Result<Vec<u8>>>,
    decoder: Frames,
}

impl Said {
    /// The next thing; an error when the get failed.
    async fn next(&mut self) -> Result<Option<(Kind, Vec<u8>)>, String> {
        let Some(Ok(bytes)) = self.frames.recv().await else { return Ok(None) };
        self.decoder.push(&bytes);
        match self.decoder.next()? {
            Some((Kind::Failed, body)) => Err(read::<Failed>(body)?.error),
            said => Ok(said.map(|(kind, body)| (kind, body.to_vec()))),
        }
    }

    /// The file's bytes; one that does not come to its end breaks off.
    async fn pass_on(mut self, to: FrameSender) {
        loop {
            let piece = match self.next().await {
                Ok(Some((Kind::Bytes, bytes))) => Ok(bytes),
                Ok(Some((Kind::Done, _)) | None) => return,
                Ok(Some(_)) => continue,
                Err(words) => Err(io::Error::other(words)),
            };
            let over = piece.is_err();
            if to.send(piece).await.is_err() || over {
                return;
            }
        }
    }
}

/// The last part of a path in a folder, in signs that no system takes for something else.
fn saved_as(uri: &str) -> String {
    let Some((_, name)) = uri.rsplit_once('/') else { return "warren-file".into() };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.trim_start_matches('.').chars().map(plain).take(120).collect();
    if name.is_empty() { "warren-file".into() } else { name }
}

fn wrong(words: &str) -> Markup {
    html! { p.verdict { (words) } }
}

fn inside(news: &Markup, puts: &[(String, PutNews)]) -> Markup {
    html! {
        (news)
        h2 { "Get" }
        form method="post" action="/files/get" {
            label for="uri" { "Key of a file or folder " }
            input id="uri" name="uri" autocomplete="off" required placeholder="warren:file:...";
            " "
            button { "Get" }
        }
        p { "A page of a stored site opens in a browser that uses the proxy." }
        h2 { "Put" }
        form method="post" action="/files/put" enctype="multipart/form-data" {
            label for="file" { "File " }
            input id="file" name="file" type="file" required;
            " "
            button { "Put" }
        }
        p { "It is cut into blocks, encrypted, and kept by others. Whoever has its key reads it; without it, nobody. " code { "warren put" } " takes folders, and goes on after a restart." }
        @if !puts.is_empty() {
            table {
                tr { th { "File" } th { "Key" } }
                @for (name, news) in puts {
                    tr { td { (name) } td { (how_far(news)) } }
                }
            }
            p { "Copy the keys that you need: this list ends with the router." }
        }
        p { a href="/" { "Back" } }
    }
}

fn how_far(news: &PutNews) -> Markup {
    html! {
        @if let Some(uri) = &news.uri {
            code { (uri) }
        } @else if let Some(words) = &news.failed {
            (words)
        } @else if news.blocks == 0 {
            "looking for ways ..."
        } @else {
            (news.stored) " of " (news.blocks) " blocks stored"
        }
    }
}

fn folder(uri: &str, files: &[Listed]) -> Markup {
    let base = uri.split_once('/').map_or(uri, |(base, _)| base);
    html! {
        h2 { "Folder" }
        table {
            tr { th { "File" } th { "Bytes" } th {} }
            @for file in files.iter().take(LISTED_MAX) {
                tr {
                    td { (file.path) }
                    td.number { (file.len) }
                    td.short {
                        form method="post" action="/files/get" {
                            input type="hidden" name="uri" value={ (base) "/" (file.path) };
                            button { "Get" }
                        }
                    }
                }
            }
        }
        @if files.len() > LISTED_MAX {
            p { "And " (files.len() - LISTED_MAX) " more: " code { "warren ls" } " shows all." }
        }
    }
}

/// Mute: names of files are their owner's.
impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_has_the_last_name_of_its_path_in_plain_signs() {
        for (uri, name) in [
            ("warren:file:abc", "warren-file"),
            ("warren:dir:abc/a/photo 1.jpg", "photo_1.jpg"),
            ("warren:dir:abc/..", "warren-file"),
            ("warren:dir:abc/a/\"\r\nX: y", "___X__y"),
            ("warren:dir:abc/.profile", "profile"),
        ] {
            assert_eq!(saved_as(uri), name);
        }
    }
}
