//! Changing some settings in a file that a person wrote, and leaving all else in it as it is.
//!
//! Lives here: finding the lines. Does not live here: whether the values are good (`config.rs`), who may
//! change them (`driver/page/limits.rs`).

use super::LimitsFile;

/// `text`, a whole `warren.toml`, with the limits that can change while a router runs. Comments and other
/// lines stay; a key that is not there is added under `[limits]`.
pub fn with_limits(text: &str, limits: &LimitsFile) -> String {
    [
        ("bandwidth_kbps", limits.bandwidth_kbps.to_string()),
        ("burst_ms", limits.burst_ms.to_string()),
        ("memory_mib", limits.memory_mib.to_string()),
        ("transit", limits.transit.to_string()),
        ("transit_percent", limits.transit_percent.to_string()),
        ("monthly_gib", limits.monthly_gib.to_string()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (key, value)| set(&text, "limits", key, value))
}

fn set(text: &str, section: &str, key: &str, value: &str) -> String {
    let header = format!("[{section}]");
    let new = format!("{key} = {value}");
    let is_key = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some(begin) = lines.iter().position(|line| line.trim() == header) else {
        lines.extend([String::new(), header, new]);
        return lines.join("\n").trim_start().to_owned() + "\n";
    };
    let after = lines.iter().skip(begin + 1);
    let end = after.clone().position(|line| line.trim_start().starts_with('['));
    let inside = after.take(end.unwrap_or(usize::MAX));
    match inside.clone().position(|line| is_key(line)) {
        Some(at) => {
            if let Some(line) = lines.get_mut(begin + 1 + at) {
                *line = new;
            }
        }
        None => lines.insert(begin + 1, new),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    fn edited(text: &str) -> (String, ConfigFile) {
        let limits = LimitsFile {
            bandwidth_kbps: 9_000,
            burst_ms: 200,
            memory_mib: 64,
            transit: false,
            transit_percent: 30,
            monthly_gib: 100,
            ..LimitsFile::default()
        };
        let text = with_limits(text, &limits);
        let file = ConfigFile::parse(&text).unwrap();
        assert_eq!(file.limits, limits);
        (text, file)
    }

    #[test]
    fn the_shipped_file_keeps_every_other_line() {
        let shipped = include_str!("../../../config/warren.toml");
        let (text, file) = edited(shipped);
        assert_eq!(file, ConfigFile { limits: file.limits.clone(), ..ConfigFile::default() });
        let changed = shipped.lines().zip(text.lines()).filter(|(old, new)| old != new).count();
        assert_eq!((shipped.lines().count(), changed), (text.lines().count(), 6));
        assert_eq!(edited(&text).0, text);
    }

    #[test]
    fn keys_and_section_are_added_where_they_are_missing() {
        edited("");
        let (text, file) = edited("[limits]\n memory_mib=8 # little\n\n[tunnels]\nhops = 2\n");
        assert!(text.ends_with("\n[tunnels]\nhops = 2\n"), "{text}");
        assert_eq!(file.tunnels.hops, 2);
        // What is not among them stays.
        let text = with_limits("[limits]\nlinks = 99", &LimitsFile::default());
        assert_eq!(ConfigFile::parse(&text).unwrap().limits.links, 99);
    }
}
