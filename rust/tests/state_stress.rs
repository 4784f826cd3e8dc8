//! Readers in threads and in forked processes against 10,000 publications in a tight arena.
//!
//! Every word of a snapshot is a hash of its generation and position, so a reader that is shown
//! freed (punched: zeros), reused or half-written memory notices. Both the arena and the generation
//! rows are small, so memory and rows are reused all the time.

use _core::state::{Capacities, LaneState, Node, SlotRefs};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

const GENERATIONS: u64 = 10_000;
const THREADS: u32 = 3;
const PROCESSES: u32 = 3;
const ARENA: usize = 512 * 1024;

fn canary(generation: u64, index: usize) -> u64 {
    (generation ^ (index as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn intact(generation: u64, ptr: *const u8, len: usize) -> bool {
    // SAFETY: the range is pinned by the caller, page-aligned, and a multiple of eight bytes long.
    let words = unsafe { std::slice::from_raw_parts(ptr.cast::<u64>(), len / 8) };
    words
        .iter()
        .enumerate()
        .all(|(index, &word)| word == canary(generation, index))
}

/// Stop flag in memory that forked children share.
fn shared_flag() -> &'static AtomicU32 {
    // SAFETY: a fresh anonymous mapping, zeroed, never unmapped.
    unsafe {
        let ptr = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(ptr, libc::MAP_FAILED);
        &*ptr.cast::<AtomicU32>()
    }
}

/// Pins, verifies and ends exchanges until told to stop. Returns 0, or the number of the failure.
/// Does not allocate: it also runs in a child forked from a process with threads.
fn reader(state: &LaneState, stop: &AtomicU32) -> i32 {
    const STREAMS: usize = 4;
    let mut streams = [None; STREAMS];
    let mut newest = 0;
    for turn in 0usize.. {
        if stop.load(SeqCst) != 0 && turn > 100 {
            break;
        }
        let Some(pinned) = state.pin() else { return 2 };
        if pinned.generation < newest {
            return 3; // went back in time
        }
        newest = pinned.generation;
        state.accept(pinned.row);
        if !intact(pinned.generation, pinned.ptr, pinned.len) {
            return 4;
        }
        if turn % 7 == 0 {
            // SAFETY: plain system call. A pin that is held across publications.
            unsafe { libc::sched_yield() };
            if !intact(pinned.generation, pinned.ptr, pinned.len) {
                return 5;
            }
        }
        state.unpin(pinned.row);
        if turn % 5 == 0 {
            // A stream: its exchange goes on, without the snapshot.
            if let Some(row) = streams[turn / 5 % STREAMS].replace(pinned.row) {
                state.complete(row);
            }
        } else if turn % 3 == 0 {
            state.abort(pinned.row);
        } else {
            state.complete(pinned.row);
        }
    }
    streams
        .into_iter()
        .flatten()
        .for_each(|row| state.complete(row));
    0
}

fn spawn(state_fd: i32, arena_fd: i32, lane: u32, stop: &AtomicU32) -> i32 {
    // SAFETY: the child calls nothing but attach, atomics and _exit.
    match unsafe { libc::fork() } {
        0 => {
            let code = match LaneState::attach(state_fd, arena_fd, lane) {
                Ok(state) => reader(&state, stop),
                Err(_) => 1,
            };
            // SAFETY: leaves without running the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        pid => {
            assert!(pid > 0);
            pid
        }
    }
}

fn publish(node: &mut Node) -> bool {
    let Ok(generation) = node.next_generation() else {
        return false;
    };
    let words = 64 + (generation as usize * 37) % 3000;
    let Ok(range) = node.stage(words * 8) else {
        return false;
    };
    for (index, word) in node.range_mut(&range).chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&canary(generation, index).to_ne_bytes());
    }
    node.publish(generation, range, &SlotRefs::default())
        .unwrap();
    true
}

#[test]
fn nobody_reads_a_freed_snapshot() {
    let capacities = Capacities {
        backends: 16,
        series: 16,
        rows: 64,
        ..Capacities::default()
    };
    let mut node = Node::new(THREADS + PROCESSES + 2, ARENA, capacities).unwrap();
    let stop = shared_flag();
    assert!(publish(&mut node));
    let (state_fd, arena_fd) = (node.state_fd(), node.arena_fd());
    let children: Vec<_> = (0..PROCESSES)
        .map(|lane| spawn(state_fd, arena_fd, lane, stop))
        .collect();
    let threads: Vec<_> = (0..THREADS)
        .map(|index| {
            let lane = PROCESSES + index;
            let state = LaneState::attach(state_fd, arena_fd, lane).unwrap();
            std::thread::spawn(move || reader(&state, stop))
        })
        .collect();
    let (mut published, mut waits, mut freed) = (1, 0u64, 0);
    while published < GENERATIONS {
        if publish(&mut node) {
            published += 1;
        } else {
            waits += 1;
            // SAFETY: plain system call.
            unsafe { libc::sched_yield() };
        }
        // Not after each one: several generations are to be alive at a time.
        if published % 3 == 0 || waits > 0 {
            freed += node.reclaim();
        }
        if published % 8 == 0 {
            std::thread::yield_now();
        }
    }
    stop.store(1, SeqCst);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 0);
    }
    for pid in children {
        let mut status = -1;
        // SAFETY: our own child, a writable status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 0, "failure of a forked reader");
    }
    freed += node.reclaim();
    assert_eq!(freed as u64, GENERATIONS - 1);

    let ledger = node.ledger();
    assert_eq!(
        ledger.len(),
        2,
        "one live generation and the sum: {ledger:?}"
    );
    let (live, retired) = (ledger[0], ledger[1]);
    assert_eq!(live.generation, Some(node.generation()));
    assert!(node.generation() >= GENERATIONS);
    assert_eq!(node.arena_used() as u64, live.bytes.next_multiple_of(4096));
    for row in [live, retired] {
        assert_eq!(row.accepted, row.completed + row.aborted, "{row:?}");
        assert_eq!((row.pinned, row.inflight, row.lost), (0, 0, 0));
    }
    assert!(
        live.accepted + retired.accepted >= 600,
        "the readers did not read"
    );
    assert!(retired.accepted > 0 && retired.aborted > 0);
    println!(
        "waits {waits}, {retired:?}, last generation {}",
        node.generation()
    );
}
