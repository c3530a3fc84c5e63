//! Reading graphs as Shadow's network files have them (GML).
//!
//! Lives here: the format, and ways through the graph. Does not live here: the matrix that comes of it
//! (`latency.rs`).
//!
//! ```text
//! graph [
//!   directed 0
//!   node [ id 0 ]
//!   edge [ source 0 target 0 latency "2 ms" ]      two routers at one node
//!   edge [ source 0 target 1 latency "50 ms" ]     one way; a bare number is in ms
//! ]
//! ```
//!
//! Router k is at the k-th node. Two nodes without an edge are as far apart as the shortest way takes.
//! Other keys, such as jitter and loss, are passed over.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{MATRIX_MAX, Matrix, MatrixError};

/// Blocks inside blocks.
const DEPTH_MAX: usize = 8;

#[derive(Debug)]
enum Value<'a> {
    Word(&'a str),
    Block(Vec<Pair<'a>>),
}

#[derive(Debug)]
struct Pair<'a> {
    line: usize,
    key: &'a str,
    value: Value<'a>,
}

const fn bad(line: usize, what: &'static str) -> MatrixError {
    MatrixError::Line { line, what }
}

/// Words, texts without their quotes, and brackets, each with its line.
fn tokens(text: &str) -> Result<Vec<(usize, &str)>, MatrixError> {
    let mut tokens = Vec::new();
    for (line, mut rest) in (1..).zip(text.lines()) {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with('#') {
                break;
            }
            let token;
            (token, rest) = if let Some(text) = rest.strip_prefix('"') {
                text.split_once('"').ok_or(bad(line, "a text does not end on its line"))?
            } else {
                let border = |c: char| c.is_whitespace() || c == '[' || c == ']';
                let end = rest.find(border).unwrap_or(rest.len());
                rest.split_at(end.max(1))
            };
            tokens.push((line, token));
        }
    }
    Ok(tokens)
}

/// Pairs up to the bracket that closes them, or to the end.
fn pairs<'a>(
    tokens: &mut impl Iterator<Item = (usize, &'a str)>,
    depth: usize,
) -> Result<Vec<Pair<'a>>, MatrixError> {
    let mut all = Vec::new();
    let mut last = 1;
    while let Some((line, key)) = tokens.next() {
        last = line;
        if key == "]" && depth > 0 {
            return Ok(all);
        }
        if key == "[" || key == "]" || depth > DEPTH_MAX {
            return Err(bad(line, "a bracket where a key was expected"));
        }
        let value = match tokens.next().ok_or(bad(line, "a key without a value"))?.1 {
            "[" => Value::Block(pairs(tokens, depth + 1)?),
            "]" => return Err(bad(line, "a key without a value")),
            word => Value::Word(word),
        };
        all.push(Pair { line, key, value });
    }
    if depth == 0 { Ok(all) } else { Err(bad(last, "a bracket is not closed")) }
}

/// The first word under a key.
fn word<'a>(pairs: &[Pair<'a>], key: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.key == key).and_then(|pair| match pair.value {
        Value::Word(word) => Some(word),
        Value::Block(_) => None,
    })
}

/// Microseconds in a latency.
fn micros(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = match unit.trim() {
        "ns" => 1e-3,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1.0,
        "" | "ms" => 1e3,
        "s" | "sec" => 1e6,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    (number >= 0.0 && number.is_finite()).then_some(number * unit)
}

/// One way in microseconds from each node to its neighbours.
type Edges = Vec<Vec<(usize, u32)>>;

fn edges(graph: &[Pair<'_>]) -> Result<Edges, MatrixError> {
    let blocks = |wanted: &'static str| {
        graph.iter().filter_map(move |pair| match &pair.value {
            Value::Block(block) if pair.key == wanted => Some((pair.line, block)),
            _ => None,
        })
    };
    let mut ids = Vec::new();
    for (line, node) in blocks("node") {
        let id: u64 = word(node, "id")
            .and_then(|id| id.parse().ok())
            .ok_or(bad(line, "a node without a number for `id`"))?;
        ids.push(id);
    }
    if ids.len() > MATRIX_MAX {
        return Err(MatrixError::Large);
    }
    let mut order: Vec<_> = ids.iter().copied().zip(0usize..).collect();
    order.sort_unstable();
    let directed = word(graph, "directed") == Some("1");
    let mut all: Edges = vec![Vec::new(); ids.len()];
    for (line, edge) in blocks("edge") {
        let end = |key| {
            let id: u64 = word(edge, key)?.parse().ok()?;
            let at = order.binary_search_by_key(&id, |it| it.0).ok()?;
            order.get(at).map(|it| it.1)
        };
        let (Some(from), Some(to)) = (end("source"), end("target")) else {
            return Err(bad(line, "an edge whose ends are no nodes"));
        };
        let way = word(edge, "latency").and_then(micros);
        let way =
            super::clamped(way.ok_or(bad(line, "an edge without a latency such as \"5 ms\""))?);
        let ends = [(from, to), (to, from)];
        for (from, to) in ends.into_iter().take(if directed || from == to { 1 } else { 2 }) {
            if let Some(edges) = all.get_mut(from) {
                edges.push((to, way));
            }
        }
    }
    Ok(all)
}

impl Matrix {
    /// Reads a graph in GML, as Shadow has them: nodes, and edges with the time of one way.
    ///
    /// # Errors
    /// When it is no such graph, or has too few or too many nodes.
    pub fn gml(text: &str) -> Result<Self, MatrixError> {
        let mut tokens = tokens(text)?.into_iter();
        let top = pairs(&mut tokens, 0)?;
        let graph = top.iter().find_map(|pair| match &pair.value {
            Value::Block(block) if pair.key == "graph" => Some(block),
            _ => None,
        });
        let edges = edges(graph.ok_or(bad(1, "there is no `graph [`"))?)?;
        let mut this = Self::empty(edges.len())?;
        for from in 0..edges.len() {
            this.walk(&edges, from);
        }
        Ok(this.filled())
    }

    /// Shortest ways from one node (Dijkstra).
    fn walk(&mut self, edges: &Edges, from: usize) {
        let mut open = BinaryHeap::from([(Reverse(0u32), from)]);
        let mut done = vec![false; edges.len()];
        while let Some((Reverse(way), node)) = open.pop() {
            if done.get(node).is_none_or(|done| *done) {
                continue;
            }
            if let Some(done) = done.get_mut(node) {
                *done = true;
            }
            if node != from {
                self.set_way(from, node, way.max(1));
            }
            for (to, more) in edges.get(node).into_iter().flatten() {
                if node == from && *to == from {
                    self.set_way(from, from, *more);
                }
                open.push((Reverse(way.saturating_add(*more)), *to));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GRAPH: &str = r#"
        # three nodes in a row
        graph [
          directed 0
          node [ id 10 label "a [b" host_bandwidth_up "1 Gbit" ]
          node [ id 4 ]
          node [ id 7 nested [ x 1 ] ]
          edge [ source 10 target 10 latency "2 ms" ]
          edge [ source 10 target 4 latency "30 ms" jitter "1 ms" packet_loss 0.0 ]
          edge [
            source 4
            target 7
            latency 500
          ]
          edge [ source 10 target 7 latency "900000 us" ]
        ]"#;

    #[test]
    fn edges_are_one_way_and_others_take_the_shortest() {
        let matrix = Matrix::gml(GRAPH).unwrap();
        let ms = |a, b| matrix.one_way(a, b);
        assert_eq!(ms(0, 0), Duration::from_millis(2), "two routers at one node");
        assert_eq!(ms(0, 1), Duration::from_millis(30));
        assert_eq!(ms(2, 1), Duration::from_millis(500), "a bare number is in ms");
        assert_eq!(ms(0, 2), Duration::from_millis(530), "not the edge, which takes longer");
        assert_eq!(ms(3, 4), Duration::from_millis(30), "counted round");
        assert_eq!(ms(1, 1), Duration::from_micros(500), "nothing is said of it");
    }

    #[test]
    fn what_is_no_graph_is_refused_with_its_line() {
        for (text, wanted) in [
            ("node [ id 1 ]", "line 1: there is no `graph [`"),
            ("graph [ node [ id 1 ] ]", "a matrix needs at least 2 hosts"),
            ("graph [\n node [ id x ]\n]", "line 2: a node without a number for `id`"),
            (
                "graph [\n node [ id 1 ] node [ id 2 ]\n edge [ source 1 target 3 latency 1 ] ]",
                "line 3: an edge whose ends are no nodes",
            ),
            (
                "graph [\n node [ id 1 ] node [ id 2 ]\n edge [ source 1 target 2 latency \"5 m\" ] ]",
                "line 3: an edge without a latency such as \"5 ms\"",
            ),
            ("graph [\n label \"x\n]", "line 2: a text does not end on its line"),
            ("graph [ node [ id 1 ]", "line 1: a bracket is not closed"),
            ("graph [ ]]", "line 1: a bracket where a key was expected"),
        ] {
            assert_eq!(Matrix::gml(text).unwrap_err().to_string(), wanted, "{text}");
        }
        let deep = "a [ ".repeat(100);
        assert!(Matrix::gml(&deep).is_err());
    }
}
