//! Timing of the hot decisions without Python in between, in processor time of this thread: what
//! others do on the machine meanwhile counts less.

use crate::exchange::{layout, WorkerCore};
use crate::policy::limit::Now;
use crate::route::{find, method};
use crate::select;
use crate::snapshot::{ArchivedRoute, ArchivedSnapshot};
use crate::state::LaneState;
use pyo3::exceptions::PyValueError;
use pyo3::PyResult;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// As the data plane takes it.
pub fn monotonic_nanos() -> u64 {
    nanos(libc::CLOCK_MONOTONIC)
}

/// Both clocks of the data plane.
pub fn clocks() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        monotonic: monotonic_nanos(),
        unix: unix.map_or(0, |since| since.as_nanos() as u64),
    }
}

fn processor_nanos() -> u64 {
    nanos(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a valid timespec; the clock exists on every system we build for, and
    // if it did not, the time would stay 0.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn per_call(started: u64, calls: u64) -> PyResult<f64> {
    match calls {
        0 => Err(PyValueError::new_err("nothing to measure")),
        _ => Ok((processor_nanos() - started) as f64 / calls as f64),
    }
}

/// Nanoseconds for one (method, host, path), reading the method's name included.
pub fn matching(
    snapshot: &ArchivedSnapshot,
    requests: &[(String, String, String)],
    rounds: u32,
) -> PyResult<f64> {
    let started = processor_nanos();
    for _ in 0..rounds {
        for (verb, host, path) in requests {
            let verb = method::id(black_box(verb.as_bytes()));
            black_box(find(
                snapshot,
                black_box(host.as_bytes()),
                black_box(path.as_bytes()),
                verb,
            ));
        }
    }
    per_call(started, u64::from(rounds) * requests.len() as u64)
}

/// Nanoseconds for one first attempt.
pub fn picking(route: &ArchivedRoute, lane: &LaneState, rounds: u32) -> PyResult<f64> {
    let started = processor_nanos();
    let view = select::View { lane, now: 1 };
    for round in 0..rounds {
        let client = u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        black_box(select::pick(black_box(route), &view, client, None, None));
    }
    per_call(started, rounds.into())
}

/// Nanoseconds for one whole exchange without sockets: reading both heads, deciding, writing both
/// heads, counting.
pub fn exchange(
    core: &mut WorkerCore,
    request: &[u8],
    response: &[u8],
    rounds: u32,
) -> PyResult<f64> {
    // SAFETY: both are plain numbers and bytes, for which all zeros is a value; the data plane gets
    // them zeroed too.
    let peer: layout::Peer = unsafe { MaybeUninit::zeroed().assume_init() };
    let started = processor_nanos();
    for _ in 0..rounds {
        // SAFETY: as above.
        let mut ex: layout::Exchange = unsafe { MaybeUninit::zeroed().assume_init() };
        let begun = core.begin(&mut ex, &peer, 1_000, black_box(request));
        let answered = core.respond(&mut ex, 2_000, true, black_box(response));
        core.finish(&mut ex, layout::COMPLETED, 3_000, (0, 0));
        if (begun, answered) != (layout::FORWARD, layout::FORWARD) {
            return Err(PyValueError::new_err(
                "the exchange is not plain forwarding",
            ));
        }
    }
    per_call(started, rounds.into())
}
