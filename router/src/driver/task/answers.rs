//! What the API asks of the router's task.
//!
//! Lives here: each question's answer, and services that come and go. Does not live here: private
//! services (`shares.rs`), who is let into the network (`newcomers.rs`).

use tokio::runtime::Handle;
use warren_overlay::{crypto::blind::ServiceKey, id::EndNo};
use zeroize::Zeroizing;

use super::Task;
use crate::{
    driver::{
        ExposeRequest,
        allowance::Month,
        control::Ask,
        open_files,
        services::{self, Service},
    },
    node::{NodeInput, service_status},
    status::{ServiceStatus, Status},
};

impl Task {
    pub(super) fn answer(&mut self, ask: Ask) {
        // Whoever asked may have given up: that is their business.
        match ask {
            Ask::Status(sender) => {
                let _ = sender.send(self.status());
            }
            Ask::Relayed(sender) => {
                let _ = sender.send(self.host.cells_relayed());
            }
            Ask::Invite(sender) => {
                let _ = sender.send(self.host.node_ref().invite().to_line());
            }
            Ask::InviteFor(newcomer, sender) => {
                let _ = sender.send(self.invite_for(newcomer));
            }
            Ask::Befriend(request, sender) => {
                let _ = sender.send(self.befriend(&request));
            }
            Ask::Unfriend(name, sender) => {
                let _ = sender.send(self.unfriend(&name));
            }
            Ask::Services(sender) => {
                let all = self.services.iter().map(|(end, it)| self.service_status(*end, it));
                let _ = sender.send(all.collect());
            }
            Ask::Expose(request, sender) => {
                let _ = sender.send(self.expose(request));
            }
            Ask::Pinned(after, limit, sender) => {
                let _ = sender.send(self.host.holder_mut().pinned(after.as_ref(), limit));
            }
            Ask::Unpin(blocks, sender) => {
                self.host.holder_mut().unpin(&blocks);
                let _ = sender.send(());
            }
            Ask::PinUsage(sender) => {
                let _ = sender.send(self.host.holder_mut().pin_usage());
            }
            Ask::Limits { limits, sender } => {
                self.limits = limits;
                let _ = sender.send(self.hold_limits());
            }
            Ask::LimitsNow(sender) => {
                let _ = sender.send(self.limits.clone());
            }
            Ask::Edit { limits, sender } => {
                let _ = sender.send(self.edit_limits(limits));
            }
            Ask::Unexpose(label, sender) => {
                let _ = sender.send(self.unexpose(&label));
            }
            Ask::Steps(end, sender) => {
                let _ = sender.send(self.host.node_ref().way(end));
            }
            Ask::Private(ask) => self.answer_private(ask),
        }
    }

    fn status(&self) -> Status {
        let [link, proxy, api] = self.addresses.clone();
        let (files_open, files_limit) = (open_files::open(), open_files::limit());
        let host = self.host.status(self.clock.now());
        let month = self.allowance.state(self.limits.monthly_gib);
        let verdict = match month {
            Month::Free => host.verdict,
            Month::Ending | Month::Over => format!("{} {}", host.verdict, month.words()),
        };
        Status {
            verdict,
            month_mib: self.allowance.used() >> 20,
            month_limit_mib: u64::from(self.limits.monthly_gib) << 10,
            disk_mib: self.disk_mib,
            burst_ms: self.limits.burst_ms,
            transit_percent: self.limits.transit_percent,
            files_open,
            files_limit,
            mapping: self.mapped.words(),
            mapped: self.mapped.word().to_owned(),
            nearby: self.nearby.words(),
            tasks: Handle::current().metrics().num_alive_tasks() as u64,
            link,
            proxy,
            api,
            ..host
        }
    }

    pub(super) fn service_status(&self, end: EndNo, service: &Service) -> ServiceStatus {
        let state = self.host.node_ref().service(end);
        let (label, target) = (service.label.clone(), service.target.clone());
        let status = service_status(label, &service.name, target, state, self.clock.now().time);
        ServiceStatus { hops: service.hops, shares: service.shared(), ..status }
    }

    fn expose(&mut self, request: ExposeRequest) -> Result<ServiceStatus, String> {
        let ExposeRequest { target, label, hops, private } = request;
        if hops.is_some_and(|hops| !(1..=4).contains(&hops)) {
            return Err(format!("hops = {}: use 1 to 4", hops.unwrap_or_default()));
        }
        let label = label.unwrap_or_else(|| services::label_for(&target));
        if self.services.values().any(|service| service.label == label) {
            return Err(format!("there is a service {label:?} already: choose another --label"));
        }
        let key = ServiceKey::generate(&mut self.rng);
        let mut service = Service::new(label.clone(), target, hops, &key)?;
        service.shares = private.then(Vec::new);
        if let Some(home) = &self.home {
            // Its name must survive from the moment it is printed.
            service.save(home, &[]).map_err(|error| error.to_string())?;
        }
        self.add_service(service, Zeroizing::default());
        let added = self.services.iter().find(|(_, service)| service.label == label);
        added
            .map(|(end, service)| self.service_status(*end, service))
            .ok_or_else(|| "the service is gone already".into())
    }

    fn unexpose(&mut self, label: &str) -> Result<(), String> {
        let named = |service: &Service| service.label == label || service.name.to_string() == label;
        let found = self.services.iter().find(|(_, service)| named(service)).map(|(end, _)| *end);
        let end = found
            .ok_or_else(|| format!("no service is called {label:?}: see `warren services`"))?;
        if let Some(service) = self.services.remove(&end)
            && let Some(home) = &self.home
        {
            service.remove(home).map_err(|error| error.to_string())?;
        }
        let now = self.clock.now();
        self.host.node(now, NodeInput::Unexpose { end });
        Ok(())
    }
}
