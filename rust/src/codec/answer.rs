//! Answers the gateway makes itself.

use super::date::{http_date, timestamp};
use super::encode::{push_decimal, push_field};
use super::verdict::phrase_for;

/// What an error answer points at, in the form of the admin API's details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Where in the request: `headers.X-Tenant`, `query.page`, `body.items[0]`.
    pub field: String,
    pub rule: &'static str,
    /// One sentence for people. What a client sent may stand in it.
    pub message: String,
}

/// One error answer. `fields` must be valid (RFC 9110 section 5).
#[derive(Clone, Copy, Debug)]
pub struct ErrorAnswer<'a> {
    pub status: u16,
    /// Machine-readable, e.g. `NOT_FOUND`; see [`super::verdict::code_for`].
    pub code: &'a str,
    /// One sentence for people.
    pub message: &'a str,
    pub details: &'a [Detail],
    pub request_id: &'a [u8],
    pub accepts_json: bool,
    /// The connection ends after this answer.
    pub close: bool,
    /// Minor version of the request: with 0, a connection that goes on has to be announced.
    pub client_minor: u8,
    /// The request was HEAD: the head describes the body, which is not sent.
    pub head_request: bool,
    /// Further field lines, each with its CRLF: Allow (405), Retry-After (429, 503), …
    pub fields: &'a [&'a [u8]],
    /// Now, in Unix seconds.
    pub unix: u64,
}

/// Appends a complete response (RFC 9110 section 15: the body explains the error).
pub fn write_error(out: &mut Vec<u8>, answer: &ErrorAnswer<'_>) {
    let mut body = Vec::with_capacity(256 + answer.message.len());
    let media_type: &[u8] = if answer.accepts_json {
        write_json(&mut body, answer);
        b"application/json"
    } else {
        write_text(&mut body, answer);
        b"text/plain; charset=utf-8"
    };
    out.reserve(body.len() + 512);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(answer.status));
    out.push(b' ');
    push_field_line(out, phrase_for(answer.status).as_bytes());
    push_field(out, "Date", &http_date(answer.unix));
    let bodiless = answer.status == 204; // RFC 9110 section 8.6: without a length, too
    if !bodiless {
        push_field(out, "Content-Type", media_type);
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
    }
    // RFC 9110 section 15.1: 404, 405, 414 and 501 could be cached, and outlive a route change.
    out.extend_from_slice(b"Cache-Control: no-store\r\n");
    for lines in answer.fields {
        out.extend_from_slice(lines);
    }
    push_field(out, "X-Request-ID", answer.request_id);
    match (answer.close, answer.client_minor) {
        (true, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (false, 0) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, _) => {}
    }
    out.extend_from_slice(b"\r\n");
    if !answer.head_request && !bodiless {
        out.extend_from_slice(&body);
    }
}

fn push_field_line(out: &mut Vec<u8>, rest: &[u8]) {
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
}

fn write_json(body: &mut Vec<u8>, answer: &ErrorAnswer<'_>) {
    body.extend_from_slice(b"{\"error\":{\"code\":");
    push_string(body, answer.code);
    body.extend_from_slice(b",\"message\":");
    push_string(body, answer.message);
    body.extend_from_slice(b",\"details\":[");
    for (index, detail) in answer.details.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"" } else { b"," });
        body.extend_from_slice(b"{\"field\":");
        push_string(body, &detail.field);
        body.extend_from_slice(b",\"rule\":");
        push_string(body, detail.rule);
        body.extend_from_slice(b",\"message\":");
        push_string(body, &detail.message);
        body.push(b'}');
    }
    body.extend_from_slice(b"],\"traceId\":");
    push_string(body, &String::from_utf8_lossy(answer.request_id));
    body.extend_from_slice(b",\"timestamp\":\"");
    body.extend_from_slice(&timestamp(answer.unix));
    body.extend_from_slice(b"\"}}\n");
}

fn write_text(body: &mut Vec<u8>, answer: &ErrorAnswer<'_>) {
    push_decimal(body, u64::from(answer.status));
    body.push(b' ');
    body.extend_from_slice(answer.code.as_bytes());
    body.extend_from_slice(b": ");
    body.extend_from_slice(answer.message.as_bytes());
    for detail in answer.details {
        body.extend_from_slice(b"\n- ");
        let plain = |c: char| if c.is_control() { '?' } else { c };
        let line: String = detail.message.chars().map(plain).collect();
        body.extend_from_slice(line.as_bytes());
    }
    body.extend_from_slice(b"\nrequest id: ");
    body.extend_from_slice(answer.request_id);
    body.push(b'\n');
}

/// Appends a JSON string (RFC 8259 section 7).
fn push_string(body: &mut Vec<u8>, text: &str) {
    body.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => body.extend_from_slice(&[b'\\', byte]),
            0..=0x1F => {
                let digits = b"0123456789abcdef";
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                body.extend_from_slice(b"\\u00");
                body.extend_from_slice(&[digits[high], digits[low]]);
            }
            _ => body.push(byte),
        }
    }
    body.push(b'"');
}
