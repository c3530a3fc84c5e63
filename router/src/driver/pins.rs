//! What the person here wants kept: every block of a file, a folder or a site's newest version on the
//! pinned shelf, until it is unpinned.
//!
//! Lives here: fetching all of it, looking after it, taking away what no pin has any more. Does not live
//! here: the shelf (`warren_datastore::holder`), bytes on disk (`saved.rs`), routes (`api.rs`).
//!
//! ```text
//!  pin ──> Fetching: what is not here yet ──> Kept ──each day: samples of it in the network
//!            └─ not found, no room: gone        │        └─ some are lost: all of it is gone through, and
//!  unpin ──> gone ──> sweep <───────────────────┘           what the network lost is put back from here
//! ```
//!
//! Neighbours are never answered from pins: that would tell what is read here. What the network lost goes
//! back to it through tunnels, as any put.

pub(crate) mod api;
mod saved;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{RwLock, mpsc, watch},
    task::JoinHandle,
    time::sleep,
};
use warren_datastore::{capability::VerifyCap, site::LookupOutcome, uri::Uri};
use warren_overlay::{block::BlockAddress, record::Record};

use self::saved::Kept;
use super::{
    StartError,
    control::Ask,
    files::{self, FileError, HealNews, Scan, Way},
    sites::{self, Sites},
};
use crate::{entropy, home::Home};

/// Pins at the same time.
const PINS_MAX: usize = 256;
/// Each pin is looked after so often, in seconds; the first time at some moment within it.
const LOOK_S: u64 = 24 * 3_600;
/// Blocks of each segment for which the network is asked then.
const LOOK_SAMPLE: u16 = 16;
/// Pause before a pin goes on that found no tunnel.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the failure of a renewal is shown.
const TOLD: Duration = Duration::from_secs(1);
/// Addresses that the router's task names or forgets at once.
const PAGE: usize = 256;
/// Blocks that wait until their addresses are noted.
const TAP_MAX: usize = 32;

const SITE_BY_NAME: &str = "of a site its name is pinned: NAME.warren or warren:site:LETTERS";

/// `POST /v1/pins` and `/v1/pins/remove`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PinRequest {
    /// Any capability of a file or folder, or a site.
    pub(crate) uri: String,
    /// Go through it once more if it is pinned already, and put back what the network lost of it.
    pub(crate) renew: bool,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
}

/// How a pin is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct PinStatus {
    /// What is pinned.
    pub(crate) uri: String,
    /// Whether all of it is here.
    pub(crate) done: bool,
    /// Blocks of it that are here, once that is known.
    pub(crate) blocks: u64,
    /// Parts of it that nobody has.
    pub(crate) lost: u64,
    /// Of a site: which version.
    pub(crate) version: u64,
    /// How far it is.
    pub(crate) news: HealNews,
    /// Why it ended, and the command's exit code.
    pub(crate) failed: Option<(String, u8)>,
}

impl PinStatus {
    const fn is_over(&self) -> bool {
        self.done || self.failed.is_some()
    }
}

/// `GET /v1/pins`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct PinList {
    /// All of them.
    pub(crate) pins: Vec<PinStatus>,
    /// Bytes that they take, garbage included.
    pub(crate) bytes: u64,
    /// Most bytes.
    pub(crate) bytes_max: u64,
}

/// `POST /v1/pins/remove`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Unpinned {
    /// Blocks that went; none when they go later, because another pin is being fetched.
    pub(crate) blocks: Option<u64>,
}

#[derive(Debug)]
struct Pin {
    status: watch::Receiver<PinStatus>,
    task: JoinHandle<()>,
}

/// All pins of a router.
#[derive(Debug, Default)]
pub(super) struct Pins {
    all: Mutex<BTreeMap<u64, Pin>>,
    /// Held shared by who pins, alone by who takes away what nobody has pinned.
    gate: RwLock<()>,
}

/// What a URI means now.
pub(super) struct Roots {
    /// Each with whether only itself is meant.
    pub(super) roots: Vec<(VerifyCap, bool)>,
    version: u64,
    /// Of a site: those that say so.
    pub(super) records: Vec<Record>,
}

/// Why something ended: in words, and the command's exit code.
pub(super) enum Ended {
    Failed(String, u8),
    Stopping,
}

impl From<FileError> for Ended {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Stopping => Self::Stopping,
            error => Self::Failed(error.to_string(), files::api::code(&error)),
        }
    }
}

/// A pin's text is what its URI writes itself.
fn canonical(text: &str) -> Result<String, String> {
    if let Ok(name) = sites::name_of(text) {
        return Ok(Uri::Site(name).to_string());
    }
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match &uri {
        Uri::SiteVerify(_) | Uri::SiteWrite(_) => Err(SITE_BY_NAME.into()),
        _ => Ok(uri.to_string()),
    }
}

impl Sites {
    fn pin_home(&self) -> Result<&Arc<Home>, String> {
        self.files().home().ok_or_else(|| "this router has no folder to keep anything in".into())
    }

    fn all_pins<T>(&self, act: impl FnOnce(&mut BTreeMap<u64, Pin>) -> T) -> T {
        act(&mut self.pins().all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on with the pins of this router's folder.
    pub(super) fn resume_pins(&self) -> Result<(), StartError> {
        let Some(home) = self.files().home() else { return Ok(()) };
        for (number, kept) in saved::load(home).map_err(StartError::Setup)? {
            self.all_pins(|all| self.start_pin(all, number, kept));
        }
        Ok(())
    }

    /// Begins a pin, or joins the one that is there.
    pub(super) fn pin(&self, request: &PinRequest) -> Result<watch::Receiver<PinStatus>, String> {
        let uri = canonical(&request.uri)?;
        let home = self.pin_home()?;
        let kept = Kept { uri, hops: request.hops, ..Kept::default() };
        self.all_pins(|all| {
            let same = |pin: &Pin| {
                let status = pin.status.borrow();
                status.uri == kept.uri && status.failed.is_none()
            };
            if let Some((number, pin)) = all.iter().find(|(_, pin)| same(pin)) {
                let status = pin.status.borrow().clone();
                if !(request.renew && status.done) {
                    return Ok(pin.status.clone());
                }
                let (number, blocks) = (*number, status.blocks);
                pin.task.abort();
                let kept = Kept { renew: true, blocks, version: status.version, ..kept };
                return Ok(self.start_pin(all, number, kept));
            }
            if all.len() >= PINS_MAX {
                return Err(format!("{PINS_MAX} things are pinned: unpin one first"));
            }
            let number = all.last_key_value().map_or(0, |(last, _)| *last) + 1;
            saved::save(home, number, &kept)?;
            Ok(self.start_pin(all, number, kept))
        })
    }

    fn start_pin(
        &self,
        all: &mut BTreeMap<u64, Pin>,
        number: u64,
        kept: Kept,
    ) -> watch::Receiver<PinStatus> {
        let (tell, status) = watch::channel(PinStatus {
            uri: kept.uri.clone(),
            done: kept.done,
            blocks: kept.blocks,
            lost: kept.lost,
            version: kept.version,
            ..PinStatus::default()
        });
        let this = self.clone();
        let task = tokio::spawn(async move { this.keep_pinned(number, kept, &tell).await });
        all.insert(number, Pin { status: status.clone(), task });
        status
    }

    async fn keep_pinned(&self, number: u64, mut kept: Kept, tell: &watch::Sender<PinStatus>) {
        if !kept.done {
            match self.fetch_pinned(number, &mut kept, tell).await {
                Ok(()) => {}
                Err(Ended::Stopping) => return,
                Err(Ended::Failed(error, code)) => {
                    let is_new = !kept.renew;
                    if is_new {
                        let _ = self.forget(number);
                    }
                    tell.send_modify(|status| status.failed = Some((error, code)));
                    if is_new {
                        self.sweep().await;
                        return;
                    }
                    // What was here before stays, once whoever asked has heard.
                    sleep(TOLD).await;
                    (kept.done, kept.renew) = (true, false);
                    tell.send_modify(|status| (status.done, status.failed) = (true, None));
                }
            }
            self.sweep().await;
        }
        let mut pause = entropy::generator().below(LOOK_S);
        loop {
            sleep(Duration::from_secs(pause)).await;
            // What fails is tried again the next day.
            let _ = self.look_after(number, &mut kept, tell).await;
            pause = LOOK_S;
        }
    }

    /// What is meant by a URI now.
    pub(super) async fn roots(&self, uri: &str) -> Result<Roots, Ended> {
        let failed = |error: String| Ended::Failed(error, 1);
        let uri = canonical(uri).map_err(failed)?;
        let name = match uri.parse::<Uri>().map_err(|error| failed(error.to_string()))? {
            Uri::File(cap) | Uri::Directory(cap) => return Ok(Roots::fixed(cap.verify())),
            Uri::FileVerify(cap) | Uri::DirectoryVerify(cap) => return Ok(Roots::fixed(cap)),
            Uri::Site(name) => name,
            Uri::SiteVerify(_) | Uri::SiteWrite(_) => return Err(failed(SITE_BY_NAME.into())),
        };
        match self.look_up(name, None).await {
            LookupOutcome::Found(newest) => Ok(Roots {
                roots: vec![
                    (newest.file.verify(), true),
                    (newest.version.directory.verify(), false),
                ],
                version: newest.version.number,
                records: newest.records,
            }),
            other => {
                let error = sites::other(&other);
                Err(Ended::Failed(error.to_string(), sites::api::code(&error)))
            }
        }
    }

    /// Fetches what is not here yet, and notes what is.
    async fn fetch_pinned(
        &self,
        number: u64,
        kept: &mut Kept,
        tell: &watch::Sender<PinStatus>,
    ) -> Result<(), Ended> {
        let _pinning = self.pins().gate.read().await;
        loop {
            let roots = self.roots(&kept.uri).await?;
            match self.go_through(number, kept, &roots, kept.renew, tell).await {
                // It goes on when there is a tunnel.
                Err(FileError::NoTunnel | FileError::TooMany) => sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Goes through all of it; with `renew` the network is asked for all of it, and given what it lost.
    async fn go_through(
        &self,
        number: u64,
        kept: &mut Kept,
        roots: &Roots,
        renew: bool,
        tell: &watch::Sender<PinStatus>,
    ) -> Result<(), FileError> {
        let mut blocks = BTreeSet::new();
        let mut news = HealNews::default();
        for (root, alone) in &roots.roots {
            let (tap, mut tapped) = mpsc::channel(TAP_MAX);
            let way = Way { cached: false, pin: Some(renew), tap: Some(tap) };
            let scan = Scan { sample: None, hops: kept.hops, alone: *alone };
            let say = |now| tell.send_modify(|status| status.news = now);
            let going = self.files().heal_all(root.duplicate(), scan, way, news, &say);
            let noting = async {
                while let Some(block) = tapped.recv().await {
                    blocks.insert(block.address());
                }
            };
            let (gone, ()) = tokio::join!(going, noting);
            news = gone?;
        }
        (kept.done, kept.renew, kept.blocks) = (true, false, blocks.len() as u64);
        (kept.lost, kept.version) = (news.lost, roots.version);
        self.note(number, kept, &blocks).map_err(FileError::Source)?;
        tell.send_modify(|status| {
            (status.done, status.blocks, status.lost) = (true, kept.blocks, kept.lost);
            status.version = kept.version;
        });
        Ok(())
    }

    /// Blocks first: a pin is done once they are all known.
    fn note(
        &self,
        number: u64,
        kept: &Kept,
        blocks: &BTreeSet<BlockAddress>,
    ) -> Result<(), String> {
        let home = self.pin_home()?;
        tokio::task::block_in_place(|| {
            saved::save_blocks(home, number, blocks)?;
            saved::save(home, number, kept)
        })
    }

    /// Looks whether the network still has it, and gives back what it lost; of a site also whether there
    /// is a newer version.
    async fn look_after(
        &self,
        number: u64,
        kept: &mut Kept,
        tell: &watch::Sender<PinStatus>,
    ) -> Result<(), Ended> {
        let roots = self.roots(&kept.uri).await?;
        self.announce_soon(roots.records.clone());
        if roots.version != kept.version {
            let pinning = self.pins().gate.read().await;
            self.go_through(number, kept, &roots, false, tell).await?;
            drop(pinning);
            self.sweep().await;
            return Ok(());
        }
        let scan = |alone| Scan { sample: Some(LOOK_SAMPLE), hops: kept.hops, alone };
        let mut lost = false;
        for (root, alone) in &roots.roots {
            let (way, before) = (Way::default(), HealNews::default());
            let looked =
                self.files().heal_all(root.duplicate(), scan(*alone), way, before, &|_| {});
            lost |= match looked.await {
                Ok(news) => news.missing > 0,
                Err(FileError::NotFound { .. } | FileError::Broken(_)) => true,
                Err(error) => return Err(error.into()),
            };
        }
        if lost {
            let _pinning = self.pins().gate.read().await;
            self.go_through(number, kept, &roots, true, tell).await?;
        }
        Ok(())
    }

    /// Ends a pin; none if it is not there.
    pub(super) async fn unpin(&self, uri: &str) -> Result<Option<Unpinned>, String> {
        let uri = canonical(uri)?;
        let number = self.all_pins(|all| {
            let found = all.iter().find(|(_, pin)| pin.status.borrow().uri == uri);
            found.map(|(number, _)| *number)
        });
        let Some(number) = number else { return Ok(None) };
        if let Some(pin) = self.all_pins(|all| all.remove(&number)) {
            pin.task.abort();
            let _ = pin.task.await; // so that it holds the gate no more
        }
        saved::remove(self.pin_home()?, number)?;
        Ok(Some(Unpinned { blocks: self.sweep().await }))
    }

    fn forget(&self, number: u64) -> Result<(), String> {
        self.all_pins(|all| all.remove(&number));
        saved::remove(self.pin_home()?, number)
    }

    /// What is pinned.
    pub(super) async fn pin_list(&self) -> Option<PinList> {
        let usage = self.files().ask(Ask::PinUsage).await?;
        let pins = self.all_pins(|all| all.values().map(|it| it.status.borrow().clone()).collect());
        Some(PinList { pins, bytes: usage.bytes, bytes_max: usage.bytes_max })
    }

    /// Takes away what no pin has; says how many blocks. None when something is being pinned: whoever
    /// does that comes here when it is done.
    async fn sweep(&self) -> Option<u64> {
        let _alone = self.pins().gate.try_write().ok()?;
        let home = self.pin_home().ok()?;
        let mut all = BTreeSet::new();
        for (number, kept) in saved::load(home).ok()? {
            if !kept.done {
                return None;
            }
            saved::add_blocks(home, number, &mut all).ok()?;
        }
        let (mut after, mut gone) = (None, 0);
        loop {
            let page = self.files().ask(|answer| Ask::Pinned(after, PAGE, answer)).await?;
            let Some(last) = page.last().copied() else { return Some(gone) };
            let more = page.len() == PAGE;
            let unwanted: Vec<_> = page.into_iter().filter(|it| !all.contains(it)).collect();
            gone += unwanted.len() as u64;
            if !unwanted.is_empty() {
                self.files().ask(|answer| Ask::Unpin(unwanted, answer)).await?;
            }
            if !more {
                return Some(gone);
            }
            after = Some(last);
        }
    }
}

impl Roots {
    fn fixed(root: VerifyCap) -> Self {
        Self { roots: vec![(root, false)], version: 0, records: Vec::new() }
    }
}
