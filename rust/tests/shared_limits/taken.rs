//! Workers that count while the control process takes: one table, several processes.

use super::{clocks, limit, node};
use _core::fleet::take;
use _core::policy::limit::Algorithm;
use _core::state::sets::{tag, HashKey};
use _core::state::LaneState;

const PROCESSES: u32 = 3;
const KEYS: u64 = 200;
const REQUESTS: u64 = 30_000;

fn count_of(entries: &[u8]) -> u64 {
    let counts = entries.chunks_exact(32).map(|entry| &entry[28..32]);
    counts
        .map(|count| u64::from(u32::from_le_bytes(count.try_into().unwrap())))
        .sum()
}

#[test]
fn whatever_is_let_through_is_taken_once() {
    let mut node = node(PROCESSES);
    node.set_fleet(2);
    node.set_limits_key(HashKey(1, 2));
    let limit = limit(Algorithm::FixedWindow, 1_000_000, 86_400_000);
    let children: Vec<_> = (0..PROCESSES)
        .map(|lane| {
            // SAFETY: the child does not allocate: it attaches, counts and leaves.
            match unsafe { libc::fork() } {
                0 => {
                    let attached = LaneState::attach(node.state_fd(), node.arena_fd(), lane);
                    if let Ok(state) = &attached {
                        for turn in 0..REQUESTS {
                            let tag = tag(&state.limits_key(), &[&(turn % KEYS).to_le_bytes()]);
                            let now = clocks(0);
                            let count = |state| limit.count(state, now, 2);
                            // Where no window ends, a tally is of the bucket's.
                            let note = |tally| limit.note(tally, tally, now);
                            state.shared_bucket(tag, limit.shape(), now.monotonic, count, note);
                        }
                    }
                    // SAFETY: leaves without running the parent's destructors.
                    unsafe { libc::_exit(i32::from(attached.is_err())) }
                }
                pid => pid,
            }
        })
        .collect();
    let (mut taken, mut left) = (0, children.len());
    while left > 0 {
        let mut status = -1;
        // SAFETY: a writable status.
        if unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } > 0 {
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
            left -= 1;
        }
        taken += count_of(&take(&mut node, 10, 2, clocks(0)));
    }
    loop {
        let rest = count_of(&take(&mut node, 10, 2, clocks(0)));
        if rest == 0 {
            break;
        }
        taken += rest;
    }
    assert_eq!(taken, u64::from(PROCESSES) * REQUESTS);
    let (standing, next) = _core::fleet::standing(&node, 0, usize::MAX, 2, &[], clocks(0));
    assert_eq!(next, None);
    // Counted with the weight of the fleet, and not settled.
    assert_eq!(count_of(&standing), 2 * taken);
}
