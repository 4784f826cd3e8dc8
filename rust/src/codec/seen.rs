//! Heads as a middleware sees them: end-to-end fields only, without what this gateway says itself.

use super::encode::push_decimal;
use super::fields::{FieldId, FieldSpan};
use super::forward::is_withheld;
use super::request::RequestHead;
use super::response::ResponseHead;

/// Fields that belong to a connection, delimit a message, or are the gateway's to write.
const HIDDEN: u32 = FieldId::Connection.bit()
    | FieldId::ContentLength.bit()
    | FieldId::Expect.bit()
    | FieldId::Te.bit()
    | FieldId::TransferEncoding.bit()
    | FieldId::Upgrade.bit()
    | FieldId::XRequestId.bit()
    | FieldId::Dropped.bit()
    | FieldId::Claimed.bit();

/// Names and values of a request's fields, in order; Host says what the request is for, also when its
/// target did. `withheld` as in [`super::ForwardContext`].
pub fn request_fields<'a>(
    head: &'a RequestHead<'_>,
    withheld: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + 'a {
    let fields = &head.fields;
    let kept = move |span: &&FieldSpan| {
        span.id.bit() & HIDDEN == 0
            && span.id != FieldId::Host
            && !(head.connection.nominates && fields.is_nominated(span))
            && !is_withheld(fields.name(span), withheld)
    };
    let host = (!head.host.is_empty()).then_some((&b"Host"[..], head.host));
    let spans = fields.spans.iter().filter(kept);
    host.into_iter()
        .chain(spans.map(move |span| (fields.name(span), fields.value(span))))
}

/// Appends a response's head. Content-Length is left where it describes a body that is not sent.
pub fn write_seen_head(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(head.status));
    out.extend_from_slice(b" \r\n");
    let fields = &head.fields;
    for span in fields.spans {
        let described = span.id == FieldId::ContentLength && head.described_length.is_some();
        let nominated = head.connection.nominates && fields.is_nominated(span);
        if described || (span.id.bit() & HIDDEN == 0 && !nominated) {
            out.extend_from_slice(fields.name(span));
            out.extend_from_slice(b": ");
            out.extend_from_slice(fields.value(span));
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}
