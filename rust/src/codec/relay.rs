//! The head a client receives from a backend.

use super::edit::Names;
use super::encode::{push_decimal, push_field};
use super::fields::{FieldId, FieldSpan};
use super::response::ResponseHead;
use super::BodyFraming;

/// What the gateway knows of a response beyond its head.
#[derive(Clone, Copy, Debug)]
pub struct ClientContext<'a> {
    /// Minor version of the request: 0 knows neither chunks nor interim responses.
    pub client_minor: u8,
    /// Whether the client and the gateway both want the connection to go on.
    pub keep_alive: bool,
    pub request_id: &'a [u8],
    /// Date for a response that has none.
    pub date: &'a [u8; 29],
    /// Further field lines, each with its CRLF, for a final answer.
    pub fields: &'a [u8],
    /// Fields of the backend that are left out of a final answer; None is the usual case.
    pub drops: Option<Names<'a>>,
}

/// How the body must be sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBody {
    None,
    /// As many bytes as the backend announced, as they are.
    Length(u64),
    /// As chunks: the backend's own, or made here if it frames by closing.
    Chunked,
    /// Plain data, ended by closing the connection.
    UntilClose,
}

/// What was decided while writing a client head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHead {
    pub body: ClientBody,
    /// Whether the client's connection may serve another request.
    pub keep_alive: bool,
}

/// Fields that are never copied line by line.
const REWRITTEN: u32 = FieldId::Connection.bit()
    | FieldId::Te.bit()
    | FieldId::TransferEncoding.bit()
    | FieldId::Upgrade.bit()
    | FieldId::XRequestId.bit()
    | FieldId::Dropped.bit();

/// Appends the response head for a client.
///
/// Call it for interim responses too, but not for clients of HTTP/1.0 (RFC 9110 section 15.2);
/// their result says nothing about the connection.
pub fn write_client_head(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    ctx: &ClientContext<'_>,
) -> ClientHead {
    out.reserve(head.head_len + ctx.request_id.len() + 256);
    let decided = decide(head, ctx);
    let fields = &head.fields;
    let copied_from = match (head.version_minor, head.reason) {
        // An empty reason may lack the space before it (RFC 9112 section 4), or be obs-text.
        (0, _) | (_, b"") => write_status_line(out, head),
        _ => 0,
    };
    let length = match decided.body {
        ClientBody::Length(length) => Some(length),
        _ => head.described_length,
    };
    let mut length_copied = false;
    let keep = |span: &FieldSpan| match span.id {
        id if id.is_end_to_end() => !head.connection.nominates || !fields.is_nominated(span),
        FieldId::ContentLength => {
            let copied = length.is_some() && !length_copied && fields.is_plain_length(span);
            length_copied |= copied;
            copied
        }
        id => id.bit() & REWRITTEN == 0,
    };
    match ctx.drops {
        Some(drops) if !head.is_interim() => copy_without(out, head, copied_from, drops, keep),
        _ => fields.copy_lines(out, copied_from, keep),
    }
    if head.is_interim() {
        out.extend_from_slice(b"\r\n");
        return decided;
    }
    match length {
        Some(length) if !length_copied => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        None if decided.body == ClientBody::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        _ => {}
    }
    if !fields.has(FieldId::Date.bit()) {
        push_field(out, "Date", ctx.date); // RFC 9110 section 6.6.1
    }
    out.extend_from_slice(match head.version_minor {
        0 => b"Via: 1.0 hotswap\r\nX-Request-ID: ",
        _ => b"Via: 1.1 hotswap\r\nX-Request-ID: ",
    });
    out.extend_from_slice(ctx.request_id);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(ctx.fields);
    write_connection(out, head, ctx, decided);
    out.extend_from_slice(b"\r\n");
    decided
}

#[inline(never)]
fn copy_without(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    from: usize,
    drops: Names<'_>,
    mut keep: impl FnMut(&FieldSpan) -> bool,
) {
    let fields = &head.fields;
    fields.copy_lines(out, from, |span| {
        keep(span) && !drops.contains(fields.name(span))
    });
}

/// Chooses the framing the client can read (RFC 9112 section 6.3).
#[inline]
fn decide(head: &ResponseHead<'_>, ctx: &ClientContext<'_>) -> ClientHead {
    let body = match head.framing {
        BodyFraming::None => ClientBody::None,
        BodyFraming::Length(length) => ClientBody::Length(length),
        // Chunks keep the connection, and let the client notice a body that was cut short.
        _ if ctx.client_minor == 1 => ClientBody::Chunked,
        _ => ClientBody::UntilClose,
    };
    ClientHead {
        body,
        keep_alive: ctx.keep_alive && body != ClientBody::UntilClose && head.status != 101,
    }
}

#[inline(never)]
fn write_status_line(out: &mut Vec<u8>, head: &ResponseHead<'_>) -> usize {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    let fields = &head.fields;
    fields
        .spans
        .first()
        .map_or(fields.end, |span| span.start as usize)
}

/// What this hop tells the client about its connection (RFC 9112 section 9.3, RFC 9110 section
/// 7.8). Upgrade is passed on where it is an answer: 101 and 426. Elsewhere it is advertising for
/// protocols that end at the backend.
#[inline]
fn write_connection(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    ctx: &ClientContext<'_>,
    decided: ClientHead,
) {
    let upgrade = match head.status {
        101 | 426 => head.fields.by_id(FieldId::Upgrade).next(),
        _ => None,
    };
    let close = !decided.keep_alive && head.status != 101;
    let announce = ctx.client_minor == 0 && decided.keep_alive;
    out.extend_from_slice(match (upgrade.is_some(), close, announce) {
        (false, false, false) => b"".as_slice(),
        (false, true, _) => b"Connection: close\r\n",
        (false, false, true) => b"Connection: keep-alive\r\n",
        (true, true, _) => b"Connection: upgrade, close\r\n",
        (true, false, _) => b"Connection: upgrade\r\n",
    });
    if let Some(protocols) = upgrade {
        push_field(out, "Upgrade", protocols);
    }
}
