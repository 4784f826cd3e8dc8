//! Requests that end at this gateway: OPTIONS on the server itself, and OPTIONS and TRACE that may not go
//! further (RFC 9110 sections 7.6.2, 9.3.7 and 9.3.8).

use super::layout::Exchange;
use super::why;
use super::WorkerCore;
use crate::codec::RequestHead;
use crate::route::{self, method, Match};
use crate::snapshot::ArchivedSnapshot;

impl WorkerCore {
    /// Answer as the final recipient. `OPTIONS *` asks about the gateway, not about a route: it takes any method,
    /// so there is nothing to list. TRACE would show the client's cookies to whatever script sent it.
    pub(super) fn answer_as_last(
        &mut self,
        ex: &mut Exchange,
        snapshot: &ArchivedSnapshot,
        head: &RequestHead<'_>,
        now: u64,
    ) -> i32 {
        if ex.method != method::OPTIONS {
            return self.decline(ex, now, why::LAST_HOP, b"");
        }
        if head.path == b"*" {
            return self.decline(ex, now, why::OPTIONS, b"");
        }
        // A number that is no method finds only the routes that take every method.
        let methods = match route::find(snapshot, head.host, head.path, method::UNUSED) {
            Match::Route(_) => method::USUAL,
            Match::Methods(mask) => mask,
            Match::None => return self.decline(ex, now, why::NOT_FOUND, b""),
        };
        let allow = allow(methods);
        self.decline(ex, now, why::OPTIONS, allow.as_bytes())
    }
}

/// The Allow line for a set of methods.
pub(super) fn allow(mask: u64) -> String {
    let names = method::names(mask).collect::<Vec<_>>().join(", ");
    format!("Allow: {names}\r\n")
}
