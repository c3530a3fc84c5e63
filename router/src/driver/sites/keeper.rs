//! The sites that are published from here: their keys, their versions, and announcing them.
//!
//! Lives here: publish, update, fork, renew, history. Does not live here: bytes on disk (`saved.rs`), the
//! machines (`run.rs`), storing a folder (`files`).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use warren_datastore::{
    capability::ReadCap,
    file::KeySource,
    site::{
        Announcer, Draft, LookupOutcome, Onto, Published, SiteUpdate, SiteVersion, UpdateOutcome,
        VERSION_FILE_MAX, publish,
    },
    uri::Uri,
};
use warren_overlay::{
    crypto::{kdf, secret::Secret},
    record::Record,
    rng::Rng,
    service::{Name, NameKind},
    time::Time,
};
use warren_proxy::Failure;

use super::{
    Sites,
    open::failure,
    saved::{self, OwnSite},
};
use crate::{
    driver::{
        StartError,
        files::{FileError, put::PutNews},
    },
    entropy,
};

/// One context for all that a site stores: the same file in two sites shows no common author.
const CONTEXT: &str = "warren site context 1";
/// A site is renewed when its records are good for less than this, in minutes: 200 days.
const RENEW_BEFORE_MIN: u32 = 200 * 24 * 60;
/// How often it is looked whether one has to be.
const RENEW_LOOK: Duration = Duration::from_hours(24);
/// How often a version is put again that too few places confirmed.
const PENDING_LOOK: Duration = Duration::from_mins(5);
/// Versions that a history shows.
const HISTORY_MAX: usize = 1_000;

/// `POST /v1/sites/publish`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PublishRequest {
    /// The folder, absolute.
    pub(crate) path: PathBuf,
    /// What to call the version; empty for nothing.
    pub(crate) label: String,
    /// The site to update, by name or URI; none for a new one.
    pub(crate) site: Option<String>,
    /// Follow whatever is newest, also what another router published with the same key.
    pub(crate) onto_newest: bool,
}

/// What was published.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct SiteDone {
    /// `LETTERS.warren`
    pub(crate) name: String,
    /// What to type in a browser.
    pub(crate) url: String,
    /// What reads it.
    pub(crate) uri: String,
    /// Number of the version.
    pub(crate) number: u64,
    /// Entries of the folder that are not stored ([`PutNews::left_out`]).
    #[serde(default)]
    pub(crate) left_out: usize,
}

/// A site that is published from here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SiteStatus {
    /// Name, URL and version; 0 when it was never published whole.
    #[serde(flatten)]
    pub(crate) site: SiteDone,
    /// The version's label.
    pub(crate) label: String,
    /// When its records end unless it is updated, minutes since the Unix epoch.
    pub(crate) ends: u32,
}

/// One version of a site.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct VersionStatus {
    /// Its number.
    pub(crate) number: u64,
    /// When it was published, minutes since the Unix epoch; 0 when its publisher does not say.
    pub(crate) published: u32,
    /// Its label.
    pub(crate) label: String,
    /// What reads its pages, for `warren get`.
    pub(crate) uri: String,
    /// Where the site's key signed several things as this number: which of them, from 1; else 0.
    pub(crate) branch: usize,
}

impl VersionStatus {
    pub(super) fn of(version: SiteVersion, branch: usize) -> Self {
        let SiteVersion { number, published, label, directory, .. } = version;
        let uri = Uri::Directory(directory).to_string();
        Self { number, published: published.minutes(), label, uri, branch }
    }
}

/// Why a site was not published, or not found.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SiteError {
    /// Storing or finding a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key of another.
    #[error("the key of this site is not here: `warren site list` shows those that are")]
    NotYours,
    /// Not stored.
    #[error(
        "no site is stored under this name, or it has run out: look at the name, or ask its publisher to update it"
    )]
    NotFound,
    /// What is there is not what its publisher signed.
    #[error(
        "what is stored under this name is damaged, or older than what is known here: try again later, or ask its \
         publisher to update it"
    )]
    Damaged,
    /// Another router publishes with this key.
    #[error(
        "version {number} was published elsewhere with this site's key: see `warren site history`, and \
         follow it with --onto-newest"
    )]
    Conflict {
        /// Its version.
        number: u64,
    },
    /// Two things under one number.
    #[error(
        "the key of this site signed two different things as version {number}: `warren site history` shows \
         both, `warren get` their pages"
    )]
    Forked {
        /// The version.
        number: u64,
    },
    /// Signed, and perhaps at one place.
    #[error(
        "version {number} is signed, and too few of the places where it belongs confirmed it: the router puts \
         it again every 5 minutes until they do; try the same command to have it at once"
    )]
    Pending {
        /// The version.
        number: u64,
    },
    /// No more at a time.
    #[error("{0} sites are watched here already: end one of these watches first")]
    TooManyWatched(usize),
    /// No answer.
    #[error("the places where the site would be did not answer: try again")]
    Unreachable,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What is published from here.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    own: Mutex<BTreeMap<Name, OwnSite>>,
    /// Who announces each.
    tasks: Mutex<BTreeMap<Name, JoinHandle<()>>>,
    /// One version at a time.
    publishing: tokio::sync::Mutex<()>,
}

impl Sites {
    /// Goes on announcing the sites of this router's folder.
    pub(in crate::driver) fn resume(&self) -> Result<(), StartError> {
        let Some(home) = self.0.files.home() else { return Ok(()) };
        for site in saved::load(home)? {
            let name = site.name;
            let records = self.records(&site);
            self.own(|own| own.insert(name, site));
            self.keep(name, |rng, now| Announcer::new(now, records, rng));
        }
        Ok(())
    }

    fn own<T>(&self, act: impl FnOnce(&mut BTreeMap<Name, OwnSite>) -> T) -> T {
        act(&mut self.0.keeper.own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn records(&self, site: &OwnSite) -> Vec<Record> {
        let Some(version) = &site.newest else { return Vec::new() };
        let (cap, network) = (site.write_cap(), self.0.files.network());
        publish(&cap, network, version.number, version.expiry, &version.file).unwrap_or_default()
    }

    /// Stores a folder and publishes it, as a new site or as the next version of one.
    pub(crate) async fn publish(
        &self,
        request: &PublishRequest,
        news: &watch::Sender<PutNews>,
    ) -> Result<SiteDone, SiteError> {
        let name = match &request.site {
            Some(site) => name_of(site)?,
            None => self.new_site()?,
        };
        let source = self.key_source(name)?;
        let directory = self.0.files.put_folder(request.path.clone(), source, news).await?;
        let onto = if request.onto_newest { Onto::Newest } else { Onto::Known };
        let done = self.version_of(name, directory, request.label.clone(), onto).await?;
        Ok(SiteDone { left_out: news.borrow().left_out, ..done })
    }

    /// A site of one's own that begins with what another one shows now.
    pub(crate) async fn fork(&self, site: &str, label: String) -> Result<SiteDone, SiteError> {
        let (version, _) = self.newest(name_of(site)?).await?;
        let name = self.new_site()?;
        self.version_of(name, version.directory, label, Onto::Known).await
    }

    /// The versions of a site, newest first; of a fork all branches, down to where they part.
    pub(crate) async fn history(&self, site: &str) -> Result<Vec<VersionStatus>, SiteError> {
        let (mut number, mut files) = match self.look_up(name_of(site)?, None).await {
            LookupOutcome::Found(newest) => (newest.version.number, vec![newest.file]),
            LookupOutcome::Forked { number, branches } => (number, branches),
            other => return Err(self::other(&other)),
        };
        let mut versions = Vec::new();
        while !files.is_empty() && versions.len() < HISTORY_MAX {
            let (is_fork, is_newest) = (files.len() > 1, versions.is_empty());
            let mut before: Vec<ReadCap> = Vec::new();
            for (file, branch) in files.iter().zip(1..) {
                let version = match self.version(file).await {
                    Ok(version) if version.number == number => version,
                    Err(_) if !is_newest || is_fork => continue, // what was found is still true
                    Ok(_) | Err(_) => return Err(SiteError::Damaged),
                };
                let is_new = |file: &&ReadCap| {
                    before.iter().all(|other| other.verify().roots() != file.verify().roots())
                };
                let previous = version.previous.as_ref().filter(is_new).map(ReadCap::duplicate);
                before.extend(previous);
                versions.push(VersionStatus::of(version, if is_fork { branch } else { 0 }));
            }
            (number, files) = (number.saturating_sub(1), before);
        }
        if versions.is_empty() { Err(SiteError::Damaged) } else { Ok(versions) }
    }

    /// The sites whose keys are here.
    pub(crate) fn list(&self) -> Vec<SiteStatus> {
        self.own(|own| {
            let status = |site: &OwnSite| {
                let newest = site.newest.as_ref();
                SiteStatus {
                    site: done(site.name, newest.map_or(0, |version| version.number)),
                    label: newest.map(|version| version.label.clone()).unwrap_or_default(),
                    ends: newest.map_or(0, |version| version.expiry.minutes()),
                }
            };
            own.values().map(status).collect()
        })
    }

    /// Reads a version file.
    pub(super) async fn version(&self, file: &ReadCap) -> Result<SiteVersion, Failure> {
        let mut fetching = self.0.files.fetch(file.duplicate(), 0..u64::MAX, None);
        let bytes = fetching.whole(VERSION_FILE_MAX).await.map_err(|error| failure(&error))?;
        SiteVersion::decode(&bytes).map_err(|_| Failure::BadSite)
    }

    async fn newest(&self, name: Name) -> Result<(SiteVersion, ReadCap), SiteError> {
        match self.look_up(name, None).await {
            LookupOutcome::Found(newest) => Ok((newest.version, newest.file)),
            other => Err(self::other(&other)),
        }
    }

    /// A new key, kept before anything is published with it.
    fn new_site(&self) -> Result<Name, SiteError> {
        let site = OwnSite::new(Secret::random(&mut entropy::generator()));
        let site = site.ok_or_else(|| SiteError::Other("the new key is none: try again".into()))?;
        self.save(site)
    }

    fn save(&self, site: OwnSite) -> Result<Name, SiteError> {
        if let Some(home) = self.0.files.home() {
            site.save(home).map_err(|error| SiteError::Other(error.to_string()))?;
        }
        let name = site.name;
        self.own(|own| own.insert(name, site));
        Ok(name)
    }

    fn key_source(&self, name: Name) -> Result<KeySource, SiteError> {
        let secret = self.own(|own| {
            let site = own.get(&name)?;
            let cap = site.write_cap();
            Some(kdf::derive_secret(CONTEXT, &[cap.key().seed().expose_secret()]))
        });
        Ok(KeySource::context(secret.ok_or(SiteError::NotYours)?))
    }

    async fn version_of(
        &self,
        name: Name,
        directory: ReadCap,
        label: String,
        onto: Onto,
    ) -> Result<SiteDone, SiteError> {
        let _publishing = self.0.keeper.publishing.lock().await;
        let now = self.0.clock.now();
        let draft =
            Draft { directory: directory.duplicate(), label: label.clone(), published: now.wall };
        let (network, rng) = (self.0.files.network(), entropy::generator());
        let update = self.own(|own| {
            let site = own.get(&name)?;
            let (cap, known) = (site.write_cap(), site.known());
            SiteUpdate::new(now, cap, network, known, onto, draft, rng)
        });
        let update = update.ok_or(SiteError::NotYours)?;
        let store = |content, children| {
            let (files, source) = (self.0.files.clone(), self.key_source(name));
            async move {
                let source = source.map_err(|error| FileError::Source(error.to_string()))?;
                files.put_listed(content, children, source).await
            }
        };
        let save = |version| self.change(name, |site| site.pending = Some(version)).is_ok();
        let outcome = self.publish_version(update, store, save).await;
        let published = match outcome {
            UpdateOutcome::Published(published) => published,
            UpdateOutcome::Conflict { number } => return Err(SiteError::Conflict { number }),
            UpdateOutcome::Invalid => {
                return Err(SiteError::Other(format!(
                    "label {label:?}: use up to 64 bytes, without slashes or control characters"
                )));
            }
            UpdateOutcome::NotSaved => {
                return Err(SiteError::Other(
                    "nothing was published, the router's folder cannot be written: see whether its disk is full".into(),
                ));
            }
            UpdateOutcome::NotStored => return Err(SiteError::Unreachable),
            UpdateOutcome::Unreachable(_) => {
                self.keep_on(name);
                let pending = self.own(|own| Some(own.get(&name)?.pending.as_ref()?.number));
                return Err(
                    pending.map_or(SiteError::Unreachable, |number| SiteError::Pending { number })
                );
            }
        };
        let Published { version, records } = published;
        let number = version.number;
        self.change(name, |site| (site.newest, site.pending) = (Some(version), None))?;
        self.keep(name, |rng, now| Announcer::later(now, records, rng));
        Ok(done(name, number))
    }

    /// Changes what is kept of a site, here and on the disk.
    fn change(&self, name: Name, change: impl FnOnce(&mut OwnSite)) -> Result<(), SiteError> {
        self.own(|own| {
            let site = own.get_mut(&name).ok_or(SiteError::NotYours)?;
            change(site);
            let saved = self.0.files.home().map_or(Ok(()), |home| site.save(home));
            saved.map_err(|error| SiteError::Other(error.to_string()))
        })
    }

    /// Looks after a site whose version is pending, unless that is done already.
    fn keep_on(&self, name: Name) {
        let tasks = self.0.keeper.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_kept = tasks.contains_key(&name);
        drop(tasks);
        if !is_kept {
            let records = self.own(|own| own.get(&name).map(|site| self.records(site)));
            self.keep(name, |rng, now| Announcer::later(now, records.unwrap_or_default(), rng));
        }
    }

    /// Announces a site from now on, and renews it when its time comes.
    fn keep(&self, name: Name, announcer: impl FnOnce(Rng, Time) -> Announcer) {
        let announcer = announcer(entropy::generator(), self.0.clock.now().time);
        let this = self.clone();
        let task = tokio::spawn(async move {
            let renew = async {
                let (mut looked, mut beaten) = (None, None);
                loop {
                    let pending = this.own(|own| Some(own.get(&name)?.pending.as_ref()?.number));
                    let is_due = looked.is_none_or(|at: Instant| at.elapsed() >= RENEW_LOOK);
                    if is_due || pending.is_some() && pending != beaten {
                        let renewed = this.renew(name).await;
                        // Only its owner can say what is to follow then.
                        let is_beaten = matches!(renewed, Err(SiteError::Conflict { .. }));
                        beaten = pending.filter(|_| is_beaten);
                        looked = Some(Instant::now());
                    }
                    tokio::time::sleep(PENDING_LOOK).await;
                }
            };
            tokio::join!(this.announce(announcer), renew);
        });
        let mut tasks = self.0.keeper.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = tasks.insert(name, task) {
            before.abort();
        }
    }

    /// Announces nothing more.
    pub(in crate::driver) fn stop(&self) {
        let mut tasks = self.0.keeper.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in std::mem::take(&mut *tasks).into_values() {
            task.abort();
        }
    }

    /// Goes on with a version that too few places confirmed; or publishes the same pages as a further
    /// version, if the records end soon (decision 0003).
    fn renew(&self, name: Name) -> Renewing<'_> {
        let soon = self.0.clock.now().wall.plus(RENEW_BEFORE_MIN);
        let due = self.own(|own| {
            let site = own.get(&name)?;
            let newest = site.newest.as_ref().filter(|version| version.expiry < soon);
            let version = site.pending.as_ref().or(newest)?;
            Some((version.directory.duplicate(), version.label.clone()))
        });
        Box::pin(async move {
            let Some((directory, label)) = due else { return Ok(()) };
            // What fails is tried again: the records are good for 200 days more.
            self.version_of(name, directory, label, Onto::Known).await.map(drop)
        })
    }
}

/// Boxed: publishing renews, and renewing publishes.
type Renewing<'a> = Pin<Box<dyn Future<Output = Result<(), SiteError>> + Send + 'a>>;

/// Why no version is shown.
pub(in crate::driver) const fn other(outcome: &LookupOutcome) -> SiteError {
    match outcome {
        LookupOutcome::NotFound => SiteError::NotFound,
        LookupOutcome::Forked { number, .. } => SiteError::Forked { number: *number },
        LookupOutcome::Unreachable(_) => SiteError::Unreachable,
        LookupOutcome::Found(_)
        | LookupOutcome::Invalid
        | LookupOutcome::Incomplete { .. }
        | LookupOutcome::Same(_) => SiteError::Damaged,
    }
}

fn done(name: Name, number: u64) -> SiteDone {
    let uri = Uri::Site(name).to_string();
    let url = format!("http://{name}/");
    SiteDone { name: name.to_string(), url, uri, number, left_out: 0 }
}

/// A site by its name, its URL or its URI.
pub(in crate::driver) fn name_of(text: &str) -> Result<Name, SiteError> {
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let name = match bare.parse::<Uri>() {
        Ok(Uri::Site(name)) => Some(name),
        Ok(_) => None,
        Err(_) => bare.parse::<Name>().ok().filter(|name| name.kind() == NameKind::Site),
    };
    name.ok_or_else(|| {
        SiteError::Other(format!("{text:?} is no site: write NAME.warren or warren:site:LETTERS"))
    })
}
