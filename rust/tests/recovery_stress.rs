//! Circuits and the budget of retries under processes that contend for them.

use _core::state::circuit::{moment, Event, Outcome, State, Word};
use _core::state::{Breaker, Capacities, Ended, LaneState, Node, SlotRefs};
use proptest::prelude::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

const CHILDREN: u32 = 4;
const SECOND: u64 = 1_000_000_000;
const BREAKER: Breaker = Breaker {
    timeout_ms: 1000,
    threshold: 5,
    trials: 100,
};

fn node() -> (Node, u32) {
    let mut node = Node::new(CHILDREN + 1, 1 << 20, Capacities::default()).unwrap();
    let slot = node.backend_slot("http://a:1").unwrap();
    let generation = node.next_generation().unwrap();
    let range = node.stage(8).unwrap();
    let refs = SlotRefs {
        backends: vec![slot],
        series: vec![],
        arms: vec![],
    };
    node.publish(generation, range, &refs).unwrap();
    (node, slot)
}

fn attach(node: &Node, lane: u32) -> LaneState {
    LaneState::attach(node.state_fd(), node.arena_fd(), lane).unwrap()
}

/// Run `work` in processes, each with a lane of its own; the sum of their results.
fn in_children(node: &Node, work: impl Fn(&LaneState, u32) -> u64) -> u64 {
    let children: Vec<_> = (1..=CHILDREN)
        .map(|lane| {
            let mut ends = [0; 2];
            // SAFETY: room for two descriptors.
            assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
            // SAFETY: the child only attaches, works, writes and leaves without unwinding.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            // SAFETY: each end is made into a file once in each process.
            let (mut read, mut write) =
                unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
            if pid == 0 {
                let result = work(&attach(node, lane), lane);
                let written = write.write_all(&result.to_ne_bytes()).is_ok();
                // SAFETY: ends this process at once, which is what a forked test must do.
                unsafe { libc::_exit(i32::from(!written)) };
            }
            drop(write);
            move || {
                let mut bytes = [0; 8];
                read.read_exact(&mut bytes).unwrap();
                let mut status = 0;
                // SAFETY: waits for our own child.
                assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
                u64::from_ne_bytes(bytes)
            }
        })
        .collect();
    children.into_iter().map(|mut wait| wait()).sum()
}

fn ended(outcome: Outcome, trial: Option<u16>, now: u64) -> Ended {
    Ended {
        outcome,
        unconnected: false,
        trial,
        breaker: BREAKER,
        may_eject: false,
        now,
    }
}

fn state(node: &Node) -> State {
    node.backend_stats()[0].circuit
}

#[test]
fn many_failures_at_once_open_a_circuit_once_and_trials_are_counted_out() {
    let (node, slot) = node();
    let opened = in_children(&node, |lane, _| {
        let fail = |_| lane.backend_ended(slot, &ended(Outcome::Failure, None, SECOND));
        (0..1000).map(fail).filter(|verdict| verdict.opened).count() as u64
    });
    assert_eq!((opened, state(&node)), (1, State::Open));
    let permits = in_children(&node, |lane, _| {
        let ask = |_| lane.backend_trial(slot, 3 * SECOND, 60_000);
        (0..10_000).filter_map(ask_ok(ask)).count() as u64
    });
    assert_eq!((permits, state(&node)), (100, State::HalfOpen));
    let lane = attach(&node, 0);
    let epoch = epoch_of(slot, &lane);
    for _ in 0..100 {
        assert!(!lane.backend_clear(slot));
        lane.backend_ended(slot, &ended(Outcome::Success, Some(epoch), 4 * SECOND));
    }
    assert_eq!(state(&node), State::Closed);
    assert!(lane.backend_clear(slot));
}

fn ask_ok<T, E>(ask: impl Fn(u64) -> Result<T, E>) -> impl FnMut(u64) -> Option<T> {
    move |n| ask(n).ok()
}

/// The epoch of the half-open period that is on: give one trial back and take it again.
fn epoch_of(slot: u32, lane: &LaneState) -> u16 {
    (0..1024)
        .find(|&epoch| {
            lane.backend_ended(slot, &ended(Outcome::Neither, Some(epoch), 3 * SECOND));
            lane.backend_trial(slot, 3 * SECOND, 60_000) == Ok(Some(epoch))
        })
        .unwrap()
}

#[test]
fn whatever_happens_every_opening_is_counted_and_the_way_back_stays_open() {
    let (node, slot) = node();
    let opened = in_children(&node, |lane, number| {
        let mut random = (u64::from(number) * 0x9e37_79b9_7f4a_7c15) | 1;
        let mut opened = 0;
        for step in 0..50_000u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let now = step * SECOND / 100;
            let Ok(trial) = lane.backend_trial(slot, now, 1000) else {
                continue;
            };
            let outcome = match random % 8 {
                0..=3 => Outcome::Failure,
                4..=6 => Outcome::Success,
                _ => Outcome::Neither,
            };
            opened += u64::from(lane.backend_ended(slot, &ended(outcome, trial, now)).opened);
        }
        opened
    });
    assert!(opened > 10);
    let stats = &node.backend_stats()[0];
    assert!(stats.circuit == State::Closed || u64::from(stats.opened) == opened);
    let (lane, late) = (attach(&node, 0), 10_000 * SECOND);
    for _ in 0..300 {
        if let Ok(Some(epoch)) = lane.backend_trial(slot, late, 1000) {
            lane.backend_ended(slot, &ended(Outcome::Success, Some(epoch), late));
        }
    }
    assert_eq!(state(&node), State::Closed);
}

#[test]
fn the_budget_is_a_share_of_all_workers_requests() {
    let (node, _) = node();
    let paid = in_children(&node, |lane, _| {
        let mut paid = 0;
        for _ in 0..5000 {
            lane.retry_earned();
            paid += u64::from(lane.retry_paid(SECOND, 20));
        }
        paid
    });
    assert!(paid <= 4003, "{paid}");
    assert!(paid > 3000, "{paid}");
    assert!(!attach(&node, 0).retry_paid(SECOND, 0));
}

/// What a circuit must be, without bits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plain {
    Closed,
    Open {
        until: u64,
    },
    HalfOpen {
        epoch: u16,
        issued: u32,
        passed: u32,
        until: u64,
    },
    Held(bool),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Trip,
    Ask,
    End(usize, u8),
    Order(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1u64..1500).prop_map(Step::Wait),
        2 => Just(Step::Trip),
        4 => Just(Step::Ask),
        4 => (0usize..8, 0u8..3).prop_map(|(which, outcome)| Step::End(which, outcome)),
        1 => (0u8..12).prop_map(Step::Order),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn the_word_does_what_the_plain_model_does(steps in steps(), trials in 1u32..4) {
        const TIMEOUT: u64 = 1000;
        let tick = |ms: u64, after: u64| moment(ms * 1_000_000, after);
        let (mut word, mut plain, mut ms) = (Word::default().with_health(1), Plain::Closed, 0u64);
        let mut held: Vec<u16> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(more) => ms += more,
                Step::Trip => {
                    let next = word.after(Event::Tripped, tick(ms, TIMEOUT));
                    prop_assert_eq!(next.is_some(), plain == Plain::Closed);
                    if let Some(next) = next {
                        word = next;
                        plain = Plain::Open { until: tick(ms, TIMEOUT) };
                    }
                }
                Step::Ask => {
                    let (now, expiry) = (tick(ms, 0), tick(ms, 5000));
                    let next = word.trial(now, trials, expiry);
                    let begin = match plain {
                        Plain::Open { until } | Plain::HalfOpen { until, .. } => now >= until,
                        _ => false,
                    };
                    match plain {
                        Plain::HalfOpen { epoch, issued, passed, until } if issued < trials => {
                            let until = until.max(expiry);
                            plain = Plain::HalfOpen { epoch, issued: issued + 1, passed, until };
                            prop_assert!(next.is_some());
                        }
                        _ if begin => {
                            let epoch = (word.epoch() + 1) % 1024;
                            plain = Plain::HalfOpen { epoch, issued: 1, passed: 0, until: expiry };
                            prop_assert!(next.is_some());
                        }
                        _ => prop_assert!(next.is_none()),
                    }
                    if let Some(next) = next {
                        word = next;
                        held.push(word.epoch());
                    }
                }
                Step::End(which, outcome) => {
                    if held.is_empty() { continue; }
                    let ended = held.remove(which % held.len());
                    let outcome = [Outcome::Success, Outcome::Failure, Outcome::Neither][usize::from(outcome)];
                    let next = word.tried(ended, outcome, trials, tick(ms, TIMEOUT));
                    if let Plain::HalfOpen { epoch, issued, passed, until } = plain {
                        if epoch == ended {
                            plain = match outcome {
                                Outcome::Failure => Plain::Open { until: tick(ms, TIMEOUT) },
                                Outcome::Success if passed + 1 >= trials => Plain::Closed,
                                Outcome::Success => Plain::HalfOpen { epoch, issued, passed: passed + 1, until },
                                Outcome::Neither => Plain::HalfOpen { epoch, issued: issued - 1, passed, until },
                            };
                            prop_assert!(next.is_some());
                        } else {
                            prop_assert!(next.is_none());
                        }
                    } else {
                        prop_assert!(next.is_none());
                    }
                    word = next.unwrap_or(word);
                }
                Step::Order(order) => {
                    let (event, after) = match order {
                        0 => (Event::OrderOpen, Plain::Held(true)),
                        1 => (Event::OrderClosed, Plain::Held(false)),
                        _ => (Event::OrderAuto, Plain::Closed),
                    };
                    let means = order < 2 || matches!(plain, Plain::Held(_));
                    word = word.after(event, 0).unwrap_or(word);
                    if means { plain = after; }
                }
            }
            let expected = match plain {
                Plain::Closed => State::Closed,
                Plain::Open { .. } => State::Open,
                Plain::HalfOpen { .. } => State::HalfOpen,
                Plain::Held(true) => State::HeldOpen,
                Plain::Held(false) => State::HeldClosed,
            };
            prop_assert_eq!(word.state(), expected);
            prop_assert_eq!(word.health(), 1);
            prop_assert_eq!(word.clear(), matches!(plain, Plain::Closed | Plain::Held(false)));
        }
    }
}
