//! Friends on disk, `friends/NAME` in the router's folder, and the API's routes about them.
//!
//! Lives here: adding, removing and loading them. Does not live here: the commands (`cli/friend.rs`), links
//! with them (`node/friends.rs`).
//!
//! | route | answer |
//! |-------|--------|
//! | `POST /v1/friends` `{"line", "name"}` | `FriendAnswer` |
//! | `DELETE /v1/friends/NAME` | 204 |

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use serde::{Deserialize, Serialize};
use warren_overlay::{
    ring::admission::{Mode, Network},
    wire::RouterDescriptor,
};

use super::{
    StartError,
    control::{Api, Ask, ask, failure},
};
use crate::{home::Home, invite::Invite, node::FRIENDS_MAX};

/// Letters of a friend's identity that are its name where nobody gave another.
const LETTERS: usize = 8;

/// `POST /v1/friends`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct FriendRequest {
    /// What `warren invite` printed there.
    pub(crate) line: String,
    /// What to call the friend; letters of its identity when absent.
    pub(crate) name: Option<String>,
}

/// Its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct FriendAnswer {
    /// What it is called.
    pub(crate) name: String,
}

/// A name, and who it is.
pub(crate) type Named = (String, Arc<RouterDescriptor>);

fn file(name: &str) -> String {
    format!("friends/{name}")
}

/// All friends, by name.
///
/// # Errors
/// When a file cannot be read or is damaged.
pub(crate) fn load(home: &Home, network: &Network) -> Result<Vec<Named>, StartError> {
    let id = network.id();
    let mut friends = Vec::new();
    for name in home.list("friends")? {
        let Some(bytes) = home.read(&file(&name))? else { continue };
        let friend =
            RouterDescriptor::decode(&bytes, id).map_err(|_| home.damaged(&file(&name)))?;
        friends.push((name, Arc::new(friend)));
    }
    Ok(friends)
}

/// Keeps a friend under `name`, or under letters of its identity; says under which.
///
/// # Errors
/// When the network is not one of friends, there are too many, the name is another's, or the file cannot be
/// written.
pub(crate) fn add(
    home: &Home,
    network: &Network,
    name: Option<&str>,
    friend: &RouterDescriptor,
) -> Result<String, StartError> {
    let fail = |text: String| Err(StartError::Setup(text));
    if network.mode != Mode::Friends {
        return fail(
            "this network is not one of friends: its routers choose links by themselves".into(),
        );
    }
    let letters = friend.id().to_string();
    let name = name.unwrap_or(letters.get(..LETTERS).unwrap_or(&letters));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        return fail(format!("{name:?} is no name: use 1 to 63 letters, digits, - and _"));
    }
    let known = load(home, network)?;
    if let Some((_, other)) = known.iter().find(|(other, _)| other == name)
        && other.id() != friend.id()
    {
        return fail(format!("another friend is called {name}: choose another name with --name"));
    }
    for (other, _) in known.iter().filter(|(other, it)| it.id() == friend.id() && other != name) {
        home.remove(&file(other))?;
    }
    if known.len() >= FRIENDS_MAX && known.iter().all(|(_, it)| it.id() != friend.id()) {
        return fail(format!("{FRIENDS_MAX} friends are all there may be: remove one first"));
    }
    home.write(&file(name), &friend.encode())?;
    Ok(name.to_owned())
}

/// Keeps the router that a line names first as a friend; says under which name.
///
/// # Errors
/// When the line is none, or of another network, and those of [`add`].
pub(crate) fn take(
    home: &Home,
    network: &Network,
    request: &FriendRequest,
) -> Result<String, StartError> {
    let fail = |text: &str| StartError::Setup(text.to_owned());
    let invite: Invite = request.line.parse().map_err(|_| {
        fail("this is no friend's line: copy the whole line that `warren invite` printed there")
    })?;
    if invite.network != *network {
        return Err(fail(
            "this line is of another network: ask for one of the network of this router",
        ));
    }
    let friend = invite.routers.first().ok_or_else(|| fail("this line names nobody"))?;
    add(home, network, request.name.as_deref(), friend)
}

/// Forgets the friend that is called `name`.
///
/// # Errors
/// When nobody is called so.
pub(crate) fn remove(home: &Home, network: &Network, name: &str) -> Result<(), StartError> {
    if load(home, network)?.iter().all(|(known, _)| known != name) {
        return Err(StartError::Setup(format!(
            "no friend is called {name:?}: see `warren friend list`"
        )));
    }
    Ok(home.remove(&file(name))?)
}

/// A friend described itself anew.
pub(super) fn described(home: &Home, friend: &RouterDescriptor) -> Result<(), StartError> {
    for name in home.list("friends")? {
        let path = file(&name);
        let Some(bytes) = home.read(&path)? else { continue };
        let old = RouterDescriptor::decode(&bytes, friend.fields().network);
        if old.is_ok_and(|old| old.id() == friend.id()) {
            home.write(&path, &friend.encode())?;
        }
    }
    Ok(())
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/friends", post(befriend)).route("/v1/friends/{name}", delete(unfriend))
}

async fn befriend(State(api): State<Api>, Json(request): Json<FriendRequest>) -> Response {
    match ask(&api, |sender| Ask::Befriend(request, sender)).await {
        Ok(Ok(name)) => Json(FriendAnswer { name }).into_response(),
        Ok(Err(why)) => failure(StatusCode::BAD_REQUEST, why),
        Err(gone) => gone.into_response(),
    }
}

async fn unfriend(State(api): State<Api>, Path(name): Path<String>) -> Response {
    match ask(&api, |sender| Ask::Unfriend(name, sender)).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(why)) => failure(StatusCode::NOT_FOUND, why),
        Err(gone) => gone.into_response(),
    }
}
