//! Several whole routers in this process, over real TCP on loopback, with delay lines if asked.
//!
//! Lives here: starting them, so that each knows the first ones. Does not live here: the routers
//! (`driver`), the lines (`delay.rs`), what they are asked to do (`build.rs`, `far.rs`).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use warren_overlay::{ring::admission::Network, wire::RouterDescriptor};

use super::{actors, delay};
use crate::{
    config::ConfigFile,
    driver::{self, Handle, Setup},
    invite::Invite,
};

/// Routers that later ones are told of.
const SEEDS: usize = 3;
/// How long they may take to find each other.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How often they are asked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The routers.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) network: Network,
    pub(super) routers: Vec<Handle>,
    /// What each tells others of itself.
    pub(super) descriptors: Vec<Arc<RouterDescriptor>>,
    lines: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Starts `count` of them. With a delay, others reach each by a line of that length each way.
    pub(super) async fn start(count: u8, delay: Duration) -> io::Result<Self> {
        let network = actors::network();
        let mut this =
            Self { network, routers: Vec::new(), descriptors: Vec::new(), lines: Vec::new() };
        for k in 1..=count {
            this.add(k, delay).await?;
        }
        Ok(this)
    }

    async fn add(&mut self, k: u8, delay: Duration) -> io::Result<()> {
        let mut file = ConfigFile::default();
        file.link.listen = actors::address(k);
        file.proxy.listen.set_port(0);
        file.api.listen.set_port(0);
        file.limits.bandwidth_kbps = u32::MAX; // the machine is measured, not the limit
        let line = if delay.is_zero() {
            None
        } else {
            let listener = TcpListener::bind(actors::address(k)).await?;
            file.link.announce = listener.local_addr()?.to_string();
            Some(listener)
        };
        let config = file.resolve().map_err(io::Error::other)?;
        let peers = self.descriptors.iter().take(SEEDS).cloned().collect();
        let setup =
            Setup::in_memory(config, self.network.clone(), peers).map_err(io::Error::other)?;
        let router = driver::start(setup).await.map_err(io::Error::other)?;
        let stopped = || io::Error::other("a router stopped");
        let invite = router.invite().await.ok_or_else(stopped)?;
        let invite: Invite = invite.parse().map_err(io::Error::other)?;
        // The first of an invite is the router itself.
        self.descriptors.push(invite.routers.first().cloned().ok_or_else(stopped)?);
        if let Some(listener) = line {
            let status = router.status().await.ok_or_else(stopped)?;
            let to: SocketAddr = status.link.parse().map_err(io::Error::other)?;
            self.lines.push(tokio::spawn(delay::line(listener, to, delay)));
        }
        self.routers.push(router);
        Ok(())
    }

    /// Waits until `done` of `router`.
    pub(super) async fn wait(
        router: &Handle,
        what: &'static str,
        done: impl AsyncFn(&Handle) -> bool,
    ) -> io::Result<()> {
        let wait = async {
            while !done(router).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        timeout(READY_LIMIT, wait).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, what))
    }

    /// Waits until all have neighbours and tunnels.
    pub(super) async fn ready(&self) -> io::Result<()> {
        for router in &self.routers {
            Self::wait(router, "the routers do not find each other", async |router: &Handle| {
                router.status().await.is_some_and(|status| status.ready)
            })
            .await?;
        }
        Ok(())
    }

    /// Ends them all.
    pub(super) async fn stop(self) {
        for router in &self.routers {
            router.stop().await;
        }
        for line in self.lines {
            line.abort();
        }
    }
}
