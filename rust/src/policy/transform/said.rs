//! What a request says of itself: the values that variables stand for.

use crate::codec::RequestHead;
use crate::journal::context::{write_hex, Parent, TraceId};

/// A request as templates see it.
pub struct Said<'a> {
    pub head: &'a RequestHead<'a>,
    pub client_ip: &'a [u8],
    pub request_id: &'a [u8],
    pub route_name: &'a [u8],
    /// Where requests are traced.
    pub trace_id: Option<TraceId>,
}

impl<'a> Said<'a> {
    /// Segment of the normalised path, still percent-encoded as it is there.
    pub fn segment(&self, index: u16) -> &'a [u8] {
        let path = self.head.path;
        let mut segments = path.split(|&b| b == b'/').skip(1);
        segments.nth(index.into()).unwrap_or_default()
    }

    /// Of the trace that the request has here, or else of a valid `traceparent`; nothing without either.
    pub fn write_trace_id(&self, out: &mut Vec<u8>) {
        let given = || Parent::single(self.head.traceparents()).map(|parent| parent.trace_id);
        if let Some(id) = self.trace_id.or_else(given) {
            let mut digits = [0; 32];
            write_hex(&id, &mut digits);
            out.extend_from_slice(&digits);
        }
    }
}
