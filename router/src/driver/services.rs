//! The hidden services' files and targets.
//!
//! Lives here: what is kept of a service, by label. Does not live here: sessions, publishing (node).
//!
//! `services/LABEL`:
//!
//! | bytes | field |
//! |-------|-------|
//! | 32    | key seed, Ed25519 |
//! | 1     | hops of its tunnels, 1 to 4; 0: the router's |
//! | 1 + n | target, HOST:PORT |
//! | m     | state (`Saved::Service`) |

use warren_overlay::{
    crypto::{blind::ServiceKey, secret::Secret},
    service::Name,
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use super::StartError;
use crate::home::Home;

/// Longest label.
const LABEL_MAX: usize = 63;

/// A service as the driver knows it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) label: String,
    pub(super) name: Name,
    pub(super) target: String,
    /// Hops of its tunnels, 1 to 4; none for the router's.
    pub(super) hops: Option<u8>,
    seed: Secret<32>,
}

impl Service {
    /// A service with a new key.
    ///
    /// # Errors
    /// When label or target cannot be used; in words.
    pub(super) fn new(
        label: String,
        target: String,
        hops: Option<u8>,
        key: &ServiceKey,
    ) -> Result<Self, String> {
        check_label(&label)?;
        check_target(&target)?;
        let mut seed = *key.seed().expose_secret();
        let (name, seed) = (Name::of_service(key), Secret::take(&mut seed));
        Ok(Self { label, name, target, hops, seed })
    }

    /// Its key, once more.
    pub(super) fn key(&self) -> ServiceKey {
        let mut seed = *self.seed.expose_secret();
        ServiceKey::from_seed(Secret::take(&mut seed))
    }

    /// Writes it down.
    pub(super) fn save(&self, home: &Home, state: &[u8]) -> Result<(), StartError> {
        let mut w = Writer::default();
        w.bytes(self.seed.expose_secret());
        w.u8(self.hops.unwrap_or(0));
        w.u8(u8::try_from(self.target.len()).unwrap_or(0)).bytes(self.target.as_bytes());
        w.bytes(state);
        let bytes = Zeroizing::new(w.into_bytes());
        Ok(home.write(&path(&self.label), &bytes)?)
    }

    /// Forgets its key for good.
    pub(super) fn remove(&self, home: &Home) -> Result<(), StartError> {
        Ok(home.remove(&path(&self.label))?)
    }
}

fn path(label: &str) -> String {
    format!("services/{label}")
}

/// A service and its state.
pub(super) type Loaded = (Service, Zeroizing<Vec<u8>>);

/// Every service of a folder, with its state.
pub(super) fn load(home: &Home) -> Result<Vec<Loaded>, StartError> {
    let mut services = Vec::new();
    for label in home.list("services")? {
        let file = path(&label);
        let Some(bytes) = home.read(&file)? else { continue };
        let service = decode(label, &bytes).map_err(|_| home.damaged(&file))?;
        services.push(service);
    }
    Ok(services)
}

fn decode(label: String, bytes: &[u8]) -> Result<Loaded, WireError> {
    let mut r = Reader::new(bytes);
    let mut seed = r.array("service seed")?;
    let hops = match r.u8("service hops")? {
        0 => None,
        hops @ 1..=4 => Some(hops),
        _ => return Err(WireError::Bad("service hops")),
    };
    let len = usize::from(r.u8("service target length")?);
    let target = std::str::from_utf8(r.slice(len, "service target")?)
        .map_err(|_| WireError::Bad("service target"))?
        .to_owned();
    let state = Zeroizing::new(r.rest().to_vec());
    let key = ServiceKey::from_seed(Secret::take(&mut seed));
    let service =
        Service::new(label, target, hops, &key).map_err(|_| WireError::Bad("service target"))?;
    Ok((service, state))
}

/// A label made from a target: `127.0.0.1:8080` is `127-0-0-1-8080`.
pub(super) fn label_for(target: &str) -> String {
    target
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(LABEL_MAX)
        .collect()
}

fn check_label(label: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if label.is_empty() || label.len() > LABEL_MAX || !label.chars().all(plain) {
        return Err(format!("label {label:?}: use 1 to {LABEL_MAX} letters, digits, - and _"));
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), String> {
    let valid = target
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    if valid && target.len() <= 255 {
        return Ok(());
    }
    Err(format!("target {target:?}: write it as HOST:PORT, like 127.0.0.1:8080"))
}

#[cfg(test)]
mod tests {
    use warren_overlay::rng::Rng;

    use super::*;

    #[test]
    fn labels_and_targets_are_checked() {
        let key = ServiceKey::generate(&mut Rng::from_seed([1; 32]));
        let new = |label: &str, target: &str| Service::new(label.into(), target.into(), None, &key);
        assert!(new("blog", "127.0.0.1:8080").is_ok());
        assert!(new("../x", "127.0.0.1:8080").unwrap_err().contains("letters"));
        assert!(new("blog", "8080").unwrap_err().contains("HOST:PORT"));
        assert!(new("blog", "localhost:0").is_err());
        assert_eq!(label_for("127.0.0.1:8080"), "127-0-0-1-8080");
    }
}
