//! One watch, in a ring of three places that one can spoil.

use std::time::Duration;

use warren_overlay::ring::{WATCH_LEASE, Watch};

use super::*;

/// One who watches, and what the places keep open for him.
struct Watcher {
    watch: SiteWatch,
    now: Now,
    open: BTreeMap<u8, (Watch, Time)>,
    /// Asked so far: lookups, and watches of each place.
    looks: usize,
    watches: [usize; 3],
    told: Vec<u64>,
    said: Vec<LookupOutcome>,
}

impl Watcher {
    fn new() -> Self {
        let now = Now { time: Time::ZERO, wall: Wall::from_minutes(1_000) };
        Self {
            watch: SiteWatch::new(now.time, name(), NETWORK).unwrap(),
            now,
            open: BTreeMap::new(),
            looks: 0,
            watches: [0; 3],
            told: vec![],
            said: vec![],
        }
    }

    /// Lets `seconds` pass; places answer as soon as they have something to say.
    fn run(&mut self, network: &mut Network, seconds: u64) {
        let end = self.now.time + Duration::from_secs(seconds);
        loop {
            self.settle(network);
            let lease = self.open.values().map(|(_, until)| *until);
            let next = lease.chain(self.watch.poll_timeout()).min().unwrap();
            if next > end {
                break;
            }
            self.now.time = next.max(self.now.time);
            self.watch.handle_timeout(self.now.time);
        }
        self.now.time = end;
    }

    fn settle(&mut self, network: &mut Network) {
        for _ in 0..1_000 {
            while let Some(output) = self.watch.poll_output() {
                match output {
                    WatchOutput::Look(seen) => {
                        self.looks += 1;
                        let outcome = network.look(seen);
                        self.watch.handle_input(self.now, WatchInput::Looked(outcome));
                    }
                    WatchOutput::Watch { place, watch } => {
                        self.watches[usize::from(place)] += 1;
                        let until = self.now.time + WATCH_LEASE;
                        assert!(self.open.insert(place, (watch, until)).is_none(), "one at a time");
                    }
                    WatchOutput::Newer(newest) => self.told.push(newest.version.number),
                    WatchOutput::Not(outcome) => self.said.push(outcome),
                }
            }
            let due = self.open.iter().find_map(|(place, (watch, until))| {
                let over = *until <= self.now.time;
                Some((*place, network.next(*place, *watch, over)?))
            });
            let Some((place, answer)) = due else { return };
            self.open.remove(&place);
            let answer = Some(answer);
            self.watch.handle_input(self.now, WatchInput::Watched { place, answer });
        }
        panic!("it never rests");
    }
}

impl Network {
    /// What a place has to say to who watches it; `over`: the lease is.
    fn next(&self, place: u8, watch: Watch, over: bool) -> Option<RecordAnswer> {
        match self.get(place, watch.key) {
            Some(RecordAnswer::Found(bytes)) => {
                let record = Record::decode(bytes.as_bytes(), NETWORK);
                let newer = record.map_or(true, |record| record.version() > watch.above);
                let lease = || over.then_some(RecordAnswer::NotFound);
                if newer { Some(RecordAnswer::Found(bytes)) } else { lease() }
            }
            Some(RecordAnswer::NotFound) if self.trouble[usize::from(place)].is_none() => {
                over.then_some(RecordAnswer::NotFound)
            }
            other => other,
        }
    }
}

#[test]
fn each_version_is_told_once_whichever_place_is_left() {
    for left in 0..3 {
        let mut network = Network::default();
        let mut files = network.publish(1);
        let mut watcher = Watcher::new();
        watcher.run(&mut network, 5);
        assert_eq!(watcher.told, [1], "the one that is there");
        for number in 2..=6u64 {
            // Two confirm to the publisher; then one of them is left.
            network.trouble = [None; 3];
            let base = seen(number - 1, files.last().unwrap());
            let UpdateOutcome::Published(done) = network.update(base, Onto::Known, 9) else {
                panic!("not published")
            };
            files.push(done.version.file);
            network.trouble = [Some(Trouble::Silent); 3];
            network.trouble[left] = None;
            watcher.run(&mut network, 30);
            assert_eq!(watcher.told, (1..=number).collect::<Vec<_>>(), "place {left}");
        }
        assert!(watcher.said.is_empty(), "{:?}", watcher.said);
    }
}

#[test]
fn a_day_without_news_costs_a_watch_a_lease_and_a_lookup_every_ten_minutes() {
    let mut network = Network::default();
    network.publish(1);
    let mut watcher = Watcher::new();
    watcher.run(&mut network, 24 * 3_600);
    assert_eq!(watcher.told, [1]);
    assert!((140..=145).contains(&watcher.looks), "{} lookups", watcher.looks);
    assert!(watcher.watches.iter().all(|count| (178..=182).contains(count)));
}

#[test]
fn places_that_lie_refuse_or_end_at_once_are_asked_once_a_minute_and_believed_never() {
    for trouble in [Trouble::Forges, Trouble::Empty, Trouble::Busy] {
        let mut network = Network::default();
        network.publish(1);
        let mut watcher = Watcher::new();
        watcher.run(&mut network, 1);
        network.trouble[1] = Some(trouble);
        watcher.open.remove(&1);
        watcher.watch.handle_input(watcher.now, WatchInput::Watched { place: 1, answer: None });
        watcher.run(&mut network, 3_600);
        assert_eq!(watcher.told, [1]);
        assert!(watcher.looks <= 8, "{} lookups", watcher.looks);
        assert!((50..80).contains(&watcher.watches[1]), "{:?} {trouble:?}", watcher.watches);
    }
}

#[test]
fn a_site_that_is_not_there_yet_is_told_when_it_comes() {
    let mut network = Network::default();
    let mut watcher = Watcher::new();
    watcher.run(&mut network, 3_600);
    assert!(matches!(watcher.said[..], [LookupOutcome::NotFound]), "once: {:?}", watcher.said);
    network.publish(1);
    watcher.run(&mut network, 1);
    assert_eq!(watcher.told, [1]);
}

/// All three places keep it to themselves.
#[test]
fn who_hides_a_version_hides_it_for_ten_minutes() {
    let mut network = Network::default();
    let files = network.publish(1);
    let mut watcher = Watcher::new();
    watcher.run(&mut network, 1);
    let open = std::mem::take(&mut watcher.open);
    network.publish_onto(&files[0]);
    watcher.now.time = watcher.now.time + Duration::from_mins(10);
    watcher.watch.handle_timeout(watcher.now.time);
    watcher.settle(&mut network);
    assert_eq!((watcher.told, open.len()), (vec![1, 2], 3));
}

#[test]
fn a_fork_is_told_as_one_once_and_the_version_after_it_as_ever() {
    let mut network = Network::default();
    let files = network.publish(2);
    let mut watcher = Watcher::new();
    watcher.run(&mut network, 1);
    // Another file as version 3 in one place, and the true one in the others.
    let planted = network.plant(0, &version(3, 77, Some(&files[0])));
    watcher.run(&mut network, 600);
    assert_eq!(watcher.told, [2], "it does not continue what was read: {:?}", watcher.said);
    assert!(matches!(watcher.said[..], [LookupOutcome::Forked { number: 3, .. }]));
    let fourth = network.update(seen(2, &files[1]), Onto::Newest, 4);
    let UpdateOutcome::Published(fourth) = fourth else { panic!("{fourth:?}") };
    watcher.run(&mut network, 60);
    let (number, said) = (fourth.version.number, watcher.said.len());
    // It follows what was planted, so for who read version 2 it is a fork still.
    assert_eq!((number, said, watcher.told.len()), (4, 2, 1), "{:?}", watcher.said);
    drop(planted);
}

#[test]
fn a_version_whose_file_is_not_there_yet_is_told_when_it_is() {
    let mut network = Network::default();
    let files = network.publish(1);
    let mut watcher = Watcher::new();
    watcher.run(&mut network, 1);
    let second = network.publish_onto(&files[0]);
    let content = network.files.remove(&root(&second)).unwrap();
    watcher.run(&mut network, 120);
    assert_eq!((watcher.told.len(), watcher.said.len()), (1, 1), "said once: {:?}", watcher.said);
    assert!(watcher.looks < 12, "{} lookups in 2 minutes", watcher.looks);
    network.files.insert(root(&second), content);
    watcher.run(&mut network, 60);
    assert_eq!(watcher.told, [1, 2]);
}
