//! Rate limits that nodes share: a fleet in simulated time; and, in `taken`, several processes on one table.

mod taken;

use _core::fleet::change;
use _core::policy::limit::{Algorithm, Limit, Now};
use _core::policy::share::{Change, Usage};
use _core::state::{Capacities, Node};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const BEGIN: u64 = 1_700_000_000 * SECOND;

/// A message on its way: when it comes, to whom, from whom, its number, what it charges, the last number of theirs
/// that it acknowledges.
struct Letter {
    due: u64,
    to: usize,
    from: usize,
    number: usize,
    usage: Option<Usage>,
    seen: usize,
}

#[derive(Default)]
struct Site {
    state: u64,
    tally: u64,
    passed: u64,
    batches: Vec<Usage>,
    settled: usize,
    /// By node: last batch charged, last of ours acknowledged.
    seen: Vec<usize>,
    acknowledged: Vec<usize>,
}

/// A fleet under demand: in each step of a millisecond some requests come to each node. Returns what passed.
struct Fleet {
    limit: Limit,
    sites: Vec<Site>,
    letters: Vec<Letter>,
    unix: u64,
    turn: u64,
    /// By how many milliseconds each node's wall clock is ahead.
    ahead: Vec<u64>,
}

impl Fleet {
    fn new(limit: Limit, nodes: usize, turn: u64) -> Self {
        let site = || Site {
            seen: vec![0; nodes],
            acknowledged: vec![0; nodes],
            ..Site::default()
        };
        Self {
            limit,
            sites: (0..nodes).map(|_| site()).collect(),
            letters: Vec::new(),
            unix: BEGIN,
            turn,
            ahead: vec![0; nodes],
        }
    }

    fn now(&self, node: usize) -> Now {
        Now {
            monotonic: self.unix - BEGIN + (node as u64 + 1) * 1_000 * SECOND,
            unix: self.unix + self.ahead[node] * MS,
        }
    }

    fn request(&mut self, node: usize) {
        let (now, weight) = (self.now(node), self.sites.len() as u32);
        let site = &mut self.sites[node];
        if let Some(next) = self.limit.count(site.state, now, weight).next {
            site.state = next;
            site.tally = self.limit.note(site.tally, site.state, now);
            site.passed += 1;
        }
    }

    /// A millisecond passes. `delay` is how long a message takes that is sent now; `None`: nobody hears of it.
    fn pass(&mut self, delay: impl Fn(usize, usize) -> Option<u64>) {
        self.unix += MS;
        let due: Vec<Letter> = self.letters.extract_due(self.unix);
        for letter in due {
            let now = self.now(letter.to);
            let site = &mut self.sites[letter.to];
            if let Some(usage) = letter.usage {
                let step = self.limit.adjust(site.state, usage, Change::Add, now);
                site.state = step.next.unwrap_or(site.state);
                site.seen[letter.from] = letter.number;
            }
            site.acknowledged[letter.from] = site.acknowledged[letter.from].max(letter.seen);
            self.settle(letter.to);
        }
        if (self.unix - BEGIN) / MS % self.turn != 0 {
            return;
        }
        let weight = self.sites.len() as u32;
        for from in 0..self.sites.len() {
            let now = self.now(from);
            let site = &mut self.sites[from];
            if (0..weight as usize).any(|to| to != from && delay(from, to).is_none()) {
                continue;
            }
            let usage = self.limit.usage(site.tally, site.state, now, weight);
            site.tally = 0;
            site.batches.extend(usage);
            for to in (0..weight as usize).filter(|&to| to != from) {
                let sent = delay(from, to).unwrap_or(0) * MS;
                let last = (self.letters.iter())
                    .filter(|one| (one.from, one.to) == (from, to))
                    .map(|one| one.due)
                    .max();
                self.letters.push(Letter {
                    due: (self.unix + sent).max(last.unwrap_or(0)), // in order, as on a connection
                    to,
                    from,
                    number: site.batches.len(),
                    usage,
                    seen: site.seen[to],
                });
            }
        }
    }

    fn settle(&mut self, node: usize) {
        let (now, weight) = (self.now(node), self.sites.len() as u32);
        let site = &mut self.sites[node];
        let all = (0..weight as usize).filter(|&other| other != node);
        let acknowledged = all.map(|other| site.acknowledged[other]).min().unwrap_or(0);
        while site.settled < acknowledged {
            let usage = site.batches[site.settled];
            let step = (self.limit).adjust(site.state, usage, Change::Settle(weight), now);
            site.state = step.next.unwrap_or(site.state);
            site.settled += 1;
        }
    }

    fn passed(&self) -> u64 {
        self.sites.iter().map(|site| site.passed).sum()
    }
}

trait Due {
    fn extract_due(&mut self, now: u64) -> Vec<Letter>;
}

impl Due for Vec<Letter> {
    fn extract_due(&mut self, now: u64) -> Vec<Letter> {
        let (due, later) = std::mem::take(self)
            .into_iter()
            .partition(|one| one.due <= now);
        *self = later;
        due
    }
}

fn limit(algorithm: Algorithm, requests: u32, window_ms: u32) -> Limit {
    Limit {
        algorithm,
        requests,
        window_ms,
    }
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ])
}

proptest! {
    /// Over a window in which as many come as may, however they are spread and however long messages take: all of the
    /// limit and hardly more.
    #[test]
    fn a_fleet_lets_through_the_limit(
        algorithm in algorithms(),
        requests in 20u32..400,
        skew in prop::collection::vec(0u64..10, 2..6),
        delays in prop::collection::vec(0u64..8, 64),
        burst in 0u64..500,
    ) {
        prop_assume!(skew.iter().any(|&part| part > 0));
        // So long that next to nothing is refilled meanwhile.
        let limit = limit(algorithm, requests, 86_400_000);
        let nodes = skew.len();
        let mut fleet = Fleet::new(limit, nodes, 5);
        let total: u64 = skew.iter().sum();
        let delay = |from: usize, to: usize| Some(delays[(from * 8 + to) % 64]);
        for (node, part) in skew.iter().enumerate() {
            for _ in 0..burst * part / total {
                fleet.request(node);
            }
        }
        // A load that comes to one node alone halves (or less) what is left with each exchange.
        for _ in 0..400 + 100 * nodes {
            for (node, part) in skew.iter().enumerate() {
                for _ in 0..*part {
                    fleet.request(node);
                }
            }
            fleet.pass(delay);
        }
        let (least, most) = (u64::from(requests) * 95 / 100, u64::from(requests) + nodes as u64);
        prop_assert!((least..=most).contains(&fleet.passed()), "{} of {requests}", fleet.passed());
        for node in 0..nodes {
            let told = limit.count(fleet.sites[node].state, fleet.now(node), nodes as u32).result;
            prop_assert!(!told.allowed && told.remaining == 0);
        }
    }

    /// The same over many windows.
    #[test]
    fn a_fleet_keeps_the_rate(
        algorithm in algorithms(),
        requests in 40u32..200,
        skew in prop::collection::vec(0u64..5, 2..4),
        delay in 0u64..6,
    ) {
        prop_assume!(skew.iter().any(|&part| part > 0));
        let mut fleet = Fleet::new(limit(algorithm, requests, 1_000), skew.len(), 5);
        let mut after_first = 0;
        for step in 0..6_000 {
            for (node, part) in skew.iter().enumerate() {
                for _ in 0..*part {
                    fleet.request(node);
                }
            }
            fleet.pass(|_, _| Some(delay));
            if step == 999 {
                after_first = fleet.passed();
            }
        }
        let rate = (fleet.passed() - after_first) as f64 / 5.0 / f64::from(requests);
        // Of each window the fleet may be over by a request for each node.
        let most = 1.05 + skew.len() as f64 / f64::from(requests);
        prop_assert!(rate > 0.94 && rate < most, "{rate}");
    }

    /// Nodes that hear nothing of each other: to each its share.
    #[test]
    fn apart_each_has_its_share(algorithm in algorithms(), requests in 7u32..300, nodes in 2usize..7) {
        let mut fleet = Fleet::new(limit(algorithm, requests, 86_400_000), nodes, 5);
        for _ in 0..300 {
            for node in 0..nodes {
                for _ in 0..3 {
                    fleet.request(node);
                }
            }
            fleet.pass(|_, _| None);
        }
        for site in &fleet.sites {
            prop_assert_eq!(site.passed, u64::from(requests).div_ceil(nodes as u64));
        }
        // Together again: nobody forgets.
        for _ in 0..100 {
            for node in 0..nodes {
                fleet.request(node);
            }
            fleet.pass(|_, _| Some(1));
        }
        prop_assert!(fleet.passed() <= u64::from(requests) + nodes as u64);
    }

    #[test]
    fn strange_entries_do_no_harm(entries in prop::collection::vec(any::<u8>(), 0..200)) {
        let node = node(1);
        change(&node, &entries, Change::Add, clocks(0));
        change(&node, &entries, Change::AtLeast, clocks(0));
        change(&node, &entries, Change::Settle(3), clocks(0));
    }
}

#[test]
fn usage_of_a_window_that_is_over_is_dropped() {
    let now = clocks(0);
    let fixed = limit(Algorithm::FixedWindow, 10, 1_000);
    let usage = |at| Usage {
        at,
        before: 0,
        count: 4,
    };
    let ms = BEGIN / MS;
    assert_eq!(
        fixed.adjust(0, usage(ms - 1_000), Change::Add, now).next,
        None
    );
    assert_eq!(
        fixed.adjust(0, usage(ms + 2_000), Change::Add, now).next,
        None
    );
    // The next one: the sender's clock is ahead by a moment.
    for at in [ms, ms + 1_000] {
        let state = fixed.adjust(0, usage(at), Change::Add, now).next.unwrap();
        assert_eq!(fixed.count(state, now, 1).result.remaining, 5);
    }
    let sliding = limit(Algorithm::SlidingWindow, 10, 1_000);
    let number = ms / 1_000 % (1 << 24);
    assert_eq!(
        sliding.adjust(0, usage(number - 2), Change::Add, now).next,
        None
    );
    for at in [number - 1, number, number + 1] {
        let state = sliding.adjust(0, usage(at), Change::Add, now).next.unwrap();
        assert_eq!(sliding.count(state, now, 1).result.remaining, 5, "{at}");
    }
    let tokens = limit(Algorithm::TokenBucket, 10, 1_000);
    assert_eq!(
        tokens.adjust(0, usage(ms - 2_001), Change::Add, now).next,
        None
    );
    let state = tokens
        .adjust(0, usage(ms - 5), Change::Add, now)
        .next
        .unwrap();
    assert_eq!(tokens.count(state, now, 1).result.remaining, 5);
}

#[test]
fn a_slow_client_is_told_what_is_left_of_the_fleet() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let limit = limit(algorithm, 10, 86_400_000);
        let told = limit.count(0, clocks(0), 3).result;
        assert_eq!((told.allowed, told.remaining), (true, 9), "{algorithm:?}");
    }
}

fn node(lanes: u32) -> Node {
    let capacities = Capacities {
        backends: 4,
        series: 4,
        arms: 4,
        rows: 4,
        buckets: 4096,
        clients: 8,
    };
    Node::new(lanes, 4096, capacities).unwrap()
}

fn clocks(after: u64) -> Now {
    Now {
        monotonic: 40_000 * SECOND + after,
        unix: BEGIN + after,
    }
}

#[test]
fn clocks_that_differ_by_less_than_a_window_share_it() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ] {
        let mut fleet = Fleet::new(limit(algorithm, 60, 10_000), 3, 5);
        fleet.ahead = vec![2_000, 0, 1_000];
        for _ in 0..100_000 {
            (0..3).for_each(|node| fleet.request(node));
            fleet.pass(|_, _| Some(3));
        }
        // Ten windows, and the parts of two at the ends.
        let windows = fleet.passed() as f64 / 60.0;
        assert!((9.5..12.0).contains(&windows), "{algorithm:?}: {windows}");
    }
}
