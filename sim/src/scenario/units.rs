//! Times, sizes and conditions as scenarios write them.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Text that is no time, size or condition; says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct UnitError {
    text: String,
    what: &'static str,
}

macro_rules! through_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// A time: numbers with `d`, `h`, `m`, `s`, `ms` or `us`, such as `1h30m` or `2.5s`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Span(pub Duration);

through_text!(Span);

impl Span {
    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError { text: text.into(), what: "time (such as 250ms, 90s or 1h30m)" };
        let mut rest = text.trim();
        let mut sum = Duration::ZERO;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let seconds = match unit {
                "d" => 86_400.0,
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" => 1e-6,
                _ => return Err(bad()),
            };
            let number: f64 = number.parse().map_err(|_| bad())?;
            let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
            sum = sum.checked_add(part).ok_or_else(bad)?;
            rest = tail;
        }
        Ok(Self(sum))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

/// Bytes: a number with `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Size(pub u64);

through_text!(Size);

impl FromStr for Size {
    type Err = UnitError;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and below 2^52"
    )]
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError { text: text.into(), what: "size (such as 200B, 50KiB or 4MiB)" };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = text.split_at(digits);
        let scale = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(bad()),
        };
        let bytes = number.parse::<f64>().map_err(|_| bad())? * f64::from(1u32 << scale);
        if bytes < 1e15 { Ok(Self(bytes as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

/// What a metric must be: `>= 0.97`, `<= 2.5`. Times are in seconds.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Condition {
    at_least: bool,
    bound: f64,
}

through_text!(Condition);

impl Condition {
    /// Whether `value` is as it must be. A metric without a value never is.
    pub fn holds(self, value: Option<f64>) -> bool {
        value.is_some_and(|it| if self.at_least { it >= self.bound } else { it <= self.bound })
    }
}

impl FromStr for Condition {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError { text: text.into(), what: "condition (such as >= 0.97 or <= 2.5)" };
        let (sign, number) = text.trim().split_at_checked(2).ok_or_else(bad)?;
        let at_least = match sign {
            ">=" => true,
            "<=" => false,
            _ => return Err(bad()),
        };
        let bound: f64 = number.trim().parse().map_err(|_| bad())?;
        if bound.is_finite() { Ok(Self { at_least, bound }) } else { Err(bad()) }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.at_least { ">=" } else { "<=" }, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, millis) in [("250ms", 250), ("1h30m", 5_400_000), ("2.5s", 2_500)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))));
        }
        for text in ["", "5", "s", "5 s", "-3s", "1y", "1e3s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!("1.5KiB".parse(), Ok(Size(1_536)));
        for text in ["", "5", "5kB", "-1B", "99999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn conditions_are_read_and_hold() {
        let condition: Condition = ">= 0.5".parse().unwrap();
        assert!(
            condition.holds(Some(0.5)) && !condition.holds(Some(0.4)) && !condition.holds(None)
        );
        assert!("<=2".parse::<Condition>().unwrap().holds(Some(2.0)));
        for text in ["0.5", "> 1", ">= x", ">= NaN", "\u{20ac}\u{20ac}"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }
}
