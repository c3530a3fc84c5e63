//! The book of leases: who gets in, once, in which order.

use proptest::prelude::{prop_assert_eq, proptest};

use super::*;

const TUNNEL: (LinkNo, TunnelId) = (LinkNo(3), TunnelId(4));

fn rng(seed: u8) -> Rng {
    Rng::from_seed([seed; 32])
}

fn book() -> (LeaseBook, [u8; 32]) {
    let mut book = LeaseBook::new(rng(1));
    let key = book.grant(Time::ZERO, [7; 16], Rate::default(), TUNNEL).unwrap();
    (book, key)
}

/// Those who must wait count as busy.
fn open(
    book: &mut LeaseBook,
    now: Time,
    sealed: &[u8; SEALED_LEASE_LEN],
) -> Result<(LinkNo, TunnelId), LeaseRefusal> {
    let leg = (LinkNo(9), TunnelId(9));
    let opened = book.open(now, leg, sealed)?;
    book.forget(leg);
    opened.ok_or(LeaseRefusal::Busy)
}

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

#[test]
fn a_sealed_lease_leads_to_its_tunnel_once() {
    let (mut book, key) = book();
    let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
    assert_eq!(open(&mut book, at(1), &sealed), Ok(TUNNEL));
    assert_eq!(open(&mut book, at(1), &sealed), Err(LeaseRefusal::Replayed));
    assert_eq!(open(&mut book, at(5_000), &sealed), Err(LeaseRefusal::Replayed));
}

#[test]
fn the_same_lease_never_looks_the_same_twice() {
    let (mut book, key) = book();
    let mut rng = rng(2);
    let [a, b] = [0; 2].map(|_| seal_lease(&mut rng, &key, &[7; 16]).unwrap());
    assert!(a[..32] != b[..32] && a[32..48] != b[32..48]);
    assert_eq!([open(&mut book, at(0), &a), open(&mut book, at(0), &b)], [Ok(TUNNEL); 2]);
}

#[test]
fn a_lease_ends_with_its_tunnel() {
    let (mut book, key) = book();
    let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
    book.revoke(TUNNEL);
    assert_eq!(open(&mut book, at(1), &sealed), Err(LeaseRefusal::Unknown));
    assert_eq!((book.len(), book.seen), (0, 0));
}

#[test]
fn another_gateway_reads_nothing() {
    let (_, key) = book();
    let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
    let mut other = LeaseBook::new(rng(9));
    other.grant(Time::ZERO, [7; 16], Rate::default(), TUNNEL).unwrap();
    assert_eq!(open(&mut other, at(1), &sealed), Err(LeaseRefusal::Unauthentic));
}

#[test]
fn a_key_of_low_order_is_not_sealed_to() {
    assert_eq!(seal_lease(&mut rng(2), &[0; 32], &[7; 16]), None);
}

#[test]
fn a_new_key_each_day_and_the_old_one_for_three_hours() {
    let (mut book, old) = book();
    let day = KEY_LIFE.as_secs();
    let new = book.grant(at(day), [8; 16], Rate::default(), TUNNEL).unwrap();
    assert_ne!(new, old);
    let mut rng = rng(2);
    let mut seal = |key| seal_lease(&mut rng, key, &[7; 16]).unwrap();
    assert_eq!(open(&mut book, at(day + 1), &seal(&old)), Ok(TUNNEL));
    assert_eq!(open(&mut book, at(day + 1), &seal(&new)), Ok(TUNNEL));
    let late = at(day + KEY_KEPT.as_secs());
    assert_eq!(open(&mut book, late, &seal(&old)), Err(LeaseRefusal::Unauthentic));
}

#[test]
fn the_book_has_bounds() {
    let (mut book, _) = book();
    assert_eq!(book.grant(at(0), [7; 16], Rate::default(), TUNNEL), None, "one id, one lease");
    for (n, _) in (8..).zip(1..LEASES_PER_TUNNEL_MAX) {
        assert!(book.grant(at(0), [n; 16], Rate::default(), TUNNEL).is_some());
    }
    assert_eq!(book.grant(at(0), [99; 16], Rate::default(), TUNNEL), None);
}

/// A book whose lease lets in one client a second, and has let one in.
fn crowded() -> (LeaseBook, [u8; 32]) {
    let mut book = LeaseBook::new(rng(1));
    let rate = Rate { per_second: 1, burst: 1 };
    let key = book.grant(Time::ZERO, [7; 16], rate, TUNNEL).unwrap();
    let sealed = seal_lease(&mut rng(8), &key, &[7; 16]).unwrap();
    assert_eq!(book.open(Time::ZERO, leg(0), &sealed), Ok(Some(TUNNEL)));
    (book, key)
}

fn leg(n: u32) -> (LinkNo, TunnelId) {
    (LinkNo(50), TunnelId(n))
}

/// A lease with `effort` spent on it.
fn paid(rng: &mut Rng, key: &[u8; 32], effort: u32) -> [u8; SEALED_LEASE_LEN] {
    let seal = LeaseSeal::new(rng, key, &[7; 16]).unwrap();
    let mut search = crate::crypto::effort::Search::new(seal.challenge(), effort);
    let nonce = search.step(&mut MemoryPuzzle::default(), u32::MAX).unwrap();
    seal.seal(effort, nonce)
}

#[test]
fn who_spent_more_enters_first_and_the_service_hears_what_was_spent() {
    let (mut book, key) = crowded();
    let mut rng = rng(2);
    for (n, effort) in [(1, 0), (2, 20), (3, 5)] {
        let sealed = paid(&mut rng, &key, effort);
        assert_eq!(book.open(at(0), leg(n), &sealed), Ok(None));
    }
    assert_eq!((book.next(at(0)), book.poll_timeout()), (None, Some(at(1))));
    let enters = |n| Some(Admission::Enter { leg: leg(n), tunnel: TUNNEL });
    assert_eq!(book.next(at(1)), enters(2));
    let crowd = Crowd { waiting: 2, effort: 20 };
    assert_eq!(book.next(at(1)), Some(Admission::Report { tunnel: TUNNEL, crowd }));
    assert_eq!(book.next(at(1)), None);
    book.forget(leg(3));
    let late = Time::from_micros(1_500_000);
    assert_eq!(book.next(late), Some(Admission::Refuse { leg: leg(1) }));
    assert_eq!((book.next(at(9)), book.poll_timeout()), (None, None));
}

#[test]
fn only_leases_where_somebody_waits_are_looked_at() {
    let (mut book, key) = crowded();
    let rate = Rate { per_second: 1, burst: 1 };
    for n in 100..200 {
        book.grant(at(0), [n; 16], rate, (LinkNo(n.into()), TunnelId(1))).unwrap();
    }
    let mut rng = rng(2);
    for (n, lease) in [(1, 7), (2, 150), (3, 150)] {
        let sealed = seal_lease(&mut rng, &key, &[lease; 16]).unwrap();
        let _ = book.open(at(0), leg(n), &sealed);
    }
    assert_eq!(book.crowded.len(), 2);
    assert_eq!((book.next(at(0)), book.poll_timeout()), (None, Some(at(1))));
    let enter = |n, tunnel| Some(Admission::Enter { leg: leg(n), tunnel });
    let [first, second] = [book.next(at(1)), book.next(at(1))];
    assert_eq!([first, second].iter().filter(|it| **it == enter(1, TUNNEL)).count(), 1);
    let other = enter(3, (LinkNo(150), TunnelId(1)));
    assert_eq!([first, second].iter().filter(|it| **it == other).count(), 1);
    assert_eq!((book.next(at(9)), book.poll_timeout()), (None, None));
}

#[test]
fn an_effort_that_was_not_spent_gets_no_turn() {
    let (mut book, key) = crowded();
    let mut rng = rng(2);
    let claim =
        |rng: &mut Rng, effort| LeaseSeal::new(rng, &key, &[7; 16]).unwrap().seal(effort, 12_345);
    for effort in [50_000, EFFORT_MAX, EFFORT_MAX + 1, u32::MAX] {
        let sealed = claim(&mut rng, effort);
        assert_eq!(book.open(at(0), leg(1), &sealed), Err(LeaseRefusal::Unpaid));
    }
    // What was spent on one lease is worth nothing on another: the ephemeral is in the challenge.
    assert_eq!(book.open(at(0), leg(1), &paid(&mut rng, &key, 9)), Ok(None));
}

#[test]
fn whoever_waits_at_a_lease_that_ends_is_given_back() {
    let (mut book, key) = crowded();
    let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
    assert_eq!(book.open(at(0), leg(1), &sealed), Ok(None));
    assert_eq!(book.revoke(TUNNEL), [leg(1)]);
    assert_eq!((book.next(at(5)), book.waiting.len()), (None, 0));
}

#[test]
fn a_flood_of_splices_is_slowed_to_the_stated_rate() {
    let (mut book, key) = book();
    let mut rng = rng(2);
    let mut came = |now| {
        let sealed = seal_lease(&mut rng, &key, &[7; 16]).unwrap();
        open(&mut book, now, &sealed).is_ok()
    };
    let at_once = (0..300).filter(|_| came(at(0))).count();
    assert_eq!(at_once, usize::from(Rate::default().burst));
    let later = (0..300).filter(|_| came(at(4))).count();
    assert_eq!(later, 4 * usize::from(Rate::default().per_second));
}

proptest! {
    #[test]
    fn a_flipped_bit_opens_nothing(at_bit in 0..SEALED_LEASE_LEN * 8) {
        let (mut book, key) = book();
        let mut sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
        sealed[at_bit / 8] ^= 1 << (at_bit % 8);
        prop_assert_eq!(open(&mut book, at(0), &sealed), Err(LeaseRefusal::Unauthentic));
    }
}
