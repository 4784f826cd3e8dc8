//! The field lines of a head, as offsets into the buffer that holds it.

use super::values::elements;

/// The fields that mean something to a gateway. All others are carried as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FieldId {
    Other,
    /// These two pass like any other unless this gateway takes part in the trace.
    Traceparent,
    Tracestate,
    Connection,
    ContentLength,
    Date,
    Expect,
    Host,
    MaxForwards,
    Te,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XRequestId,
    /// Never forwarded: see [`classify`].
    Dropped,
    /// Dropped from requests only: claims about the client that only this gateway may make.
    Claimed,
}

impl FieldId {
    /// Whether the field is carried as it is, unless Connection names it.
    #[inline]
    pub const fn is_end_to_end(self) -> bool {
        matches!(self, Self::Other | Self::Traceparent | Self::Tracestate)
    }

    /// This id's bit in [`Fields::present`].
    #[inline]
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// One field line: `buf[start..start + name_len]` and `buf[value..value + value_len]`.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpan {
    pub start: u32,
    pub value: u32,
    pub value_len: u32,
    pub name_len: u16,
    pub id: FieldId,
}

impl FieldSpan {
    pub const EMPTY: FieldSpan = FieldSpan {
        start: 0,
        value: 0,
        value_len: 0,
        name_len: 0,
        id: FieldId::Other,
    };
}

/// The fields of one head.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub(super) buf: &'a [u8],
    pub(super) spans: &'a [FieldSpan],
    /// Union of the [`FieldId::bit`]s that occur.
    pub(super) present: u32,
    /// Offset of the empty line that ends the head.
    pub(super) end: usize,
}

impl<'a> Fields<'a> {
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Value of the first field of that name; names are compared without case.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        let span = self.spans.iter().find(|span| self.is_named(span, name))?;
        Some(self.value(span))
    }

    /// Values of all fields of that name, in order.
    pub fn all<'n>(&self, name: &'n [u8]) -> impl DoubleEndedIterator<Item = &'n [u8]> + 'n
    where
        'a: 'n,
    {
        let fields = *self;
        fields
            .spans
            .iter()
            .filter(move |span| fields.is_named(span, name))
            .map(move |span| fields.value(span))
    }

    #[inline]
    fn is_named(&self, span: &FieldSpan, name: &[u8]) -> bool {
        usize::from(span.name_len) == name.len() && self.name(span).eq_ignore_ascii_case(name)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + 'a {
        let fields = *self;
        fields
            .spans
            .iter()
            .map(move |span| (fields.name(span), fields.value(span)))
    }

    #[inline]
    pub(super) fn has(&self, ids: u32) -> bool {
        self.present & ids != 0
    }

    /// Values of all fields with that id, in order.
    #[inline]
    pub(super) fn by_id(&self, id: FieldId) -> impl Iterator<Item = &'a [u8]> + 'a {
        let fields = *self;
        fields
            .spans
            .iter()
            .filter(move |span| span.id == id)
            .map(move |span| fields.value(span))
    }

    #[inline]
    pub(super) fn name(&self, span: &FieldSpan) -> &'a [u8] {
        let start = span.start as usize;
        self.slice(start, usize::from(span.name_len))
    }

    #[inline]
    pub(super) fn value(&self, span: &FieldSpan) -> &'a [u8] {
        self.slice(span.value as usize, span.value_len as usize)
    }

    #[inline]
    fn slice(&self, start: usize, len: usize) -> &'a [u8] {
        self.buf.get(start..start + len).unwrap_or_default()
    }

    /// Whether a Connection field names this one as hop-by-hop (RFC 9110 section 7.6.1).
    pub(super) fn is_nominated(&self, span: &FieldSpan) -> bool {
        let name = self.name(span);
        self.by_id(FieldId::Connection)
            .flat_map(elements)
            .any(|option| option.eq_ignore_ascii_case(name))
    }

    /// Whether the field has one of these names.
    pub(super) fn is_any_of(&self, span: &FieldSpan, names: &[&[u8]]) -> bool {
        names.iter().any(|name| self.is_named(span, name))
    }

    /// Whether the line is exactly `Name: value CRLF`, with no other blanks. Fields that delimit
    /// messages are copied only in this form, so that no recipient can read them differently.
    #[inline]
    pub(super) fn is_plain(&self, span: &FieldSpan) -> bool {
        let colon = span.start as usize + usize::from(span.name_len);
        let end = (span.value + span.value_len) as usize;
        span.value as usize == colon + 2
            && self.buf.get(colon + 1) == Some(&b' ')
            && self.buf.get(end) == Some(&b'\r')
    }

    /// Whether a Content-Length line is how this gateway would write it.
    #[inline]
    pub(super) fn is_plain_length(&self, span: &FieldSpan) -> bool {
        let padded = span.value_len > 1 && self.value(span).first() == Some(&b'0');
        !padded && self.is_plain(span)
    }

    /// Appends the head's bytes from `from` to the last field, without the lines that `keep`
    /// refuses. Neighbouring lines go in one copy.
    #[inline]
    pub(super) fn copy_lines(
        &self,
        out: &mut Vec<u8>,
        from: usize,
        mut keep: impl FnMut(&FieldSpan) -> bool,
    ) {
        let mut run = from;
        for (index, span) in self.spans.iter().enumerate() {
            if keep(span) {
                continue;
            }
            self.copy(out, run, span.start as usize);
            run = match self.spans.get(index + 1) {
                Some(next) => next.start as usize,
                None => self.end,
            };
        }
        self.copy(out, run, self.end);
    }

    #[inline]
    fn copy(&self, out: &mut Vec<u8>, from: usize, to: usize) {
        out.extend_from_slice(self.buf.get(from..to).unwrap_or_default());
    }
}

/// Why field lines were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    LineEnding,
    NameTooLong,
}

/// Turns what httparse found into spans. httparse takes a lone LF as the end of a line; this does
/// not (RFC 9112 section 2.2 lets recipients choose, and backends choose differently).
///
/// Every line but the last is checked at the start of the next one, the last at the end of the
/// head; there is no other place where httparse lets a CR or LF through.
#[inline]
pub(super) fn collect<'s>(
    buf: &[u8],
    headers: &[httparse::Header<'_>],
    head_len: usize,
    spans: &'s mut [FieldSpan],
) -> Result<(&'s [FieldSpan], u32), Fault> {
    let base = buf.as_ptr() as usize;
    let mut present = 0;
    let mut count = 0;
    for (span, header) in spans.iter_mut().zip(headers) {
        let name = header.name.as_bytes();
        let start = name.as_ptr() as usize - base;
        if start < 2 || buf.get(start - 2) != Some(&b'\r') {
            return Err(Fault::LineEnding);
        }
        let Ok(name_len) = u16::try_from(name.len()) else {
            return Err(Fault::NameTooLong);
        };
        let id = classify(name);
        present |= id.bit();
        *span = FieldSpan {
            start: start as u32,
            value: (header.value.as_ptr() as usize - base) as u32,
            value_len: header.value.len() as u32,
            name_len,
            id,
        };
        count += 1;
    }
    let closed = head_len >= 4 && buf.get(head_len - 4..head_len) == Some(b"\r\n\r\n");
    if !closed {
        return Err(Fault::LineEnding);
    }
    Ok((&spans[..count], present))
}

/// The id of a field name, which must be a token.
///
/// `Dropped` are the fields that end at this hop (RFC 9110 section 7.6.1; the Proxy-Auth* fields,
/// sections 11.7.1 to 11.7.3; HTTP2-Settings, RFC 7540 section 3.2.1), `Proxy`, which CGI turns
/// into an environment variable that redirects outgoing traffic (httpoxy), and any spelling of a
/// known field with `_` for `-`: CGI and WSGI backends cannot tell the two apart, so such a name
/// would smuggle a value past the rules for the real one.
#[inline]
pub fn classify(name: &[u8]) -> FieldId {
    use FieldId::*;
    let Some(&first) = name.first() else {
        return Other;
    };
    match (name.len(), first | 0x20) {
        (2, b't') => check(name, b"te", Te),
        (3, b'v') => check(name, b"via", Via),
        (4, b'h') => check(name, b"host", Host),
        (4, b'd') => check(name, b"date", Date),
        (5, b'p') => check(name, b"proxy", Dropped),
        (6, b'e') => check(name, b"expect", Expect),
        (7, b'u') => check(name, b"upgrade", Upgrade),
        (9, b'f') => check(name, b"forwarded", Claimed),
        (9, b'x') => check(name, b"x-real-ip", Claimed),
        (10, b'c') => check(name, b"connection", Connection),
        (10, b't') => check(name, b"tracestate", Tracestate),
        (10, b'k') => check(name, b"keep-alive", Dropped),
        (11, b't') => check(name, b"traceparent", Traceparent),
        (12, b'm') => check(name, b"max-forwards", MaxForwards),
        (12, b'x') => check(name, b"x-request-id", XRequestId),
        (14, b'c') => check(name, b"content-length", ContentLength),
        (14, b'h') => check(name, b"http2-settings", Dropped),
        (15, b'x') => check(name, b"x-forwarded-for", XForwardedFor),
        (16, b'p') => check(name, b"proxy-connection", Dropped),
        (16, b'x') => match check(name, b"x-forwarded-host", Claimed) {
            Other => check(name, b"x-forwarded-port", Claimed),
            id => id,
        },
        (17, b't') => check(name, b"transfer-encoding", TransferEncoding),
        (17, b'x') => check(name, b"x-forwarded-proto", Claimed),
        (18, b'p') => check(name, b"proxy-authenticate", Dropped),
        (19, b'p') => check(name, b"proxy-authorization", Dropped),
        (25, b'p') => check(name, b"proxy-authentication-info", Dropped),
        _ => Other,
    }
}

/// Compares a token with a lower-case name. Setting bit 5 folds exactly the capital letters onto
/// the small ones; of the other token characters it makes none a letter, digit or `-`.
#[inline]
fn check<const N: usize>(name: &[u8], want: &[u8; N], id: FieldId) -> FieldId {
    let Ok(name) = <&[u8; N]>::try_from(name) else {
        return FieldId::Other;
    };
    let (mut exact, mut loose) = (0u8, 0u8);
    for (&have, &want) in name.iter().zip(want) {
        let difference = (have | 0x20) ^ want;
        exact |= difference;
        loose |= if have == b'_' && want == b'-' {
            0
        } else {
            difference
        };
    }
    match (exact, loose) {
        (0, _) => id,
        (_, 0) => FieldId::Dropped,
        _ => FieldId::Other,
    }
}

/// Whether the byte may stand in a token (RFC 9110 section 5.6.2).
#[inline]
pub fn is_token_byte(byte: u8) -> bool {
    TOKEN_TABLE[usize::from(byte)]
}

static TOKEN_TABLE: [bool; 256] = TOKEN;

pub(super) const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        table[b] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        b += 1;
    }
    table
};
