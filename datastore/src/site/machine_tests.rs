//! Finding, publishing and announcing, in a ring of three places that one can spoil.

mod watch;

use std::collections::BTreeMap;

use proptest::prelude::*;
use warren_overlay::{
    crypto::secret::Secret,
    garlic::{RecordAnswer, RecordBytes},
    id::Key,
    rng::Rng,
    service::Unreachable,
    time::{Now, Time},
};

use super::*;
use crate::capability::SiteWriteCap;

const NETWORK: NetworkId = NetworkId([9; 32]);

fn write_cap() -> SiteWriteCap {
    SiteWriteCap::from_seed(Secret::take(&mut [7; 32]))
}

fn name() -> Name {
    write_cap().name().unwrap()
}

fn cap(byte: u8) -> ReadCap {
    ReadCap::take(&mut [byte; 64])
}

#[expect(clippy::unnecessary_wraps, reason = "what lookups and updates are given")]
fn seen(number: u64, file: &ReadCap) -> Option<Seen> {
    Some(Seen { number, file: file.duplicate() })
}

/// What is wrong with a place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    Silent,
    Empty,
    Busy,
    /// Gives out garbage.
    Forges,
}

/// Records as their holders keep them, and files by their first root.
#[derive(Default)]
struct Network {
    records: BTreeMap<Key, Record>,
    files: BTreeMap<[u8; 32], Vec<u8>>,
    trouble: [Option<Trouble>; 3],
    files_read: usize,
    /// What the publisher has on its disk.
    pending: Option<SignedVersion>,
}

impl Network {
    fn get(&self, place: u8, key: Key) -> Option<RecordAnswer> {
        match self.trouble[usize::from(place)].unwrap_or(Trouble::None) {
            Trouble::Silent => None,
            Trouble::Empty => Some(RecordAnswer::NotFound),
            Trouble::Busy => Some(RecordAnswer::Busy { retry_s: 7 }),
            Trouble::Forges => Some(RecordAnswer::Found(RecordBytes::new(vec![1; 2_048]).unwrap())),
            Trouble::None => Some(match self.records.get(&key) {
                Some(record) => {
                    RecordAnswer::Found(RecordBytes::new(record.encode().to_vec()).unwrap())
                }
                None => RecordAnswer::NotFound,
            }),
        }
    }

    fn put(&mut self, put: &Put) -> Option<RecordAnswer> {
        match self.trouble[usize::from(put.at)].unwrap_or(Trouble::None) {
            Trouble::Silent => return None,
            Trouble::Empty | Trouble::Forges => return Some(RecordAnswer::NoRoute { left: 3 }),
            Trouble::Busy => return Some(RecordAnswer::Busy { retry_s: 7 }),
            Trouble::None => {}
        }
        let held = self.records.entry(put.record.key()).or_insert_with(|| put.record.clone());
        if put.record.version() > held.version() {
            *held = put.record.clone();
        }
        Some(if *held == put.record {
            RecordAnswer::Stored { copies: 3 }
        } else {
            RecordAnswer::Stale
        })
    }

    fn store(&mut self, content: &[u8]) -> ReadCap {
        let number = u8::try_from(self.files.len() + 100).unwrap();
        self.files.insert(root(&cap(number)), content.to_vec());
        cap(number)
    }

    fn look(&mut self, seen: Option<Seen>) -> LookupOutcome {
        let mut now = Now { time: Time::ZERO, wall: Wall::from_minutes(1_000) };
        let mut lookup = SiteLookup::new(now, name(), NETWORK, seen).unwrap();
        for _ in 0..100 {
            while let Some(output) = lookup.poll_output() {
                match output {
                    LookupOutput::GetRecord { place, key } => {
                        if let Some(answer) = self.get(place, key) {
                            let answer = Some(answer);
                            lookup.handle_input(now, LookupInput::Record { place, answer });
                        }
                    }
                    LookupOutput::GetFile(cap) => {
                        self.files_read += 1;
                        let content = self.files.get(&root(&cap)).cloned();
                        lookup.handle_input(now, LookupInput::File(content));
                    }
                    LookupOutput::Done(outcome) => {
                        assert!(lookup.poll_output().is_none() && lookup.poll_timeout().is_none());
                        return outcome;
                    }
                }
            }
            now.time = lookup.poll_timeout().expect("waits for something").max(now.time);
            lookup.handle_timeout(now);
        }
        panic!("no end");
    }

    /// Another router with the key, which knows this version.
    fn update(&mut self, newest: Option<Seen>, onto: Onto, directory: u8) -> UpdateOutcome {
        let own = self.pending.take();
        let outcome = self.again(newest, onto, directory);
        self.pending = own;
        outcome
    }

    /// The publisher, with what it has on its disk.
    fn again(&mut self, newest: Option<Seen>, onto: Onto, directory: u8) -> UpdateOutcome {
        let known = Known { newest, pending: self.pending.as_ref().map(SignedVersion::duplicate) };
        let mut now = Now { time: Time::ZERO, wall: Wall::from_minutes(1_000) };
        let draft = Draft { directory: cap(directory), label: "x".into(), published: now.wall };
        let rng = Rng::from_seed([3; 32]);
        let mut update =
            SiteUpdate::new(now, write_cap(), NETWORK, known, onto, draft, rng).unwrap();
        for _ in 0..200 {
            while let Some(output) = update.poll_output() {
                let input = match output {
                    UpdateOutput::Lookup(LookupOutput::GetRecord { place, key }) => {
                        let Some(answer) = self.get(place, key) else { continue };
                        UpdateInput::Lookup(LookupInput::Record { place, answer: Some(answer) })
                    }
                    UpdateOutput::Lookup(LookupOutput::GetFile(cap)) => {
                        let content = self.files.get(&root(&cap)).cloned();
                        UpdateInput::Lookup(LookupInput::File(content))
                    }
                    UpdateOutput::Lookup(LookupOutput::Done(_)) => panic!("the update's own"),
                    UpdateOutput::StoreFile { content, children } => {
                        assert!(children.len() == 64 || children.len() == 128);
                        UpdateInput::Stored(Some(self.store(&content)))
                    }
                    UpdateOutput::Save(version) => {
                        self.pending = Some(version);
                        UpdateInput::Saved(true)
                    }
                    UpdateOutput::PutRecord(put) => {
                        assert!(self.pending.is_some(), "noted before anybody has it");
                        let Some(answer) = self.put(&put) else { continue };
                        UpdateInput::Put(PutAnswer { at: put.at, answer: Some(answer) })
                    }
                    UpdateOutput::Done(outcome) => {
                        if matches!(outcome, UpdateOutcome::Published(_)) {
                            self.pending = None;
                        }
                        assert!(update.poll_output().is_none() && update.poll_timeout().is_none());
                        return outcome;
                    }
                };
                update.handle_input(now, input);
            }
            now.time = update.poll_timeout().expect("waits for something").max(now.time);
            update.handle_timeout(now);
        }
        panic!("no end");
    }

    /// Publishes versions 1 to `count`; their version files.
    fn publish(&mut self, count: u8) -> Vec<ReadCap> {
        let mut files: Vec<ReadCap> = Vec::new();
        for directory in 1..=count {
            let base = files.last().and_then(|file| seen(files.len() as u64, file));
            match self.update(base, Onto::Known, directory) {
                UpdateOutcome::Published(published) => files.push(published.version.file),
                other => panic!("{other:?}"),
            }
        }
        files
    }
}

fn root(cap: &ReadCap) -> [u8; 32] {
    cap.verify().roots()[0].0
}

fn number_of(outcome: &LookupOutcome) -> u64 {
    match outcome {
        LookupOutcome::Found(newest) => newest.version.number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_published_is_found_with_its_history() {
    let mut network = Network::default();
    assert!(matches!(network.look(None), LookupOutcome::NotFound));
    let files = network.publish(3);
    let LookupOutcome::Found(newest) = network.look(None) else { panic!("not found") };
    assert_eq!((newest.version.number, &*newest.version.label), (3, "x"));
    assert_eq!(root(&newest.version.directory), root(&cap(3)));
    assert_eq!(root(newest.version.previous.as_ref().unwrap()), root(&files[1]));
    assert!(newest.continues && newest.records.len() == 3);
    // Who has it reads nothing again.
    network.files_read = 0;
    assert!(matches!(network.look(seen(3, &files[2])), LookupOutcome::Same(_)));
    assert_eq!(network.files_read, 0);
}

#[test]
fn an_old_version_is_refused_by_who_saw_a_newer_one() {
    let mut network = Network::default();
    let files = network.publish(1);
    let old = network.records.clone();
    let second = network.publish_onto(&files[0]);
    network.records = old;
    assert!(matches!(network.look(seen(2, &second)), LookupOutcome::Invalid));
    assert_eq!(number_of(&network.look(None)), 1, "who knows no better cannot tell");
    // Its publisher does, and goes on from there.
    let third = network.update(seen(2, &second), Onto::Known, 3);
    assert!(matches!(third, UpdateOutcome::Published(published) if published.version.number == 3));
}

impl Network {
    /// One more version after the first.
    fn publish_onto(&mut self, first: &ReadCap) -> ReadCap {
        match self.update(seen(1, first), Onto::Known, 50) {
            UpdateOutcome::Published(published) => published.version.file,
            other => panic!("{other:?}"),
        }
    }

    /// Signs another file as version `number` and puts it in one place.
    fn plant(&mut self, place: usize, version: &SiteVersion) -> ReadCap {
        let file = self.store(&version.encode().unwrap());
        let records =
            publish(&write_cap(), NETWORK, version.number, Wall::from_minutes(2_000), &file);
        let record = records.unwrap().swap_remove(place);
        self.records.insert(record.key(), record);
        file
    }
}

fn version(number: u64, directory: u8, previous: Option<&ReadCap>) -> SiteVersion {
    SiteVersion {
        number,
        published: Wall::default(),
        label: String::new(),
        directory: cap(directory),
        previous: previous.map(ReadCap::duplicate),
    }
}

#[test]
fn a_fork_is_shown_as_one_and_the_next_version_ends_it() {
    let mut network = Network::default();
    let files = network.publish(2);
    network.plant(0, &version(2, 77, Some(&files[0])));
    let LookupOutcome::Forked { number: 2, branches } = network.look(None) else { panic!() };
    assert_eq!(branches.len(), 2, "both are shown");
    assert!(matches!(network.look(seen(2, &files[1])), LookupOutcome::Forked { number: 2, .. }));
    let third = network.update(seen(2, &files[1]), Onto::Known, 3);
    assert!(matches!(third, UpdateOutcome::Published(published) if published.version.number == 3));
    assert_eq!(number_of(&network.look(seen(2, &files[1]))), 3);
}

#[test]
fn a_history_without_what_was_read_is_a_fork() {
    let mut network = Network::default();
    let files = network.publish(2);
    let other = network.plant(0, &version(2, 77, Some(&files[0])));
    let third = network.store(&version(3, 78, Some(&other)).encode().unwrap());
    for record in publish(&write_cap(), NETWORK, 3, Wall::from_minutes(2_000), &third).unwrap() {
        network.records.insert(record.key(), record);
    }
    let reader = seen(2, &files[1]);
    assert!(matches!(network.look(reader), LookupOutcome::Forked { number: 3, .. }));
    // It is in the history of who read before the fork, and for who read nothing.
    assert_eq!(number_of(&network.look(seen(1, &files[0]))), 3);
    assert_eq!(number_of(&network.look(None)), 3);
}

#[test]
fn history_is_read_back_to_what_was_read_before() {
    let mut network = Network::default();
    let files = network.publish(5);
    network.files_read = 0;
    let LookupOutcome::Found(newest) = network.look(seen(1, &files[0])) else { panic!() };
    // Version 2 names version 1: that one need not be read.
    assert_eq!((newest.continues, network.files_read), (true, 4));
    network.files.remove(&root(&files[2]));
    let LookupOutcome::Found(newest) = network.look(seen(1, &files[0])) else { panic!() };
    assert!(!newest.continues, "what is lost between proves nothing");
    network.files.remove(&root(&files[4]));
    assert!(matches!(network.look(None), LookupOutcome::Incomplete { number: 5 }));
}

#[test]
fn a_version_file_of_another_number_is_refused() {
    let mut network = Network::default();
    let file = network.store(&version(4, 1, Some(&cap(2))).encode().unwrap());
    for record in publish(&write_cap(), NETWORK, 5, Wall::from_minutes(2_000), &file).unwrap() {
        network.records.insert(record.key(), record);
    }
    assert!(matches!(network.look(None), LookupOutcome::Invalid));
}

#[test]
fn what_expired_is_not_there() {
    let mut network = Network::default();
    let file = network.store(&version(1, 1, None).encode().unwrap());
    for (minute, there) in [(980, false), (990, false), (991, true), (1_001, true)] {
        for record in publish(&write_cap(), NETWORK, 1, Wall::from_minutes(minute), &file).unwrap()
        {
            network.records.insert(record.key(), record);
        }
        assert_eq!(matches!(network.look(None), LookupOutcome::Found(_)), there, "{minute}");
    }
}

#[test]
fn two_publishers_of_one_key_do_not_overwrite_each_other() {
    let mut network = Network::default();
    let files = network.publish(2);
    // The other one knows version 1 only.
    let late = network.update(seen(1, &files[0]), Onto::Known, 60);
    assert!(matches!(late, UpdateOutcome::Conflict { number: 2 }));
    let unknowing = network.update(None, Onto::Known, 60);
    assert!(matches!(unknowing, UpdateOutcome::Conflict { number: 2 }));
    assert!(matches!(network.look(seen(2, &files[1])), LookupOutcome::Same(_)));
    let told = network.update(None, Onto::Newest, 60);
    assert!(matches!(told, UpdateOutcome::Published(published) if published.version.number == 3));
    assert_eq!(number_of(&network.look(seen(2, &files[1]))), 3);
}

#[test]
fn who_loses_the_race_for_a_number_hears_of_it() {
    let mut network = Network::default();
    let files = network.publish(1);
    // Looked at before the other one put its records: nobody answers with them.
    network.trouble = [Some(Trouble::Empty), Some(Trouble::Empty), None];
    network.plant(0, &version(2, 77, Some(&files[0])));
    network.plant(1, &version(2, 77, Some(&files[0])));
    let now = Now { time: Time::ZERO, wall: Wall::from_minutes(1_000) };
    let draft = Draft { directory: cap(60), label: String::new(), published: now.wall };
    let known = Known { newest: seen(1, &files[0]), pending: None };
    let mut update = SiteUpdate::new(
        now,
        write_cap(),
        NETWORK,
        known,
        Onto::Known,
        draft,
        Rng::from_seed([3; 32]),
    )
    .unwrap();
    let mut outcome = None;
    while let Some(output) = update.poll_output() {
        let input = match output {
            UpdateOutput::Lookup(LookupOutput::GetRecord { place, key }) => {
                let answer = network.get(place, key);
                UpdateInput::Lookup(LookupInput::Record { place, answer })
            }
            UpdateOutput::StoreFile { content, .. } => {
                network.trouble = [None; 3];
                UpdateInput::Stored(Some(network.store(&content)))
            }
            UpdateOutput::Save(_) => UpdateInput::Saved(true),
            UpdateOutput::PutRecord(put) => {
                let answer = network.put(&put);
                UpdateInput::Put(PutAnswer { at: put.at, answer })
            }
            UpdateOutput::Done(done) => {
                outcome = Some(done);
                break;
            }
            UpdateOutput::Lookup(other) => panic!("{other:?}"),
        };
        update.handle_input(now, input);
    }
    assert!(matches!(outcome, Some(UpdateOutcome::Conflict { number: 2 })), "{outcome:?}");
}

#[test]
fn a_version_that_reached_one_place_only_is_put_again_or_followed_and_never_signed_twice() {
    use Trouble::{Busy, Empty};
    for same_pages in [true, false] {
        let mut network = Network::default();
        let files = network.publish(1);
        let base = || seen(1, &files[0]);
        network.trouble = [None, Some(Busy), Some(Busy)];
        let second = network.again(base(), Onto::Known, 50);
        assert!(matches!(second, UpdateOutcome::Unreachable(_)), "{second:?}");
        // The one place that has it is not heard by who looks before the next one.
        network.trouble = [Some(Empty), None, None];
        let UpdateOutcome::Published(next) =
            network.again(base(), Onto::Known, if same_pages { 50 } else { 51 })
        else {
            panic!()
        };
        assert_eq!(next.version.number, if same_pages { 2 } else { 3 });
        network.trouble = [None; 3];
        assert_eq!(number_of(&network.look(base())), next.version.number);
    }
}

#[test]
fn who_signed_what_another_published_meanwhile_hears_of_it_and_can_follow() {
    let mut network = Network::default();
    let files = network.publish(1);
    network.trouble = [Some(Trouble::Busy); 3];
    network.trouble[0] = None;
    let base = || seen(1, &files[0]);
    assert!(matches!(network.again(base(), Onto::Known, 50), UpdateOutcome::Unreachable(_)));
    // Another router with the key, which the one place does not answer.
    network.trouble = [Some(Trouble::Empty), None, None];
    assert!(matches!(network.update(base(), Onto::Known, 60), UpdateOutcome::Published(_)));
    for trouble in [Some(Trouble::Empty), None] {
        network.trouble[0] = trouble;
        let late = network.again(base(), Onto::Known, 50);
        assert!(matches!(late, UpdateOutcome::Conflict { number: 2 }), "{late:?}");
    }
    network.trouble[0] = Some(Trouble::Empty);
    let told = network.again(base(), Onto::Newest, 50);
    assert!(matches!(told, UpdateOutcome::Published(published) if published.version.number == 3));
    network.trouble[0] = None;
    assert_eq!(number_of(&network.look(None)), 3);
}

#[test]
fn what_cannot_be_written_down_is_not_signed() {
    let now = Now { time: Time::ZERO, wall: Wall::from_minutes(1_000) };
    let draft = Draft { directory: cap(60), label: String::new(), published: now.wall };
    let (known, rng) = (Known::default(), Rng::from_seed([3; 32]));
    let mut update =
        SiteUpdate::new(now, write_cap(), NETWORK, known, Onto::Known, draft, rng).unwrap();
    for place in 0..3 {
        let input = LookupInput::Record { place, answer: Some(RecordAnswer::NotFound) };
        update.handle_input(now, UpdateInput::Lookup(input));
    }
    update.handle_input(now, UpdateInput::Stored(Some(cap(61))));
    while update.poll_output().is_some() {}
    update.handle_input(now, UpdateInput::Saved(false));
    let Some(UpdateOutput::Done(UpdateOutcome::NotSaved)) = update.poll_output() else { panic!() };
    assert!(update.poll_output().is_none());
}

#[test]
fn one_place_that_fails_hinders_nobody() {
    for bad in 0..3 {
        for trouble in [Trouble::Silent, Trouble::Empty, Trouble::Busy, Trouble::Forges] {
            let mut network = Network::default();
            network.trouble[bad] = Some(trouble);
            network.publish(2);
            assert_eq!(number_of(&network.look(None)), 2);
        }
    }
}

#[test]
fn why_nothing_was_found_is_said() {
    use Trouble::{Busy, Empty, Forges, Silent};
    let look = |trouble: [Trouble; 3]| {
        let mut network = Network { trouble: trouble.map(Some), ..Network::default() };
        network.look(None)
    };
    assert!(matches!(look([Empty, Empty, Silent]), LookupOutcome::NotFound));
    assert!(matches!(look([Empty, Forges, Empty]), LookupOutcome::NotFound));
    assert!(matches!(look([Empty, Forges, Silent]), LookupOutcome::Invalid));
    let busy = look([Empty, Busy, Silent]);
    assert!(matches!(busy, LookupOutcome::Unreachable(Unreachable::Busy { retry_s: 7 })));
    let none = look([Silent, Silent, Empty]);
    assert!(matches!(none, LookupOutcome::Unreachable(Unreachable::NoRoute)));
    let mut network = Network { trouble: [Some(Silent), Some(Silent), None], ..Network::default() };
    let update = network.update(None, Onto::Known, 1);
    assert!(matches!(update, UpdateOutcome::Unreachable(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the places do, and in whatever order they are asked: a reader never goes back, and a
    /// publisher that remembers what it signed makes no fork.
    #[test]
    fn no_reader_goes_back_and_one_publisher_makes_no_fork(
        steps in prop::collection::vec((0u8..3, 0u8..5, any::<bool>()), 1..12),
    ) {
        let mut network = Network::default();
        let mut files = network.publish(1);
        let mut read: Option<(u64, ReadCap)> = None;
        let mut numbers = vec![1];
        for (place, trouble, publishes) in steps {
            use Trouble::{Busy, Empty, Forges, None as Well, Silent};
            network.trouble[usize::from(place)] = Some([Well, Silent, Empty, Busy, Forges][usize::from(trouble)]);
            if publishes {
                let base = seen(*numbers.last().unwrap(), files.last().unwrap());
                if let UpdateOutcome::Published(published) =
                    network.again(base, Onto::Known, 40 + place)
                {
                    files.push(published.version.file);
                    numbers.push(published.version.number);
                }
            }
            let before = read.as_ref().and_then(|(number, file)| seen(*number, file));
            let outcome = network.look(before);
            prop_assert!(!matches!(outcome, LookupOutcome::Forked { .. }), "one author, no fork");
            if let LookupOutcome::Found(newest) = outcome {
                let number = newest.version.number;
                prop_assert!(read.as_ref().is_none_or(|(before, _)| number > *before));
                read = Some((number, newest.file));
            }
        }
    }
}

#[test]
fn records_are_announced_again_within_hours_and_sooner_when_that_fails() {
    let file = cap(1);
    let records = publish(&write_cap(), NETWORK, 1, Wall::from_minutes(2_000), &file).unwrap();
    let mut announcer = Announcer::new(Time::ZERO, records, Rng::from_seed([1; 32]));
    let mut now = Time::ZERO;
    announcer.handle_timeout(now);
    let asked: Vec<u8> = std::iter::from_fn(|| announcer.poll_output()).map(|put| put.at).collect();
    assert_eq!(asked, [0, 1, 2]);
    let answers =
        [Some(RecordAnswer::Stored { copies: 3 }), Some(RecordAnswer::Busy { retry_s: 30 }), None];
    for (at, answer) in (0..).zip(answers) {
        announcer.handle_input(now, PutAnswer { at, answer });
    }
    assert_eq!((announcer.stored(), announcer.is_settled()), (1, false));
    // The silent one after a second, the busy one after the 30 that it asked for.
    for (second, want) in [(1, 2), (30, 1)] {
        now = announcer.poll_timeout().unwrap();
        assert_eq!(now, Time::from_micros(second * 1_000_000));
        announcer.handle_timeout(now);
        assert_eq!(announcer.poll_output().unwrap().at, want);
        let answer = Some(RecordAnswer::Stored { copies: 1 });
        announcer.handle_input(now, PutAnswer { at: want, answer });
    }
    assert!(announcer.is_settled() && !announcer.is_beaten());
    let again = announcer.poll_timeout().unwrap().since(Time::ZERO).as_secs();
    assert!((5 * 3_600..=7 * 3_600).contains(&again));
    now = announcer.poll_timeout().unwrap();
    announcer.handle_timeout(now);
    let at = announcer.poll_output().unwrap().at;
    announcer.handle_input(now, PutAnswer { at, answer: Some(RecordAnswer::Stale) });
    assert!(announcer.is_beaten());
}
