//! What was counted since it was last asked: differences of the series' counters, for the history.
//!
//! Counters only grow, but slots change hands: what a series counted between the last question and its
//! end is only in the sum of the former ones ([`Node::retired_series`]), from which everything that was
//! told before is taken off. So nothing is told twice, nothing is forgotten and nothing is negative.

use super::histogram::{Counts, BUCKETS};
use super::node::Node;
use super::stats::SeriesTotals;
use std::collections::HashMap;

/// What a series has counted in a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    /// Exchanges finished.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Their durations, as [`encode`] writes them.
    pub latency: Vec<u8>,
}

/// One row: whose counts they are. `route_id` is `None` for the series that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Route; empty for "no route".
    pub route_id: Option<String>,
    /// Arm of the route.
    pub arm: String,
    /// Its counts, of which there is at least one request.
    pub count: Count,
}

/// The sum of all series, and the rows of those that had traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// All of them together.
    pub total: Count,
    /// Each of them.
    pub rows: Vec<Row>,
}

/// Counts as they are added up.
struct Sum {
    requests: u64,
    failed: u64,
    histogram: Box<Counts>,
}

impl Sum {
    fn new() -> Self {
        Self {
            requests: 0,
            failed: 0,
            histogram: Box::new([0; BUCKETS]),
        }
    }

    fn set(&mut self, totals: &SeriesTotals) {
        self.requests = totals.requests;
        self.failed = totals.failed;
        self.histogram.copy_from_slice(&totals.histogram[..]);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        for (into, from) in self.histogram.iter_mut().zip(other.histogram.iter()) {
            *into += from;
        }
    }

    fn subtract(&mut self, base: &Count) {
        self.requests = self.requests.saturating_sub(base.requests);
        self.failed = self.failed.saturating_sub(base.failed);
        decode(&base.latency, |bucket, count| {
            if let Some(cell) = self.histogram.get_mut(bucket) {
                *cell = cell.saturating_sub(count);
            }
        });
    }

    fn told(&self) -> Count {
        Count {
            requests: self.requests,
            // The two are not read in one moment: a request may be in one of them only.
            failed: self.failed.min(self.requests),
            latency: encode(&self.histogram),
        }
    }
}

/// What was told of each series before. One reader; see the module.
#[derive(Debug, Default)]
pub struct Rollups {
    /// By route and arm; what they had counted.
    known: HashMap<(String, String), Count>,
    retired: Count,
}

impl Rollups {
    /// What has come since the last `take`, which this one becomes.
    pub fn take(&mut self, node: &Node) -> Told {
        let mut known = HashMap::with_capacity(self.known.len());
        let told = self.compare(
            node,
            |_| true,
            true,
            |key, totals, is_new| {
                let before = self.known.get(&key);
                let count = match before {
                    Some(before) if !is_new => before.clone(),
                    _ => Count {
                        requests: totals.requests,
                        failed: totals.failed,
                        latency: encode(&totals.histogram),
                    },
                };
                known.insert(key, count);
            },
        );
        let retired = node.retired_series();
        self.retired = Count {
            requests: retired.requests,
            failed: retired.failed,
            latency: encode(&retired.histogram),
        };
        self.known = known;
        told
    }

    /// The same without becoming the last one: of one route, or of all, and then without rows.
    pub fn peek(&self, node: &Node, route_id: Option<&str>) -> Told {
        let wanted = |id: &str| !route_id.is_some_and(|wanted| wanted != id);
        let mut told = self.compare(node, wanted, route_id.is_none(), |_, _, _| ());
        if route_id.is_none() {
            told.rows.clear();
        }
        told
    }

    /// `seen` hears of each series that has counted anything: its totals, and whether they are new.
    fn compare(
        &self,
        node: &Node,
        wanted: impl Fn(&str) -> bool,
        with_former: bool,
        mut seen: impl FnMut((String, String), &SeriesTotals, bool),
    ) -> Told {
        let (mut total, mut sum) = (Sum::new(), Sum::new());
        let mut rows = Vec::new();
        // What was told before of those that are gone, or were cleared: it is in the former ones' sum.
        let mut former = Sum::new();
        former.set(node.retired_series());
        former.subtract(&self.retired);
        let mut gone: HashMap<&(String, String), &Count> = HashMap::new();
        if with_former {
            gone.extend(&self.known);
        }
        node.for_each_series(|series| {
            if series.totals.requests == 0 || !wanted(series.route_id) {
                return;
            }
            let key = (series.route_id.to_owned(), series.arm.to_owned());
            let before = self.known.get(&key);
            // Fewer than before: the slot is another one by the same name.
            let before = before.filter(|before| before.requests <= series.totals.requests);
            if before.is_some() {
                gone.remove::<(String, String)>(&key);
            }
            let is_new = !before.is_some_and(|before| before.requests >= series.totals.requests);
            if is_new {
                sum.set(series.totals);
                if let Some(before) = before {
                    sum.subtract(before);
                }
                total.add(&sum);
                rows.push(Row {
                    route_id: Some(key.0.clone()),
                    arm: key.1.clone(),
                    count: sum.told(),
                });
            }
            seen(key, series.totals, is_new);
        });
        if with_former {
            for count in gone.into_values() {
                former.subtract(count);
            }
            if former.requests > 0 {
                total.add(&former);
                rows.push(Row {
                    route_id: None,
                    arm: String::new(),
                    count: former.told(),
                });
            }
        }
        Told {
            total: total.told(),
            rows,
        }
    }
}

/// A histogram in as few bytes as may be: of each bucket that is not empty one LEB128 number, four
/// times the count and the empty buckets before it; for three and more of those 3, and the others in a
/// number of their own.
pub fn encode(counts: &Counts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = 0;
    for (bucket, &count) in counts.iter().enumerate() {
        if count > 0 {
            let gap = (bucket - next) as u64;
            number(&mut bytes, count.min(u64::MAX >> 2) << 2 | gap.min(3));
            if gap >= 3 {
                number(&mut bytes, gap - 3);
            }
            next = bucket + 1;
        }
    }
    bytes
}

fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The way back: `each(bucket, count)`. Ends with the first number that is cut off.
pub fn decode(bytes: &[u8], mut each: impl FnMut(usize, u64)) {
    let mut rest = bytes.iter();
    let mut read = || {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let &byte = rest.next()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    };
    let mut next = 0usize;
    while let Some(first) = read() {
        let gap = match first & 3 {
            3 => match read() {
                Some(more) => more.saturating_add(3),
                None => return,
            },
            gap => gap,
        };
        let bucket = next.saturating_add(gap as usize);
        each(bucket, first >> 2);
        next = bucket.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{histogram, Capacities, LaneState, SlotRefs};
    use super::*;

    fn publish(node: &mut Node, series: &[u32]) {
        node.next_generation().unwrap();
        let range = node.stage(64).unwrap();
        let refs = SlotRefs {
            backends: vec![],
            series: series.to_vec(),
            arms: vec![],
        };
        node.publish(node.generation() + 1, range, &refs).unwrap();
        node.reclaim();
    }

    #[test]
    fn histograms_survive_the_encoding() {
        let mut counts = [0; BUCKETS];
        assert_eq!(encode(&counts), b"");
        for (bucket, count) in [(0, 1), (1, 127), (2, 128), (200, 300), (351, u64::MAX >> 2)] {
            counts[bucket] = count;
        }
        let bytes = encode(&counts);
        let mut back = [0; BUCKETS];
        decode(&bytes, |bucket, count| back[bucket] = count);
        assert_eq!(counts, back);
        for end in 0..bytes.len() {
            decode(&bytes[..end], |bucket, _| assert!(bucket < BUCKETS));
        }
    }

    #[test]
    fn each_request_is_told_once_whatever_becomes_of_its_series() {
        let mut node = Node::new(2, 1 << 20, Capacities::default()).unwrap();
        let a = node.series_slot("a", "stable").unwrap();
        publish(&mut node, &[a]);
        let workers: Vec<_> = (0..2)
            .map(|lane| LaneState::attach(node.state_fd(), node.arena_fd(), lane).unwrap())
            .collect();
        let mut rollups = Rollups::default();
        assert_eq!(rollups.take(&node), Told::default());

        workers[0].record(a, 1, 200, false, 1000);
        workers[1].record(a, 1, 500, true, 3000);
        workers[0].record(0, 1, 404, false, 64);
        let peeked = rollups.peek(&node, Some("a"));
        assert_eq!((peeked.rows.len(), peeked.total.requests), (1, 2));
        assert_eq!(rollups.peek(&node, None).total.requests, 3);
        let told = rollups.take(&node);
        assert_eq!(told.rows.len(), 2);
        assert_eq!(
            (told.rows[1].count.requests, told.rows[1].count.failed),
            (2, 1)
        );
        assert_eq!(told.total.requests, 3);
        let mut seen = vec![];
        decode(&told.rows[1].count.latency, |bucket, count| {
            seen.push((bucket, count))
        });
        assert_eq!(
            seen,
            [(histogram::index(1000), 1), (histogram::index(3000), 1)]
        );
        assert_eq!(rollups.take(&node), Told::default());

        // The route goes with a request that nobody was told of.
        workers[0].record(a, 1, 200, false, 1000);
        publish(&mut node, &[]);
        publish(&mut node, &[]);
        let told = rollups.take(&node);
        assert_eq!(told.rows.len(), 1);
        assert_eq!((&told.rows[0].route_id, told.total.requests), (&None, 1));
        assert_eq!(rollups.take(&node), Told::default());

        // It comes back, in a slot that begins anew.
        let a = node.series_slot("a", "stable").unwrap();
        publish(&mut node, &[a]);
        workers[0].record(a, 1, 200, false, 1000);
        let told = rollups.take(&node);
        assert_eq!((told.rows.len(), told.total.requests), (1, 1));
        assert_eq!(told.rows[0].route_id.as_deref(), Some("a"));
        assert_eq!(rollups.peek(&node, None), Told::default());
    }
}
