//! The head a backend receives.

use super::edit::Edit;
use super::encode::{push_decimal, push_field};
use super::fields::{FieldId, FieldSpan, Fields};
use super::request::RequestHead;
use super::values::elements;
use super::BodyFraming;

/// What the gateway knows of a request beyond its head.
#[derive(Clone, Copy, Debug)]
pub struct ForwardContext<'a> {
    /// The address of the connection's other end as text, without port; IPv6 without brackets.
    pub client_ip: &'a [u8],
    /// What it says about the client is believed, and passed on.
    pub trusted: bool,
    /// Whether the client came over TLS.
    pub secure: bool,
    /// Used when the client sent no X-Request-ID that may be kept.
    pub request_id: &'a [u8],
    /// Host of a request that has none (HTTP/1.0): the backend's own.
    pub backend_host: &'a [u8],
    /// Write `Forwarded` (RFC 7239) as well.
    pub forwarded: bool,
    /// Pass `Expect: 100-continue` on, instead of answering 100 here.
    pub forward_expect: bool,
    /// Names of fields that end here, besides those that always do: in lower case, `-` for `_`, with
    /// commas in between. A client's spelling with `_` is meant too, as CGI and WSGI backends read it.
    pub withheld: &'a [u8],
    /// Complete field lines of the gateway's own.
    pub added: &'a [u8],
    /// This gateway's place in the request's trace; None: the client's fields pass as they are.
    pub trace: Option<Trace<'a>>,
    /// What the route changes; None is the usual case.
    pub edit: Option<&'a Edit<'a>>,
}

/// What a backend is told of a trace (W3C Trace Context).
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// In place of the client's.
    pub traceparent: &'a [u8],
    /// The trace begins here: the client's `tracestate`, if any, belongs to another one.
    pub begins: bool,
}

/// Fields that are never copied line by line.
const REWRITTEN: u32 = FieldId::Connection.bit()
    | FieldId::MaxForwards.bit()
    | FieldId::Te.bit()
    | FieldId::TransferEncoding.bit()
    | FieldId::Upgrade.bit()
    | FieldId::XForwardedFor.bit()
    | FieldId::Dropped.bit()
    | FieldId::Claimed.bit();

/// Appends the request head for a backend.
///
/// End-to-end fields keep their order and spelling. Connection may nominate any field but those
/// that delimit or route the message or that the gateway sets (RFC 9110 section 7.6.1).
pub fn write_upstream_head(out: &mut Vec<u8>, head: &RequestHead<'_>, ctx: &ForwardContext<'_>) {
    let fields = &head.fields;
    out.reserve(head.head_len + head.path.len() + 2 * head.host.len() + ctx.request_id.len() + 512);
    let keep_length = matches!(head.framing, BodyFraming::Length(_));
    let whole = !head.connection.nominates && ctx.withheld.is_empty();
    let keep = |span: &FieldSpan| match span.id {
        FieldId::Traceparent if ctx.trace.is_some() => false,
        FieldId::Tracestate if ctx.trace.is_some_and(|trace| trace.begins) => false,
        id if id.is_end_to_end() => {
            whole
                || !(head.connection.nominates && fields.is_nominated(span)
                    || is_withheld(fields.name(span), ctx.withheld))
        }
        FieldId::Host => head.verbatim_host,
        FieldId::ContentLength => keep_length && fields.is_plain_length(span),
        FieldId::Expect => head.expect_continue && ctx.forward_expect,
        FieldId::XRequestId => head.request_id.is_some(),
        FieldId::Claimed => {
            ctx.trusted && !(ctx.forwarded && fields.is_any_of(span, &[b"forwarded"]))
        }
        id => id.bit() & REWRITTEN == 0,
    };
    match ctx.edit {
        None => {
            let from = match head.verbatim_line {
                Some(start) if head.verbatim_host => start,
                _ => write_request_line(out, head, ctx),
            };
            fields.copy_lines(out, from, keep);
        }
        Some(edit) => copy_edited(out, head, ctx, edit, keep),
    }
    write_framing(out, head);
    write_identity(out, head, ctx);
    if let Some(trace) = ctx.trace {
        write_trace(out, ctx.edit, &trace);
    }
    out.extend_from_slice(ctx.added);
    if head.connection.nominates || fields.has(REWRITTEN) {
        write_connection(out, head);
    }
    out.extend_from_slice(b"\r\n");
}

/// The request line and the client's fields as the route wants them.
#[inline(never)]
fn copy_edited(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    ctx: &ForwardContext<'_>,
    edit: &Edit<'_>,
    keep: impl Fn(&FieldSpan) -> bool,
) {
    let fields = &head.fields;
    let from = write_request_line(out, head, ctx);
    fields.copy_lines(out, from, |span| {
        keep(span) && !edit.drops.contains(fields.name(span))
    });
    out.extend_from_slice(edit.lines);
}

pub(super) fn is_withheld(name: &[u8], withheld: &[u8]) -> bool {
    let fold = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    !withheld.is_empty()
        && elements(withheld).any(|one| {
            one.len() == name.len() && one.iter().zip(name).all(|(&one, &byte)| one == fold(byte))
        })
}

/// Writes the request line and Host; returns where copying fields begins.
#[inline(never)]
fn write_request_line(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    ctx: &ForwardContext<'_>,
) -> usize {
    out.extend_from_slice(head.method);
    out.push(b' ');
    out.extend_from_slice(ctx.edit.and_then(|edit| edit.path).unwrap_or(head.path));
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let replaced = ctx.edit.is_some_and(|edit| edit.drops.contains(b"host"));
    if !head.verbatim_host && !replaced {
        // RFC 9112 section 3.2.2: Host follows an authority in the target.
        let host = match head.host {
            b"" => ctx.backend_host,
            host => host,
        };
        push_field(out, "Host", host);
    }
    let fields = &head.fields;
    fields
        .spans
        .first()
        .map_or(fields.end, |span| span.start as usize)
}

/// Framing the copied lines do not carry (RFC 9112 section 6.3).
#[inline]
fn write_framing(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    match head.framing {
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Length(length) => {
            let fields = &head.fields;
            let is_copied = |span: &FieldSpan| {
                span.id == FieldId::ContentLength && fields.is_plain_length(span)
            };
            if !fields.spans.iter().any(is_copied) {
                out.extend_from_slice(b"Content-Length: ");
                push_decimal(out, length);
                out.extend_from_slice(b"\r\n");
            }
        }
        BodyFraming::None | BodyFraming::UntilClose => {}
    }
}

/// Who asked, through whom, under which name.
#[inline]
fn write_identity(out: &mut Vec<u8>, head: &RequestHead<'_>, ctx: &ForwardContext<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if head.fields.has(FieldId::XForwardedFor.bit()) {
        for value in head.fields.by_id(FieldId::XForwardedFor) {
            if !value.is_empty() {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
    }
    out.extend_from_slice(ctx.client_ip);
    if ctx.trusted {
        return write_trusted_identity(out, head, ctx);
    }
    out.extend_from_slice(match (ctx.secure, head.version_minor) {
        (false, 1) => b"\r\nX-Forwarded-Proto: http\r\nVia: 1.1 hotswap\r\n",
        (true, 1) => b"\r\nX-Forwarded-Proto: https\r\nVia: 1.1 hotswap\r\n".as_slice(),
        (false, _) => b"\r\nX-Forwarded-Proto: http\r\nVia: 1.0 hotswap\r\n",
        (true, _) => b"\r\nX-Forwarded-Proto: https\r\nVia: 1.0 hotswap\r\n",
    });
    if !head.host.is_empty() {
        push_field(out, "X-Forwarded-Host", head.host);
    }
    if head.request_id.is_none() {
        push_field(out, "X-Request-ID", ctx.request_id);
    }
    if ctx.forwarded {
        write_forwarded(out, head, ctx);
    }
}

/// The same for a peer that speaks for others: what it said about them was copied, what it did not say is added.
#[inline(never)]
fn write_trusted_identity(out: &mut Vec<u8>, head: &RequestHead<'_>, ctx: &ForwardContext<'_>) {
    out.extend_from_slice(b"\r\n");
    if head.field(b"x-forwarded-proto").is_none() {
        let proto: &[u8] = if ctx.secure { b"https" } else { b"http" };
        push_field(out, "X-Forwarded-Proto", proto);
    }
    out.extend_from_slice(match head.version_minor {
        1 => b"Via: 1.1 hotswap\r\n",
        _ => b"Via: 1.0 hotswap\r\n",
    });
    if !head.host.is_empty() && head.field(b"x-forwarded-host").is_none() {
        push_field(out, "X-Forwarded-Host", head.host);
    }
    if head.request_id.is_none() {
        push_field(out, "X-Request-ID", ctx.request_id);
    }
    if ctx.forwarded {
        out.extend_from_slice(b"Forwarded: ");
        for value in head.fields.all(b"forwarded") {
            if !value.is_empty() {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        write_forwarded_element(out, head, ctx);
    }
}

/// `Forwarded: for=…;host=…;proto=…` (RFC 7239 section 4). Values that are no tokens are quoted;
/// none of them can hold a quote or a backslash.
#[inline(never)]
fn write_forwarded(out: &mut Vec<u8>, head: &RequestHead<'_>, ctx: &ForwardContext<'_>) {
    out.extend_from_slice(b"Forwarded: ");
    write_forwarded_element(out, head, ctx);
}

fn write_forwarded_element(out: &mut Vec<u8>, head: &RequestHead<'_>, ctx: &ForwardContext<'_>) {
    out.extend_from_slice(b"for=");
    if ctx.client_ip.contains(&b':') {
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(ctx.client_ip);
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(ctx.client_ip);
    }
    if !head.host.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(head.host);
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=http");
    out.extend_from_slice(if ctx.secure { b"s\r\n" } else { b"\r\n" });
}

/// A route that removes or sets the field has the last word on it.
#[inline]
fn write_trace(out: &mut Vec<u8>, edit: Option<&Edit<'_>>, trace: &Trace<'_>) {
    if !edit.is_some_and(|edit| edit.drops.contains(b"traceparent")) {
        push_field(out, "traceparent", trace.traceparent);
    }
}

/// What this hop asks of the next: an upgrade, trailers; and Max-Forwards, one less.
#[inline(never)]
fn write_connection(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    let trailers = takes_trailers(&head.fields);
    match (head.upgrade, trailers) {
        (Some(_), true) => out.extend_from_slice(b"Connection: upgrade, te\r\n"),
        (Some(_), false) => out.extend_from_slice(b"Connection: upgrade\r\n"),
        (None, true) => out.extend_from_slice(b"Connection: te\r\n"),
        (None, false) => {}
    }
    if let Some(protocols) = head.upgrade {
        push_field(out, "Upgrade", protocols);
    }
    if trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if head.fields.has(FieldId::MaxForwards.bit()) {
        match head.max_forwards() {
            Some(hops) => {
                out.extend_from_slice(b"Max-Forwards: ");
                push_decimal(out, hops.saturating_sub(1));
                out.extend_from_slice(b"\r\n");
            }
            // RFC 9110 section 7.6.2: in other methods it may be ignored.
            None => {
                for value in head.fields.by_id(FieldId::MaxForwards) {
                    push_field(out, "Max-Forwards", value);
                }
            }
        }
    }
}

/// Whether the client takes trailers (RFC 9110 section 10.1.4). Other TE members end here.
fn takes_trailers(fields: &Fields<'_>) -> bool {
    fields
        .by_id(FieldId::Te)
        .flat_map(elements)
        .any(|element| element.eq_ignore_ascii_case(b"trailers"))
}
