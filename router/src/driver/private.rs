//! Private services: with whom ours are shared, and what others share with this router.
//!
//! Lives here: the share line, shares as the operator knows them, the files of accepted ones, and
//! the API's routes about all that. Does not live here: what an access key opens
//! (`overlay::service`), the file of a service with its shares (`services.rs`).
//!
//! | route | answer |
//! |-------|--------|
//! | `GET /v1/services/LABEL/shares` | list of names |
//! | `POST /v1/services/LABEL/shares` `{"to"}` | `ShareAnswer` |
//! | `DELETE /v1/services/LABEL/shares/NAME` | 204 |
//! | `GET /v1/access` | list of services' names |
//! | `POST /v1/access` `{"line"}` | `AccessAnswer` |
//! | `DELETE /v1/access/NAME` | 204 |
//!
//! `access/LETTERS`, the first 56 letters of a service's name: its access key, 32 bytes.
//!
//! `warren-share-` and base32 (RFC 4648, no padding, any letter case) of:
//!
//! | bytes | field |
//! |-------|-------|
//! | 32    | the service's key |
//! | 32    | access key |
//! | 4     | first bytes of BLAKE3 over network id and both: a mistyped line, or one of another network, is refused |

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use warren_overlay::{
    crypto::{kdf, secret::Secret},
    id::NetworkId,
    service::{AccessKey, Name, NameKind},
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use super::{
    StartError,
    control::{Api, Ask, Gone, ask, failure},
};
use crate::home::Home;

/// Clients of one service: their descriptors are records of their own, and a handshake that is
/// nobody's is tried under each key.
pub(super) const SHARES_MAX: usize = 16;
/// Services that one router is admitted to.
const ACCESS_MAX: usize = 256;
/// Longest name of a client.
const NAME_MAX: usize = 63;
const PREFIX: &str = "warren-share-";
const LINE_LEN: usize = 32 + 32 + 4;
const FOLDER: &str = "access";

/// One client of a private service.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// What the operator calls it.
    pub(super) to: String,
    /// Never used for another while this process runs.
    pub(super) number: u32,
    pub(super) key: Arc<AccessKey>,
}

impl Share {
    /// | bytes | field |
    /// |-------|-------|
    /// | 1 + n | name |
    /// | 32    | access key |
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u8(u8::try_from(self.to.len()).unwrap_or(0)).bytes(self.to.as_bytes());
        w.bytes(self.key.secret_bytes().expose_secret());
    }

    pub(super) fn decode(number: u32, r: &mut Reader<'_>) -> Result<Self, WireError> {
        let len = usize::from(r.u8("share name length")?);
        let name = std::str::from_utf8(r.slice(len, "share name")?).ok();
        let to = name.filter(|to| check_name(to).is_ok()).ok_or(WireError::Bad("share name"))?;
        let to = to.to_owned();
        let key = AccessKey::from_bytes(Secret::take(&mut r.array("access key")?));
        Ok(Self { to, number, key: Arc::new(key) })
    }
}

/// A client's name is one word, so that it fits commands and routes.
pub(super) fn check_name(to: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if to.is_empty() || to.len() > NAME_MAX || !to.chars().all(plain) {
        return Err(format!("name {to:?}: use 1 to {NAME_MAX} letters, digits, - and _"));
    }
    Ok(())
}

/// The line for a client.
pub(super) fn to_line(network: NetworkId, name: &Name, key: &AccessKey) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINE_LEN));
    bytes.extend_from_slice(name.key());
    bytes.extend_from_slice(key.secret_bytes().expose_secret());
    let sum = checksum(network, &bytes);
    bytes.extend_from_slice(&sum);
    let letters = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
    Zeroizing::new(format!("{PREFIX}{}", letters.to_ascii_lowercase()))
}

/// What a line says.
pub(super) fn from_line(network: NetworkId, line: &str) -> Result<(Name, AccessKey), String> {
    read_line(network, line).ok_or_else(|| {
        "this is no share of this network: copy the whole line that `warren service share` printed \
         on a router of the same network"
            .into()
    })
}

fn read_line(network: NetworkId, line: &str) -> Option<(Name, AccessKey)> {
    let line = Zeroizing::new(line.trim().to_ascii_uppercase());
    let letters = line.strip_prefix(&PREFIX.to_ascii_uppercase())?;
    let bytes = Zeroizing::new(BASE32_NOPAD.decode(letters.as_bytes()).ok()?);
    let whole: &[u8; LINE_LEN] = bytes.as_slice().try_into().ok()?;
    let (body, sum) = whole.split_last_chunk::<4>()?;
    if checksum(network, body) != *sum {
        return None;
    }
    let (key, rest) = body.split_first_chunk::<32>()?;
    let mut secret: [u8; 32] = rest.try_into().ok()?;
    let name = Name::new(*key, NameKind::Service)?;
    Some((name, AccessKey::from_bytes(Secret::take(&mut secret))))
}

fn checksum(network: NetworkId, body: &[u8]) -> [u8; 4] {
    kdf::derive("warren share 1", &[network.as_bytes(), body])
}

/// What others share with the router of a folder.
pub(super) fn load(home: &Home) -> Result<Vec<(Name, Arc<AccessKey>)>, StartError> {
    let mut all = Vec::new();
    for letters in home.list(FOLDER)? {
        let file = format!("{FOLDER}/{letters}");
        let Some(bytes) = home.read(&file)? else { continue };
        let name: Name = format!("{letters}.warren").parse().map_err(|_| home.damaged(&file))?;
        let mut key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| home.damaged(&file))?;
        all.push((name, Arc::new(AccessKey::from_bytes(Secret::take(&mut key)))));
    }
    Ok(all)
}

/// Keeps an access key for the next start.
pub(super) fn save(home: &Home, name: &Name, key: &AccessKey) -> Result<(), StartError> {
    if home.list(FOLDER)?.len() >= ACCESS_MAX {
        return Err(StartError::Setup(format!(
            "this router keeps {ACCESS_MAX} shares already: `warren service forget NAME` ends one"
        )));
    }
    Ok(home.write(&file(name), key.secret_bytes().expose_secret())?)
}

/// Forgets it for good.
pub(super) fn remove(home: &Home, name: &Name) -> Result<(), StartError> {
    Ok(home.remove(&file(name))?)
}

fn file(name: &Name) -> String {
    let text = name.to_string();
    format!("{FOLDER}/{}", text.strip_suffix(".warren").unwrap_or(&text))
}

/// What the API asks of the router's task.
#[derive(Debug)]
pub(crate) enum PrivateAsk {
    /// Share the service of this label with one more.
    Share { label: String, to: String, answer: Answered<ShareAnswer> },
    /// With whom is it shared?
    Shares { label: String, answer: Answered<Vec<String>> },
    /// Share it no longer with this one.
    Revoke { label: String, to: String, answer: Answered<()> },
    /// Take what somebody shares.
    Accept { line: Zeroizing<String>, answer: Answered<AccessAnswer> },
    /// What is shared with this router?
    Accepted { answer: Answered<Vec<String>> },
    /// Forget it.
    Forget { name: String, answer: Answered<()> },
}

/// Where the answer goes: what was asked for, or why not, in words.
pub(crate) type Answered<T> = oneshot::Sender<Result<T, Refusal>>;

/// Why not.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// There is no such thing.
    NotFound(String),
    /// It cannot be.
    Refused(String),
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// `POST /v1/services/LABEL/shares`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ShareRequest {
    /// What to call the client.
    pub(crate) to: String,
}

/// Its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ShareAnswer {
    /// What the client passes to `warren service accept`.
    pub(crate) line: String,
    /// Whether everybody could reach the service before.
    pub(crate) was_public: bool,
}

/// `POST /v1/access`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AccessRequest {
    /// What `warren service share` printed.
    pub(crate) line: String,
}

/// Its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AccessAnswer {
    /// The service.
    pub(crate) name: String,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/services/{label}/shares", get(shares).post(share))
        .route("/v1/services/{label}/shares/{to}", delete(revoke))
        .route("/v1/access", get(accepted).post(accept))
        .route("/v1/access/{name}", delete(forget))
}

async fn put<T>(api: &Api, make: impl FnOnce(Answered<T>) -> PrivateAsk) -> Result<T, Response> {
    let answer: Result<Result<T, Refusal>, Gone> = ask(api, |to| Ask::Private(make(to))).await;
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Refusal::NotFound(why))) => Err(failure(StatusCode::NOT_FOUND, why)),
        Ok(Err(Refusal::Refused(why))) => Err(failure(StatusCode::BAD_REQUEST, why)),
        Err(gone) => Err(gone.into_response()),
    }
}

async fn shares(State(api): State<Api>, Path(label): Path<String>) -> Response {
    let all = put(&api, |answer| PrivateAsk::Shares { label, answer }).await;
    all.map_or_else(|refused| refused, |all| Json(all).into_response())
}

async fn share(
    State(api): State<Api>,
    Path(label): Path<String>,
    Json(request): Json<ShareRequest>,
) -> Response {
    let to = request.to;
    let shared = put(&api, |answer| PrivateAsk::Share { label, to, answer }).await;
    shared.map_or_else(|refused| refused, |shared| Json(shared).into_response())
}

async fn revoke(State(api): State<Api>, Path((label, to)): Path<(String, String)>) -> Response {
    let done = put(&api, |answer| PrivateAsk::Revoke { label, to, answer }).await;
    done.map_or_else(|refused| refused, |()| StatusCode::NO_CONTENT.into_response())
}

async fn accepted(State(api): State<Api>) -> Response {
    let all = put(&api, |answer| PrivateAsk::Accepted { answer }).await;
    all.map_or_else(|refused| refused, |all| Json(all).into_response())
}

async fn accept(State(api): State<Api>, Json(request): Json<AccessRequest>) -> Response {
    let line = Zeroizing::new(request.line);
    let taken = put(&api, |answer| PrivateAsk::Accept { line, answer }).await;
    taken.map_or_else(|refused| refused, |taken| Json(taken).into_response())
}

async fn forget(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let done = put(&api, |answer| PrivateAsk::Forget { name, answer }).await;
    done.map_or_else(|refused| refused, |()| StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_overlay::{crypto::blind::ServiceKey, rng::Rng};

    use super::*;

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn shared() -> (Name, AccessKey) {
        let key = ServiceKey::from_seed(Secret::take(&mut [1; 32]));
        (Name::of_service(&key), AccessKey::from_bytes(Secret::take(&mut [2; 32])))
    }

    fn line() -> String {
        let (name, key) = shared();
        to_line(NETWORK, &name, &key).to_string()
    }

    proptest! {
        /// 32 bits of checksum let one slip in four thousand million through; these are single letters.
        #[test]
        fn a_mistyped_letter_is_noticed(at in 0..109usize, letter in "[a-z2-7]") {
            let mut text = line();
            text.replace_range(13 + at..=13 + at, &letter);
            prop_assert_eq!(read_line(NETWORK, &text).is_some(), text == line());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = read_line(NETWORK, &text);
            let _ = read_line(NETWORK, &format!("{PREFIX}{text}"));
        }
    }

    #[test]
    fn a_line_is_read_in_any_letter_case_and_in_its_network_alone() {
        let (name, key) = shared();
        for text in [line(), line().to_ascii_uppercase(), format!("  {}\n", line())] {
            let (read, access) = from_line(NETWORK, &text).unwrap();
            assert_eq!(read, name);
            let bytes = access.secret_bytes().expose_secret();
            assert_eq!(bytes, key.secret_bytes().expose_secret());
        }
        let refused = from_line(NetworkId([8; 32]), &line()).unwrap_err();
        assert!(refused.contains("warren service share"), "{refused}");
        assert!(from_line(NETWORK, &line()[1..]).is_err());
        assert!(from_line(NETWORK, "").is_err());
    }

    #[test]
    fn a_line_has_the_documented_letters() {
        let letters = "rkeohxlubhyzl7ks3mwtzos5olfgocn7dwkbeg7toseadnapn5oaeaqcaibaeaqcaibaeaqcaibaeaq\
                       caibaeaqcaibaeaqcaibaeatq5dm62";
        assert_eq!(line(), format!("{PREFIX}{letters}"));
    }

    #[test]
    fn names_of_clients_are_one_word() {
        assert!(check_name("anna-2_x").is_ok());
        for bad in ["", "a b", "a/b", "..", "é", &"a".repeat(64)] {
            assert!(check_name(bad).unwrap_err().contains("letters"), "{bad}");
        }
    }

    #[test]
    fn a_share_is_kept_as_it_was() {
        let key = Arc::new(AccessKey::generate(&mut Rng::from_seed([3; 32])));
        let share = Share { to: "anna".into(), number: 7, key };
        let mut w = Writer::default();
        share.encode(&mut w);
        let bytes = w.into_bytes();
        let again = Share::decode(8, &mut Reader::new(&bytes)).unwrap();
        assert_eq!((again.to.as_str(), again.number), ("anna", 8));
        let secret = |share: &Share| *share.key.secret_bytes().expose_secret();
        assert_eq!(secret(&again), secret(&share));
        for len in 0..bytes.len() {
            assert!(Share::decode(8, &mut Reader::new(&bytes[..len])).is_err());
        }
    }
}
