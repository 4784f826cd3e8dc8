//! The TLS part of the table of C functions, see `cext/core_api.h`; the same rules as in [`crate::capi`].

use super::Connection;
use crate::capi::{give, input};
use crate::exchange::layout::Out;
use crate::exchange::WorkerCore;
use std::panic::{catch_unwind, AssertUnwindSafe};

const READY: i32 = 1;
const CLOSED: i32 = 2;
const FAILED: i32 = 4;
const PLAIN_HTTP: i32 = 8;
const UNEXPECTED: i32 = 16;

type WriteFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Connection,
    *const u8,
    usize,
    *const u8,
    usize,
    *mut Out,
) -> i32;
type ReadFn = unsafe extern "C" fn(
    *mut WorkerCore,
    *mut Connection,
    usize,
    *mut u8,
    *mut usize,
    *mut Out,
) -> i32;

#[repr(C)]
pub struct Functions {
    server: unsafe extern "C" fn(*mut WorkerCore) -> *mut Connection,
    client: unsafe extern "C" fn(*mut WorkerCore, u64) -> *mut Connection,
    free: unsafe extern "C" fn(*mut Connection),
    room: unsafe extern "C" fn(*mut WorkerCore, *mut Connection, *mut Out),
    read: ReadFn,
    write: WriteFn,
    close: unsafe extern "C" fn(*mut WorkerCore, *mut Connection, *mut Out),
}

pub const FUNCTIONS: Functions = Functions {
    server,
    client,
    free,
    room,
    read,
    write,
    close,
};

fn handed_over(connection: std::thread::Result<Option<Connection>>) -> *mut Connection {
    match connection {
        Ok(Some(connection)) => Box::into_raw(Box::new(connection)),
        _ => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn server(worker: *mut WorkerCore) -> *mut Connection {
    // SAFETY: see `crate::capi::input`.
    let worker = unsafe { &*worker };
    handed_over(catch_unwind(AssertUnwindSafe(|| worker.tls.accept())))
}

unsafe extern "C" fn client(worker: *mut WorkerCore, key: u64) -> *mut Connection {
    // SAFETY: see `crate::capi::input`.
    let worker = unsafe { &*worker };
    handed_over(catch_unwind(AssertUnwindSafe(|| {
        worker.tls.clients.borrow().connect(key)
    })))
}

unsafe extern "C" fn free(connection: *mut Connection) {
    // SAFETY: made by `handed_over`, and the data plane frees each connection once.
    let connection = unsafe { Box::from_raw(connection) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(connection)));
}

unsafe extern "C" fn room(worker: *mut WorkerCore, connection: *mut Connection, out: *mut Out) {
    // SAFETY: see `crate::capi::input`; worker and connection are different objects.
    let (worker, connection, out) = unsafe { (&mut *worker, &*connection, &mut *out) };
    give(out, worker.tls.buffers.room(connection));
}

unsafe extern "C" fn read(
    worker: *mut WorkerCore,
    connection: *mut Connection,
    len: usize,
    plain: *mut u8,
    plain_len: *mut usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `crate::capi::input`.
    let (worker, connection, plain_len, out) =
        unsafe { (&mut *worker, &mut *connection, &mut *plain_len, &mut *out) };
    // SAFETY: the caller vouches for so many bytes, initialised or not: they are bytes, and only written.
    let plain =
        (!plain.is_null()).then(|| unsafe { std::slice::from_raw_parts_mut(plain, *plain_len) });
    let buffers = &mut worker.tls.buffers;
    let step = catch_unwind(AssertUnwindSafe(|| connection.read(buffers, len, plain)));
    let Ok(step) = step else {
        *plain_len = 0;
        give(out, &[]);
        return FAILED;
    };
    *plain_len = step.plain;
    give(out, buffers.outgoing.filled());
    let flag = |set: bool, flag: i32| if set { flag } else { 0 };
    flag(step.ready, READY)
        | flag(step.closed, CLOSED)
        | flag(step.failed, FAILED)
        | flag(step.plain_http, PLAIN_HTTP)
        | flag(step.unexpected, UNEXPECTED)
}

unsafe extern "C" fn write(
    worker: *mut WorkerCore,
    connection: *mut Connection,
    a: *const u8,
    a_len: usize,
    b: *const u8,
    b_len: usize,
    out: *mut Out,
) -> i32 {
    // SAFETY: see `crate::capi::input`; what is to be sent is in none of the worker's TLS buffers.
    let (worker, connection, a, b, out) = unsafe {
        (
            &mut *worker,
            &mut *connection,
            input(a, a_len),
            input(b, b_len),
            &mut *out,
        )
    };
    let buffers = &mut worker.tls.buffers;
    let written = catch_unwind(AssertUnwindSafe(|| connection.write(buffers, a, b)));
    let good = matches!(written, Ok(true));
    give(out, if good { buffers.outgoing.filled() } else { &[] });
    i32::from(good)
}

unsafe extern "C" fn close(worker: *mut WorkerCore, connection: *mut Connection, out: *mut Out) {
    // SAFETY: see `crate::capi::input`.
    let (worker, connection, out) = unsafe { (&mut *worker, &mut *connection, &mut *out) };
    let buffers = &mut worker.tls.buffers;
    let closed = catch_unwind(AssertUnwindSafe(|| connection.close(buffers)));
    give(
        out,
        if closed.is_ok() {
            buffers.outgoing.filled()
        } else {
            &[]
        },
    );
}
