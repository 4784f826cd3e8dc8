//! One request as one line of JSON.
//!
//! Keys come in a fixed order; what is not known is null, but for the keys of a trace and of failed attempts,
//! which are then left out. Bytes that are no UTF-8 become U+FFFD.

use super::context::write_hex;
use super::record::{bit, Attempt, Record, Text, NEVER};
use super::redact::Redaction;
use crate::codec::date::timestamp;
use crate::codec::encode::push_decimal;
use std::io::Write;

/// Writes lines; keeps what lines have in common.
pub struct Lines {
    redaction: Redaction,
    query: Vec<u8>,
    /// The second that `stamp` is of.
    second: u64,
    stamp: Vec<u8>,
}

impl Lines {
    pub fn new(redaction: Redaction) -> Self {
        Self {
            redaction,
            query: Vec::new(),
            second: u64::MAX,
            stamp: Vec::new(),
        }
    }

    pub fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// Append the line of a record, with its newline.
    pub fn write(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out, record.started_unix_ns());
        if let Some(trace) = record.trace_id() {
            out.extend_from_slice(b"\",\"traceId\":\"");
            push_hex(out, &trace);
            if record.is_sampled() {
                out.extend_from_slice(b"\",\"spanId\":\"");
                push_hex(out, &record.span_id());
            }
        }
        out.extend_from_slice(b"\",\"requestId\":");
        push_known(out, record.text(Text::RequestId));
        out.extend_from_slice(b",\"client\":");
        push_known(out, record.text(Text::Client));
        out.extend_from_slice(b",\"method\":");
        push_known(out, record.text(Text::Method));
        out.extend_from_slice(b",\"scheme\":\"");
        out.extend_from_slice(record.scheme().as_bytes());
        out.extend_from_slice(b"\",\"host\":");
        push_known(out, record.text(Text::Host));
        self.target(out, record);
        out.extend_from_slice(b",\"protocol\":");
        out.extend_from_slice(match record.minor_version() {
            Some(0) => b"\"HTTP/1.0\"",
            Some(_) => b"\"HTTP/1.1\"",
            None => b"null".as_slice(),
        });
        out.extend_from_slice(b",\"status\":");
        push_decimal(out, record.status().into());
        push_flags(out, record);
        push_route(out, record);
        push_attempts(out, record);
        for (key, bytes) in [
            (&b",\"bytesIn\":"[..], record.bytes_in()),
            (b",\"bytesOut\":", record.bytes_out()),
        ] {
            out.extend_from_slice(key);
            push_decimal(out, bytes);
        }
        for (key, nanos) in [
            (&b",\"durationMs\":"[..], record.end_ns()),
            (b",\"upstreamMs\":", record.upstream_ns()),
            (b",\"overheadMs\":", record.overhead_ns()),
        ] {
            out.extend_from_slice(key);
            push_millis(out, nanos);
        }
        out.extend_from_slice(b",\"userAgent\":");
        push_cut(out, record.text(Text::UserAgent), record.is(bit::AGENT_CUT));
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC, to the microsecond.
    fn time(&mut self, out: &mut Vec<u8>, unix_ns: u64) {
        let second = unix_ns / 1_000_000_000;
        if second != self.second {
            self.stamp.clear();
            self.stamp.extend_from_slice(&timestamp(second)[..19]); // without its Z
            self.second = second;
        }
        out.extend_from_slice(&self.stamp);
        out.push(b'.');
        push_digits(out, unix_ns % 1_000_000_000 / 1000, 6);
        out.push(b'Z');
    }

    fn target(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        out.extend_from_slice(b",\"path\":");
        let path = self.redaction.path(record.text(Text::Path));
        push_cut(out, &path, record.is(bit::PATH_CUT));
        out.extend_from_slice(b",\"query\":");
        match record.query() {
            None => out.extend_from_slice(b"null"),
            Some(query) => {
                self.query.clear();
                self.redaction.write(&mut self.query, query);
                out.push(b'"');
                push_escaped(out, &self.query);
                push_end(out, record.is(bit::QUERY_CUT));
            }
        }
    }
}

fn push_flags(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(b",\"flags\":[");
    let flags = record.flags();
    if !flags.is_empty() {
        for (index, flag) in flags.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(flag.name().as_bytes());
            out.push(b'"');
        }
    }
    out.push(b']');
}

fn push_route(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(b",\"route\":");
    push_known(out, record.text(Text::RouteName));
    out.extend_from_slice(b",\"routeId\":");
    push_known(out, record.text(Text::RouteId));
    out.extend_from_slice(b",\"version\":");
    push_known(out, record.text(Text::RouteVersion));
    out.extend_from_slice(b",\"arm\":");
    match record.arm() {
        None => out.extend_from_slice(b"null"),
        Some(arm) => {
            out.push(b'"');
            out.extend_from_slice(arm.name().as_bytes());
            out.push(b'"');
        }
    }
    out.extend_from_slice(b",\"generation\":");
    match record.generation() {
        0 => out.extend_from_slice(b"null"),
        generation => push_decimal(out, generation),
    }
}

/// The last attempt, how many there were, and those that came to nothing before it.
fn push_attempts(out: &mut Vec<u8>, record: &Record<'_>) {
    let last = record.attempts().next_back();
    out.extend_from_slice(b",\"backend\":");
    push_known(out, last.map_or(b"", |last| last.backend));
    out.extend_from_slice(b",\"address\":");
    push_address(out, last.as_ref());
    out.extend_from_slice(b",\"attempts\":");
    push_decimal(out, record.attempts_made().into());
    if record.attempts_made() < 2 {
        return;
    }
    out.extend_from_slice(b",\"failedAttempts\":[");
    let failed = record.attempts().count() - 1;
    for (index, attempt) in record.attempts().take(failed).enumerate() {
        if index != 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"backend\":");
        push_known(out, attempt.backend);
        out.extend_from_slice(b",\"address\":");
        push_address(out, Some(&attempt));
        out.extend_from_slice(b",\"status\":");
        match attempt.status {
            0 => out.extend_from_slice(b"null"),
            status => push_decimal(out, status.into()),
        }
        out.extend_from_slice(b",\"flag\":");
        push_known(out, attempt.why.map_or("", |why| why.name()).as_bytes());
        out.extend_from_slice(b",\"durationMs\":");
        push_millis(out, attempt.ended_ns.saturating_sub(attempt.begun_ns));
        out.push(b'}');
    }
    out.push(b']');
}

fn push_address(out: &mut Vec<u8>, attempt: Option<&Attempt<'_>>) {
    match attempt.and_then(|attempt| attempt.address) {
        None => out.extend_from_slice(b"null"),
        Some(address) => {
            out.push(b'"');
            match address.ip() {
                std::net::IpAddr::V4(ip) => {
                    let [a, b, c, d] = ip.octets();
                    push_decimal(out, a.into());
                    for octet in [b, c, d] {
                        out.push(b'.');
                        push_decimal(out, octet.into());
                    }
                    out.push(b':');
                    push_decimal(out, address.port().into());
                }
                // Writing to a vector does not fail.
                std::net::IpAddr::V6(_) => drop(write!(out, "{address}")),
            }
            out.push(b'"');
        }
    }
}

/// A string, or null for an empty one.
fn push_known(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        push_escaped(out, bytes);
        out.push(b'"');
    }
}

fn push_cut(out: &mut Vec<u8>, bytes: &[u8], cut: bool) {
    if bytes.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        push_escaped(out, bytes);
        push_end(out, cut);
    }
}

/// The end of a string that may have been cut.
fn push_end(out: &mut Vec<u8>, cut: bool) {
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// For each byte whether it goes into a JSON string as it is.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// The inside of a JSON string (RFC 8259 section 7) that says what `bytes` say.
pub fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |bytes: &[u8]| {
        let special = bytes.iter().position(|&byte| !PLAIN[usize::from(byte)]);
        special.unwrap_or(bytes.len())
    };
    let first = plain(bytes);
    out.extend_from_slice(&bytes[..first]);
    if first == bytes.len() {
        return;
    }
    for chunk in bytes[first..].utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while !rest.is_empty() {
            let (safe, after) = rest.split_at(plain(rest));
            out.extend_from_slice(safe);
            rest = after;
            match rest {
                // U+0080 to U+009F, the C1 controls: terminals obey them as they obey ESC.
                [0xc2, low @ 0x80..=0x9f, after @ ..] => {
                    push_control(out, *low);
                    rest = after;
                }
                [byte, after @ ..] => {
                    push_special(out, *byte);
                    rest = after;
                }
                [] => {}
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn push_special(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..=0x1f | 0x7f => push_control(out, byte),
        other => out.push(other),
    }
}

fn push_control(out: &mut Vec<u8>, code: u8) {
    out.extend_from_slice(b"\\u00");
    push_hex(out, &[code]);
}

/// In lower case.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let at = out.len();
    out.resize(at + 2 * bytes.len(), 0);
    write_hex(bytes, &mut out[at..]);
}

/// Milliseconds with three decimals; null for what did not happen.
fn push_millis(out: &mut Vec<u8>, nanos: u64) {
    if nanos == NEVER {
        out.extend_from_slice(b"null");
        return;
    }
    let micros = nanos / 1000;
    push_decimal(out, micros / 1000);
    out.push(b'.');
    push_digits(out, micros % 1000, 3);
}

/// So many digits, with zeros in front.
fn push_digits(out: &mut Vec<u8>, mut value: u64, count: usize) {
    let mut digits = [b'0'; 20];
    let start = digits.len() - count;
    for digit in digits[start..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start..]);
}
