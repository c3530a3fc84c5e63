//! The table of domain strings in docs/spec/crypto.md and the code say the same.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every string of the form `warren ... 1` between two `quote`s.
fn domains(text: &str, quote: char) -> Vec<String> {
    let is_domain = |part: &&str| {
        let plain = part.bytes().all(|b| b == b' ' || b.is_ascii_lowercase() || b.is_ascii_digit());
        plain && part.starts_with("warren ") && part.ends_with(|c: char| c.is_ascii_digit())
    };
    text.split(quote).filter(is_domain).map(str::to_owned).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs")
            && !path.to_string_lossy().contains("test")
        {
            found.push(path);
        }
    }
}

#[test]
fn every_domain_string_is_in_the_table_and_in_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("../docs/spec/crypto.md")).unwrap();
    let rows: Vec<_> = table.lines().filter(|l| l.starts_with("| `warren ")).collect();
    let listed = domains(&rows.join("\n"), '`');
    assert!(listed.len() > 20);
    let mut paths = Vec::new();
    sources(&root.join("src"), &mut paths);
    let mut used: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<_> = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        for domain in domains(&code.join("\n"), '"') {
            used.entry(domain).or_default().push(path.clone());
        }
    }
    for (domain, paths) in &used {
        assert!(listed.contains(domain), "add `{domain}` to the table in docs/spec/crypto.md");
        assert_eq!(paths.len(), 1, "`{domain}` has two uses: {paths:?}");
    }
    assert!(used.contains_key("warren onion layer 1"), "the search finds what there is");
}
