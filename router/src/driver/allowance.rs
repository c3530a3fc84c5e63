//! The month's traffic, and what is left of it.
//!
//! Lives here: counting by calendar months (UTC), across restarts. Does not live here: what happens when
//! it runs out (`task.rs`), counting bytes (`overlay::link`).
//!
//! Kept in `traffic` in the router's folder, one line: the month as `2026-11`, the bytes of it.

use warren_overlay::time::Wall;

use crate::home::{Home, HomeError};

/// Where the month's traffic is kept.
const FILE: &str = "traffic";

/// How much of the month is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Month {
    /// Enough, or there is no limit.
    Free,
    /// Less than a tenth: for this router's own use.
    Ending,
    /// Nothing.
    Over,
}

impl Month {
    /// What the operator should know.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Free => "",
            Self::Ending => {
                "Nine tenths of limits.monthly_gib are used: no more tunnels of others this month."
            }
            Self::Over => {
                "limits.monthly_gib is used up: 64 kbit/s until the month ends; raise it and \
                 reload to go on."
            }
        }
    }
}

/// The count.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// Months since year 0.
    month: u32,
    used: u64,
    /// What the links had counted when it was last looked at.
    counted: u64,
}

impl Allowance {
    /// What an earlier run counted; nothing, where that makes no sense.
    pub(super) fn load(home: Option<&Home>) -> Result<Self, HomeError> {
        let bytes = home.map(|home| home.read(FILE)).transpose()?.flatten();
        let text = bytes.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        Ok(text.and_then(Self::parse).unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        let (month, used) = text.trim().split_once(' ')?;
        let (year, month) = month.split_once('-')?;
        let month: u32 = month.parse().ok().filter(|month| (1..=12).contains(month))?;
        let month = year.parse::<u32>().ok()?.checked_mul(12)?.checked_add(month - 1)?;
        Some(Self { month, used: used.parse().ok()?, counted: 0 })
    }

    fn text(&self) -> String {
        format!("{}-{:02} {}\n", self.month / 12, self.month % 12 + 1, self.used)
    }

    /// Keeps the count.
    pub(super) fn save(&self, home: &Home) -> Result<(), HomeError> {
        home.write(FILE, self.text().as_bytes())
    }

    /// The links have counted `total` bytes since the start. A clock that goes back to an earlier month
    /// takes what was used along: who sets it so gains no second allowance, and one that had run ahead does
    /// not leave the router without one until that time comes.
    pub(super) fn count(&mut self, now: Wall, total: u64) {
        let month = month_of(now);
        if month > self.month {
            self.used = 0;
        }
        self.month = month;
        self.used = self.used.saturating_add(total.saturating_sub(self.counted));
        self.counted = total;
    }

    /// Bytes of this month.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// How much of `gib` GiB is left; 0 for no limit.
    pub(super) const fn state(&self, gib: u32) -> Month {
        let limit = (gib as u64) << 30;
        if limit == 0 || self.used < limit / 10 * 9 {
            Month::Free
        } else if self.used < limit {
            Month::Ending
        } else {
            Month::Over
        }
    }
}

/// Months since year 0 of the proleptic Gregorian calendar.
///
/// After H. Hinnant, "chrono-compatible low-level date algorithms" (`civil_from_days`): years that begin
/// in March, in eras of 400.
fn month_of(wall: Wall) -> u32 {
    let days = wall.minutes() / (24 * 60) + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let (month, later) = if from_march < 10 { (from_march + 2, 0) } else { (from_march - 10, 1) };
    (era * 400 + year + later) * 12 + month
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: u32) -> Wall {
        Wall::from_minutes(days * 24 * 60)
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for (days, year, month) in [
            (0, 1970, 1),
            (30, 1970, 1),
            (31, 1970, 2),
            (11_016, 2000, 2), // 29 February
            (11_017, 2000, 3),
            (20_787, 2026, 11), // 30 November
            (20_788, 2026, 12),
            (20_818, 2026, 12),
            (20_819, 2027, 1),
        ] {
            assert_eq!(month_of(day(days)), year * 12 + month - 1, "{days}");
        }
    }

    #[test]
    fn a_new_month_begins_anew_and_a_clock_set_back_gains_nothing() {
        let mut allowance = Allowance::default();
        allowance.count(day(20_786), 9 << 30);
        assert_eq!(allowance.state(10), Month::Ending);
        allowance.count(day(20_786), 10 << 30);
        assert_eq!((allowance.state(10), allowance.state(0)), (Month::Over, Month::Free));
        allowance.count(day(20_700), 11 << 30);
        assert_eq!(allowance.used(), 11 << 30);
        allowance.count(day(20_788), 12 << 30);
        assert_eq!((allowance.used(), allowance.state(10)), (1 << 30, Month::Free));
        // A clock that had run ahead for years.
        allowance.count(day(40_000), 30 << 30);
        allowance.count(day(20_788), 30 << 30);
        assert_eq!(allowance.state(10), Month::Over);
        allowance.count(day(20_819), 31 << 30);
        assert_eq!((allowance.used(), allowance.state(10)), (1 << 30, Month::Free));
    }

    #[test]
    fn the_count_outlives_a_restart() {
        let mut before = Allowance::default();
        before.count(day(20_786), 5_000);
        assert_eq!(before.text(), "2026-11 5000\n");
        let mut after = Allowance::parse(&before.text()).unwrap();
        after.count(day(20_786), 70);
        assert_eq!(after.used(), 5_070);
        for nonsense in ["", "2026 5", "2026-13 5", "2026-11 -5", "x-1 1"] {
            assert!(Allowance::parse(nonsense).is_none(), "{nonsense}");
        }
    }
}
