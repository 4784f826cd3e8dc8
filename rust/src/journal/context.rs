//! Trace context: which trace a request belongs to (W3C Trace Context), and whether it is sampled.
//!
//! The hooks of the exchange: [`begin`] once the head is read, [`attempt`] for each backend that is chosen,
//! [`write`] when the head for a backend is written.

use super::entry::Entry;
use super::Options;
use crate::codec::RequestHead;

/// Find or make the request's trace context; `entry` then has trace id, span id and parent, and the bits
/// TRACED, SAMPLED and HAS_PARENT. `random` gives 64 bits a call.
pub fn begin(
    _entry: &mut Entry,
    _head: &RequestHead<'_>,
    _options: &Options,
    _random: impl FnMut() -> u64,
) {
}

/// An attempt begins: give it a span id where the request is sampled.
pub fn attempt(_entry: &mut Entry, _random: impl FnMut() -> u64) {}

/// The field line, with its CRLF, that takes the place of the client's `traceparent` in the head for the
/// backend of the present attempt; nothing: the client's stays as it is.
pub fn write(_out: &mut Vec<u8>, _entry: &Entry) {}
