//! Running the machines of `warren_datastore::site`: what they ask for, asked through tunnels.
//!
//! Lives here: the loops from output to input. Does not live here: any decision.

use tokio::{task::JoinSet, time::sleep_until};
use warren_datastore::{
    capability::ReadCap,
    site::{
        Announcer, LookupInput, LookupOutcome, LookupOutput, Put, PutAnswer, Seen, SignedVersion,
        SiteLookup, SiteUpdate, UpdateInput, UpdateOutcome, UpdateOutput, VERSION_FILE_MAX,
    },
};
use warren_overlay::{garlic::RecordBytes, service::Name, time::Time};

use super::Sites;
use crate::driver::{
    clock::Clock,
    files::{FileError, Files},
};

impl Sites {
    /// The newest version of a site.
    pub(in crate::driver) async fn look_up(&self, name: Name, seen: Option<Seen>) -> LookupOutcome {
        let (files, clock) = (&self.0.files, self.0.clock);
        let lookup = SiteLookup::new(clock.now(), name, files.network(), seen);
        let Some(mut lookup) = lookup else { return LookupOutcome::NotFound };
        let mut asked = JoinSet::new();
        loop {
            while let Some(output) = lookup.poll_output() {
                match output {
                    LookupOutput::Done(outcome) => return outcome,
                    other => ask(&mut asked, files, other),
                }
            }
            tokio::select! {
                Some(Ok(input)) = asked.join_next() => lookup.handle_input(clock.now(), input),
                () = until(clock, lookup.poll_timeout()) => lookup.handle_timeout(clock.now()),
            }
        }
    }

    /// Publishes a version. `store` stores its version file, `save` writes down that it is signed.
    pub(super) async fn publish_version<Storing>(
        &self,
        mut update: SiteUpdate,
        store: impl Fn(Vec<u8>, Vec<u8>) -> Storing,
        save: impl Fn(SignedVersion) -> bool,
    ) -> UpdateOutcome
    where
        Storing: Future<Output = Result<ReadCap, FileError>> + Send + 'static,
    {
        let (files, clock) = (&self.0.files, self.0.clock);
        let (mut looked, mut others) = (JoinSet::new(), JoinSet::new());
        loop {
            while let Some(output) = update.poll_output() {
                match output {
                    UpdateOutput::Done(outcome) => return outcome,
                    UpdateOutput::Lookup(output) => ask(&mut looked, files, output),
                    UpdateOutput::StoreFile { content, children } => {
                        let storing = store(content, children);
                        others.spawn(async move { UpdateInput::Stored(storing.await.ok()) });
                    }
                    UpdateOutput::Save(version) => {
                        update.handle_input(clock.now(), UpdateInput::Saved(save(version)));
                    }
                    UpdateOutput::PutRecord(put) => {
                        let files = files.clone();
                        others.spawn(async move { UpdateInput::Put(put_record(files, put).await) });
                    }
                }
            }
            let input = tokio::select! {
                Some(Ok(input)) = looked.join_next() => Some(UpdateInput::Lookup(input)),
                Some(Ok(input)) = others.join_next() => Some(input),
                () = until(clock, update.poll_timeout()) => None,
            };
            match input {
                Some(input) => update.handle_input(clock.now(), input),
                None => update.handle_timeout(clock.now()),
            }
        }
    }

    /// Announces a site's records for as long as this runs.
    pub(super) async fn announce(&self, mut announcer: Announcer) {
        let (files, clock) = (&self.0.files, self.0.clock);
        let mut asked = JoinSet::new();
        loop {
            while let Some(put) = announcer.poll_output() {
                asked.spawn(put_record(files.clone(), put));
            }
            tokio::select! {
                Some(Ok(answer)) = asked.join_next() => {
                    announcer.handle_input(clock.now().time, answer);
                }
                () = until(clock, announcer.poll_timeout()) => {
                    announcer.handle_timeout(clock.now().time);
                }
            }
        }
    }
}

/// Asks what a lookup wants to know.
fn ask(asked: &mut JoinSet<LookupInput>, files: &Files, output: LookupOutput) {
    let files = files.clone();
    match output {
        LookupOutput::GetRecord { place, key } => {
            asked.spawn(async move {
                let answer = files.record_get(key).await.ok().map(|(_, answer)| answer);
                LookupInput::Record { place, answer }
            });
        }
        LookupOutput::GetFile(cap) => {
            asked.spawn(async move {
                let mut fetching = files.fetch(cap, 0..u64::MAX, None);
                LookupInput::File(fetching.whole(VERSION_FILE_MAX).await.ok())
            });
        }
        // Whoever runs the lookup looks at this one.
        LookupOutput::Done(_) => {}
    }
}

async fn put_record(files: Files, put: Put) -> PutAnswer {
    let answer = match RecordBytes::new(put.record.encode().to_vec()) {
        Some(bytes) => files.record_put(bytes).await.ok().map(|(_, answer)| answer),
        None => None,
    };
    PutAnswer { at: put.at, answer }
}

pub(super) async fn until(clock: Clock, at: Option<Time>) {
    match at {
        Some(at) => sleep_until(clock.instant(at)).await,
        None => std::future::pending().await,
    }
}
