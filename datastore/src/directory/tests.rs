//! Directories: one form, no way out, and small ones in one piece.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::{
    capability::ReadCap,
    file::{
        Options,
        tests::{encode, read, source, store, text},
    },
    manifest::{Kind, Meta},
};

fn cap(number: usize) -> ReadCap {
    ReadCap::take(&mut [u8::try_from(number % 251).unwrap(); 64])
}

fn planned(path: &str, len: u64) -> Planned {
    Planned { path: path.to_owned(), mime: mime_of(path).to_owned(), len }
}

fn finished(files: Vec<Planned>) -> Directory {
    let plan = Plan::new(files).unwrap();
    plan.finish((1..=plan.objects()).map(cap).collect()).unwrap()
}

fn any_files() -> impl Strategy<Value = Vec<Planned>> {
    let path = "[a-c]{1,2}(/[a-d ]{1,3}){0,3}(\\.(html|png|xyz))?";
    let len = prop_oneof![0u64..2_000, 0u64..300_000, 0u64..9_000_000];
    prop::collection::btree_map(path, len, 0..40)
        .prop_map(|files| files.iter().map(|(path, len)| planned(path, *len)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn decode_undoes_encode(files in any_files()) {
        let plan = Plan::new(files.clone()).unwrap();
        let Ok(directory) = plan.finish((1..=plan.objects()).map(cap).collect()) else {
            // A file that is also a folder.
            return Ok(());
        };
        let bytes = directory.encode().unwrap();
        let back = Directory::decode(&bytes).unwrap();
        prop_assert_eq!(back.encode().unwrap(), bytes);
        prop_assert_eq!(back.entries().count(), files.len());
        for file in &files {
            let entry = back.get(&file.path).unwrap();
            prop_assert_eq!((entry.len, &entry.mime), (file.len, &file.mime));
        }
        prop_assert_eq!(directory.children().len(), 64 * plan.objects());
    }

    #[test]
    fn objects_hold_every_file_once_and_no_pack_is_too_long(files in any_files()) {
        let plan = Plan::new(files.clone()).unwrap();
        let mut all: Vec<_> = (0..=plan.objects()).flat_map(|n| plan.files(n)).cloned().collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        prop_assert_eq!(all, files);
        prop_assert!(plan.len(0) <= TAIL_MAX);
        for number in 1..=plan.objects() {
            prop_assert!(plan.is_whole_file(number) || plan.len(number) <= PACK_MAX);
            prop_assert!(plan.files(number).count() > 0);
            if !plan.is_whole_file(number) {
                prop_assert!(plan.files(number).all(|file| file.len <= PACK_ITEM_MAX));
            }
        }
    }

    /// One byte of a good directory is changed: refused, or it means just one thing.
    #[test]
    fn no_two_byte_strings_mean_the_same_directory(at: prop::sample::Index, with: u8) {
        let files = vec![planned("a/b.html", 10), planned("a/c", 300_000), planned("d.png", 7)];
        let mut bytes = finished(files).encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(other) = Directory::decode(&bytes) {
            prop_assert_eq!(other.encode().unwrap(), bytes.clone());
        }
        prop_assert!(Directory::decode(&bytes[..at]).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 5..400)) {
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[0] = 1;
        bytes[1..5].copy_from_slice(&len.to_be_bytes());
        let _ = Directory::decode(&bytes);
    }
}

#[test]
fn paths_that_lead_outside_or_deceive_are_refused() {
    let long = "a".repeat(256);
    let deep = vec!["a"; 33].join("/");
    let wide = vec!["a".repeat(250); 5].join("/");
    for bad in [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\u{85}b",
        "gpj.\u{202e}exe",
        &long,
        &deep,
        &wide,
    ] {
        assert!(!valid_path(bad), "{bad:?}");
        assert!(Plan::new(vec![planned(bad, 1)]).is_err());
        // And from a stranger, who did not use our planner.
        if (1..=PATH_MAX).contains(&bad.len()) {
            let letter = |at: usize| if at % 200 == 199 { '/' } else { 'x' };
            let stand_in: String = (0..bad.len()).map(letter).collect();
            let mut bytes = finished(vec![planned(&stand_in, 1)]).encode().unwrap();
            let at = bytes.len() - 22 - bad.len();
            assert!(Directory::decode(&bytes).is_ok());
            bytes[at..at + bad.len()].copy_from_slice(bad.as_bytes());
            assert_eq!(Directory::decode(&bytes).map(|_| ()), Err(DirectoryError::Path), "{bad:?}");
        }
    }
    let deep = vec!["a"; 32].join("/");
    for good in ["a", "...", "a/..b", " ", "ä/日本.txt", "CON", &deep, &long[1..]] {
        assert!(valid_path(good), "{good:?}");
    }
}

#[test]
fn a_path_twice_or_a_file_that_is_a_folder_is_refused() {
    let entry = || Entry { mime: String::new(), object: 0, offset: 0, len: 1 };
    let of = |paths: &[&str]| {
        let entries = paths.iter().map(|path| ((*path).to_owned(), entry())).collect();
        Directory::new(1, Vec::new(), entries).map(|_| ())
    };
    assert_eq!(of(&["a", "b", "a"]), Err(DirectoryError::Twice));
    assert_eq!(of(&["a", "a!", "a/b"]), Err(DirectoryError::Twice));
    assert_eq!(of(&["a/b/c/d", "a/b"]), Err(DirectoryError::Twice));
    assert_eq!(of(&["a!", "a/b", "a.b"]), Ok(()));
}

#[test]
fn files_lie_inside_their_objects_and_every_object_is_used() {
    let of = |object, offset, len| {
        let entry = Entry { mime: String::new(), object, offset, len };
        let objects = vec![Object { cap: cap(1), len: 10 }];
        Directory::new(5, objects, vec![("a".to_owned(), entry)]).map(|_| ())
    };
    assert_eq!(of(1, 0, 10), Ok(()));
    for (object, offset, len) in
        [(1, 0, 11), (1, 10, 1), (1, u64::MAX, 2), (2, 0, 1), (u32::MAX, 0, 1)]
    {
        assert_eq!(of(object, offset, len), Err(DirectoryError::Outside));
    }
    assert_eq!(of(0, 0, 5), Err(DirectoryError::Outside), "object 1 is for nothing");
}

#[test]
fn counts_are_checked_before_memory_is_taken() {
    for at in [13, 19] {
        let mut bytes = finished(Vec::new()).encode().unwrap();
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Directory::decode(&bytes).is_err());
    }
    let mut head = [0; HEAD_LEN];
    head[0] = 1;
    head[1..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(manifest_len(&head), Err(DirectoryError::TooMany));
    let many = (0..=ENTRIES_MAX).map(|n| planned(&n.to_string(), 0)).collect();
    assert_eq!(Plan::new(many).map(|_| ()).unwrap_err(), DirectoryError::TooMany);
    assert!(children(&[0; 65]).is_err());
    assert_eq!(children(&[0; 128]).unwrap().len(), 2);
}

#[test]
fn types_stand_in_one_order_and_each_is_used() {
    let good = finished(vec![planned("a.gif", 1), planned("b.png", 1)]).encode().unwrap();
    let (gif, png): (&[u8], &[u8]) = (b"\x09image/gif", b"\x09image/png");
    let at = good.windows(20).position(|bytes| bytes == [gif, png].concat()).unwrap();
    for types in [[png, gif], [gif, gif]] {
        let mut bad = good.clone();
        bad[at..at + 20].copy_from_slice(&types.concat());
        assert!(Directory::decode(&bad).is_err());
    }
    // Both files are of the first type: nobody is of the second.
    let mut bad = good;
    let at = bad.len() - 22;
    assert_eq!(bad[at..at + 2], [0, 2]);
    bad[at + 1] = 1;
    assert!(Directory::decode(&bad).is_err());
}

#[test]
fn a_folder_lists_what_is_directly_in_it() {
    let directory = finished(vec![
        planned("index.html", 5),
        planned("a/one", 1),
        planned("a/b/two", 2),
        planned("a-", 3),
    ]);
    let names = |folder: &str| -> Vec<String> {
        let listed = directory.list(folder).unwrap();
        let name = |(name, file): (&str, Option<&Entry>)| {
            if file.is_some() { name.to_owned() } else { format!("{name}/") }
        };
        listed.into_iter().map(name).collect()
    };
    assert_eq!(names(""), ["a/", "a-", "index.html"]);
    assert_eq!(names("a"), ["b/", "one"]);
    assert!(directory.list("c").is_none() && directory.list("a/one").is_none());
    assert!(finished(Vec::new()).list("").unwrap().is_empty());
}

/// 20 small pages: the root, then the rest at once.
#[test]
fn a_small_site_is_one_object_and_two_round_trips() {
    let pages: Vec<_> =
        (0..20).map(|n| (format!("p/{n:02}.html"), text(1_000 + n * 200))).collect();
    let files = pages.iter().map(|(path, bytes)| planned(path, bytes.len() as u64)).collect();
    let plan = Plan::new(files).unwrap();
    assert_eq!(plan.objects(), 0);
    let directory = plan.finish(Vec::new()).unwrap();
    let mut content = directory.encode().unwrap();
    let start = content.len() as u64;
    for file in plan.files(0) {
        let (_, bytes) = pages.iter().find(|(path, _)| *path == file.path).unwrap();
        content.extend_from_slice(bytes);
    }
    let meta = Meta { kind: Kind::Directory, ..Meta::default() };
    let (cap, placed) = encode(&content, source(1), Options { meta, ..Options::default() });
    let (got, asked) = read(&cap, &store(&placed), 0..u64::MAX);
    let got = got.unwrap();
    assert!(asked <= 3);
    let head = got.first_chunk().unwrap();
    let directory = Directory::decode(&got[..manifest_len(head).unwrap()]).unwrap();
    for (path, bytes) in &pages {
        let range = directory.get(path).unwrap().range();
        let (start, end) = (start + range.start, start + range.end);
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        assert!(got[range] == bytes[..]);
    }
}

/// Frozen: directories are kept by those who stored them.
#[test]
fn a_directory_has_the_documented_bytes() {
    let directory = finished(vec![planned("a.txt", 3), planned("b/c", 2_000_000)]);
    assert_eq!(HEXLOWER.encode(&directory.encode().unwrap()), VECTOR);
}

#[test]
fn types_follow_the_ending_and_unknown_ones_are_none() {
    assert_eq!(mime_of("a/b.HTML"), "text/html; charset=utf-8");
    assert_eq!(mime_of("a.html/b"), "");
    assert_eq!(mime_of("x.exe"), "");
    for name in ["a.png", "a.svg", "a.tar.gz", "a.woff2"] {
        assert!(crate::manifest::valid_mime(mime_of(name)) && !mime_of(name).is_empty());
    }
}

const VECTOR: &str = "01000000b10000000000000003000000010101010101010101010101010101010101010101010101\
    010101010101010101010101010101010101010101010101010101010101010101010101010101010100000000001e8480\
    000119746578742f706c61696e3b20636861727365743d7574662d38\
    00000002\
    0005612e74787400010000000000000000000000000000000000000003\
    0003622f63000000000001000000000000000000000000001e8480";
