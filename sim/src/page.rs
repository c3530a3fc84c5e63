//! A study as one page of HTML: tables, plots, and how to make it again. It needs no network.
//!
//! Lives here: what is shown of a folder of results, or of a sweep's. Does not live here: drawing
//! (`page/plot.rs`), what was computed (`batch.rs`, `sweep.rs`).

mod plot;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::plot::{Line, Plot, short};
use crate::{
    batch::{self, Batch, ENGINE, KeptError, Summary},
    curve::{Curve, Distribution},
    metric::Metric,
    run::Report,
    scenario::Scenario,
    statistics::Interval,
    sweep::{Point, Swept},
};

/// Shares at which distributions are drawn.
const SHARES: u32 = 100;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;font-size:14px}th,td{padding:.15rem .7rem;text-align:right;\
border-bottom:1px solid #ddd;white-space:nowrap}td.words{white-space:normal}th:first-child,td:first-child,td.words{text-align:left}pre{background:#f4f4f4;\
padding:.7rem;overflow:auto}figure{display:inline-block;width:min(100%,30rem);margin:0 1rem 1rem 0;vertical-align:top}figcaption{font-weight:600;min-height:3em}figcaption .legend{font-weight:400}\
svg{width:100%}svg text{font-size:13px;fill:#444}text.x{text-anchor:middle}text.y{text-anchor:end}\
.grid{stroke:#e4e4e4}.line{fill:none;stroke-width:2}.theory{fill:none;stroke-width:1.5;stroke-dasharray:6 4}\
.band{opacity:.18;stroke:none}.legend,.doubt{font-size:13px;color:#555}.bad{color:#b00}";

/// Results that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The folder is none of results, or its files are not as they were written.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// `sweep.json` is none.
    #[error("sweep.json: {0}")]
    Form(#[from] serde_json::Error),
    /// There is nothing to show.
    #[error("{0} holds no finished seed")]
    Empty(String),
}

/// One folder of results.
struct Study {
    text: String,
    id: String,
    reports: Vec<Report>,
    summary: Summary,
}

impl Study {
    fn read(folder: &Path) -> Result<Self, PageError> {
        let path = folder.join("scenario.toml");
        let named = |error| PageError::Io(path.display().to_string(), error);
        let text = fs::read_to_string(&path).map_err(named)?;
        let (scenario, text) = Scenario::read(&text, &[]).map_err(KeptError::from)?;
        let batch = Batch { scenario: &scenario, text: &text, folder };
        let reports: Vec<Report> = batch.kept(folder)?.into_values().collect();
        if reports.is_empty() {
            return Err(PageError::Empty(folder.display().to_string()));
        }
        let summary = Summary::of(&scenario, &reports);
        Ok(Self { id: batch.id(), summary, reports, text })
    }

    /// Seeds as `--seeds` takes them: a list of runs without gaps.
    fn seeds(&self) -> Vec<String> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for seed in self.reports.iter().map(|it| it.seed) {
            match runs.last_mut() {
                Some(run) if run.1.checked_add(1) == Some(seed) => run.1 = seed,
                _ => runs.push((seed, seed)),
            }
        }
        runs.iter().map(|(first, last)| format!("{first}..{last}")).collect()
    }

    /// The commands that give the same bytes again.
    fn commands(&self, verb: &str, folder: &Path) -> String {
        let path = quoted(&folder.join("scenario.toml").display().to_string());
        let again = |seeds| format!("warren sim {verb} {path} --seeds {seeds} --out again\n");
        self.seeds().into_iter().map(again).collect()
    }
}

/// A word of a command for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=,".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The page of a folder that `run --out` or `sweep --out` made.
///
/// # Errors
/// When the folder is none of these.
pub fn page(folder: &Path) -> Result<String, PageError> {
    let body = match fs::read_to_string(folder.join("sweep.json")) {
        Ok(text) => sweep(folder, &serde_json::from_str(&text)?)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => run(folder)?,
        Err(error) => return Err(PageError::Io("sweep.json".into(), error)),
    };
    let name = folder.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (name) }
                style { (PreEscaped(STYLE)) }
            }
            body { h1 { (name) } (body) }
        }
    };
    Ok(page.into_string())
}

fn run(folder: &Path) -> Result<Markup, PageError> {
    let study = Study::read(folder)?;
    let summary = &study.summary;
    let plots = curves(&study.reports).into_iter().chain(trends(summary));
    Ok(html! {
        p { (summary.seeds) " seeds, " (ENGINE) ", run id " code { (study.id) } "." }
        h2 { "Again" }
        pre { (study.commands("run", folder)) }
        h2 { "Metrics" }
        (metrics(summary))
        (verdict(summary))
        @if !summary.outcomes.is_empty() { h2 { "How it ended" } (outcomes(summary)) }
        h2 { "Plots" }
        p.legend { "Lines: all seeds together, or their mean. Bands: 95 % intervals over seeds (Student's t)." }
        @for plot in plots.filter(|it| !it.is_empty()) { (plot.draw()) }
        h2 { "Scenario" }
        pre { (study.text) }
    })
}

/// What each metric is, in the words of its schema.
fn meanings() -> BTreeMap<String, String> {
    let schema = schemars::schema_for!(Metric);
    let all = schema.get("oneOf").and_then(|it| it.as_array()).into_iter().flatten();
    let text = |one: &serde_json::Value, key: &str| {
        Some(one.get(key)?.as_str()?.replace(['`', '[', ']'], "").replace('\n', " "))
    };
    all.filter_map(|one| Some((text(one, "const")?, text(one, "description")?))).collect()
}

fn metrics(summary: &Summary) -> Markup {
    let (meanings, theory) = (meanings(), !summary.theory.is_empty());
    html! {
        table {
            tr { th { "metric" } th { "mean" } th { "± 95 %" } th { "least" } th { "most" } @if theory { th { "theory" } } th {} }
            @for (metric, it) in &summary.metrics {
                tr {
                    td title=[meanings.get(&metric.to_string())] { (metric.to_string()) }
                    td { (short(it.mean)) }
                    td { (it.half_width_95.map(short).unwrap_or_default()) }
                    td { (short(it.least)) }
                    td { (short(it.most)) }
                    @if theory {
                        td { (summary.theory.get(metric).copied().map(short).unwrap_or_default()) }
                    }
                    td.words.doubt { (summary.doubts.get(metric).map_or("", |it| it)) }
                }
            }
        }
    }
}

fn verdict(summary: &Summary) -> Markup {
    html! {
        @for (metric, it) in &summary.expect {
            p class=[(!it.failed_seeds.is_empty()).then_some("bad")] {
                "expected " (metric.to_string()) " " (String::from(it.condition)) ": "
                @if it.failed_seeds.is_empty() { "so it is" } @else { "not with seeds " (format!("{:?}", it.failed_seeds)) }
            }
        }
        @for (seed, violations) in &summary.violations {
            @for it in violations {
                p.bad { "seed " (seed) ": " (it.oracle) ": router " (it.router) ": " (it.what) }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn outcomes(summary: &Summary) -> Markup {
    let all: u64 = summary.outcomes.values().sum();
    html! {
        table {
            @for (name, count) in &summary.outcomes {
                tr { td { (name) } td { (count) } td { (format!("{:.2} %", 100.0 * *count as f64 / all as f64)) } }
            }
        }
    }
}

/// Each distribution as a curve of shares, all seeds together, with where seeds lie.
fn curves(reports: &[Report]) -> Vec<Plot> {
    let shares = || (0..=SHARES).map(|n| f64::from(n) / f64::from(SHARES));
    let plot = |(curve, all): (Curve, Distribution)| {
        let at = |of: &Distribution, share: f64| curve.shown(of.quantile(share));
        let points = shares().map(|share| (at(&all, share), share)).collect();
        let single = || reports.iter().filter_map(|it| it.curves.get(&curve));
        let side = |sign: f64, share: f64| {
            let values: Vec<f64> = single().map(|it| at(it, share)).collect();
            let it = Interval::of(&values);
            ((it.mean + sign * it.half_width_95.unwrap_or(0.0)).max(0.0), share)
        };
        let low = shares().map(|share| side(-1.0, share));
        let band = low.chain(shares().rev().map(|share| side(1.0, share))).collect();
        let line = Line { points, band, ..Line::default() };
        Plot {
            title: format!("{} (share of {})", curve.words(), all.len()),
            x: curve.to_string(),
            lines: vec![line],
            ..Plot::default()
        }
    };
    batch::merged(reports).into_iter().map(plot).collect()
}

fn trends(summary: &Summary) -> impl Iterator<Item = Plot> {
    summary.trends.iter().map(|(trend, points)| {
        let (title, x) = trend.words();
        let line = Line {
            points: points.iter().map(|it| (it.x, it.y.mean)).collect(),
            band: around(&points.iter().map(|it| (it.x, it.y)).collect::<Vec<_>>()),
            theory: points.iter().filter_map(|it| Some((it.x, it.theory?))).collect(),
            ..Line::default()
        };
        Plot { title: title.into(), x: x.into(), lines: vec![line], ..Plot::default() }
    })
}

/// The outline of intervals.
fn around(points: &[(f64, Interval)]) -> Vec<(f64, f64)> {
    let side = |sign: f64| {
        move |(x, it): &(f64, Interval)| (*x, it.mean + sign * it.half_width_95.unwrap_or(0.0))
    };
    points.iter().map(side(-1.0)).chain(points.iter().rev().map(side(1.0))).collect()
}

fn sweep(folder: &Path, swept: &Swept) -> Result<Markup, PageError> {
    let mut done = Vec::new();
    for point in &swept.points {
        done.push((point, Study::read(&folder.join(&point.folder))?));
    }
    let along = axis(swept);
    let names: BTreeSet<Metric> =
        done.iter().flat_map(|it| it.1.summary.metrics.keys().copied()).collect();
    let plots = names.iter().map(|metric| over(&done, *metric, &along));
    Ok(html! {
        p { (done.len()) " points over " (swept.keys.join(", ")) ", " (swept.engine) "." }
        h2 { "Again" }
        @if let Some((_, study)) = done.first() { pre { (study.commands("sweep", folder)) } }
        h2 { "Plots" }
        p.legend { "Lines: means over seeds. Bands: 95 % intervals (Student's t)." }
        @for plot in plots.filter(|it| !it.is_empty()) { (plot.draw()) }
        h2 { "Points" }
        @for (point, study) in &done {
            h3 { (point.folder) }
            p { (study.summary.seeds) " seeds, run id " code { (study.id) } }
            (metrics(&study.summary))
            (verdict(&study.summary))
        }
    })
}

/// The key that plots go along: of those that are numbers, the one with most values.
fn axis(swept: &Swept) -> String {
    let values = |key: &&String| -> BTreeSet<&String> {
        swept.points.iter().filter_map(|it| it.values.get(*key)).collect()
    };
    let numbers = |key: &&String| values(key).iter().all(|it| number(it).is_some());
    let best = swept.keys.iter().filter(numbers).max_by_key(|key| values(key).len());
    best.or(swept.keys.first()).cloned().unwrap_or_default()
}

/// The number that a value begins with; units are the same along one axis.
fn number(text: &str) -> Option<f64> {
    text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()
}

/// One metric along one key; a line for each combination of the others.
fn over(done: &[(&Point, Study)], metric: Metric, along: &str) -> Plot {
    let mut lines: BTreeMap<String, Vec<(f64, Interval, Option<f64>)>> = BTreeMap::new();
    for (point, study) in done {
        // A name that has no value here has its line, and so its colour.
        let others = point.values.iter().filter(|it| it.0 != along);
        let name = others.map(|(key, it)| format!("{key} = {it}")).collect::<Vec<_>>().join(", ");
        let line = lines.entry(name).or_default();
        let x = point.values.get(along).and_then(|it| number(it));
        if let (Some(x), Some(y)) = (x, study.summary.metrics.get(&metric)) {
            let theory = study.summary.theory.get(&metric).copied();
            line.push((x, *y, theory));
        }
    }
    let line = |(name, mut points): (String, Vec<(f64, Interval, Option<f64>)>)| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line {
            name,
            points: points.iter().map(|it| (it.0, it.1.mean)).collect(),
            band: around(&points.iter().map(|it| (it.0, it.1)).collect::<Vec<_>>()),
            theory: points.iter().filter_map(|it| Some((it.0, it.2?))).collect(),
        }
    };
    let lines = lines.into_iter().map(line).collect();
    let words = meanings().remove(&metric.to_string()).unwrap_or_default();
    Plot { title: metric.to_string(), words, x: along.into(), lines }
}
