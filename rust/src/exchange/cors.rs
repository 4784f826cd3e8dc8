//! Preflights: a browser's question whether a page may make a request, answered here (Fetch standard,
//! section 3.3.2). Nothing of it needs a key: browsers send preflights without credentials.

use super::layout::Exchange;
use super::why;
use super::WorkerCore;
use crate::codec::values::is_token;
use crate::codec::RequestHead;
use crate::policy::cors::{Denied, Preflight};
use crate::route::{self, method, Match};
use crate::select::arms::WHOLE;
use crate::snapshot::{ArchivedRoute, ArchivedSnapshot};

/// The value of a field that occurs once.
pub(super) fn single<'a>(head: &RequestHead<'a>, name: &'static [u8]) -> Option<&'a [u8]> {
    let mut values = head.fields.all(name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// The version whose rules a preflight is answered by. A browser sends it without the request's own fields, so
/// the arm of the request that follows is not known: as long as it may be either, the stable one's rules hold.
fn settled_version<'s>(
    snapshot: &'s ArchivedSnapshot,
    route: &'s ArchivedRoute,
) -> &'s ArchivedRoute {
    let split = route.split.as_deref();
    let whole = split.filter(|split| split.share.to_native() >= WHOLE);
    let canary = whole.and_then(|split| snapshot.routes.get(split.canary.to_native() as usize));
    canary.unwrap_or(route)
}

impl WorkerCore {
    /// Answer an OPTIONS request if it asks about a route with CORS: the one that takes the method asked
    /// about, whether or not a route takes OPTIONS itself.
    #[inline(never)]
    pub(super) fn preflight(
        &mut self,
        ex: &mut Exchange,
        snapshot: &ArchivedSnapshot,
        now: u64,
        head: &RequestHead<'_>,
    ) -> Option<i32> {
        let origin = single(head, b"origin")?;
        let wanted =
            single(head, b"access-control-request-method").filter(|name| is_token(name))?;
        let Match::Route(index) = route::find(snapshot, head.host, head.path, method::id(wanted))
        else {
            return None;
        };
        let route = settled_version(snapshot, snapshot.routes.get(index as usize)?);
        let cors = route.policy.as_deref()?.cors.as_deref()?;
        ex.series = route.series.to_native();
        self.note_route(ex, route, false);
        const HEADERS: &[u8] = b"access-control-request-headers";
        // A list in several lines is one list, but no browser writes it so; as one that nothing is in.
        let headers = match head.fields.all(HEADERS).next() {
            None => b"",
            Some(_) => single(head, HEADERS).unwrap_or(b"("),
        };
        let mut fields = Vec::with_capacity(256);
        let asked = Preflight {
            origin: Some(origin),
            method: wanted,
            headers,
        };
        let answer = match cors.write_preflight(&mut fields, &asked) {
            Ok(()) => why::PREFLIGHT,
            Err(Denied::Origin) => why::CORS_ORIGIN,
            Err(Denied::Method) => why::CORS_METHOD,
            Err(Denied::Headers) => why::CORS_HEADERS,
        };
        Some(self.decline(ex, now, answer, &fields))
    }
}
