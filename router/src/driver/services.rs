//! The hidden services' files and targets.
//!
//! Lives here: what is kept of a service, by label. Does not live here: sessions, publishing (node).
//!
//! `services/LABEL`:
//!
//! | bytes | field |
//! |-------|-------|
//! | 32    | key seed, Ed25519 |
//! | 1     | hops of its tunnels, 1 to 4; 0: the router's; and 128 if it is private |
//! | 1 + n | target, HOST:PORT |
//! | 1 + k | private: number of shares, at most 16, and each (`Share::encode`) |
//! | m     | state (`Saved::Service`) |

use warren_overlay::{
    crypto::{blind::ServiceKey, secret::Secret},
    service::Name,
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use super::{
    StartError,
    private::{SHARES_MAX, Share},
};
use crate::{home::Home, node::Clients};

/// Longest label.
const LABEL_MAX: usize = 63;
/// In the byte of the hops.
const PRIVATE: u8 = 0x80;

/// A service as the driver knows it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) label: String,
    pub(super) name: Name,
    pub(super) target: String,
    /// Hops of its tunnels, 1 to 4; none for the router's.
    pub(super) hops: Option<u8>,
    /// With whom it is shared; none for everybody who knows its name.
    pub(super) shares: Option<Vec<Share>>,
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
        Ok(Self { label, name, target, hops, shares: None, seed })
    }

    /// Who may reach it.
    pub(super) fn clients(&self) -> Clients {
        let shares = self.shares.as_ref()?;
        Some(shares.iter().map(|share| (share.number, share.key.clone())).collect())
    }

    /// How many it is shared with, if it is private.
    pub(super) fn shared(&self) -> Option<u32> {
        self.shares.as_ref().map(|shares| u32::try_from(shares.len()).unwrap_or(u32::MAX))
    }

    /// Its key, once more.
    pub(super) fn key(&self) -> ServiceKey {
        let mut seed = *self.seed.expose_secret();
        ServiceKey::from_seed(Secret::take(&mut seed))
    }

    /// Writes it down.
    pub(super) fn save(&self, home: &Home, state: &[u8]) -> Result<(), StartError> {
        Ok(home.write(&path(&self.label), &self.encode(state))?)
    }

    fn encode(&self, state: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::default();
        w.bytes(self.seed.expose_secret());
        w.u8(self.hops.unwrap_or(0) | if self.shares.is_some() { PRIVATE } else { 0 });
        w.u8(u8::try_from(self.target.len()).unwrap_or(0)).bytes(self.target.as_bytes());
        if let Some(shares) = &self.shares {
            w.u8(u8::try_from(shares.len()).unwrap_or(0));
            for share in shares {
                share.encode(&mut w);
            }
        }
        w.bytes(state);
        Zeroizing::new(w.into_bytes())
    }

    /// Writes it down anew, with the state that was saved last.
    pub(super) fn save_again(&self, home: &Home) -> Result<(), StartError> {
        let file = path(&self.label);
        let Some(bytes) = home.read(&file)? else { return self.save(home, &[]) };
        let (_, state) = decode(self.label.clone(), &bytes).map_err(|_| home.damaged(&file))?;
        self.save(home, &state)
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

/// A service's file with another target.
///
/// # Errors
/// When the file is damaged or the target cannot be used; in words.
pub(crate) fn with_target(
    label: &str,
    bytes: &[u8],
    target: &str,
) -> Result<Zeroizing<Vec<u8>>, String> {
    check_target(target)?;
    let damaged = |_| format!("what is kept of the service {label:?} is damaged");
    let (mut service, state) = decode(label.to_owned(), bytes).map_err(damaged)?;
    target.clone_into(&mut service.target);
    Ok(service.encode(&state))
}

fn decode(label: String, bytes: &[u8]) -> Result<Loaded, WireError> {
    let mut r = Reader::new(bytes);
    let mut seed = r.array("service seed")?;
    let head = r.u8("service hops")?;
    let hops = match head & !PRIVATE {
        0 => None,
        hops @ 1..=4 => Some(hops),
        _ => return Err(WireError::Bad("service hops")),
    };
    let len = usize::from(r.u8("service target length")?);
    let target = std::str::from_utf8(r.slice(len, "service target")?)
        .map_err(|_| WireError::Bad("service target"))?
        .to_owned();
    let shares = if head & PRIVATE == 0 { None } else { Some(decode_shares(&mut r)?) };
    let state = Zeroizing::new(r.rest().to_vec());
    let key = ServiceKey::from_seed(Secret::take(&mut seed));
    let mut service =
        Service::new(label, target, hops, &key).map_err(|_| WireError::Bad("service target"))?;
    service.shares = shares;
    Ok((service, state))
}

fn decode_shares(r: &mut Reader<'_>) -> Result<Vec<Share>, WireError> {
    let count = u32::from(r.u8("service shares")?);
    if count as usize > SHARES_MAX {
        return Err(WireError::Bad("service shares"));
    }
    // 0 is everybody's number.
    (1..=count).map(|number| Share::decode(number, r)).collect()
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
    use std::sync::Arc;

    use warren_overlay::{rng::Rng, service::AccessKey};

    use super::*;

    #[test]
    fn a_private_service_is_read_back_with_its_shares_and_a_public_one_with_none() {
        let dir = std::env::temp_dir().join(format!("warren-shares-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let home = Home::open(&dir).unwrap();
        let mut rng = Rng::from_seed([1; 32]);
        let key = ServiceKey::generate(&mut rng);
        let mut one = Service::new("one".into(), "127.0.0.1:80".into(), Some(4), &key).unwrap();
        one.save(&home, b"state").unwrap();
        let mut share = |to: &str, number| Share {
            to: to.into(),
            number,
            key: Arc::new(AccessKey::generate(&mut rng)),
        };
        one.shares = Some(vec![share("anna", 3), share("bert", 9)]);
        one.label = "two".into();
        one.save(&home, b"state").unwrap();
        let loaded = load(&home).unwrap();
        let _ = std::fs::remove_dir_all(&dir);
        let [(public, first), (private, second)] = &loaded[..] else { panic!("two services") };
        assert_eq!((first.as_slice(), second.as_slice()), (&b"state"[..], &b"state"[..]));
        assert_eq!((public.hops, public.shared(), private.hops), (Some(4), None, Some(4)));
        let names = |it: &Service| it.shares.iter().flatten().map(|s| s.to.clone()).collect();
        let names: Vec<String> = names(private);
        assert_eq!((names, private.shared()), (vec!["anna".into(), "bert".into()], Some(2)));
        let moved = with_target("two", &private.encode(b"state"), "127.0.0.1:81").unwrap();
        let (moved, state) = decode("two".into(), &moved).unwrap();
        assert_eq!((moved.target.as_str(), moved.shared()), ("127.0.0.1:81", Some(2)));
        assert_eq!(state.as_slice(), b"state");
        assert!(with_target("two", b"", "127.0.0.1:81").unwrap_err().contains("damaged"));
        assert!(with_target("two", b"", "81").unwrap_err().contains("HOST:PORT"));
        let secret =
            |it: &Service| *it.shares.as_ref().unwrap()[1].key.secret_bytes().expose_secret();
        assert_eq!(secret(private), secret(&one));
    }

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
