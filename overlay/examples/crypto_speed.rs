//! How long the hot paths take on this machine. `cargo run --release -p warren-overlay --example
//! crypto_speed`. Figures, not tests: docs/spec/crypto.md quotes them.
#![expect(clippy::print_stdout, reason = "its purpose")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::time::Instant;

use warren_overlay::{
    crypto::{
        aead::Aead,
        kem::{self, KemSecret},
        onion::{Direction, LayerKeys, OwnerBackward, OwnerForward, RelayBackward, RelayForward},
        puzzle::{Difficulty, Params, Search, output},
        secret::Secret,
    },
    id::{NetworkId, RouterId},
    rng::Rng,
};

fn nanoseconds(name: &str, per: u32, mut work: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..1000 {
            work();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e6);
    }
    println!("{name}: {:.0} ns", best / f64::from(per));
}

fn puzzle(params: Params) {
    let ids = (NetworkId([1; 32]), RouterId([2; 32]));
    let mut search = Search::new(ids.0, ids.1, params, Difficulty(255), 0).expect("valid");
    let start = Instant::now();
    for _ in 0..20 {
        search.step();
    }
    println!("puzzle, a search step, {params:?}: {:.1} ms", start.elapsed().as_secs_f64() * 50.0);
    let start = Instant::now();
    for nonce in 0..20 {
        let _ = output(&ids.0, &ids.1, nonce, params);
    }
    println!("puzzle, a check, {params:?}: {:.1} ms", start.elapsed().as_secs_f64() * 50.0);
}

fn main() {
    let mut rng = Rng::from_seed([1; 32]);
    let secret: Secret<32> = Secret::random(&mut rng);
    let keys = |direction| LayerKeys::derive(&secret, direction);
    let mut cell = [7; 1024];

    let mut relay = RelayForward::new(keys(Direction::Forward));
    nanoseconds("relay, one layer", 1, || relay.relay(&mut cell));
    let mut end = RelayBackward::new(keys(Direction::Backward));
    nanoseconds("end, originate with update", 1, || end.originate(&mut cell));
    let three = (0..3).map(|_| keys(Direction::Forward)).collect();
    let mut owner = OwnerForward::new(three);
    nanoseconds("owner, originate over 3 hops, per layer", 3, || owner.originate(&mut cell));
    let mut owner = OwnerBackward::new((0..3).map(|_| keys(Direction::Backward)).collect());
    nanoseconds("owner, open over 3 hops (unrecognised), per layer", 3, || {
        let _ = owner.open(&mut cell);
    });

    let aead = Aead::new(&secret);
    nanoseconds("aead, seal 1 KiB", 1, || {
        aead.seal_in_place(1, &[], &mut cell);
    });
    let key = KemSecret::generate(&mut rng);
    nanoseconds("kem, generate", 1, || drop(KemSecret::generate(&mut rng)));
    let mut rng = Rng::from_seed([2; 32]);
    nanoseconds("kem, encapsulate", 1, || drop(kem::encapsulate(&mut rng, key.public())));
    let (ciphertext, _) = kem::encapsulate(&mut rng, key.public()).expect("our own key");
    nanoseconds("kem, decapsulate", 1, || drop(key.decapsulate(&ciphertext)));
    puzzle(Params::STANDARD);
    puzzle(Params { memory_kib: 16 * 1024, passes: 2 });
}
