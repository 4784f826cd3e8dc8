//! The last sampled requests, for whoever looks at traces without a collector.

use super::context::{hex, unhex};
use super::proto::{AnyValue, KeyValue, Span, Value};
use super::record::{Record, Text};
use super::redact::Redaction;
use super::tree;
use crate::codec::date::timestamp;
use serde_json::{json, Map, Value as Json};
use std::collections::VecDeque;

/// Requests, and bytes of their records.
const MOST: usize = 256;
const MOST_BYTES: usize = 512 * 1024;

/// Records as they came, oldest first; what is shown is made when somebody asks.
#[derive(Default)]
pub struct Kept {
    records: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// Which requests are listed.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    pub limit: usize,
    pub route_id: Option<&'a str>,
    /// First and last status.
    pub status: Option<(u16, u16)>,
    pub min_duration_ns: u64,
}

impl Filter<'_> {
    fn wants(&self, record: &Record<'_>) -> bool {
        let status = record.status();
        self.route_id
            .map_or(true, |id| record.text(Text::RouteId) == id.as_bytes())
            && self
                .status
                .map_or(true, |(first, last)| (first..=last).contains(&status))
            && record.end_ns() >= self.min_duration_ns
    }
}

impl Kept {
    /// The oldest make room for it.
    pub fn push(&mut self, record: Box<[u8]>) {
        self.bytes += record.len();
        self.records.push_back(record);
        while self.records.len() > MOST || self.bytes > MOST_BYTES {
            self.bytes -= self.records.pop_front().map_or(0, |gone| gone.len());
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = Record<'_>> {
        self.records
            .iter()
            .rev()
            .filter_map(|bytes| Record::read(bytes))
    }

    /// A line about each, newest first.
    pub fn list(&self, filter: &Filter<'_>, redaction: &Redaction) -> Vec<Json> {
        let wanted = self.newest_first().filter(|record| filter.wants(record));
        wanted
            .take(filter.limit)
            .map(|record| line(&record, redaction))
            .collect()
    }

    /// The spans of a trace, whose id is 32 digits.
    pub fn trace(&self, trace_id: &str, redaction: &Redaction) -> Vec<Json> {
        let Some(wanted) = unhex::<16>(trace_id.as_bytes()) else {
            return Vec::new();
        };
        let of_it = self
            .newest_first()
            .filter(|record| record.trace_id() == Some(wanted));
        of_it
            .filter_map(|record| tree::spans(&record, redaction))
            .flatten()
            .map(|span| shown(&span))
            .collect()
    }
}

fn line(record: &Record<'_>, redaction: &Redaction) -> Json {
    let known = |bytes: &[u8]| match bytes {
        b"" => Json::Null,
        bytes => Json::from(String::from_utf8_lossy(bytes)),
    };
    let text = |text: Text| known(record.text(text));
    let flags: Vec<_> = record.flags().iter().map(|flag| flag.name()).collect();
    json!({
        "traceId": hex(&record.trace_id().unwrap_or_default()),
        "spanId": hex(&record.span_id()),
        "startTime": moment(record.started_unix_ns()),
        "durationMs": millis(record.end_ns()),
        "method": text(Text::Method),
        "path": known(&redaction.path(record.text(Text::Path))),
        "status": record.status(),
        "routeId": text(Text::RouteId),
        "routeName": text(Text::RouteName),
        "routeVersion": text(Text::RouteVersion),
        "arm": record.arm().map(|arm| arm.name()),
        "attempts": record.attempts_made(),
        "flags": flags,
    })
}

fn shown(span: &Span) -> Json {
    let parent = (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id));
    let status = span.status.as_ref();
    let events = span.events.iter().map(
        |event| json!({"name": event.name, "time": moment(event.time_unix_nano), "attributes": {}}),
    );
    json!({
        "spanId": hex(&span.span_id),
        "parentSpanId": parent,
        "name": span.name,
        "kind": match span.kind { 2 => "SERVER", 3 => "CLIENT", _ => "INTERNAL" },
        "startTime": moment(span.start_time_unix_nano),
        "durationMs": millis(span.end_time_unix_nano - span.start_time_unix_nano),
        "status": if status.is_some() { "ERROR" } else { "UNSET" },
        "message": status.filter(|status| !status.message.is_empty()).map(|status| &status.message),
        "attributes": attributes(&span.attributes),
        "events": events.collect::<Vec<_>>(),
    })
}

fn attributes(found: &[KeyValue]) -> Map<String, Json> {
    let pairs = found
        .iter()
        .map(|one| (one.key.clone(), value(one.value.as_ref())));
    pairs.collect()
}

fn value(found: Option<&AnyValue>) -> Json {
    match found.and_then(|any| any.value.as_ref()) {
        None => Json::Null,
        Some(Value::Text(text)) => json!(text),
        Some(Value::Bool(bool)) => json!(bool),
        Some(Value::Int(int)) => json!(int),
        Some(Value::Array(array)) => array.values.iter().map(|one| value(Some(one))).collect(),
    }
}

fn millis(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

/// RFC 3339 in UTC, to the microsecond.
fn moment(unix_ns: u64) -> String {
    let stamp = timestamp(unix_ns / 1_000_000_000);
    let stamp = String::from_utf8_lossy(&stamp[..19]);
    format!("{stamp}.{:06}Z", unix_ns % 1_000_000_000 / 1000)
}
