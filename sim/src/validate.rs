//! Does the simulator reproduce what is known? Closed forms, exact values, published tables.
//!
//! Lives here: the list of checks. Does not live here: how each is simulated (`checks.rs`,
//! `attacks.rs`, `mixes.rs`, `published.rs`, `fidelities.rs`).
//!
//! An *exact* check has a value that theory gives: what is simulated must lie within three standard
//! errors *and* within 1 % of it. A *table* check compares with a table that another program made,
//! which has an error of its own: both count, and twice its own on top of the 1 %. A *band* is what a published curve
//! says, a *bound* what this project promises.

mod attacks;
mod checks;
mod fidelities;
mod mixes;
mod published;

use std::fmt;

use serde::Serialize;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is compared.
    pub name: String,
    /// What is known of it.
    pub known: Known,
    /// What was simulated.
    pub value: f64,
    /// Standard error of `value`.
    pub error: f64,
}

/// What a simulated value is compared with.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Theory.
    Exact(f64),
    /// A published value, and its standard error.
    Table(f64, f64),
    /// A published curve lies between these.
    Within(f64, f64),
    /// The value may not be higher.
    AtMost(f64),
    /// The value may not be lower.
    AtLeast(f64),
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(it) => write!(f, "{it:.4}"),
            Self::Table(it, _) => write!(f, "~ {it:.4}"),
            Self::Within(least, most) => write!(f, "{least} to {most}"),
            Self::AtMost(it) => write!(f, "≤ {it}"),
            Self::AtLeast(it) => write!(f, "≥ {it}"),
        }
    }
}

impl Check {
    /// Whether the simulator holds what is known.
    pub fn holds(&self) -> bool {
        let near = |wanted: f64, error: f64| {
            let off = (self.value - wanted).abs();
            off <= 3.0 * libm::hypot(error, self.error) && off <= 0.01 * wanted.abs() + 2.0 * error
        };
        match self.known {
            Known::Exact(wanted) => near(wanted, 0.0),
            Known::Table(wanted, error) => near(wanted, error),
            Known::Within(least, most) => (least..=most).contains(&self.value),
            Known::AtMost(most) => self.value <= most,
            Known::AtLeast(least) => self.value >= least,
        }
    }
}

/// Half of a 95 % interval, in standard errors.
const HALF_WIDTH: f64 = 1.96;

/// A heading and a row for each check, as pages have them.
pub fn markdown(checks: &[Check]) -> String {
    let mut text =
        String::from("| what | known | simulated | 95 % interval |\n|---|---|---|---|\n");
    for check in checks {
        text += &(check.row() + "\n");
    }
    text
}

impl Check {
    fn row(&self) -> String {
        let known = self.known;
        let half = HALF_WIDTH * self.error;
        let (low, high) = (self.value - half, self.value + half);
        format!("| {} | {known} | {:.4} | {low:.4} to {high:.4} |", self.name, self.value)
    }
}

/// How thorough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every kind of check, small: seconds.
    Quick,
    /// Everything: minutes.
    Full,
}

/// Runs the checks; `each` hears of every one as it is done.
pub fn validate(depth: Depth, each: &mut dyn FnMut(&Check)) -> Vec<Check> {
    let mut done = Vec::new();
    for make in checks::all(depth) {
        for check in make() {
            each(&check);
            done.push(check);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the table that follows the words about `validate` on a page.
    fn rows(page: &'static str) -> Vec<&'static str> {
        let (_, table) = page.split_once("| what | known | simulated |").unwrap();
        table.lines().skip(2).take_while(|line| line.starts_with('|')).collect()
    }

    #[test]
    fn every_quick_check_holds_and_pages_show_what_it_gave() {
        let checks = validate(Depth::Quick, &mut |_| {});
        let failed: Vec<_> = checks.iter().filter(|it| !it.holds()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let table = markdown(&checks);
        let given: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(rows(include_str!("../../docs/sim.md")), given, "validate --quick --markdown");
        let readme = rows(include_str!("../../README.md"));
        assert!(readme.len() >= 12 && readme.iter().all(|row| given.contains(row)), "{readme:#?}");
    }

    #[test]
    fn two_percent_off_is_off_and_so_are_four_errors() {
        let check =
            |value, error| Check { name: String::new(), known: Known::Exact(10.0), value, error };
        assert!(check(10.05, 0.02).holds());
        assert!(!check(10.2, 0.2).holds());
        assert!(!check(10.05, 0.012).holds());
    }
}
