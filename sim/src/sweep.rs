//! Many scenarios from one: keys that take several values, and all their combinations.
//!
//! Lives here: ranges as scenarios and command lines write them, points, results of all points as
//! one table. Does not live here: how a point is run (`batch.rs`).
//!
//! `[sweep]` of a scenario, or `--vary KEY=VALUES`, names keys, dotted: `[1, 2, 5]` is a list,
//! `"0.0..0.3/0.05"` a range with both ends.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::{
    batch::Summary,
    scenario::{Scenario, ScenarioError, apply, value},
};

/// Most points of one sweep.
pub const POINTS_MAX: usize = 1_000;

/// Keys and what each takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// In the order of keys.
    axes: Vec<(String, Vec<toml::Value>)>,
    /// The scenario without them.
    base: String,
}

/// One combination.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Key and value, as text.
    pub values: BTreeMap<String, String>,
    /// Its folder in the sweep's.
    pub folder: String,
}

impl Sweep {
    /// Reads a scenario with a table `sweep`, or with `varies`, which come before it, or both; `sets` are
    /// as for [`Scenario::read`].
    ///
    /// # Errors
    /// When a range is none, or there are too many points, or none.
    pub fn read(text: &str, sets: &[String], varies: &[String]) -> Result<Self, ScenarioError> {
        let form = |error: toml::de::Error| ScenarioError::Form(error.to_string());
        let mut table: toml::Table = text.parse().map_err(form)?;
        let mut axes = BTreeMap::new();
        if let Some(sweep) = table.remove("sweep") {
            let toml::Value::Table(sweep) = sweep else {
                return Err(value(
                    "sweep",
                    "a table of keys, such as \"network.routers\" = [50, 100]",
                ));
            };
            flatten("", sweep, &mut axes);
        }
        for vary in varies {
            let (key, text) = vary.split_once('=').ok_or_else(|| {
                value("sweep", format!("--vary {vary}: say key=[..] or key=a..b/step"))
            })?;
            let parsed = format!("v = {text}").parse::<toml::Table>().ok();
            let parsed = parsed.and_then(|mut table| table.remove("v"));
            axes.insert(key.to_owned(), parsed.unwrap_or_else(|| toml::Value::String(text.into())));
        }
        for set in sets {
            apply(&mut table, set)?;
        }
        let axes: Vec<_> = axes
            .into_iter()
            .map(|(key, it)| Ok((key.clone(), values(&key, it)?)))
            .collect::<Result<_, ScenarioError>>()?;
        let points: usize = axes.iter().map(|it| it.1.len()).product();
        if axes.is_empty() || points == 0 || points > POINTS_MAX {
            return Err(value(
                "sweep",
                format!(
                    "{points} points of {} keys: name one key or more, and at most {POINTS_MAX} points",
                    axes.len()
                ),
            ));
        }
        let base =
            toml::to_string(&table).map_err(|error| ScenarioError::Form(error.to_string()))?;
        Ok(Self { axes, base })
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.axes.iter().map(|it| it.0.as_str())
    }

    /// The whole sweep as a scenario: with a table `sweep`, and whatever came from a command line in it.
    ///
    /// # Errors
    /// When it cannot be written as TOML.
    pub fn text(&self) -> Result<String, ScenarioError> {
        let form = |error: toml::ser::Error| ScenarioError::Form(error.to_string());
        let axes = self.axes.iter().map(|(key, it)| (key.clone(), toml::Value::Array(it.clone())));
        let sweep = toml::Table::from_iter([("sweep".into(), toml::Value::Table(axes.collect()))]);
        Ok(format!("{}\n{}", self.base, toml::to_string(&sweep).map_err(form)?))
    }

    /// All combinations, each with its scenario and text.
    ///
    /// # Errors
    /// When one of them makes no sense.
    pub fn points(&self) -> Result<Vec<(Point, Scenario, String)>, ScenarioError> {
        let mut sets: Vec<Vec<(&str, &toml::Value)>> = vec![Vec::new()];
        for (key, values) in &self.axes {
            let longer = sets
                .iter()
                .flat_map(|set| values.iter().map(|it| [&set[..], &[(key.as_str(), it)]].concat()));
            sets = longer.collect();
        }
        sets.into_iter().map(|set| self.point(&set)).collect()
    }

    fn point(
        &self,
        set: &[(&str, &toml::Value)],
    ) -> Result<(Point, Scenario, String), ScenarioError> {
        let shown = |it: &toml::Value| match it {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let values: BTreeMap<String, String> =
            set.iter().map(|(key, it)| ((*key).to_owned(), shown(it))).collect();
        let name = values.iter().map(|(key, it)| format!("{key}={it}"));
        let name = name.collect::<Vec<_>>().join(",");
        let plain = |c: char| if c.is_ascii_alphanumeric() || "=.,-".contains(c) { c } else { '_' };
        let folder = name.chars().map(plain).collect();
        let sets: Vec<String> = set.iter().map(|(key, it)| format!("{key}={it}")).collect();
        let named = |error| ScenarioError::Form(format!("{name}: {error}"));
        let (scenario, text) = Scenario::read(&self.base, &sets).map_err(named)?;
        Ok((Point { values, folder }, scenario, text))
    }
}

/// Keys of nested tables, dotted.
fn flatten(prefix: &str, table: toml::Table, axes: &mut BTreeMap<String, toml::Value>) {
    for (key, it) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match it {
            toml::Value::Table(table) => flatten(&key, table, axes),
            other => _ = axes.insert(key, other),
        }
    }
}

/// The values of one key: a list as it is, or a range.
fn values(key: &str, it: toml::Value) -> Result<Vec<toml::Value>, ScenarioError> {
    let bad = |why: &str| value("sweep", format!("{key}: {why}"));
    match it {
        toml::Value::Array(list) if !list.is_empty() => Ok(list),
        toml::Value::String(text) => {
            range(&text).ok_or_else(|| bad(&format!("`{text}` is no range such as 0.0..0.3/0.05")))
        }
        _ => Err(bad("a list such as [50, 100], or a range such as \"0.0..0.3/0.05\"")),
    }
}

/// `a..b/step`, both ends; whole numbers stay whole, and a unit (`1h..4h/1h`) must be the same thrice.
fn range(text: &str) -> Option<Vec<toml::Value>> {
    let (from, rest) = text.split_once("..")?;
    let (to, step) = rest.split_once('/')?;
    let split = |text: &str| -> Option<(f64, usize, String)> {
        let text = text.trim();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let places = number.split_once('.').map_or(0, |it| it.1.len());
        Some((number.parse().ok()?, places, unit.to_owned()))
    };
    let (from, from_places, unit) = split(from)?;
    let (to, _, to_unit) = split(to)?;
    let (step, step_places, step_unit) = split(step)?;
    let count = libm::floor((to - from) / step + 1e-9);
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let few = step > 0.0 && (0.0..POINTS_MAX as f64).contains(&count);
    if !few || unit != to_unit || unit != step_unit {
        return None;
    }
    let places = from_places.max(step_places);
    // Written and read back: 0.1 + 0.2 is 0.3 for people.
    let written = |no: u32| format!("{:.places$}{unit}", from + f64::from(no) * step);
    let parsed = |text: String| match (unit.is_empty(), places) {
        (true, 0) => text.parse().ok().map(toml::Value::Integer),
        (true, _) => text.parse().ok().map(toml::Value::Float),
        (false, _) => Some(toml::Value::String(text)),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a thousand")]
    (0..=count as u32).map(|no| parsed(written(no))).collect()
}

/// What a sweep's folder says of itself: `sweep.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Swept {
    /// The engine and its version.
    pub engine: String,
    /// The keys.
    pub keys: Vec<String>,
    /// The points, in order.
    pub points: Vec<Point>,
}

/// All points as one table, a line for each point and metric: what plots want.
pub fn table(keys: &[String], points: &[(Point, Summary)]) -> String {
    let mut text = String::new();
    // Writing to text cannot fail, here and below.
    let _ = writeln!(
        text,
        "{},metric,seeds,mean,half_width_95,least,most,theory",
        keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(",")
    );
    for (point, summary) in points {
        for (metric, it) in &summary.metrics {
            for key in keys {
                let _ = write!(text, "{},", quoted(point.values.get(key).map_or("", |it| it)));
            }
            let half = it.half_width_95.map(|it| it.to_string()).unwrap_or_default();
            let theory = summary.theory.get(metric).map(f64::to_string).unwrap_or_default();
            let (seeds, mean, least, most) = (it.seeds, it.mean, it.least, it.most);
            let _ = writeln!(text, "{metric},{seeds},{mean},{half},{least},{most},{theory}");
        }
    }
    text
}

/// A field of CSV.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        range(text).unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_has_both_ends_and_the_digits_that_people_expect() {
        assert_eq!(shown("0.0..0.3/0.1"), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(shown("50..200/50"), ["50", "100", "150", "200"]);
        assert_eq!(shown("1h..3h/1h"), ["\"1h\"", "\"2h\"", "\"3h\""]);
        assert_eq!(shown("5..5/1"), ["5"]);
        assert_eq!(shown("1..2/0.4"), ["1.0", "1.4", "1.8"]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "1..2", "2..1/1", "1..2/0", "1h..2/1h", "a..b/c", "0..1000000/1"] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    const BASE: &str = "fidelity = \"routing\"\n[network]\nrouters = 100\n";

    #[test]
    fn points_are_all_combinations_and_the_command_line_comes_first() {
        let text =
            format!("{BASE}[sweep]\n\"network.degree\" = [8, 10]\n\"dead\" = \"0.0..0.2/0.1\"\n");
        let sweep = Sweep::read(&text, &[], &["dead=[0.5]".into()]).unwrap();
        let points = sweep.points().unwrap();
        let folders: Vec<_> = points.iter().map(|it| it.0.folder.as_str()).collect();
        assert_eq!(folders, ["dead=0.5,network.degree=8", "dead=0.5,network.degree=10"]);
        assert!(points[1].2.contains("degree = 10") && points[1].2.contains("dead = 0.5"));
        assert_eq!(Sweep::read(&text, &[], &[]).unwrap().points().unwrap().len(), 6);
    }

    #[test]
    fn a_point_that_makes_no_sense_and_a_sweep_of_nothing_are_refused() {
        let sweep = Sweep::read(BASE, &[], &["dead=[0.1, 7.0]".into()]).unwrap();
        let error = sweep.points().unwrap_err().to_string();
        assert!(error.contains("dead=7.0"), "{error}");
        assert!(Sweep::read(BASE, &[], &[]).is_err());
        assert!(Sweep::read(BASE, &[], &["dead=0.5".into()]).is_err(), "no list");
        let error = Scenario::read(&format!("{BASE}[sweep]\ndead = [0.1]\n"), &[]).unwrap_err();
        assert!(error.to_string().contains("warren sim sweep"), "{error}");
    }
}
