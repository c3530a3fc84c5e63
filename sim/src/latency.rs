//! How long bytes take from one router to another.
//!
//! Lives here: the models and the readers of measured matrices (graphs: `latency/gml.rs`). Does not live here: jitter and
//! bandwidth (`net.rs`).
//!
//! The geographic model puts each router near one of a few population centres. One way takes the
//! great circle at two thirds of the speed of light, times a detour of 1.3 to 2.0 that belongs to
//! the pair, plus each side's access line (lognormal, median 8 ms, sigma 0.9). Measured over all
//! pairs that gives a mean round trip of about 180 ms, as the King measurements have (Gummadi et
//! al., IMW 2002), and violations of the triangle inequality. A router costs 32 bytes, a pair none.

mod gml;

use std::{sync::Arc, time::Duration};

use crate::{chance, streams::Streams};

/// Kilometres.
const EARTH_RADIUS: f64 = 6_371.0;
/// Of light in glass, kilometres a second.
const SPEED: f64 = 0.66 * 299_792.0;
/// Latitude and longitude in degrees, and the share of routers.
const CENTRES: [(f64, f64, f64); 12] = [
    (50.0, 8.0, 0.26),    // Central Europe
    (51.5, -0.5, 0.08),   // British Isles
    (41.0, 2.0, 0.06),    // Southern Europe
    (55.5, 35.0, 0.06),   // Eastern Europe
    (40.5, -75.0, 0.14),  // North America, east
    (41.0, -93.0, 0.08),  // North America, middle
    (37.0, -121.0, 0.10), // North America, west
    (-20.0, -46.0, 0.05), // South America
    (35.5, 137.0, 0.06),  // East Asia
    (17.0, 78.0, 0.05),   // South Asia
    (1.5, 104.0, 0.03),   // South-East Asia
    (-34.0, 148.0, 0.03), // Oceania
];
/// Standard deviation around a centre, degrees.
const SPREAD: f64 = 5.0;
/// Routers in a matrix: 64 MiB of entries.
pub const MATRIX_MAX: usize = 4_096;

/// A model of one-way times.
#[derive(Clone, Debug)]
pub enum Latency {
    /// Each pair of routers has its own time in between, always the same.
    Uniform {
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
    /// Points on the globe.
    Geographic,
    /// Measured; router k is host k of the matrix, counted round and round.
    Matrix(Arc<Matrix>),
}

/// Where a router is, for those who ask often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// A point of the unit sphere.
    at: [f64; 3],
    /// Of the access line, seconds one way.
    access: f64,
}

impl Latency {
    /// Where router `no` is.
    pub(crate) fn spot(&self, streams: Streams, no: u32) -> Spot {
        if !matches!(self, Self::Geographic) {
            return Spot { at: [0.0; 3], access: 0.0 };
        }
        let mut rng = streams.of("place", no.into());
        let mut share = rng.unit();
        let centre = CENTRES.iter().find(|(.., weight)| {
            share -= weight;
            share < 0.0
        });
        let (latitude, longitude, _) = centre.unwrap_or(&CENTRES[0]);
        let latitude = (latitude + SPREAD * chance::normal(&mut rng)).to_radians();
        let longitude = (longitude + SPREAD * chance::normal(&mut rng)).to_radians();
        let flat = libm::cos(latitude);
        let at = [flat * libm::cos(longitude), flat * libm::sin(longitude), libm::sin(latitude)];
        Spot { at, access: 0.008 * libm::exp(0.9 * chance::normal(&mut rng)) }
    }

    /// One way between two routers, without jitter; the same both ways.
    pub(crate) fn one_way(&self, streams: Streams, a: (u32, Spot), b: (u32, Spot)) -> Duration {
        match self {
            Self::Uniform { least, most } => {
                let span = u64::try_from(most.saturating_sub(*least).as_micros());
                let span = u128::from(span.unwrap_or(u64::MAX).saturating_add(1));
                let draw = u128::from(streams.pair("way", a.0.into(), b.0.into())) * span;
                *least + Duration::from_micros(u64::try_from(draw >> 64).unwrap_or(0))
            }
            Self::Geographic => {
                let dot: f64 = a.1.at.iter().zip(b.1.at).map(|(a, b)| a * b).sum();
                let length = EARTH_RADIUS * libm::acos(dot.clamp(-1.0, 1.0));
                let draw = streams.pair("detour", a.0.into(), b.0.into());
                #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
                let detour = 1.3 + 0.7 * (draw >> 11) as f64 / (1u64 << 53) as f64;
                let seconds = length / SPEED * detour + a.1.access + b.1.access;
                Duration::from_secs_f64(seconds.clamp(0.0, 10.0))
            }
            Self::Matrix(matrix) => matrix.one_way(a.0, b.0),
        }
    }

    /// What to wait for an answer from nowhere: the model's order of magnitude.
    pub(crate) fn typical(&self) -> Duration {
        match self {
            Self::Uniform { most, .. } => *most,
            Self::Geographic | Self::Matrix(_) => Duration::from_millis(100),
        }
    }
}

/// Between two routers at one host of a matrix that does not say so, microseconds.
const SAME_HOST: u32 = 500;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
const fn clamped(micros: f64) -> u32 {
    micros.clamp(1.0, 30e6) as u32
}

/// Measured times between hosts.
#[derive(Debug)]
pub struct Matrix {
    hosts: usize,
    /// Microseconds one way, row after row.
    ways: Vec<u32>,
}

/// What is wrong with a matrix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MatrixError {
    /// A line is not what the format says.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Fewer than two hosts.
    #[error("a matrix needs at least 2 hosts")]
    Small,
    /// More hosts than [`MATRIX_MAX`].
    #[error("a matrix may have {MATRIX_MAX} hosts at most")]
    Large,
}

impl Matrix {
    /// Reads a square of round trips in milliseconds: one row a line, separated by commas or blanks,
    /// `-1` where nobody measured. Lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// When it is no square, holds what is no number, or is too large.
    pub fn square(text: &str) -> Result<Self, MatrixError> {
        let bad = |line, what| MatrixError::Line { line: line + 1, what };
        let lines = text.lines().enumerate();
        let lines: Vec<_> =
            lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')).collect();
        let mut rows = Self::empty(lines.len())?;
        for (row, (no, line)) in lines.iter().enumerate() {
            let mut columns = 0;
            for cell in line.split([',', ' ', '\t']).filter(|cell| !cell.is_empty()) {
                let millis: f64 = cell.parse().map_err(|_| bad(*no, "not a number"))?;
                if columns < rows.hosts && columns != row && millis >= 0.0 {
                    rows.set(row, columns, millis * 1_000.0);
                }
                columns += 1;
            }
            if columns != rows.hosts {
                return Err(bad(*no, "not as many columns as there are rows"));
            }
        }
        Ok(rows.filled())
    }

    /// Reads lines `i j microseconds` of round trips with hosts counted from 1, as the Meridian and
    /// King data sets are published; a pair that comes once counts both ways.
    ///
    /// # Errors
    /// When a line is anything else, or there are too many hosts.
    pub fn triples(text: &str) -> Result<Self, MatrixError> {
        let mut entries = Vec::new();
        let mut hosts = 0;
        for (no, line) in text.lines().enumerate() {
            let bad = |what| MatrixError::Line { line: no + 1, what };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split([',', ' ', '\t']).filter(|word| !word.is_empty());
            let mut word = || words.next().ok_or(bad("expected `i j microseconds`"));
            let mut host = || -> Result<usize, MatrixError> {
                let host: usize = word()?.parse().map_err(|_| bad("not a host's number"))?;
                host.checked_sub(1).ok_or(bad("hosts are counted from 1"))
            };
            let (from, to) = (host()?, host()?);
            let micros: f64 = word()?.parse().map_err(|_| bad("not a number of microseconds"))?;
            hosts = hosts.max(from + 1).max(to + 1);
            if hosts > MATRIX_MAX {
                return Err(MatrixError::Large);
            }
            entries.push((from, to, micros));
        }
        let mut this = Self::empty(hosts)?;
        for (from, to, micros) in entries.into_iter().filter(|(.., micros)| *micros >= 0.0) {
            this.set(from, to, micros);
            if this.entry(to, from) == 0 {
                this.set(to, from, micros);
            }
        }
        Ok(this.filled())
    }

    fn empty(hosts: usize) -> Result<Self, MatrixError> {
        match hosts {
            0 | 1 => Err(MatrixError::Small),
            2..=MATRIX_MAX => Ok(Self { hosts, ways: vec![0; hosts * hosts] }),
            _ => Err(MatrixError::Large),
        }
    }

    fn set(&mut self, from: usize, to: usize, round_trip_micros: f64) {
        self.set_way(from, to, clamped(round_trip_micros / 2.0));
    }

    fn set_way(&mut self, from: usize, to: usize, micros: u32) {
        if let Some(way) = self.ways.get_mut(from * self.hosts + to) {
            *way = micros;
        }
    }

    fn entry(&self, from: usize, to: usize) -> u32 {
        self.ways.get(from * self.hosts + to).copied().unwrap_or(0)
    }

    /// Pairs that nobody measured get the mean of the others; routers at one host are 0.5 ms apart.
    fn filled(mut self) -> Self {
        for host in 0..self.hosts {
            if self.entry(host, host) == 0 {
                self.set_way(host, host, SAME_HOST);
            }
        }
        let others = self.ways.iter().enumerate().filter(|(at, _)| at % (self.hosts + 1) != 0);
        let known = others.map(|(_, way)| way).filter(|way| **way > 0);
        let (sum, count) = known.fold((0u64, 0u64), |(sum, n), way| (sum + u64::from(*way), n + 1));
        let mean = u32::try_from(sum / count.max(1)).unwrap_or(u32::MAX).max(1);
        for way in self.ways.iter_mut().filter(|way| **way == 0) {
            *way = mean;
        }
        self
    }

    /// One way.
    fn one_way(&self, a: u32, b: u32) -> Duration {
        let (low, high) = (a.min(b) as usize % self.hosts, a.max(b) as usize % self.hosts);
        Duration::from_micros(self.entry(low, high).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_globe_has_the_round_trips_that_were_measured() {
        let streams = Streams::new(1);
        let model = Latency::Geographic;
        let spots: Vec<_> = (0..300).map(|no| (no, model.spot(streams, no))).collect();
        let mut trips: Vec<f64> = Vec::new(); // seconds
        for (index, a) in spots.iter().enumerate() {
            for b in &spots[index + 1..] {
                trips.push(2.0 * model.one_way(streams, *a, *b).as_secs_f64());
            }
        }
        trips.sort_by(f64::total_cmp);
        let mean = 1_000.0 * trips.iter().sum::<f64>() / (300.0 * 299.0 / 2.0);
        let median = 1_000.0 * trips[trips.len() / 2];
        assert!((140.0..220.0).contains(&mean), "mean {mean} ms");
        assert!((120.0..200.0).contains(&median), "median {median} ms");
    }

    #[test]
    fn a_square_of_round_trips_is_read() {
        let matrix = Matrix::square("# ms\n0, 20, 30\n20, 0, -1\n30, -1, 0\n").unwrap();
        assert_eq!(matrix.one_way(0, 1), Duration::from_millis(10));
        assert_eq!(matrix.one_way(5, 3), Duration::from_millis(15), "counted round");
        assert_eq!(matrix.one_way(1, 2), Duration::from_micros(12_500), "the mean of the others");
        let short = Matrix::square("0 1\n1\n").unwrap_err();
        assert_eq!(short.to_string(), "line 2: not as many columns as there are rows");
    }

    #[test]
    fn triples_count_both_ways() {
        let matrix = Matrix::triples("1 2 20000\n1 3 30000\n2 3 50000\n").unwrap();
        assert_eq!(matrix.one_way(2, 1), Duration::from_millis(25));
        assert_eq!(
            Matrix::triples("0 1 5\n").unwrap_err().to_string(),
            "line 1: hosts are counted from 1"
        );
        assert_eq!(Matrix::triples("1 9999 5\n").unwrap_err(), MatrixError::Large);
    }
}
