//! The tokio driver: sockets and clocks around one `Host`.
//!
//! Lives here: the router's task, which owns the host and does what it says, and the handle to it.
//! Does not live here: any decision of the protocol (`host`, `node`), the folder's files (`home`),
//! one connection's reading and writing (`conn`, `front`, `streams`), the control API's routes
//! (`control`).
//!
//! ```text
//!  link sockets --bytes--> +---------------+ --frames--> link sockets
//!  front door  --streams-> | router's task | --streams-> front door, service targets
//!  control API --asks----> |  owns a Host  | --answers-> control API
//!  timers -----------------+---------------+ --state---> home
//! ```
//!
//! One task a router: see docs/decisions/0001-one-task-a-router.md.

mod allowance;
pub(crate) mod bundles;
mod change;
mod clock;
mod conn;
pub(crate) mod control;
pub(crate) mod files;
pub(crate) mod friends;
mod front;
mod history;
mod inbox;
mod lan;
mod limits;
mod mapping;
mod metrics;
mod natpmp;
pub(crate) mod open_files;
mod outbound;
mod page;
pub(crate) mod pins;
pub(crate) mod private;
mod race;
pub(crate) mod services;
pub(crate) mod setup;
pub(crate) mod sites;
mod streams;
mod task;
mod upnp;
pub(crate) mod why;

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use warren_overlay::{
    id::{EndNo, LinkNo},
    session::AppCommand,
};
use warren_proxy::{Destination, IsolationKey, IsolationSecret, Listener, VirtualAddresses};

use self::{
    clock::Clock,
    control::Ask,
    files::Files,
    lan::{Lan, News},
    mapping::{Gateway, Mapped, Mapping},
    sites::Sites,
    streams::StreamHandle,
};
pub(crate) use self::{control::ExposeRequest, setup::Setup};
use crate::{
    config::{Announce, LimitsFile},
    entropy,
    home::HomeError,
    node::{JobEvent, JobInput, JobNo},
    remedy,
    status::{ServiceStatus, Status},
};

/// Events that may wait for the router's task. Full means its senders wait. Bytes of links are not among
/// them: what the task has no time for stays in the kernel.
const EVENTS_MAX: usize = 256;

/// Everything that happens to a router from outside.
#[derive(Debug)]
pub(crate) enum Event {
    /// A router dialled us.
    Accepted { stream: TcpStream, source: SocketAddr },
    /// Our dial ended.
    Dialled { link: LinkNo, result: std::io::Result<(SocketAddr, TcpStream)> },
    /// A link's socket has something to read, since then.
    Readable { link: LinkNo, at: Instant },
    /// A link's socket has room again.
    Writable { link: LinkNo },
    /// An application wants a stream.
    Open {
        destination: Destination,
        isolation: IsolationKey,
        answer: oneshot::Sender<Result<StreamHandle, warren_proxy::Failure>>,
    },
    /// An application's stream moves on.
    App { end: EndNo, command: AppCommand },
    /// A transfer begins; what it is told goes there.
    JobBegin { job: JobNo, to: mpsc::UnboundedSender<JobEvent> },
    /// A transfer wants something of its tunnels.
    Job { job: JobNo, input: JobInput },
    /// The control API asks.
    Control(Ask),
    /// The line's router forwards a port, or does not.
    Mapped(Mapped),
    /// Of routers nearby.
    Lan(News),
    /// Leave: say goodbye and stop.
    Stop,
}

/// Why a router could not start. Each text names the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A port is taken, most likely.
    #[error("cannot listen on {address} ({what}): {source}; choose another with {flag}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The folder or a file in it.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The control socket or another local file.
    #[error("{}", remedy::words(.0))]
    Io(#[from] std::io::Error),
    /// Anything else that setting up found wrong.
    #[error("{0}")]
    Setup(String),
}

/// Why a router of the internet does not look for others on its local network.
const NOT_LOCAL: &str = "link.lan_discovery = true is for networks made with `warren init --local`: routers of \
    this one dial addresses of the internet alone; set it to false";

/// A running router.
#[derive(Debug)]
pub(crate) struct Handle {
    events: mpsc::Sender<Event>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    main: Mutex<Option<JoinHandle<()>>>,
    mapping: Mutex<Option<Mapping>>,
    lan: Mutex<Option<Lan>>,
    /// Its mixed port.
    pub(crate) proxy: SocketAddr,
    /// Its page, health and metrics.
    pub(crate) api: SocketAddr,
    /// Its stored sites.
    pub(crate) sites: Sites,
}

async fn listen(
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen {
        address,
        what,
        flag,
        source,
    })
}

/// On a machine without IPv6 "all addresses" are those of IPv4.
async fn listen_for_links(address: SocketAddr) -> Result<TcpListener, StartError> {
    let found = listen(address, "links", "--link ADDRESS:PORT").await;
    match found {
        Err(StartError::Listen { source, .. })
            if address.ip() == Ipv6Addr::UNSPECIFIED && source.kind() != ErrorKind::AddrInUse =>
        {
            let v4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
            listen(v4, "links", "--link ADDRESS:PORT").await
        }
        found => found,
    }
}

/// Starts a router: binds its ports, then runs it until `stop`.
///
/// # Errors
/// When a port is taken or a file cannot be written.
pub(crate) async fn start(mut setup: Setup) -> Result<Handle, StartError> {
    let clock = Clock::start();
    let mut rng = entropy::generator();
    if setup.config.lan_discovery && !setup.network.local {
        return Err(StartError::Setup(NOT_LOCAL.into()));
    }
    let link_socket = match setup.config.announce {
        Announce::Nothing => None,
        Announce::Found | Announce::At(..) => Some(listen_for_links(setup.config.link).await?),
    };
    let proxy_socket = listen(setup.config.proxy, "the proxy", "--proxy ADDRESS:PORT").await?;
    let api_socket = listen(setup.config.api, "the router's page", "--api ADDRESS:PORT").await?;
    let (proxy, api) = (proxy_socket.local_addr()?, api_socket.local_addr()?);
    let link = link_socket.as_ref().map(TcpListener::local_addr).transpose()?;
    if let Some(link) = link {
        setup.listening(link)?;
    }
    let port = link.map(|link| link.port()).filter(|_| setup.config.port_mapping);

    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let files = Files::new(events.clone(), clock, setup.home.clone(), setup.network.id());
    let sites = Sites::new(files.clone(), clock);
    let mut tasks = Vec::new();
    let mut secret_text = || Arc::from(data_encoding::HEXLOWER.encode(&rng.bytes::<24>()));
    let (token, cookie) = (secret_text(), secret_text());
    let page = page::Page {
        events: events.clone(),
        history: history::Shared::default(),
        files: files.clone(),
        begun: page::files::Begun::default(),
        token,
        cookie,
    };
    if let Some(home) = &setup.home {
        home.write("api.token", page.token.as_bytes())?;
        let socket = home.dir().join("control.sock");
        home.remove("control.sock")?;
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        tasks.push(tokio::spawn(control::serve_socket(listener, events.clone(), sites.clone())));
    }
    // Without a folder nobody can read the token: the verdict and health alone.
    tasks.push(tokio::spawn(history::sample(Arc::clone(&page.history), events.clone())));
    tasks.push(tokio::spawn(control::serve_http(api_socket, page, sites.clone())));
    let secret = Arc::new(IsolationSecret::new(&mut rng));
    let front = front::Front {
        clock,
        listener: Listener { number: 0, secret },
        addresses: Arc::new(std::sync::Mutex::new(VirtualAddresses::new(&mut rng))),
        events: events.clone(),
        sites: sites.clone(),
    };
    tasks.push(tokio::spawn(front::serve(proxy_socket, front)));
    tasks.extend(link_socket.map(|socket| tokio::spawn(accept(socket, events.clone()))));
    let addresses = [link, Some(proxy), Some(api)];
    let addresses = addresses.map(|it| it.map(|it| it.to_string()).unwrap_or_default());
    let lan = setup.config.lan_discovery.then(|| lan::Me {
        network: setup.network.id(),
        id: setup.identity.id(),
        link_key: setup.link_secret.public(),
        port: link.map(|link| link.port()),
    });
    let task = task::Task::new(clock, setup, rng, addresses, events.clone(), inbox)?;
    let main = tokio::spawn(task.run());
    if let Err(error) = files.resume_puts() {
        tracing::warn!("puts of the last run do not go on: {error}");
    }
    let mapping = port.map(|port| Mapping::start(port, Gateway::Default, events.clone()));
    let lan = lan.map(|me| Lan::start(me, clock, events.clone()));
    let (mapping, lan) = (Mutex::new(mapping), Mutex::new(lan));
    let (tasks, main) = (Mutex::new(tasks), Mutex::new(Some(main)));
    sites.resume()?;
    sites.resume_pins()?;
    Ok(Handle { events, tasks, main, mapping, lan, proxy, api, sites })
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                // A socket for both families shows IPv4 as a part of IPv6.
                let source = SocketAddr::new(source.ip().to_canonical(), source.port());
                if events.send(Event::Accepted { stream, source }).await.is_err() {
                    return;
                }
            }
            // Out of descriptors, most likely: let some close.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

impl Handle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.events.send(Event::Control(make(sender))).await.ok()?;
        answer.await.ok()
    }

    /// How it is; `None` when it is stopping.
    pub(crate) async fn status(&self) -> Option<Status> {
        self.ask(Ask::Status).await
    }

    /// Cells that it has moved for others.
    pub(crate) async fn cells_relayed(&self) -> Option<u64> {
        self.ask(Ask::Relayed).await
    }

    /// A line for the next router.
    pub(crate) async fn invite(&self) -> Option<String> {
        self.ask(Ask::Invite).await
    }

    /// Changes those of its limits that can change while it runs; false if it uses more memory than
    /// that now.
    pub(crate) async fn set_limits(&self, limits: LimitsFile) -> Option<bool> {
        self.ask(|sender| Ask::Limits { limits, sender }).await
    }

    /// Its hidden services.
    pub(crate) async fn services(&self) -> Option<Vec<ServiceStatus>> {
        self.ask(Ask::Services).await
    }

    /// Publishes a hidden service.
    pub(crate) async fn expose(&self, request: ExposeRequest) -> Result<ServiceStatus, String> {
        self.ask(|sender| Ask::Expose(request, sender))
            .await
            .unwrap_or_else(|| Err("the router is stopping: start it again".into()))
    }

    /// Begins to say goodbye: for who stops many and does not wait for each in turn.
    pub(crate) async fn leave(&self) {
        self.sites.stop();
        let _ = self.events.send(Event::Stop).await;
    }

    /// Says goodbye to its neighbours, stops, and gives its folder free.
    pub(crate) async fn stop(&self) {
        self.leave().await;
        let (mapping, lan) = (self.mapping.lock().await.take(), self.lan.lock().await.take());
        let mapping = async {
            if let Some(mapping) = mapping {
                mapping.stop().await;
            }
        };
        let lan = async {
            if let Some(lan) = lan {
                lan.stop().await;
            }
        };
        tokio::join!(mapping, lan);
        if let Some(main) = self.main.lock().await.take() {
            let _ = main.await;
        }
        for task in self.tasks.lock().await.drain(..) {
            task.abort();
        }
    }
}
