//! One plot as SVG: lines, bands, axes, a legend. No script, no font, no file but the page itself.
//!
//! Lives here: drawing. Does not live here: what is drawn (`page.rs`).

use std::fmt::Write as _;

use maud::{Markup, html};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 48.0;
/// Told apart by people who see colours differently (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];
/// Above this ratio of the highest to the lowest, x is drawn by its logarithm.
const LOG_FROM: f64 = 100.0;

type Points = Vec<(f64, f64)>;

/// What is drawn.
#[derive(Debug, Default)]
pub(super) struct Plot {
    pub(super) title: String,
    /// What it is, where the title is only a name.
    pub(super) words: String,
    pub(super) x: String,
    pub(super) lines: Vec<Line>,
}

/// One line; of one name and colour with what theory says of it.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Points,
    /// Around it: where it may be.
    pub(super) band: Points,
    pub(super) theory: Points,
}

/// From numbers to places.
#[derive(Clone, Copy, Debug)]
struct Scale {
    least: f64,
    most: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// Of all these values, from `from` to `to` on the page.
    fn of(values: &[f64], may_log: bool, from: f64, to: f64) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log = may_log && least > 0.0 && most / least > LOG_FROM;
        // Shares begin at zero, and what is always the same needs room too.
        let least = if log { least } else { least.min(0.0) };
        let most = if most > least { most } else { least + 1.0 };
        Self { least, most, log, from, to }
    }

    fn place(self, value: f64) -> f64 {
        let Self { least, most, from, to, .. } = self;
        let share = if self.log {
            libm::log(value.max(least) / least) / libm::log(most / least)
        } else {
            (value - least) / (most - least)
        };
        from + share * (to - from)
    }

    /// Round numbers along it.
    fn ticks(self) -> Vec<f64> {
        if self.log {
            let first = libm::floor(libm::log10(self.least));
            let decades = (0..40).map(|n| libm::pow(10.0, first + f64::from(n)));
            return decades.filter(|it| (self.least..=self.most).contains(it)).collect();
        }
        let rough = (self.most - self.least) / 5.0;
        let unit = libm::pow(10.0, libm::floor(libm::log10(rough)));
        let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * unit);
        let step = step.into_iter().find(|it| *it >= rough).unwrap_or(rough);
        let first = libm::ceil(self.least / step);
        let ticks = (0..20).map(|n| (first + f64::from(n)) * step);
        ticks.filter(|it| *it <= self.most * (1.0 + 1e-9)).collect()
    }
}

/// A number with as many digits as people want.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if !(1e-4..1e6).contains(&size) {
        format!("{value:.2e}")
    } else {
        let places = if size >= 1_000.0 { 0 } else { 4 };
        let text = format!("{value:.places$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

fn path(points: &[(f64, f64)], x: Scale, y: Scale) -> String {
    let mut text = String::new();
    for (no, (at, value)) in points.iter().enumerate() {
        let command = if no == 0 { 'M' } else { 'L' };
        // Writing to text cannot fail.
        let _ = write!(text, "{command}{:.1} {:.1}", x.place(*at), y.place(*value));
    }
    text
}

impl Plot {
    /// Whether there is anything to see.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.is_empty())
    }

    pub(super) fn draw(&self) -> Markup {
        let all =
            || self.lines.iter().flat_map(|it| it.points.iter().chain(&it.theory).chain(&it.band));
        let xs: Vec<f64> = all().map(|it| it.0).collect();
        let ys: Vec<f64> = all().map(|it| it.1).collect();
        let x = Scale::of(&xs, true, LEFT, WIDTH - RIGHT);
        let y = Scale::of(&ys, false, HEIGHT - BOTTOM, TOP);
        let theory = self.lines.iter().any(|it| !it.theory.is_empty());
        // Who has no points here keeps a colour: a name has the same one in every plot of a page.
        let coloured = || self.lines.iter().zip(COLOURS.iter().cycle());
        let shown = || coloured().filter(|(line, _)| !line.points.is_empty());
        html! {
            figure {
                figcaption {
                    (self.title)
                    @if !self.words.is_empty() { span.legend { " " (self.words) } }
                }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                    (axes(x, y, &self.x))
                    @for (line, colour) in shown() {
                        (line.draw(x, y, colour))
                    }
                }
                p.legend {
                    @if self.lines.len() > 1 {
                        @for (line, colour) in shown() {
                            span style={ "color:" (colour) } { "■ " } (line.name) " "
                        }
                    }
                    @if theory { "dashed: theory" }
                }
            }
        }
    }
}

fn axes(x: Scale, y: Scale, words: &str) -> Markup {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    html! {
        @for tick in y.ticks() {
            line.grid x1=(LEFT) x2=(right) y1=(y.place(tick)) y2=(y.place(tick)) {}
            text.y x=(LEFT - 6.0) y=(y.place(tick) + 4.0) { (short(tick)) }
        }
        @for tick in x.ticks() {
            line.grid x1=(x.place(tick)) x2=(x.place(tick)) y1=(TOP) y2=(bottom) {}
            text.x x=(x.place(tick)) y=(bottom + 16.0) { (short(tick)) }
        }
        text.x x=(f64::midpoint(LEFT, right)) y=(HEIGHT - 10.0) { (words) }
    }
}

impl Line {
    fn draw(&self, x: Scale, y: Scale, colour: &str) -> Markup {
        html! {
            @if self.band.len() > 2 {
                path.band fill=(colour) d={ (path(&self.band, x, y)) "Z" } {}
            }
            @if !self.theory.is_empty() {
                path.theory stroke=(colour) d=(path(&self.theory, x, y)) {}
            }
            path.line stroke=(colour) d=(path(&self.points, x, y)) {}
            @if self.points.len() <= 40 {
                @for (at, value) in &self.points {
                    circle fill=(colour) r="2.5" cx=(x.place(*at)) cy=(y.place(*value)) {
                        title { (short(*at)) ", " (short(*value)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let scale = Scale::of(&[0.0, 0.37], true, 0.0, 100.0);
        let ticks: Vec<_> = scale.ticks().into_iter().map(short).collect();
        assert_eq!(ticks, ["0", "0.1", "0.2", "0.3"]);
        let log = Scale::of(&[0.5, 5_000.0], true, 0.0, 100.0);
        assert_eq!(log.ticks(), [1.0, 10.0, 100.0, 1_000.0]);
        assert!((log.place(50.0) - 50.0).abs() < 1e-9, "the middle by the logarithm");
        let one = Scale::of(&[3.0], false, 0.0, 1.0);
        assert!(one.place(3.0).is_finite());
        assert!(Scale::of(&[0.0, 0.0], false, 0.0, 1.0).place(0.0).is_finite());
    }

    #[test]
    fn numbers_are_as_short_as_they_may_be() {
        assert_eq!(
            [0.0, 0.25, 1234.5, 2.0, 1e-7].map(short),
            ["0", "0.25", "1234", "2", "1.00e-7"]
        );
    }
}
