//! The table of C functions that the Cython data plane calls; the twin of `cext/core_api.h`.
//!
//! Each function only turns pointers into references and catches panics: a bug in the core must cost
//! one request, not the worker.

use crate::codec;
use crate::exchange::layout::{self, Chunked, Exchange, Out, Peer};
use crate::exchange::WorkerCore;
use std::panic::{catch_unwind, AssertUnwindSafe};

#[repr(C)]
pub struct Api {
    abi: u32,
    exchange_size: u32,
    begin: BeginFn,
    respond: RespondFn,
    reject: RejectFn,
    refuse: unsafe extern "C" fn(*mut WorkerCore, *mut Exchange, u64, i32, i32, *mut Out),
    finish: unsafe extern "C" fn(*mut WorkerCore, *mut Exchange, i32, u64, u64, u64),
    chunked: ChunkedFn,
    peer: unsafe extern "C" fn(*const u8, usize, *mut Peer),
    connection: unsafe extern "C" fn(*mut WorkerCore, i32),
    upstream_idle: unsafe extern "C" fn(*mut WorkerCore, i32),
    incarnation: unsafe extern "C" fn(*mut WorkerCore, u32) -> u32,
    greet: unsafe extern "C" fn(*mut WorkerCore, *mut Peer, i32, u64) -> i32,
    proxied: unsafe extern "C" fn(*mut WorkerCore, *mut Peer, u64, *const u8, usize) -> isize,
    part: unsafe extern "C" fn(*mut WorkerCore, *mut Peer),
    turned_away: unsafe extern "C" fn(*mut WorkerCore),
    again: AgainFn,
    collected: CollectedFn,
    proceed: ProceedFn,
    conclude: ConcludeFn,
    tls: crate::tls::capi::Functions,
}

type BeginFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Exchange,
    *const Peer,
    u64,
    *const u8,
    usize,
    *mut Out,
) -> i32;
type RespondFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Exchange,
    u64,
    i32,
    *const u8,
    usize,
    *mut Out,
) -> i32;
type RejectFn =
    unsafe extern "C" fn(*mut WorkerCore, *mut Exchange, *const Peer, u64, i32, *mut Out);
type AgainFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Exchange,
    *const Peer,
    u64,
    i32,
    *const u8,
    usize,
    *mut Out,
) -> i32;
type ChunkedFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Chunked,
    *const u8,
    usize,
    i32,
    *mut usize,
    *mut usize,
    *mut Out,
) -> i32;

type CollectedFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Exchange,
    *const Peer,
    u64,
    *const u8,
    usize,
    *const u8,
    usize,
    *mut Out,
) -> i32;
type ProceedFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Exchange,
    *const Peer,
    u64,
    *const u8,
    usize,
    usize,
    *mut Out,
) -> i32;
type ConcludeFn =
    unsafe extern "C" fn(*mut WorkerCore, *mut Exchange, u64, *const u8, usize, *mut Out) -> i32;

pub static API: Api = Api {
    abi: layout::ABI,
    exchange_size: size_of::<Exchange>() as u32,
    begin,
    respond,
    reject,
    refuse,
    finish,
    chunked,
    peer,
    connection,
    upstream_idle,
    incarnation,
    greet,
    proxied,
    part,
    turned_away,
    again,
    collected,
    proceed,
    conclude,
    tls: crate::tls::capi::FUNCTIONS,
};

/// The answer of `begin` and `respond` when the core itself failed: the data plane closes the connection.
const PANICKED: i32 = layout::BAD;

/// # Safety
/// All functions of the table: pointers come from the data plane, which passes the worker it was
/// made with (one thread, no call during another), an exchange it owns, and `len` readable bytes.
pub(crate) unsafe fn input<'a>(buf: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for `len` readable bytes that stay unchanged during the call.
    unsafe { std::slice::from_raw_parts(buf, len) }
}

pub(crate) fn give(out: &mut Out, bytes: &[u8]) {
    out.ptr = bytes.as_ptr();
    out.len = bytes.len();
}

unsafe extern "C" fn begin(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    peer: *const Peer,
    now: u64,
    buf: *const u8,
    len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `input`; the three objects are distinct and exclusively ours during the call.
    let (worker, ex, peer, buf, out) =
        unsafe { (&mut *worker, &mut *ex, &*peer, input(buf, len), &mut *out) };
    let result = catch_unwind(AssertUnwindSafe(|| worker.begin(ex, peer, now, buf)));
    give(out, worker.head());
    result.unwrap_or(PANICKED)
}

unsafe extern "C" fn respond(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    now: u64,
    request_done: i32,
    buf: *const u8,
    len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `input`.
    let (worker, ex, buf, out) = unsafe { (&mut *worker, &mut *ex, input(buf, len), &mut *out) };
    let result = catch_unwind(AssertUnwindSafe(|| {
        worker.respond(ex, now, request_done != 0, buf)
    }));
    give(out, worker.head());
    result.unwrap_or(PANICKED)
}

unsafe extern "C" fn reject(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    peer: *const Peer,
    now: u64,
    status: i32,
    out: *mut Out,
) {
    // SAFETY: see `input`.
    let (worker, ex, peer, out) = unsafe { (&mut *worker, &mut *ex, &*peer, &mut *out) };
    let status = u16::try_from(status).unwrap_or(400);
    let done = catch_unwind(AssertUnwindSafe(|| worker.reject(ex, peer, now, status)));
    give(out, if done.is_ok() { worker.head() } else { &[] });
}

unsafe extern "C" fn refuse(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    now: u64,
    why: i32,
    close: i32,
    out: *mut Out,
) {
    // SAFETY: see `input`.
    let (worker, ex, out) = unsafe { (&mut *worker, &mut *ex, &mut *out) };
    let done = catch_unwind(AssertUnwindSafe(|| worker.refuse(ex, now, why, close != 0)));
    give(out, if done.is_ok() { worker.head() } else { &[] });
}

unsafe extern "C" fn finish(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    outcome: i32,
    now: u64,
    request_bytes: u64,
    response_bytes: u64,
) {
    // SAFETY: see `input`.
    let (worker, ex) = unsafe { (&mut *worker, &mut *ex) };
    let _ = catch_unwind(AssertUnwindSafe(|| {
        worker.finish(ex, outcome, now, (request_bytes, response_bytes))
    }));
}

unsafe extern "C" fn chunked(
    worker: *mut WorkerCore,
    state: *mut Chunked,
    buf: *const u8,
    len: usize,
    mode: i32,
    consumed: *mut usize,
    data: *mut usize,
    out: *mut Out,
) -> i32 {
    const {
        assert!(size_of::<codec::ChunkedDecoder>() <= size_of::<Chunked>());
        assert!(align_of::<codec::ChunkedDecoder>() <= align_of::<Chunked>());
    }
    // SAFETY: `Chunked` is room for a decoder, all zero at first, which is a new decoder, and only
    // written through this function afterwards; the rest see `input`.
    let (worker, state, buf, consumed, data, out) = unsafe {
        (
            &mut *worker,
            &mut *state.cast::<codec::ChunkedDecoder>(),
            input(buf, len),
            &mut *consumed,
            &mut *data,
            &mut *out,
        )
    };
    let mode = match mode {
        layout::RECHUNK => codec::Mode::Rechunk,
        layout::BARE => codec::Mode::Bare,
        _ => codec::Mode::Plain,
    };
    let step = catch_unwind(AssertUnwindSafe(|| worker.chunked(state, buf, mode)));
    let Ok(Ok(fed)) = step else {
        *consumed = len;
        *data = 0;
        give(out, &[]);
        return -1;
    };
    *consumed = fed.consumed;
    *data = fed.data_bytes as usize;
    give(
        out,
        if fed.verbatim {
            &buf[..fed.consumed]
        } else {
            worker.body()
        },
    );
    i32::from(fed.done)
}

unsafe extern "C" fn peer(address: *const u8, len: usize, peer: *mut Peer) {
    // SAFETY: see `input`; `address` is what accept() wrote.
    let (address, peer) = unsafe { (input(address, len), &mut *peer) };
    peer.set_address(peer_ip(address));
    peer.tls = 0;
    peer.trusted = 0;
    peer.seat = 0;
}

/// The address in a `sockaddr_in` or `sockaddr_in6`; a mapped IPv4 address is that IPv4 address.
fn peer_ip(address: &[u8]) -> Option<std::net::IpAddr> {
    match address.len() {
        16 => Some(<[u8; 4]>::try_from(address.get(4..8)?).ok()?.into()),
        28 => {
            let ip: std::net::IpAddr = <[u8; 16]>::try_from(address.get(8..24)?).ok()?.into();
            Some(ip.to_canonical())
        }
        _ => None,
    }
}

unsafe extern "C" fn connection(worker: *mut WorkerCore, opened: i32) {
    // SAFETY: see `input`.
    let worker = unsafe { &*worker };
    if opened != 0 {
        worker.lane.connection_opened();
    } else {
        worker.lane.connection_closed();
    }
}

unsafe extern "C" fn upstream_idle(worker: *mut WorkerCore, delta: i32) {
    // SAFETY: see `input`.
    unsafe { &*worker }.lane.upstream_idle(delta);
}

unsafe extern "C" fn incarnation(worker: *mut WorkerCore, slot: u32) -> u32 {
    // SAFETY: see `input`.
    unsafe { &*worker }.lane.backend_incarnation(slot)
}

unsafe extern "C" fn greet(
    worker: *mut WorkerCore,
    peer: *mut Peer,
    proxy_protocol: i32,
    now: u64,
) -> i32 {
    // SAFETY: see `input`.
    let (worker, peer) = unsafe { (&mut *worker, &mut *peer) };
    let welcome = catch_unwind(AssertUnwindSafe(|| {
        worker.greet(peer, proxy_protocol != 0, now)
    }));
    i32::from(welcome.unwrap_or(false))
}

unsafe extern "C" fn proxied(
    worker: *mut WorkerCore,
    peer: *mut Peer,
    now: u64,
    buf: *const u8,
    len: usize,
) -> isize {
    // SAFETY: see `input`.
    let (worker, peer, buf) = unsafe { (&mut *worker, &mut *peer, input(buf, len)) };
    let read = catch_unwind(AssertUnwindSafe(|| worker.proxied(peer, now, buf)));
    read.ok().flatten().map_or(-1, |len| len as isize)
}

unsafe extern "C" fn part(worker: *mut WorkerCore, peer: *mut Peer) {
    // SAFETY: see `input`.
    let (worker, peer) = unsafe { (&*worker, &mut *peer) };
    worker.part(peer);
}

unsafe extern "C" fn turned_away(worker: *mut WorkerCore) {
    // SAFETY: see `input`.
    unsafe { &*worker }.turned_away();
}

unsafe extern "C" fn again(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    peer: *const Peer,
    now: u64,
    why: i32,
    buf: *const u8,
    len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `input`.
    let (worker, ex, peer, buf, out) =
        unsafe { (&mut *worker, &mut *ex, &*peer, input(buf, len), &mut *out) };
    let result = catch_unwind(AssertUnwindSafe(|| worker.again(ex, peer, now, why, buf)));
    give(out, worker.head());
    result.unwrap_or(PANICKED)
}

unsafe extern "C" fn collected(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    peer: *const Peer,
    now: u64,
    head: *const u8,
    head_len: usize,
    body: *const u8,
    body_len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `input`.
    let (worker, ex, peer, head, body, out) = unsafe {
        (
            &mut *worker,
            &mut *ex,
            &*peer,
            input(head, head_len),
            input(body, body_len),
            &mut *out,
        )
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        worker.collected(ex, peer, now, head, body)
    }));
    give(out, worker.head());
    result.unwrap_or(PANICKED)
}

unsafe extern "C" fn proceed(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    peer: *const Peer,
    now: u64,
    head: *const u8,
    head_len: usize,
    body_len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `input`.
    let (worker, ex, peer, head, out) = unsafe {
        (
            &mut *worker,
            &mut *ex,
            &*peer,
            input(head, head_len),
            &mut *out,
        )
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        worker.proceed(ex, peer, now, head, body_len as u64)
    }));
    give(out, worker.head());
    result.unwrap_or(PANICKED)
}

unsafe extern "C" fn conclude(
    worker: *mut WorkerCore,
    ex: *mut Exchange,
    now: u64,
    head: *const u8,
    len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `input`.
    let (worker, ex, head, out) = unsafe { (&mut *worker, &mut *ex, input(head, len), &mut *out) };
    let result = catch_unwind(AssertUnwindSafe(|| worker.conclude(ex, now, head)));
    give(out, worker.head());
    result.unwrap_or(PANICKED)
}
