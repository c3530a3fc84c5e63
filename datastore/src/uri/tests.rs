//! One text for one capability, and no way up.

use proptest::prelude::*;
use warren_overlay::crypto::blind::ServiceKey;

use super::*;

fn any_uri(which: u8, seed: u8) -> Uri {
    let mut bytes: [u8; 64] = kdf::derive("warren test 1", &[&[seed]]);
    let seed = || Secret::take(&mut [seed; 32]);
    match which % 7 {
        0 => Uri::File(ReadCap::take(&mut bytes)),
        1 => Uri::FileVerify(VerifyCap::take(&mut bytes)),
        2 => Uri::Directory(ReadCap::take(&mut bytes)),
        3 => Uri::DirectoryVerify(VerifyCap::take(&mut bytes)),
        4 => Uri::Site(SiteWriteCap::from_seed(seed()).name().unwrap()),
        5 => any_uri(4, bytes[0]).attenuate(Right::Verify).unwrap(),
        _ => Uri::SiteWrite(SiteWriteCap::from_seed(seed())),
    }
}

fn parse(text: &str) -> Result<String, UriError> {
    text.parse::<Uri>().map(|uri| uri.to_string())
}

proptest! {
    #[test]
    fn text_undoes_display(which: u8, seed: u8) {
        let uri = any_uri(which, seed);
        let text = uri.to_string();
        let back: Uri = text.parse().unwrap();
        prop_assert_eq!((back.kind(), back.right()), (uri.kind(), uri.right()));
        prop_assert_eq!(back.to_string(), text.clone());
        prop_assert!(text.len() <= TEXT_MAX);
        prop_assert_eq!(text.to_ascii_lowercase(), text);
    }

    #[test]
    fn one_typo_is_noticed(which: u8, seed: u8, at: prop::sample::Index, with in "[a-z2-7A-Z:=.0-9-]") {
        let text = any_uri(which, seed).to_string();
        let at = at.index(text.len());
        let mut typo = text.clone();
        typo.replace_range(at..=at, &with);
        if typo != text { prop_assert!(parse(&typo).is_err(), "{typo}"); }
        let mut cut = text.clone();
        cut.remove(at);
        prop_assert!(parse(&cut).is_err());
        let mut more = text.clone();
        more.insert_str(at, &with);
        prop_assert!(parse(&more).is_err());
    }

    #[test]
    fn two_letters_changed_places_are_noticed(which: u8, seed: u8, at: prop::sample::Index) {
        let text = any_uri(which, seed).to_string();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len() - 1);
        bytes.swap(at, at + 1);
        let swapped = String::from_utf8(bytes).unwrap();
        if swapped != text { prop_assert!(parse(&swapped).is_err()); }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", word in "(warren:)?(file|dir-verify|site|site-write)?:?") {
        let _ = parse(&text);
        let _ = parse(&format!("{word}{text}"));
    }

    /// A lower one never yields a higher one: neither by the types nor by its bytes.
    #[test]
    fn capabilities_only_lose_rights(which: u8, seed: u8) {
        let uri = any_uri(which, seed);
        let rights = [Right::Verify, Right::Read, Right::Write];
        for to in rights {
            let lower = uri.attenuate(to);
            prop_assert_eq!(lower.is_some(), to <= uri.right());
            let Some(lower) = lower else { continue };
            prop_assert_eq!((lower.kind(), lower.right()), (uri.kind(), to));
            for again in rights {
                // Two steps down are one, and none goes back.
                let twice = lower.attenuate(again).map(|uri| uri.to_string());
                let once = uri.attenuate(again.min(to)).map(|uri| uri.to_string());
                prop_assert_eq!(twice.is_some(), again <= to);
                if again <= to { prop_assert_eq!(twice, once); }
            }
            if to < uri.right() {
                // Nor do the letters of the one spell the other.
                let letters = lower.to_string().rsplit(':').next().unwrap().to_owned();
                let text = uri.to_string();
                let forged = [&text[..=text.rfind(':').unwrap()], &letters].concat();
                prop_assert!(parse(&forged).is_err());
            }
        }
    }
}

#[test]
fn a_verify_key_is_not_the_read_key() {
    let Uri::File(read) = any_uri(0, 1) else { unreachable!() };
    let (read_bytes, verify) = (read.to_bytes(), read.verify().to_bytes());
    assert_eq!(read_bytes.expose_secret()[..32], verify.expose_secret()[..32]);
    assert_ne!(read_bytes.expose_secret()[32..], verify.expose_secret()[32..]);
    let site = ServiceKey::from_seed(Secret::take(&mut [1; 32])).public();
    let verify = SiteVerifyCap::of(&Name::new(site, NameKind::Site).unwrap()).unwrap();
    assert_ne!(verify.as_bytes(), &site);
    assert_eq!(SiteVerifyCap::of(&Name::new(site, NameKind::Service).unwrap()), None);
}

#[test]
fn the_letters_of_a_site_are_its_host_name() {
    let Uri::Site(name) = any_uri(4, 9) else { unreachable!() };
    let text = Uri::Site(name).to_string();
    let label = text.strip_prefix("warren:site:").unwrap();
    assert!(label.len() <= 63, "a DNS label");
    assert_eq!(format!("{label}.warren").parse(), Ok(name));
}

#[test]
fn each_refusal_says_why() {
    let error = |text: &str| parse(text).unwrap_err();
    let text = any_uri(0, 1).to_string();
    assert_eq!(error("http://example.com"), UriError::Foreign);
    assert_eq!(error("warren:film:aaa"), UriError::Foreign);
    assert_eq!(error(&text.to_uppercase()), UriError::Foreign);
    assert_eq!(error(&format!("{text}a")), UriError::Length);
    assert_eq!(error(&format!("{text}{text}")), UriError::Length);
    assert_eq!(error(&format!("{text} ")), UriError::Letters);
    assert_eq!(error(&text.replace(":file:", ":dir:")), UriError::Checksum);
    let spelled = |word: &str, body: &[u8]| {
        let bytes = [body, &checksum(word, body)].concat();
        format!("warren:{word}:{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    };
    assert_eq!(error(&spelled("file", &[2; 65])), UriError::Version);
    let low_order = [&[1][..], &[0; 32]].concat();
    assert_eq!(error(&spelled("site-verify", &low_order)), UriError::Capability);
    assert_eq!(error(&spelled("site-write", &[1; 65])), UriError::Length);
    let service = ServiceKey::from_seed(Secret::take(&mut [1; 32]));
    let live = Name::of_service(&service).to_string();
    assert_eq!(error(&format!("warren:site:{}", &live[..56])), UriError::Capability);
}

#[test]
fn a_path_may_follow() {
    let text = any_uri(2, 1).to_string();
    let typed = format!("{text}/docs/a b.txt");
    let (uri, path) = Uri::split_path(&typed).unwrap();
    assert_eq!((uri.to_string(), path), (text.clone(), Some("docs/a b.txt")));
    assert_eq!(Uri::split_path(&text).unwrap().1, None);
    assert!(Uri::split_path("a/b").is_err());
}

/// Frozen: people keep these texts.
#[test]
fn uris_have_the_documented_text() {
    let texts: Vec<_> = (0..7).map(|which| any_uri(which, 1).to_string()).collect();
    assert_eq!(texts, VECTORS);
    assert_eq!(format!("{:?}", any_uri(0, 1)), "_");
}

const VECTORS: [&str; 7] = [
    "warren:file:aewevgh3ckfenur7gtgxmqbcjvgsddb7jowbvtviowdfuwi4t42uoloskvosvhao65x4rgkj6ah7iv7zy6lbc6qi3ojbze4qfrvrtloh6mw7gpww",
    "warren:file-verify:aewevgh3ckfenur7gtgxmqbcjvgsddb7jowbvtviowdfuwi4t42uoloskvosvhao65x4rgkj6ah7iv7zy6lbc6qi3ojbze4qfrvrtloh6t57ppgg",
    "warren:dir:aewevgh3ckfenur7gtgxmqbcjvgsddb7jowbvtviowdfuwi4t42uoloskvosvhao65x4rgkj6ah7iv7zy6lbc6qi3ojbze4qfrvrtlohr2yzssob",
    "warren:dir-verify:aewevgh3ckfenur7gtgxmqbcjvgsddb7jowbvtviowdfuwi4t42uoloskvosvhao65x4rgkj6ah7iv7zy6lbc6qi3ojbze4qfrvrtlohuaujaiow",
    "warren:site:rkeohxlubhyzl7ks3mwtzos5olfgocn7dwkbeg7toseadnapn5ohvpqc",
    "warren:site-verify:aetnswdbisx3vjyvf5hjgjun7gq6jwbrbkti7nhlf5enxqhowoe27tqt2xyre",
    "warren:site-write:aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqd6kzekybu",
];
