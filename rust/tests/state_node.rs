//! The shared memory seen from both sides in one process, and from a worker that is killed.

use _core::state::histogram;
use _core::state::stats::{LedgerRow, OTHER_CODE};
use _core::state::{BackendStatus, Capacities, LaneState, Node, PublishError, SlotRefs};
use std::io::ErrorKind;

const SMALL: Capacities = Capacities {
    backends: 8,
    series: 8,
    rows: 4,
    buckets: 8,
    clients: 8,
    arms: 8,
};

fn node() -> Node {
    Node::new(4, 1 << 20, SMALL).unwrap()
}

fn attach(node: &Node, lane: u32) -> LaneState {
    LaneState::attach(node.state_fd(), node.arena_fd(), lane).unwrap()
}

fn publish(node: &mut Node, backends: &[u32], series: &[u32]) -> u64 {
    let generation = node.next_generation().unwrap();
    let range = node.stage(100).unwrap();
    node.range_mut(&range).fill(generation as u8);
    let refs = SlotRefs {
        backends: backends.to_vec(),
        series: series.to_vec(),
        arms: vec![],
    };
    node.publish(generation, range, &refs).unwrap();
    generation
}

fn resident(fd: i32) -> i64 {
    // SAFETY: all-zero is a valid `stat`; the descriptor is the node's.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(fd, &mut stat), 0);
        stat.st_blocks * 512
    }
}

#[test]
fn a_worker_sees_what_was_published_last() {
    let mut node = node();
    let worker = attach(&node, 0);
    assert!(worker.pin().is_none());
    assert_eq!(publish(&mut node, &[], &[]), 1);
    let first = worker.pin().unwrap();
    assert_eq!((first.generation, first.len), (1, 100));
    assert_eq!(publish(&mut node, &[], &[]), 2);
    let second = worker.pin().unwrap();
    assert_eq!((second.generation, worker.generation()), (2, 2));
    for pinned in [first, second] {
        // SAFETY: both are pinned.
        let bytes = unsafe { std::slice::from_raw_parts(pinned.ptr, pinned.len) };
        assert!(bytes
            .iter()
            .all(|&byte| u64::from(byte) == pinned.generation));
    }
    assert_eq!(node.reclaim(), 0, "generation 1 is pinned");
    worker.unpin(first.row);
    assert_eq!(node.reclaim(), 1);
    assert_eq!(node.arena_used(), 4096);
    worker.unpin(second.row);
    assert_eq!(node.reclaim(), 0, "the current one stays");
}

#[test]
fn pins_count() {
    let mut node = node();
    let worker = attach(&node, 0);
    publish(&mut node, &[], &[]);
    let row = worker.pin().unwrap().row;
    assert_eq!(worker.pin().unwrap().row, row);
    publish(&mut node, &[], &[]);
    worker.unpin(row);
    assert_eq!(node.reclaim(), 0);
    worker.unpin(row);
    worker.unpin(row); // one too many does no harm
    assert_eq!(node.reclaim(), 1);
}

#[test]
fn a_stream_keeps_its_ledger_row_but_not_its_snapshot() {
    let mut node = node();
    let worker = attach(&node, 0);
    publish(&mut node, &[], &[]);
    let stream = worker.pin().unwrap().row;
    worker.accept(stream);
    worker.unpin(stream);
    publish(&mut node, &[], &[]);
    assert_eq!(node.reclaim(), 1);
    let ledger = node.ledger();
    assert_eq!((ledger[0].generation, ledger[0].inflight), (Some(1), 1));
    assert_eq!(ledger[0].bytes, 0);
    // Its row is skipped when its turn comes round: 4 rows, so generation 5 would be next to it.
    let mut seen = vec![];
    for _ in 0..6 {
        seen.push(publish(&mut node, &[], &[]));
        node.reclaim();
    }
    assert_eq!(seen, [3, 4, 6, 7, 8, 10]);
    worker.complete(stream);
    node.reclaim();
    let ledger = node.ledger();
    assert_eq!(ledger.len(), 2);
    let retired = LedgerRow {
        accepted: 1,
        completed: 1,
        ..LedgerRow::default()
    };
    assert_eq!(ledger[1], retired);
    assert_eq!(publish(&mut node, &[], &[]), 11);
}

#[test]
fn rows_and_arena_run_out_without_harm() {
    let mut node = node();
    let worker = attach(&node, 0);
    for _ in 0..4 {
        publish(&mut node, &[], &[]);
        worker.accept(worker.pin().unwrap().row);
    }
    assert_eq!(node.next_generation().unwrap_err().what, "generation rows");
    assert_eq!(
        node.stage(1 << 20).unwrap_err().what,
        "snapshot arena bytes"
    );
    assert_eq!(worker.pin().unwrap().generation, 4);
}

#[test]
fn a_stale_stage_is_refused_and_given_back() {
    let mut node = node();
    let generation = node.next_generation().unwrap();
    let refs = SlotRefs::default();
    let (a, b) = (node.stage(10).unwrap(), node.stage(10).unwrap());
    node.publish(generation, a, &refs).unwrap();
    assert_eq!(
        node.publish(generation + 1, b, &refs),
        Err(PublishError::Stale)
    );
    let c = node.stage(10).unwrap();
    assert_eq!(
        node.publish(generation, c, &refs),
        Err(PublishError::Generation)
    );
    let c = node.stage(10).unwrap();
    let bad = SlotRefs {
        backends: vec![3],
        series: vec![],
        arms: vec![],
    };
    assert_eq!(
        node.publish(generation + 1, c, &bad),
        Err(PublishError::Slot)
    );
    let c = node.stage(10).unwrap();
    node.discard(c);
    assert_eq!((node.generation(), node.arena_used()), (1, 4096));
}

#[test]
fn slots_live_as_long_as_their_last_exchange_and_counts_never_vanish() {
    let mut node = node();
    let worker = attach(&node, 1);
    let backend = node.backend_slot("http://a:1").unwrap();
    let series = node.series_slot("r1", "stable").unwrap();
    publish(&mut node, &[backend], &[series]);
    assert!(node.set_backend_status("http://a:1", BackendStatus::Unhealthy));
    assert_eq!(worker.backend_status(backend), BackendStatus::Unhealthy);
    let row = worker.pin().unwrap().row;
    worker.accept(row);
    worker.backend_enter(backend);
    worker.unpin(row);
    let before = worker.backend_incarnation(backend);
    publish(&mut node, &[], &[]);
    node.reclaim();
    assert_eq!(worker.backend_active(backend), 1);
    assert_eq!(
        node.backend_slot("http://a:1"),
        Ok(backend),
        "in use by the exchange"
    );
    publish(&mut node, &[], &[]);
    node.reclaim();
    worker.record(series, 1, 200, false, 1000);
    worker.complete(row);
    node.reclaim();
    assert_eq!(node.backend_stats().len(), 1, "still active");
    worker.backend_leave(backend, true);
    node.reclaim();
    assert!(node.backend_stats().is_empty());
    assert!(node.series_stats("r1", "stable").is_none());
    assert_eq!(
        (
            node.retired_backends().requests,
            node.retired_backends().failed
        ),
        (1, 1)
    );
    assert_eq!(node.retired_series().requests, 1);
    assert_eq!(node.retired_series().codes[&(1, 200)], 1);
    // The next owner finds it clean.
    assert_eq!(node.backend_slot("http://b:1"), Ok(backend));
    assert_eq!(worker.backend_status(backend), BackendStatus::Unknown);
    assert_eq!(worker.backend_incarnation(backend), before + 1);
    let stats = &node.backend_stats()[0];
    assert_eq!(
        (stats.active, stats.totals.requests, stats.totals.failed),
        (0, 0, 0)
    );
    assert_eq!(node.series_slot("r2", "stable"), Ok(series));
    assert_eq!(node.series_stats("r2", "stable").unwrap().requests, 0);
    assert_eq!(worker.cursor(series), 0);
}

#[test]
fn a_discarded_stage_gives_its_new_slots_back() {
    let mut node = node();
    for round in 0..20 {
        for index in 0..7 {
            node.backend_slot(&format!("http://{round}:{index}"))
                .unwrap();
            node.series_slot(&format!("{round}-{index}"), "stable")
                .unwrap();
        }
        let range = node.stage(10).unwrap();
        node.reclaim();
        assert!(
            node.backend_slot("http://one:more").is_err(),
            "held while staged"
        );
        node.discard(range);
        node.reclaim();
        assert!(node.backend_stats().is_empty());
    }
}

#[test]
fn series_are_counted_per_lane_and_merged() {
    let mut node = node();
    let workers = [attach(&node, 0), attach(&node, 2)];
    let slot = node.series_slot("r", "stable").unwrap();
    assert_ne!(slot, 0);
    let turns: Vec<_> = (0..4).map(|turn| workers[turn % 2].cursor(slot)).collect();
    assert_eq!(turns, [0, 1, 2, 3]);
    assert_eq!(
        (workers[0].fallback(slot), workers[1].fallback(slot)),
        (0, 1)
    );
    for worker in &workers {
        for _ in 0..50 {
            worker.record(slot, 1, 200, false, 1000);
        }
        worker.record(slot, 2, 502, true, 64_000);
        worker.record(0, 0, 404, false, 100);
    }
    let totals = node.series_stats("r", "stable").unwrap();
    assert_eq!((totals.requests, totals.failed), (102, 2));
    assert_eq!(
        totals.codes.iter().collect::<Vec<_>>(),
        [(&(1, 200), &100), (&(2, 502), &2)]
    );
    assert_eq!(histogram::count(&totals.histogram), 102);
    let median = histogram::quantile(&totals.histogram, 0.5).unwrap();
    assert!((median / 1000.0 - 1.0).abs() < 0.032);
    let mut seen = vec![];
    node.for_each_series(|view| {
        seen.push((
            view.slot,
            view.route_id.to_owned(),
            view.arm.to_owned(),
            view.totals.requests,
        ));
    });
    let expected = [
        (0, String::new(), String::new(), 2),
        (slot, "r".into(), "stable".into(), 102),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn more_codes_than_entries_are_counted_together() {
    let node = node();
    let worker = attach(&node, 0);
    for status in 200..220 {
        worker.record(0, 3, status, false, 1);
        worker.record(0, 3, status, false, 1);
    }
    worker.record(0, 0, 0, true, 1);
    let totals = node.series_stats("", "").unwrap();
    assert_eq!(totals.codes.len(), 16);
    assert_eq!(
        (totals.codes[&(3, 214)], totals.codes[&OTHER_CODE]),
        (2, 11)
    );
    assert_eq!(totals.codes.values().sum::<u64>(), totals.requests);
}

#[test]
fn slots_out_of_range_count_in_the_sink() {
    let mut node = node();
    let worker = attach(&node, 3);
    publish(&mut node, &[], &[]);
    for slot in [8, u32::MAX] {
        worker.record(slot, 1, 200, false, 1);
        worker.backend_enter(slot);
        worker.backend_leave(slot, true);
        assert_eq!(worker.backend_status(slot), BackendStatus::Unknown);
        worker.cursor(slot);
        worker.accept(slot);
        worker.abort(slot);
        worker.unpin(slot);
    }
    assert_eq!(node.series_stats("", "").unwrap().requests, 2);
    assert_eq!(worker.cursor(0), 2);
    assert_eq!(worker.backend_active(0), 0);
}

#[test]
fn least_loaded_sees_all_lanes() {
    let mut node = node();
    let (a, b) = (attach(&node, 0), attach(&node, 3));
    let slot = node.backend_slot("http://a:1").unwrap();
    a.backend_enter(slot);
    b.backend_enter(slot);
    b.backend_enter(slot);
    assert_eq!((a.backend_active(slot), b.backend_active(slot)), (3, 3));
    a.backend_leave(slot, false);
    assert_eq!(b.backend_active(slot), 2);
    assert_eq!(a.backend_active(slot + 1), 0);
}

#[test]
fn gauges_and_node_histograms() {
    let node = node();
    let worker = attach(&node, 2);
    worker.connection_opened();
    worker.connection_opened();
    worker.connection_closed();
    worker.upstream_idle(3);
    worker.upstream_idle(-1);
    worker.backend_duration(500);
    worker.overhead(9_000);
    let lanes = node.lane_stats();
    assert_eq!(lanes.len(), 1, "only the lane that was used");
    let lane = &lanes[0];
    assert_eq!((lane.lane, lane.pid), (2, std::process::id()));
    assert_eq!(
        (
            lane.client_connections,
            lane.accepted_connections,
            lane.upstream_idle
        ),
        (1, 2, 2)
    );
    assert!((histogram::mean(&lane.backend_micros).unwrap() / 500.0 - 1.0).abs() < 0.032);
    assert!((histogram::mean(&lane.overhead_nanos).unwrap() / 9000.0 - 1.0).abs() < 0.032);
}

#[test]
fn attach_checks_what_it_is_given() {
    let (node, other) = (node(), Node::new(4, 1 << 19, SMALL).unwrap());
    let attach = |state, arena, lane| {
        LaneState::attach(state, arena, lane)
            .map(|_| ())
            .map_err(|e| e.kind())
    };
    let (state, arena) = (node.state_fd(), node.arena_fd());
    assert_eq!(attach(state, arena, 4), Err(ErrorKind::InvalidInput));
    assert_eq!(attach(arena, arena, 0), Err(ErrorKind::PermissionDenied));
    assert_eq!(
        attach(state, other.arena_fd(), 0),
        Err(ErrorKind::InvalidData)
    );
    assert!(attach(-1, arena, 0).is_err());
    assert!(attach(state, 987_654, 0).is_err());
    let first = LaneState::attach(state, arena, 0).unwrap();
    assert_eq!(attach(state, arena, 0), Err(ErrorKind::AddrInUse));
    drop(first);
    assert_eq!(attach(state, arena, 0), Ok(()));
}

#[test]
fn untouched_memory_stays_untouched() {
    let mut node = Node::new(64, 1 << 30, Capacities::default()).unwrap();
    let worker = attach(&node, 5);
    for index in 0..1000 {
        let backend = node.backend_slot(&format!("http://b:{index}")).unwrap();
        let series = node.series_slot(&format!("r{index}"), "stable").unwrap();
        if index == 7 {
            worker.record(series, 1, 200, false, 100);
            worker.backend_enter(backend);
        }
    }
    publish(&mut node, &[], &[]);
    worker.unpin(worker.pin().unwrap().row);
    publish(&mut node, &[], &[]);
    let before = resident(node.state_fd());
    node.for_each_series(|_| ());
    node.backend_stats();
    node.ledger();
    node.lane_stats();
    node.reset_lane(9);
    assert!(before < 200_000, "{before}");
    let after = resident(node.state_fd());
    // A scrape reads the slots that exist (1,000 × 256 bytes of active cells, their counters in the one
    // attached lane), and nothing of the 63 other lanes or of series without traffic.
    assert!(after - before < 320_000, "{}", after - before);
    node.reset_lane(5);
    node.reclaim();
    node.reclaim();
    assert!(node.backend_stats().is_empty());
    // Recycling looks at the shared cursors, 64 bytes a slot, not at 1.6 KB a lane.
    assert!(resident(node.state_fd()) - after < 100_000);
    assert_eq!(resident(node.arena_fd()), 4096);
}

#[test]
fn what_a_killed_worker_had_in_flight_is_lost_and_nothing_else() {
    let mut node = node();
    let backend = node.backend_slot("http://a:1").unwrap();
    let series = node.series_slot("r", "stable").unwrap();
    publish(&mut node, &[backend], &[series]);
    let survivor = attach(&node, 0);
    let kept = survivor.pin().unwrap().row;
    survivor.accept(kept);
    survivor.backend_enter(backend);

    let (mut ends, fds) = ([0; 2], (node.state_fd(), node.arena_fd()));
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child only attaches, counts, writes one byte and waits to be killed.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        if let Ok(worker) = LaneState::attach(fds.0, fds.1, 1) {
            if let Some(pinned) = worker.pin() {
                for _ in 0..3 {
                    worker.accept(pinned.row);
                    worker.backend_enter(backend);
                }
                worker.connection_opened();
                worker.upstream_idle(2);
                worker.backend_leave(backend, false);
                worker.record(series, 1, 200, false, 100);
                worker.complete(pinned.row);
                // SAFETY: one byte from a static string; then sleeps until the signal.
                unsafe {
                    libc::write(ends[1], c"x".as_ptr().cast(), 1);
                    loop {
                        libc::pause();
                    }
                }
            }
        }
        // SAFETY: something failed: the parent sees the pipe close.
        unsafe { libc::_exit(1) }
    }
    let (mut byte, mut status) = ([0u8; 1], 0);
    // SAFETY: our own descriptors and child.
    unsafe {
        libc::close(ends[1]);
        assert_eq!(libc::read(ends[0], byte.as_mut_ptr().cast(), 1), 1);
        libc::close(ends[0]);
        assert_eq!(node.lane_stats()[1].pid, pid as u32);
        libc::kill(pid, libc::SIGKILL);
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
    }
    publish(&mut node, &[backend], &[series]);
    survivor.unpin(kept);
    assert_eq!(node.reclaim(), 0, "the dead worker's pin still counts");
    assert_eq!(survivor.backend_active(backend), 3);

    assert_eq!(node.reset_lane(1), 2);
    assert_eq!(node.reset_lane(1), 0, "once");
    assert_eq!(survivor.backend_active(backend), 1, "the survivor's own");
    let row = node.ledger()[0];
    assert_eq!((row.accepted, row.completed, row.lost), (4, 1, 2));
    assert_eq!((row.inflight, row.pinned), (1, 0));
    assert_eq!(node.reclaim(), 1);
    let dead = &node.lane_stats()[1];
    assert_eq!(
        (dead.pid, dead.client_connections, dead.upstream_idle),
        (0, 0, 0)
    );
    assert_eq!(dead.accepted_connections, 1, "counters stay");
    assert_eq!(node.series_stats("r", "stable").unwrap().requests, 1);

    survivor.backend_leave(backend, false);
    survivor.complete(kept);
    node.reclaim();
    let retired = *node.ledger().last().unwrap();
    assert_eq!(
        (retired.accepted, retired.completed, retired.lost),
        (4, 2, 2)
    );
    // The lane serves a replacement.
    let replacement = attach(&node, 1);
    replacement.record(series, 1, 200, false, 100);
    assert_eq!(node.series_stats("r", "stable").unwrap().requests, 2);
}
