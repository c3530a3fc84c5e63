//! Who is admitted to a private service, and which of them admit this router.
//!
//! Lives here: what the API's questions about shares do. Does not live here: lines, files and routes
//! (`driver/private.rs`).

use std::sync::Arc;

use warren_overlay::{
    id::EndNo,
    service::{AccessKey, Name},
};
use zeroize::Zeroizing;

use super::Task;
use crate::{
    driver::{
        StartError,
        private::{self, AccessAnswer, PrivateAsk, Refusal, SHARES_MAX, Share, ShareAnswer},
        services::Service,
    },
    node::NodeInput,
};

impl Task {
    /// What others share with this router, from the start.
    pub(super) fn load_access(&mut self) -> Result<(), StartError> {
        let Some(home) = &self.home else { return Ok(()) };
        for (name, key) in private::load(home)? {
            self.take(name, key);
        }
        Ok(())
    }

    /// Whoever asked may have given up: that is their business.
    pub(super) fn answer_private(&mut self, ask: PrivateAsk) {
        match ask {
            PrivateAsk::Share { label, to, answer } => {
                let _ = answer.send(self.share(&label, to));
            }
            PrivateAsk::Shares { label, answer } => {
                let shares = self.service(&label).map(|(_, service)| {
                    let shares = service.shares.iter().flatten();
                    shares.map(|share| share.to.clone()).collect()
                });
                let _ = answer.send(shares);
            }
            PrivateAsk::Revoke { label, to, answer } => {
                let _ = answer.send(self.revoke(&label, &to));
            }
            PrivateAsk::Accept { line, answer } => {
                let _ = answer.send(self.accept(&line));
            }
            PrivateAsk::Accepted { answer } => {
                let names = self.accepted.iter().map(ToString::to_string);
                let _ = answer.send(Ok(names.collect()));
            }
            PrivateAsk::Forget { name, answer } => {
                let _ = answer.send(self.forget(&name));
            }
        }
    }

    fn service(&mut self, label: &str) -> Result<(EndNo, &mut Service), Refusal> {
        let named = |service: &Service| service.label == label || service.name.to_string() == label;
        let found = self.services.iter_mut().find(|(_, service)| named(service));
        found.map(|(end, service)| (*end, service)).ok_or_else(|| {
            Refusal::NotFound(format!("no service is called {label:?}: see `warren services`"))
        })
    }

    /// Admits one more. A service that was for everybody is for this one alone from now on.
    fn share(&mut self, label: &str, to: String) -> Result<ShareAnswer, Refusal> {
        private::check_name(&to).map_err(Refusal::Refused)?;
        let key = Arc::new(AccessKey::generate(&mut self.rng));
        let (number, network) = (self.next_share, self.host.node_ref().network());
        let (end, service) = self.service(label)?;
        let was_public = service.shares.is_none();
        let shares = service.shares.clone().unwrap_or_default();
        if shares.iter().any(|share| share.to == to) {
            return Err(Refusal::Refused(format!(
                "it is shared with {to:?} already: choose another name, or `warren service revoke` \
                 that one first"
            )));
        }
        if shares.len() >= SHARES_MAX {
            return Err(Refusal::Refused(format!(
                "it is shared with {SHARES_MAX} already, and not with more: `warren service revoke` \
                 one, or give one line to several people"
            )));
        }
        let line = private::to_line(network, &service.name, &key).to_string();
        let share = Share { to, number, key };
        self.next_share = self.next_share.saturating_add(1);
        self.admit(end, [shares, vec![share]].concat())?;
        Ok(ShareAnswer { line, was_public })
    }

    /// Admits one less.
    fn revoke(&mut self, label: &str, to: &str) -> Result<(), Refusal> {
        let (end, service) = self.service(label)?;
        let mut shares = service.shares.clone().unwrap_or_default();
        let before = shares.len();
        shares.retain(|share| share.to != to);
        if shares.len() == before {
            return Err(Refusal::NotFound(format!(
                "{label} is not shared with {to:?}: see `warren service shares {label}`"
            )));
        }
        self.admit(end, shares)
    }

    /// Written down before it holds: a line that was handed out, or taken back, stays so.
    fn admit(&mut self, end: EndNo, shares: Vec<Share>) -> Result<(), Refusal> {
        let Some(service) = self.services.get_mut(&end) else { return Ok(()) };
        let before = service.shares.replace(shares);
        if let Some(home) = &self.home
            && let Err(error) = service.save_again(home)
        {
            service.shares = before;
            return Err(error.into());
        }
        let clients = service.clients();
        let now = self.clock.now();
        self.host.node(now, NodeInput::Admit { end, clients });
        Ok(())
    }

    fn accept(&mut self, line: &Zeroizing<String>) -> Result<AccessAnswer, Refusal> {
        let network = self.host.node_ref().network();
        let (name, key) = private::from_line(network, line).map_err(Refusal::Refused)?;
        if let Some(home) = &self.home {
            private::save(home, &name, &key)?;
        }
        self.take(name, Arc::new(key));
        Ok(AccessAnswer { name: name.to_string() })
    }

    fn take(&mut self, name: Name, key: Arc<AccessKey>) {
        self.accepted.insert(name);
        let now = self.clock.now();
        self.host.node(now, NodeInput::Access { name, key: Some(key) });
    }

    fn forget(&mut self, name: &str) -> Result<(), Refusal> {
        let known = name.parse().ok().filter(|name| self.accepted.contains(name));
        let name: Name = known.ok_or_else(|| {
            let words =
                format!("nobody shares {name:?} with this router: see `warren service accepted`");
            Refusal::NotFound(words)
        })?;
        if let Some(home) = &self.home {
            private::remove(home, &name)?;
        }
        self.accepted.remove(&name);
        let now = self.clock.now();
        self.host.node(now, NodeInput::Access { name, key: None });
        Ok(())
    }
}
