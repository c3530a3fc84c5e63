//! The scenarios that are shipped: to run as they are, or to begin with.
//!
//! Lives here: their names. They are the files in `sim/scenarios`; the first line of each says what it
//! is.

use std::str::FromStr;

/// A scenario that is shipped.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// The file's, without its ending.
    pub name: &'static str,
    /// All of it.
    pub text: &'static str,
}

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// All of them, by name.
        pub const TEMPLATES: &[Template] = &[$(Template {
            name: $name,
            text: include_str!(concat!("../scenarios/", $name, ".toml")),
        }),*];
    };
}

templates![
    "build-flood",
    "churn",
    "correlation",
    "crawler",
    "crowds",
    "droppers",
    "eclipse",
    "ends",
    "fifth-killed",
    "files-churn",
    "files-killed",
    "fingerprint",
    "five-hundred",
    "gossip",
    "guard-discovery",
    "guards",
    "introduction-flood",
    "link-rules",
    "loss",
    "month",
    "originator",
    "pitch-black",
    "predecessor",
    "refusal",
    "repair",
    "small",
    "store",
    "store-churn",
    "store-killed",
    "sybil",
    "sybil-ground",
    "tagging",
    "ten-thousand",
    "thin-lines",
];

impl Template {
    /// What it is: the first sentence of what it says of itself.
    pub fn summary(self) -> String {
        let words = self.text.lines().map_while(|line| line.strip_prefix("# "));
        let words = words.collect::<Vec<_>>().join(" ");
        words.split_inclusive(". ").next().unwrap_or_default().trim_end().to_owned()
    }

    /// The verb that runs it.
    pub fn verb(self) -> &'static str {
        if self.text.lines().any(|line| line.trim() == "[sweep]") { "sweep" } else { "run" }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        TEMPLATES.iter().copied().find(|it| it.name == name).ok_or_else(|| {
            let names: Vec<_> = TEMPLATES.iter().map(|it| it.name).collect();
            format!("none of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scenario_is_is_a_whole_sentence() {
        for it in TEMPLATES {
            let summary = it.summary();
            assert!(summary.ends_with('.') && summary.len() < 260, "{}: {summary}", it.name);
        }
    }

    #[test]
    fn every_scenario_has_a_row_on_the_page_that_says_what_it_shows() {
        let (_, page) =
            include_str!("../../docs/sim.md").split_once("## Shipped scenarios").unwrap();
        let (page, _) = page.split_once("\n## ").unwrap();
        for it in TEMPLATES {
            let name = format!("`{}`", it.name);
            let row = |line: &str| line.split(" | ").next().is_some_and(|it| it.contains(&name));
            let listed = page.lines().filter(|line| line.starts_with("| `")).any(row);
            assert!(listed, "{name} in docs/sim.md");
        }
    }
}
