//! From a record to the spans of its request.

use super::context::child_id;
use super::flags::Flag;
use super::proto::{AnyValue, Array, Event, KeyValue, Span, Status, Value};
use super::record::{Attempt, Record, Text, NEVER};
use super::redact::Redaction;

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;
/// Numbers of the children; attempts have ids of their own.
const ROUTE_MATCH: u32 = 0;
const BACKEND_SELECT: u32 = 1;
const RESPONSE: u32 = 2;

/// Methods that HTTP's conventions know; any other is `_OTHER`, so that their number stays small.
const METHODS: [&[u8]; 9] = [
    b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE",
];

/// The spans of a sampled request: its own first, then its children by time. None: it has no trace.
pub fn spans(record: &Record<'_>, redaction: &Redaction) -> Option<Vec<Span>> {
    let tree = Tree {
        record,
        trace_id: record.trace_id()?,
        end: record.end_ns(),
    };
    let mut spans = Vec::with_capacity(5);
    spans.push(tree.request(redaction));
    let matched = tree.at(record.matched_ns());
    if let Some(matched) = matched {
        spans.push(tree.child(ROUTE_MATCH, "gateway.route_match", 0, matched));
    }
    if let Some(span) = tree.select(matched) {
        spans.push(span);
    }
    let skipped = usize::from(record.attempts_made()).saturating_sub(record.attempts().count());
    let last = record.attempts().count().saturating_sub(1);
    for (index, attempt) in record.attempts().enumerate() {
        let resent = if index == last {
            index + skipped
        } else {
            index
        };
        spans.push(tree.attempt(&attempt, resent));
    }
    if let Some(head_sent) = tree.at(record.head_sent_ns()) {
        spans.push(tree.child(RESPONSE, "gateway.response", head_sent, tree.end));
    }
    Some(spans)
}

struct Tree<'r, 'a> {
    record: &'r Record<'a>,
    trace_id: [u8; 16],
    end: u64,
}

impl Tree<'_, '_> {
    /// A moment within the request; None: it never came.
    fn at(&self, offset: u64) -> Option<u64> {
        (offset != NEVER).then(|| offset.min(self.end))
    }

    fn span(&self, id: [u8; 8], parent: &[u8], name: &str, kind: i32, from: u64, to: u64) -> Span {
        let start = self.record.started_unix_ns();
        Span {
            trace_id: self.trace_id.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.to_vec(),
            name: name.to_owned(),
            kind,
            // Saturating: nothing says that the numbers of a record are times.
            start_time_unix_nano: start.saturating_add(from),
            end_time_unix_nano: start.saturating_add(to.max(from)),
            flags: 0x101, // sampled; it is known whether the parent is remote
            ..Span::default()
        }
    }

    fn child(&self, number: u32, name: &str, from: u64, to: u64) -> Span {
        let own = self.record.span_id();
        self.span(child_id(&own, number), &own, name, INTERNAL, from, to)
    }

    fn request(&self, redaction: &Redaction) -> Span {
        let record = self.record;
        let parent = record.parent_id();
        let parent_bytes = parent.as_ref().map_or(&[][..], |id| &id[..]);
        let own = record.span_id();
        let mut span = self.span(own, parent_bytes, "gateway.request", SERVER, 0, self.end);
        if parent.is_some() {
            span.flags |= 0x200;
            span.trace_state = text(record.text(Text::TraceState));
        }
        span.attributes = self.request_attributes(redaction);
        let status = record.status();
        if status >= 500 {
            let cause = first_cause(record);
            let kind = cause.map_or_else(|| status.to_string(), |flag| flag.name().to_owned());
            span.attributes.push(KeyValue::text("error.type", kind));
            span.status = Some(Status {
                message: cause.map_or("", |flag| sentence(flag)).to_owned(),
                code: ERROR,
            });
        }
        span
    }

    fn request_attributes(&self, redaction: &Redaction) -> Vec<KeyValue> {
        let record = self.record;
        let mut found = Vec::with_capacity(24);
        let mut add = |key: &str, value: &[u8]| {
            if !value.is_empty() {
                found.push(KeyValue::text(key, text(value)));
            }
        };
        let method = record.text(Text::Method);
        if METHODS.contains(&method) {
            add("http.request.method", method);
        } else {
            add("http.request.method", b"_OTHER");
            add("http.request.method_original", method);
        }
        add("url.scheme", record.scheme().as_bytes());
        add("url.path", &redaction.path(record.text(Text::Path)));
        if let Some(query) = record.query() {
            let mut shown = Vec::new();
            redaction.write(&mut shown, query);
            add("url.query", &shown);
        }
        let (host, port) = authority(record.text(Text::Host), record.scheme());
        add("server.address", host);
        add("client.address", record.text(Text::Client));
        add("user_agent.original", record.text(Text::UserAgent));
        add(
            "network.protocol.version",
            match record.minor_version() {
                Some(0) => b"1.0",
                Some(_) => b"1.1",
                None => b"",
            },
        );
        add("http.route", record.text(Text::RoutePattern));
        add("hotswap.route.id", record.text(Text::RouteId));
        add("hotswap.route.name", record.text(Text::RouteName));
        add("hotswap.route.version", record.text(Text::RouteVersion));
        add(
            "hotswap.route.arm",
            record.arm().map_or(b"", |arm| arm.name().as_bytes()),
        );
        add("hotswap.request.id", record.text(Text::RequestId));
        if !host.is_empty() {
            found.push(KeyValue::int("server.port", port.into()));
        }
        if record.status() != 0 {
            found.push(KeyValue::int(
                "http.response.status_code",
                record.status().into(),
            ));
        }
        found.push(KeyValue::int("hotswap.generation", record.generation()));
        found.push(KeyValue::int("http.request.body.size", record.bytes_in()));
        found.push(KeyValue::int("http.response.body.size", record.bytes_out()));
        if !record.flags().is_empty() {
            let names = record.flags().iter().map(|flag| AnyValue {
                value: Some(Value::Text(flag.name().to_owned())),
            });
            let names = Array {
                values: names.collect(),
            };
            found.push(KeyValue::new("hotswap.flags", Value::Array(names)));
        }
        found
    }

    /// From the route to the backend. Where none was found it took the rest of the request.
    fn select(&self, matched: Option<u64>) -> Option<Span> {
        let from = matched?;
        if let Some(selected) = self.at(self.record.selected_ns()) {
            return Some(self.child(BACKEND_SELECT, "gateway.backend_select", from, selected));
        }
        let none = [Flag::NoHealthyBackend, Flag::CircuitOpen];
        let flag = none
            .into_iter()
            .find(|&flag| self.record.flags().contains(flag))?;
        let to = self.at(self.record.head_sent_ns()).unwrap_or(self.end);
        let mut span = self.child(BACKEND_SELECT, "gateway.backend_select", from, to);
        fail(&mut span, flag.name().to_owned(), sentence(flag));
        Some(span)
    }

    fn attempt(&self, attempt: &Attempt<'_>, resent: usize) -> Span {
        let from = self.at(attempt.begun_ns).unwrap_or(0);
        let to = self.at(attempt.ended_ns).unwrap_or(self.end);
        let own = self.record.span_id();
        let mut span = self.span(attempt.span_id, &own, "gateway.proxy", CLIENT, from, to);
        let start = self.record.started_unix_ns();
        for (name, offset) in [
            ("request.sent", attempt.sent_ns),
            ("response.head", attempt.answered_ns),
        ] {
            if let Some(offset) = self.at(offset) {
                span.events.push(Event {
                    time_unix_nano: start.saturating_add(offset.clamp(from, to.max(from))),
                    name: name.to_owned(),
                });
            }
        }
        let attributes = &mut span.attributes;
        attributes.push(KeyValue::text(
            "hotswap.backend.name",
            text(attempt.backend),
        ));
        if let Some(address) = attempt.address {
            attributes.push(KeyValue::text("server.address", address.ip().to_string()));
            attributes.push(KeyValue::int("server.port", address.port().into()));
        }
        if resent > 0 {
            attributes.push(KeyValue::int("http.request.resend_count", resent as u64));
        }
        if attempt.status != 0 {
            attributes.push(KeyValue::int(
                "http.response.status_code",
                attempt.status.into(),
            ));
        }
        match attempt.why {
            Some(flag) => fail(&mut span, flag.name().to_owned(), sentence(flag)),
            None if attempt.status >= 500 => fail(&mut span, attempt.status.to_string(), ""),
            None => {}
        }
        span
    }
}

fn fail(span: &mut Span, kind: String, message: &str) {
    span.attributes.push(KeyValue::text("error.type", kind));
    span.status = Some(Status {
        message: message.to_owned(),
        code: ERROR,
    });
}

fn sentence(flag: Flag) -> &'static str {
    super::flags::TABLE[flag as usize].1
}

/// Why a request failed, as far as a flag says so; what was tried on the way is no cause.
fn first_cause(record: &Record<'_>) -> Option<Flag> {
    let way = [
        Flag::Retried,
        Flag::FailedOver,
        Flag::Resent,
        Flag::RetriesExhausted,
        Flag::BudgetExhausted,
    ];
    record.flags().iter().find(|flag| !way.contains(flag))
}

/// What stands in the record need not be UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Host and port that the client asked for.
fn authority<'h>(host: &'h [u8], scheme: &str) -> (&'h [u8], u16) {
    let usual = if scheme == "https" { 443 } else { 80 };
    let colon = host.iter().rposition(|&byte| byte == b':');
    match colon.map(|at| (&host[..at], &host[at + 1..])) {
        // In an IPv6 address without a port the last colon is inside the brackets.
        Some((name, digits)) if !digits.contains(&b']') => {
            let port = std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok());
            (name, port.unwrap_or(usual))
        }
        _ => (host, usual),
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
