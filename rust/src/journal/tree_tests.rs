use super::*;
use crate::journal::context::{Carry, Context};
use crate::journal::entry::{Entry, Place};
use crate::journal::record::{bit, Text};

const START: u64 = 1_700_000_000_000_000_000;
const OWN: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn entry(parent: Option<[u8; 8]>) -> Entry {
    let mut entry = Entry::new();
    entry.reset(1000, START);
    entry.trace(Context {
        trace_id: [7; 16],
        parent_id: parent.unwrap_or_default(),
        span_id: OWN,
        flags: 1,
        sampled: true,
        carry: Carry::Continue,
    });
    entry.set(bit::PARSED);
    entry.set_version(1);
    entry.put(Text::Method, b"GET", 512);
    entry.put(Text::Host, b"[2001:db8::1]:8080", 512);
    entry.put(Text::Path, b"/a\xff", 512);
    entry
}

fn spans_of(entry: &mut Entry) -> Vec<Span> {
    let mut bytes = Vec::new();
    entry.pieces(|pieces| {
        bytes = pieces.concat();
        true
    });
    let record = Record::read(&bytes).expect("a record");
    assert_eq!(&*record.to_bytes(), &bytes[..]);
    spans(&record, &Redaction::default()).expect("it is traced")
}

fn attribute<'s>(span: &'s Span, key: &str) -> Option<&'s Value> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn text_of(span: &Span, key: &str) -> Option<String> {
    match attribute(span, key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

#[test]
fn a_request_that_was_retried_is_a_tree_with_a_span_for_each_attempt() {
    let mut entry = entry(Some([9; 8]));
    let place = Place {
        ip: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        port: 9001,
        family: 4,
    };
    entry.attempt_begins(1100, b"one", Some(place));
    let (_, first) = entry.traceparent().expect("told");
    entry.attempt_ends(1300, 1150, Some(Flag::ConnectFailed));
    entry.attempt_begins(1400, b"two", Some(place));
    let (_, second) = entry.traceparent().expect("told");
    assert_ne!(first, second);
    entry.attempt_answered(1600, 1450, 200);
    entry.attempt_ends(1700, 1450, None);
    entry.end(1800, 200, 3, NEVER, (0, 5));
    let spans = spans_of(&mut entry);
    let proxies: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "gateway.proxy")
        .collect();
    let [one, two] = proxies[..] else {
        panic!("{spans:?}")
    };
    for (span, told) in [(one, first), (two, second)] {
        let told = crate::journal::context::Parent::parse(&told).expect("valid");
        assert_eq!(span.span_id, told.span_id);
        assert_eq!(span.parent_span_id, OWN);
    }
    assert_eq!(text_of(one, "error.type").as_deref(), Some("UF"));
    assert_eq!(
        attribute(two, "http.request.resend_count"),
        Some(&Value::Int(1))
    );
    assert_eq!(two.status, None);
    let root = &spans[0];
    assert_eq!(root.parent_span_id, [9; 8]);
    assert_eq!(root.flags, 0x301);
    assert_eq!(
        text_of(root, "server.address").as_deref(),
        Some("[2001:db8::1]")
    );
    assert_eq!(attribute(root, "server.port"), Some(&Value::Int(8080)));
    assert_eq!(text_of(root, "url.path").as_deref(), Some("/a\u{fffd}"));
    for span in &spans {
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano);
        assert!(
            span.end_time_unix_nano <= root.end_time_unix_nano,
            "{span:?}"
        );
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
}

#[test]
fn only_what_the_gateway_or_a_backend_failed_at_is_an_error() {
    for (status, error) in [
        (200, false),
        (404, false),
        (499, false),
        (500, true),
        (503, true),
    ] {
        let mut entry = entry(None);
        entry.end(1800, status, 3, NEVER, (0, 5));
        let root = &spans_of(&mut entry)[0];
        assert_eq!(root.status.is_some(), error, "{status}");
        assert!(root.parent_span_id.is_empty());
        let kind = text_of(root, "error.type");
        assert_eq!(kind, error.then(|| status.to_string()));
    }
}

#[test]
fn hosts_are_read_as_clients_write_them() {
    for (host, scheme, name, port) in [
        ("a.example", "http", "a.example", 80),
        ("a.example:81", "http", "a.example", 81),
        ("a.example", "https", "a.example", 443),
        ("[::1]", "https", "[::1]", 443),
        ("[::1]:8443", "https", "[::1]", 8443),
        ("a:", "http", "a", 80),
        ("", "http", "", 80),
    ] {
        assert_eq!(authority(host.as_bytes(), scheme), (name.as_bytes(), port));
    }
}

#[test]
fn more_attempts_than_a_record_tells_of_count_on() {
    let mut entry = entry(None);
    for attempt in 0..12 {
        entry.attempt_begins(1100 + attempt, b"b", None);
        entry.attempt_ends(1101 + attempt, 0, None);
    }
    entry.end(1800, 200, 3, NEVER, (0, 0));
    let spans = spans_of(&mut entry);
    let last = spans.iter().rfind(|span| span.name == "gateway.proxy");
    let count = last.and_then(|span| attribute(span, "http.request.resend_count"));
    assert_eq!(count, Some(&Value::Int(11)));
}
