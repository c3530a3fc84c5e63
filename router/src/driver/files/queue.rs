//! Puts that are under way: they survive whoever asked, and of files and folders the router's end.
//!
//! Lives here: who runs, joining one that runs, what is kept in `transfers/` and sealed there. Does not
//! live here: the putting (`put.rs`).
//!
//! `transfers/NUMBER`, sealed under a key that follows from `transfers.key` and the salt:
//!
//! | bytes | field |
//! |-------|-------|
//! | 16    | salt, new at each writing |
//! | 1     | format, 1 |
//! | 1     | who gets the same keys: 1 context, 2 dedup, 3 random |
//! | 32    | the key source's secret |
//! | 4 + n | the request, JSON |
//! | 4     | count of states; each: length 4, state (docs/spec/file.md, section 7) |
//! | 16    | tag |

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use warren_datastore::{
    file::{KeySource, Sharing},
    transfer::StoreState,
};
use warren_overlay::{
    crypto::{
        aead::{Aead, TAG_LEN},
        kdf,
        secret::Secret,
    },
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use super::{
    FileError, Files,
    put::{Put, PutNews, PutRequest, States, key_source},
};
use crate::{entropy, home::Home};

const FOLDER: &str = "transfers";
const KEY_FILE: &str = "transfers.key";
const SEAL: &str = "warren transfer queue 1";
const SALT_LEN: usize = 16;
/// How often what is stored is written down.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Puts at the same time; each holds tunnels.
const PUTS_MAX: usize = 16;
/// Objects of one folder whose states are kept: what does not fit is stored once more.
const STATES_MAX: usize = 4_096;
/// Longest queue file: it must be read back whole (`home.rs`).
const KEPT_MAX: usize = 1 << 20;

#[derive(Debug)]
struct Running {
    request: PutRequest,
    news: watch::Receiver<PutNews>,
    cancel: Option<oneshot::Sender<()>>,
}

/// `GET /v1/files/puts`: one of the puts under way.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct UnderWay {
    /// Its number.
    pub(crate) number: u64,
    /// What is stored.
    pub(crate) request: PutRequest,
    /// How far it is.
    pub(crate) news: PutNews,
}

/// All puts of a router.
#[derive(Debug, Default)]
pub(super) struct Puts(Mutex<BTreeMap<u64, Running>>);

struct Kept {
    request: PutRequest,
    source: KeySource,
    states: States,
}

impl Files {
    /// Begins a put, or joins the one that runs already for the same request.
    pub(in crate::driver) fn put(
        &self,
        request: PutRequest,
    ) -> Result<watch::Receiver<PutNews>, String> {
        if let Some(news) = self.joined(&request) {
            return Ok(news);
        }
        let source = key_source(self, &request)?;
        self.run_put(None, Kept { request, source, states: States::new() })
    }

    fn joined(&self, request: &PutRequest) -> Option<watch::Receiver<PutNews>> {
        let puts = self.0.puts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = puts.values().find(|running| running.request == *request)?;
        Some(running.news.clone())
    }

    /// The puts under way.
    pub(super) fn puts(&self) -> Vec<UnderWay> {
        let puts = self.0.puts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = puts.iter().map(|(number, running)| UnderWay {
            number: *number,
            request: running.request.clone(),
            news: running.news.borrow().clone(),
        });
        all.collect()
    }

    /// Ends a put for good; what it stored so far stays where it is. False if there is none.
    pub(super) fn cancel_put(&self, number: u64) -> bool {
        let mut puts = self.0.puts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cancel = puts.get_mut(&number).and_then(|running| running.cancel.take());
        cancel.is_some_and(|cancel| cancel.send(()).is_ok())
    }

    /// Goes on with what was under way when the router ended.
    pub(in crate::driver) fn resume_puts(&self) -> Result<(), String> {
        let Some(home) = self.home() else { return Ok(()) };
        let words = |error: crate::home::HomeError| error.to_string();
        for name in home.list(FOLDER).map_err(words)? {
            let file = format!("{FOLDER}/{name}");
            let (Ok(number), Some(mut bytes)) = (name.parse(), home.read(&file).map_err(words)?)
            else {
                continue;
            };
            let key = load_key(home)?;
            match open(&key, &mut bytes) {
                Some(kept) => {
                    self.run_put(Some(number), kept)?;
                }
                // It is only a repetition that is lost.
                None => home.remove(&file).map_err(words)?,
            }
        }
        Ok(())
    }

    fn run_put(&self, number: Option<u64>, kept: Kept) -> Result<watch::Receiver<PutNews>, String> {
        let (tell, news) = watch::channel(PutNews::default());
        let (cancel, cancelled) = oneshot::channel();
        let number = {
            let mut puts = self.0.puts.0.lock().unwrap_or_else(PoisonError::into_inner);
            if puts.len() >= PUTS_MAX {
                return Err(format!("{PUTS_MAX} files are being stored: wait until one is done"));
            }
            let last = puts.last_key_value().map_or(0, |(number, _)| *number);
            let number = number.unwrap_or(last + 1);
            let request = kept.request.clone();
            let running = Running { request, news: news.clone(), cancel: Some(cancel) };
            puts.insert(number, running);
            number
        };
        let files = self.clone();
        tokio::spawn(async move {
            files.whole_put(number, kept, &tell, cancelled).await;
            files.0.puts.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        });
        Ok(news)
    }

    async fn whole_put(
        &self,
        number: u64,
        kept: Kept,
        tell: &watch::Sender<PutNews>,
        cancelled: oneshot::Receiver<()>,
    ) {
        let Kept { request, source, states } = kept;
        let source = Arc::new(source);
        // A spool's key lives in memory only, and so does its put.
        let keeper = self.home().filter(|_| request.spool.is_none());
        let keeper = keeper.map(|home| (Arc::clone(home), format!("{FOLDER}/{number}")));
        let (secret, sharing) =
            (Secret::take(&mut { *source.secret().expose_secret() }), source.sharing());
        let mut kept_at: Option<Instant> = None;
        let mut keep = |states: &States| {
            let Some((home, file)) = &keeper else { return };
            if kept_at.is_some_and(|at| at.elapsed() < KEEP_EVERY) {
                return;
            }
            kept_at = Some(Instant::now());
            let bytes = encode(&request, sharing, &secret, states);
            let write = || {
                let sealed = seal(&load_key(home)?, bytes);
                home.write(file, &sealed).map_err(|error| error.to_string())
            };
            if let Err(error) = tokio::task::block_in_place(write) {
                tracing::warn!("cannot note what is stored, a restart would repeat it: {error}");
            }
        };
        keep(&states);
        let news = tell;
        let mut put = Put { files: self, request: &request, source, states, news, keep: &mut keep };
        let result = tokio::select! {
            result = put.run() => result,
            Ok(()) = cancelled => Err(FileError::Cancelled),
        };
        let stopping = matches!(result, Err(FileError::Stopping));
        if let Some((home, file)) = &keeper
            && !stopping
            && let Err(error) = home.remove(file)
        {
            tracing::warn!("{error}");
        }
        tell.send_modify(|news| match result {
            Ok(uri) => news.uri = Some(uri.to_string()),
            Err(error) => news.failed = Some(error.to_string()),
        });
    }
}

pub(in crate::driver) fn load_key(home: &Home) -> Result<Secret<32>, String> {
    home.secret(KEY_FILE).map_err(|error| error.to_string())
}

fn encode(
    request: &PutRequest,
    sharing: Sharing,
    secret: &Secret<32>,
    states: &States,
) -> Zeroizing<Vec<u8>> {
    let mut w = Writer::default();
    let tag = match sharing {
        Sharing::Context => 1,
        Sharing::Dedup => 2,
        Sharing::Random => 3,
    };
    let json = serde_json::to_vec(request).unwrap_or_default();
    w.u8(1).u8(tag).bytes(secret.expose_secret());
    w.u32(u32::try_from(json.len()).unwrap_or(0)).bytes(&json);
    let mut room = KEPT_MAX - json.len().min(KEPT_MAX / 2) - 256;
    let mut kept = Vec::new();
    for state in states.values().take(STATES_MAX) {
        let bytes = state.encode();
        let Some(left) = room.checked_sub(bytes.len() + 4) else { continue };
        room = left;
        kept.push(bytes);
    }
    w.u32(u32::try_from(kept.len()).unwrap_or(0));
    for bytes in kept {
        w.u32(u32::try_from(bytes.len()).unwrap_or(0)).bytes(&bytes);
    }
    Zeroizing::new(w.into_bytes())
}

fn decode(bytes: &[u8]) -> Result<Kept, WireError> {
    let mut r = Reader::new(bytes);
    if r.u8("format")? != 1 {
        return Err(WireError::Bad("format"));
    }
    let sharing = match r.u8("sharing")? {
        1 => Sharing::Context,
        2 => Sharing::Dedup,
        3 => Sharing::Random,
        _ => return Err(WireError::Bad("sharing")),
    };
    let source = KeySource::restored(sharing, Secret::take(&mut r.array("secret")?));
    let long =
        |r: &mut Reader<'_>| r.u32("length").map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    let len = long(&mut r)?;
    let request =
        serde_json::from_slice(r.slice(len, "request")?).map_err(|_| WireError::Bad("request"))?;
    let count = long(&mut r)?;
    let mut states = States::new();
    for _ in 0..count.min(STATES_MAX) {
        let len = long(&mut r)?;
        let state = StoreState::decode(r.slice(len, "state")?)?;
        states.insert(state.hash, state);
    }
    r.finish()?;
    Ok(Kept { request, source, states })
}

fn cipher(key: &Secret<32>, salt: &[u8; SALT_LEN]) -> Aead {
    Aead::new(&kdf::derive_secret(SEAL, &[key.expose_secret(), salt]))
}

/// Seals what is kept on the disk, under a key of its own.
pub(in crate::driver) fn seal(key: &Secret<32>, mut bytes: Zeroizing<Vec<u8>>) -> Vec<u8> {
    let salt = entropy::generator().bytes();
    let tag = cipher(key, &salt).seal_in_place(0, &[], &mut bytes);
    [&salt[..], &bytes[..], &tag[..]].concat()
}

/// Undoes `seal`, in place.
pub(in crate::driver) fn unseal<'a>(key: &Secret<32>, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
    let (salt, rest) = sealed.split_first_chunk_mut::<SALT_LEN>()?;
    let (bytes, tag) = rest.split_last_chunk_mut::<TAG_LEN>()?;
    cipher(key, salt).open_in_place(0, &[], bytes, tag).ok()?;
    Some(bytes)
}

fn open(key: &Secret<32>, sealed: &mut [u8]) -> Option<Kept> {
    decode(unseal(key, sealed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_back_and_nothing_else_is() {
        let key = Secret::take(&mut [7; 32]);
        let request = PutRequest { durable: true, ..PutRequest::default() };
        let state = StoreState { hash: [1; 32], below: 9, above: vec![11] };
        let states = States::from([([1; 32], state.clone())]);
        let bytes = encode(&request, Sharing::Random, &Secret::take(&mut [3; 32]), &states);
        let sealed = seal(&key, bytes);
        let kept = open(&key, &mut sealed.clone()).unwrap();
        assert_eq!((kept.request, kept.states.len()), (request, 1));
        assert!(kept.states.get(&[1; 32]) == Some(&state));
        assert_eq!(kept.source.sharing(), Sharing::Random);
        assert_eq!(kept.source.secret().expose_secret(), &[3; 32]);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open(&key, &mut bad).is_none());
            assert!(open(&key, &mut sealed[..at].to_vec()).is_none());
        }
    }
}
