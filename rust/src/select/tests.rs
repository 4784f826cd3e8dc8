use super::*;
use crate::snapshot::{check, encode, Candidate, Route, Rule, Snapshot, Strategy, UNLIMITED};
use std::cell::RefCell;
use std::collections::HashMap;

/// Counters of one process; slots are candidate indices.
#[derive(Default)]
struct Fake {
    barriers: RefCell<HashMap<u32, Barrier>>,
    active: RefCell<HashMap<u32, u32>>,
    turns: RefCell<(u64, u64)>,
}

impl Fake {
    fn down(&self, slot: u32) {
        self.barriers.borrow_mut().insert(slot, Barrier::Closed);
    }
}

impl Runtime for Fake {
    fn clear(&self, slot: u32) -> bool {
        !self.barriers.borrow().contains_key(&slot)
    }
    fn barrier(&self, slot: u32) -> Barrier {
        self.barriers.borrow()[&slot]
    }
    fn active(&self, slot: u32) -> u32 {
        self.active.borrow().get(&slot).copied().unwrap_or(0)
    }
    fn cursor(&self, _: u32) -> u64 {
        let mut turns = self.turns.borrow_mut();
        turns.0 += 1;
        turns.0 - 1
    }
    fn fallback(&self, _: u32) -> u64 {
        let mut turns = self.turns.borrow_mut();
        turns.1 += 1;
        turns.1 - 1
    }
}

fn with_route<T>(strategy: Strategy, weights: &[u32], body: impl FnOnce(&ArchivedRoute) -> T) -> T {
    let candidates = weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| Candidate {
            hash: rendezvous::identity_hash(&format!("http://10.0.0.{index}:80")),
            backend: index as u32,
            slot: index as u32,
            weight,
        });
    let route = Route {
        id: "r".into(),
        name: "r".into(),
        pattern: String::new(),
        version: "1.0".into(),
        series: 1,
        policy: None,
        timeout_ms: 1,
        max_request_body: UNLIMITED,
        max_response_body: UNLIMITED,
        strategy,
        candidates: candidates.collect(),
        split: None,
    };
    let bytes = encode(&Snapshot {
        routes: vec![route],
        ..Snapshot::default()
    })
    .unwrap();
    body(&check(&bytes).unwrap().routes[0])
}

fn weighted(weights: &[u32]) -> Strategy {
    Strategy::Weighted {
        order: order::smooth(weights),
    }
}

fn counts(
    route: &ArchivedRoute,
    fake: &Fake,
    picks: u64,
    tried: Option<u64>,
) -> HashMap<Option<usize>, u64> {
    let mut counts = HashMap::new();
    for n in 0..picks {
        *counts
            .entry(pick(
                route,
                fake,
                client_hash(&n.to_le_bytes()),
                None,
                tried,
            ))
            .or_default() += 1;
    }
    counts
}

#[test]
fn weighted_turns_are_exact_also_when_one_is_out() {
    let weights = [90, 10, 50];
    with_route(weighted(&weights), &weights, |route| {
        let fake = Fake::default();
        let all = counts(route, &fake, 150, None);
        assert_eq!((all[&Some(0)], all[&Some(1)], all[&Some(2)]), (90, 10, 50));
        fake.down(2);
        let two = counts(route, &fake, 15 * 100, None);
        assert_eq!((two[&Some(0)], two[&Some(1)]), (1350, 150));
        fake.down(0);
        fake.down(1);
        assert_eq!(counts(route, &fake, 10, None)[&None], 10);
    });
}

#[test]
fn round_robin_ignores_weights_and_retries_leave_its_turns_alone() {
    with_route(Strategy::RoundRobin, &[90, 10, 1], |route| {
        let fake = Fake::default();
        assert_eq!(counts(route, &fake, 30, None)[&Some(1)], 10);
        let retries = counts(route, &fake, 30, Some(tried_bit(1)));
        assert_eq!((retries[&Some(0)], retries[&Some(2)]), (15, 15));
        assert_eq!(fake.turns.borrow().0, 30);
        assert_eq!(counts(route, &fake, 1, Some(0b111))[&None], 1);
    });
}

#[test]
fn least_connections_breaks_ties_in_turn() {
    with_route(Strategy::LeastConnections, &[1, 1, 1], |route| {
        let fake = Fake::default();
        assert_eq!(counts(route, &fake, 30, None)[&Some(2)], 10);
        for (slot, active) in [(0, 3), (1, 2), (2, 2)] {
            fake.active.borrow_mut().insert(slot, active);
        }
        let busy = counts(route, &fake, 30, None);
        assert!(!busy.contains_key(&Some(0)));
        assert!(busy[&Some(1)] >= 10 && busy[&Some(2)] >= 10);
        fake.down(1);
        fake.down(2);
        assert_eq!(counts(route, &fake, 3, None)[&Some(0)], 3);
    });
}

#[test]
fn rendezvous_moves_only_the_clients_of_the_one_that_left() {
    for (strategy, weights) in [
        (Strategy::IpHash { uniform: true }, [100, 100, 100]),
        (Strategy::IpHash { uniform: false }, [100, 50, 50]),
    ] {
        with_route(strategy, &weights, |route| {
            let fake = Fake::default();
            let clients: Vec<u64> = (0..20_000u32)
                .map(|n| client_hash(&n.to_le_bytes()))
                .collect();
            let home = |fake: &Fake| -> Vec<_> {
                clients
                    .iter()
                    .map(|&c| pick(route, fake, c, None, None))
                    .collect()
            };
            let before = home(&fake);
            for (index, &weight) in weights.iter().enumerate() {
                let share = before.iter().filter(|&&p| p == Some(index)).count() as f64 / 20_000.0;
                let due = f64::from(weight) / f64::from(weights.iter().sum::<u32>());
                assert!((share - due).abs() < 0.015, "{index}: {share} of {due}");
            }
            fake.down(1);
            for (was, is) in before.iter().zip(home(&fake)) {
                assert_ne!(is, Some(1));
                assert!(*was == is || *was == Some(1));
            }
        });
    }
}

#[test]
fn equal_weights_give_the_same_choice_by_either_formula() {
    let choices = |uniform| {
        with_route(Strategy::IpHash { uniform }, &[100; 5], |route| {
            let fake = Fake::default();
            (0..5000u32)
                .map(|n| pick(route, &fake, client_hash(&n.to_le_bytes()), None, None))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(choices(true), choices(false));
}

#[test]
fn a_header_value_decides_and_falls_back_to_the_default() {
    let rules = vec![
        Rule {
            value: "gold".into(),
            candidate: Some(0),
        },
        Rule {
            value: "lead".into(),
            candidate: None,
        },
        Rule {
            value: "silver".into(),
            candidate: Some(1),
        },
    ];
    let strategy = Strategy::Header {
        name: "x-tier".into(),
        rules,
        default: Some(2),
    };
    with_route(strategy, &[1, 1, 1], |route| {
        let fake = Fake::default();
        assert_eq!(header_wanted(route), Some("x-tier"));
        let by =
            |value: Option<&str>, tried| pick(route, &fake, 0, value.map(str::as_bytes), tried);
        assert_eq!(by(Some("gold"), None), Some(0));
        assert_eq!(by(Some("silver"), None), Some(1));
        for other in [None, Some("Gold"), Some("lead"), Some("")] {
            assert_eq!(by(other, None), Some(2), "{other:?}");
        }
        assert_eq!(by(Some("gold"), Some(tried_bit(0))), Some(2));
        fake.down(1);
        assert_eq!(by(Some("silver"), None), Some(2));
        fake.down(2);
        assert_eq!(by(Some("silver"), None), None);
    });
}

#[test]
fn direct_takes_the_first_that_is_open() {
    with_route(Strategy::Direct, &[1, 1], |route| {
        let fake = Fake::default();
        assert_eq!(header_wanted(route), None);
        assert_eq!(pick(route, &fake, 0, None, None), Some(0));
        assert_eq!(pick(route, &fake, 0, None, Some(tried_bit(0))), Some(1));
        fake.down(0);
        assert_eq!(pick(route, &fake, 0, None, None), Some(1));
    });
}

#[test]
fn beyond_64_candidates_a_retry_never_repeats() {
    with_route(Strategy::RoundRobin, &[1; 200], |route| {
        let fake = Fake::default();
        assert_eq!(counts(route, &fake, 200, None).len(), 200);
        let retries = counts(route, &fake, 500, Some(tried_bit(130)));
        assert!(!retries.contains_key(&Some(130)) && !retries.contains_key(&None));
        assert_eq!(retries.len(), 196);
    });
}

#[test]
fn no_candidate_is_no_choice() {
    for strategy in [
        Strategy::RoundRobin,
        weighted(&[]),
        Strategy::LeastConnections,
        Strategy::Direct,
    ] {
        with_route(strategy, &[], |route| {
            assert_eq!(pick(route, &Fake::default(), 0, None, None), None)
        });
    }
}

#[test]
fn at_most_half_of_the_backends_are_left_out_for_being_ejected() {
    for (count, ejected, left) in [
        (1usize, 1usize, 1usize),
        (2, 1, 1),
        (2, 2, 1),
        (3, 3, 2),
        (4, 2, 2),
        (4, 4, 2),
    ] {
        with_route(Strategy::RoundRobin, &vec![100; count], |route| {
            let fake = Fake::default();
            for slot in 0..ejected {
                fake.barriers
                    .borrow_mut()
                    .insert(slot as u32, Barrier::Ejected);
            }
            let taken = counts(route, &fake, 60, None);
            assert!(!taken.contains_key(&None));
            assert_eq!(taken.len(), left, "{ejected} of {count}");
        });
    }
}

#[test]
fn a_backend_that_may_be_tried_takes_its_turns() {
    with_route(Strategy::RoundRobin, &[100, 100], |route| {
        let fake = Fake::default();
        fake.barriers.borrow_mut().insert(0, Barrier::Passable);
        assert_eq!(counts(route, &fake, 10, None)[&Some(0)], 5);
        assert!(available(route, &fake));
        fake.down(0);
        fake.down(1);
        assert!(!available(route, &fake));
    });
}
