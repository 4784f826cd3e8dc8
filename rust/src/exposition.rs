//! Lines of the Prometheus text format for what a node may have many thousands of: series and backends.
//!
//! Written piece by piece, so that a scrape of 10,000 routes needs no memory for its 25 MB of text.
//! Only what has counted something, or is out of the ordinary, has lines. What is written is decided when
//! the scrape begins: a route that comes, goes, or gets another place meanwhile is in it once or not at all.

use crate::catalog::Catalog;
use crate::route::method;
use crate::state::circuit::State;
use crate::state::histogram;
use crate::state::stats::{BackendStats, SeriesTotals};
use crate::state::{BackendStatus, Node, SeriesRef};
use std::io::Write;

/// Label of the requests that met no route.
const NO_ROUTE: &str = "(none)";
/// The arm of a version that is tried out: its counters are there from its beginning, at 0, so that the first
/// failures are an increase.
const CANARY: &str = "canary";

/// What of a series or a backend is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Requests,
    Failed,
    Recovered,
    Limited,
    Duration,
    RouteInfo,
    BackendRequests,
    BackendFailed,
    BackendActive,
    BackendUp,
    BackendCircuit,
}

impl What {
    /// By its name in Python.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "requests" => Self::Requests,
            "failed" => Self::Failed,
            "recovered" => Self::Recovered,
            "limited" => Self::Limited,
            "duration" => Self::Duration,
            "routeInfo" => Self::RouteInfo,
            "backendRequests" => Self::BackendRequests,
            "backendFailed" => Self::BackendFailed,
            "backendActive" => Self::BackendActive,
            "backendUp" => Self::BackendUp,
            "backendCircuit" => Self::BackendCircuit,
            _ => return None,
        })
    }
}

/// One scrape.
pub struct Scrape {
    series: Vec<SeriesRef>,
    backends: Vec<BackendStats>,
    /// Of histograms: the last bucket below each bound, and the bound as it is written.
    bounds: Vec<(usize, String)>,
}

impl Scrape {
    /// Look at the node: what will be written of.
    pub fn new(node: &Node, bounds: Vec<(usize, String)>) -> Self {
        let mut backends = node.backend_stats();
        backends.retain(is_told);
        backends.shrink_to_fit();
        Self {
            series: node.series_refs(),
            backends,
            bounds,
        }
    }

    /// Write lines of `name` from the `at`-th item on, until `out` has about `size` bytes. Returns where to
    /// go on; `None` when all is written.
    pub fn write(
        &self,
        node: &Node,
        catalog: &Catalog,
        (name, what): (&str, What),
        mut at: usize,
        (out, size): (&mut Vec<u8>, usize),
    ) -> Option<usize> {
        let mut totals = SeriesTotals::default();
        let mut told: Option<&str> = None;
        while out.len() < size {
            match what {
                What::BackendRequests
                | What::BackendFailed
                | What::BackendActive
                | What::BackendUp
                | What::BackendCircuit => backend_line(out, name, what, self.backends.get(at)?),
                _ => {
                    let one = self.series.get(at)?;
                    if node.series_totals(one, &mut totals) && is_used(one, &totals) {
                        let (route, arm) = one.names();
                        if what != What::RouteInfo {
                            self.series_lines(out, name, what, (route, arm), &totals);
                        } else if told != Some(route) && arm != CANARY {
                            info_line(out, name, route, catalog);
                            told = Some(route);
                        }
                    }
                }
            }
            at += 1;
        }
        Some(at)
    }

    fn series_lines(
        &self,
        out: &mut Vec<u8>,
        name: &str,
        what: What,
        (route, arm): (&str, &str),
        totals: &SeriesTotals,
    ) {
        let route = if route.is_empty() { NO_ROUTE } else { route };
        let labels = [("route", route), ("arm", arm)];
        let count = match what {
            What::Requests => {
                for (&(verb, code), count) in &totals.codes {
                    let verb = method::name(verb).unwrap_or("OTHER");
                    let code = code.to_string();
                    let more = [labels[0], labels[1], ("method", verb), ("code", &code)];
                    line(out, name, "", &more, count);
                }
                return;
            }
            What::Duration => return self.histogram_lines(out, name, labels, totals),
            What::Failed => totals.failed,
            What::Recovered => totals.recovered,
            _ => totals.limited,
        };
        if what == What::Failed || count > 0 {
            line(out, name, "", &labels, count);
        }
    }

    fn histogram_lines(
        &self,
        out: &mut Vec<u8>,
        name: &str,
        [route, arm]: [(&str, &str); 2],
        totals: &SeriesTotals,
    ) {
        let counts = &totals.histogram;
        let (mut running, mut from) = (0u64, 0);
        for (last, bound) in &self.bounds {
            let part = counts.get(from..=*last).unwrap_or(&[]);
            running += part.iter().sum::<u64>();
            from = last + 1;
            line(out, name, "_bucket", &[route, arm, ("le", bound)], running);
        }
        let all = histogram::count(counts);
        line(out, name, "_bucket", &[route, arm, ("le", "+Inf")], all);
        let sum = histogram::sum(counts) / 1e6;
        line(out, name, "_sum", &[route, arm], sum);
        line(out, name, "_count", &[route, arm], all);
    }
}

fn is_used(one: &SeriesRef, totals: &SeriesTotals) -> bool {
    totals.requests > 0 || one.names().1 == CANARY
}

fn is_told(one: &BackendStats) -> bool {
    one.totals.requests > 0 || one.active > 0 || one.is_out()
}

fn info_line(out: &mut Vec<u8>, name: &str, route: &str, catalog: &Catalog) {
    if let Some((shown, path)) = catalog.route_names(route) {
        let labels = [("route", route), ("name", shown), ("path", &path)];
        line(out, name, "", &labels, 1);
    }
}

fn backend_line(out: &mut Vec<u8>, name: &str, what: What, one: &BackendStats) {
    let value = match what {
        What::BackendRequests => one.totals.requests,
        What::BackendFailed => one.totals.failed,
        What::BackendActive => u64::from(one.active),
        What::BackendUp => u64::from(one.status != BackendStatus::Unhealthy),
        _ => match one.circuit {
            State::Closed | State::HeldClosed => 0,
            State::HalfOpen => 1,
            State::Open | State::HeldOpen => 2,
        },
    };
    line(out, name, "", &[("backend", &one.identity)], value);
}

/// One sample.
fn line(
    out: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    value: impl std::fmt::Display,
) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    for (index, (label, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        escape(out, value);
        out.push(b'"');
    }
    // Writing to a vector does not fail.
    let _ = writeln!(out, "}} {value}");
}

/// A label's value between its quotes.
fn escape(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Capacities, LaneState};

    fn bounds() -> Vec<(usize, String)> {
        vec![(15, "0.000128".into()), (31, "0.000256".into())]
    }

    /// A node with the series `names`, each with one request.
    fn node(names: &[(&str, &str)]) -> (Node, LaneState) {
        let mut node = Node::new(1, 1 << 16, Capacities::default()).unwrap();
        let slots: Vec<u32> = names
            .iter()
            .map(|(route, arm)| node.series_slot(route, arm).unwrap())
            .collect();
        let worker = LaneState::attach(node.state_fd(), node.arena_fd(), 0).unwrap();
        for slot in slots {
            worker.record(slot, 2, 201, true, 130);
        }
        (node, worker)
    }

    fn text(node: &Node, scrape: &Scrape, what: What, size: usize) -> String {
        let (mut all, mut at) = (Vec::new(), Some(0));
        while let Some(from) = at {
            let mut out = Vec::new();
            let catalog = Catalog::default();
            at = scrape.write(node, &catalog, ("m", what), from, (&mut out, size));
            all.extend(out);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn pieces_of_any_size_make_the_same_text() {
        let (node, worker) = node(&[("a", "stable"), ("b \"\\\n", "stable"), ("c", CANARY)]);
        worker.record(0, u8::MAX, 404, false, 1);
        let scrape = Scrape::new(&node, bounds());
        let whole = text(&node, &scrape, What::Duration, 1 << 20);
        assert_eq!(text(&node, &scrape, What::Duration, 1), whole);
        assert!(whole.contains("m_bucket{route=\"a\",arm=\"stable\",le=\"0.000128\"} 0\n"));
        assert!(whole.contains("m_bucket{route=\"a\",arm=\"stable\",le=\"0.000256\"} 1\n"));
        assert!(whole.contains("m_sum{route=\"b \\\"\\\\\\n\",arm=\"stable\"} 0.000132\n"));
        let requests = text(&node, &scrape, What::Requests, 64);
        assert!(requests.contains("m{route=\"c\",arm=\"canary\",method=\"POST\",code=\"201\"} 1\n"));
        assert!(requests.contains("m{route=\"(none)\",arm=\"\",method=\"OTHER\",code=\"404\"} 1\n"));
        let failed = text(&node, &scrape, What::Failed, 64);
        assert_eq!(failed.lines().count(), 4);
    }

    #[test]
    fn what_was_not_used_is_not_told_but_a_canary_is_from_its_first_moment() {
        let mut node = Node::new(1, 1 << 16, Capacities::default()).unwrap();
        node.series_slot("a", "stable").unwrap();
        node.series_slot("b", CANARY).unwrap();
        let scrape = Scrape::new(&node, bounds());
        assert_eq!(
            text(&node, &scrape, What::Failed, 64),
            "m{route=\"b\",arm=\"canary\"} 0\n"
        );
    }

    #[test]
    fn a_series_that_goes_during_a_scrape_is_not_told_twice_or_under_another_name() {
        let mut node = Node::new(1, 1 << 16, Capacities::default()).unwrap();
        node.series_slot("a", CANARY).unwrap();
        let scrape = Scrape::new(&node, bounds());
        let staged = node.stage(0).unwrap();
        node.discard(staged);
        node.reclaim();
        node.series_slot("b", CANARY).unwrap();
        assert_eq!(text(&node, &scrape, What::Failed, 64), "");
    }
}
