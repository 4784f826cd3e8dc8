//! Request heads: RFC 9112 sections 2 to 6, as strict as an intermediary has to be.

use std::mem::MaybeUninit;

use super::early::{check_beginning, check_leading, refusal_for, unfinished, MAX_METHOD};
use super::fields::{collect, Fault, FieldId, Fields};
use super::form::{resolve_target, Resolved};
use super::values::{
    content_length, elements, is_forwardable_upgrade, is_host, is_own_hop, is_request_id,
    json_preference, Coding, ConnectionOptions, TransferCodings,
};
use super::verdict::Refusal;
use super::{BodyFraming, Limits, Scratch, MAX_FIELDS};

/// Below this many bytes a head is cheaper to parse again than to search for its end.
const SMALL_HEAD: usize = 2048;

/// A request head, read in place.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a [u8],
    /// GET 0, HEAD 1, POST 2, PUT 3, DELETE 4, PATCH 5, OPTIONS 6, TRACE 7, other 8.
    pub method_id: u8,
    /// Normalised path, for matching and forwarding alike; `*` for OPTIONS on the server itself.
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
    pub version_minor: u8,
    /// Authority of the request: host and optional port; empty only in HTTP/1.0.
    pub host: &'a [u8],
    pub framing: BodyFraming,
    /// Whether the client's connection may serve another request.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub expect_continue: bool,
    /// Value of Upgrade when the request asks to switch protocols and may.
    pub upgrade: Option<&'a [u8]>,
    /// The client's X-Request-ID, if it may be kept.
    pub request_id: Option<&'a [u8]>,
    pub fields: Fields<'a>,
    /// Bytes of the buffer that the head takes; the body begins there.
    pub head_len: usize,
    pub(super) connection: ConnectionOptions,
    /// Offset of the request line if it can be copied as it is.
    pub(super) verbatim_line: Option<usize>,
    /// Host is the client's own field line, to be copied.
    pub(super) verbatim_host: bool,
}

impl<'a> RequestHead<'a> {
    /// Value of the first field of that name.
    #[inline]
    pub fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields.get(name)
    }

    /// Values of all `traceparent` fields.
    #[inline]
    pub fn traceparents(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let given = self.fields.has(FieldId::Traceparent.bit());
        let values = given.then(|| self.fields.by_id(FieldId::Traceparent));
        values.into_iter().flatten()
    }

    /// Whether the client takes JSON (RFC 9110 section 12.5.1); without Accept it takes anything.
    pub fn accepts_json(&self) -> bool {
        let mut best = (0, false);
        let mut any = false;
        for value in self.fields.all(b"accept") {
            any = true;
            let preference = json_preference(value);
            if preference.0 > best.0 {
                best = preference;
            }
        }
        !any || best.1
    }

    /// Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2); at 0 the request must be
    /// answered here. The upstream head carries one less.
    pub fn max_forwards(&self) -> Option<u64> {
        if !matches!(self.method_id, 6 | 7) || !self.fields.has(FieldId::MaxForwards.bit()) {
            return None;
        }
        let value = self.fields.by_id(FieldId::MaxForwards).next()?;
        content_length(value).ok()
    }

    /// How often the request has come through a gateway of this name: a loop shows here (RFC 9110
    /// section 7.6).
    pub fn own_hops(&self) -> usize {
        if !self.fields.has(FieldId::Via.bit()) {
            return 0;
        }
        let elements = self.fields.by_id(FieldId::Via).flat_map(elements);
        elements.filter(|element| is_own_hop(element)).count()
    }
}

/// Whether a head that was incomplete at `seen` bytes may be complete, or past the limit, now.
/// Asking this before parsing again keeps a head that trickles in from costing quadratic time.
pub fn may_complete(buf: &[u8], seen: usize, limits: &Limits) -> bool {
    if buf.len() < SMALL_HEAD || buf.len() >= limits.head_window() {
        return true;
    }
    let from = seen.saturating_sub(3).min(buf.len());
    let tail = &buf[from..];
    memchr::memchr_iter(b'\n', tail)
        .any(|at| matches!(tail.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

/// Reads one request head from the start of `buf`.
///
/// Returns `None` while the head is incomplete; the limits hold for incomplete heads too.
///
/// # Errors
/// A [`Refusal`]: answer with its status and close the connection.
pub fn parse_request<'a>(
    buf: &'a [u8],
    limits: &Limits,
    scratch: &'a mut Scratch,
) -> Result<Option<RequestHead<'a>>, Refusal> {
    let window = &buf[..buf.len().min(limits.head_window())];
    let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let head_len = match request.parse_with_uninit_headers(window, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => {
            check_beginning(window, limits)?;
            return unfinished(window, limits).map(|_| None);
        }
        Err(error) => return refusal_for(error, window, limits).map(|_| None),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Refusal::RequestLine);
    };
    let method = method.as_bytes();
    let target = target.as_bytes();
    let start = method.as_ptr() as usize - buf.as_ptr() as usize;
    check_leading(window, start)?;
    if method.len() > MAX_METHOD {
        return Err(Refusal::MethodTooLong);
    }
    if target.len() > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    if request.headers.len() > limits.fields {
        return Err(Refusal::TooManyFields);
    }
    let Scratch { spans, path } = scratch;
    let (spans, present) =
        collect(buf, request.headers, head_len, spans).map_err(|fault| match fault {
            Fault::LineEnding => Refusal::LineEnding,
            Fault::NameTooLong => Refusal::FieldName,
        })?;
    let fields = Fields {
        buf,
        spans,
        present,
        end: head_len - 2,
    };
    let facts = Facts::read(&fields, minor)?;
    let method_id = method_id(method);
    let Resolved { target, authority } = resolve_target(method, target, path)?;
    if minor == 1 && facts.host.is_none() {
        return Err(Refusal::HostMissing);
    }
    // RFC 9112 section 3.2.2: an authority in the target overrides Host.
    let host = authority.or(facts.host).unwrap_or_default();
    let upgrade = facts.upgrade(&fields, minor);
    Ok(Some(RequestHead {
        method,
        method_id,
        path: target.path,
        query: target.query,
        version_minor: minor,
        host,
        framing: facts.framing,
        keep_alive: !facts.connection.close && (minor == 1 || facts.connection.keep_alive),
        expect_continue: facts.expect && minor == 1 && facts.has_body(),
        upgrade,
        request_id: facts.request_id,
        fields,
        head_len,
        connection: facts.connection,
        verbatim_line: (target.verbatim && authority.is_none() && minor == 1).then_some(start),
        verbatim_host: authority.is_none() && facts.host_is_plain,
    }))
}

/// What the fields say, gathered in one pass.
struct Facts<'a> {
    host: Option<&'a [u8]>,
    host_is_plain: bool,
    framing: BodyFraming,
    connection: ConnectionOptions,
    expect: bool,
    request_id: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    #[inline]
    fn read(fields: &Fields<'a>, minor: u8) -> Result<Self, Refusal> {
        let mut facts = Facts {
            host: None,
            host_is_plain: false,
            framing: BodyFraming::None,
            connection: ConnectionOptions::default(),
            expect: false,
            request_id: None,
        };
        let (mut length, mut request_ids) = (None, 0);
        let mut codings = TransferCodings::default();
        for span in fields.spans {
            if span.id == FieldId::Other {
                continue;
            }
            let value = fields.value(span);
            match span.id {
                FieldId::Host => {
                    if facts.host.is_some() || !is_host(value) {
                        return Err(Refusal::HostInvalid);
                    }
                    facts.host = Some(value);
                    facts.host_is_plain = fields.is_plain(span);
                }
                FieldId::Connection => facts
                    .connection
                    .add(value)
                    .map_err(|_| Refusal::ConnectionOptions)?,
                FieldId::ContentLength => {
                    let value = content_length(value).map_err(|_| Refusal::LengthInvalid)?;
                    if length.replace(value).is_some() {
                        return Err(Refusal::LengthInvalid);
                    }
                }
                FieldId::TransferEncoding => {
                    // RFC 9112 section 6.1: the framing of such a message is faulty.
                    if minor == 0 {
                        return Err(Refusal::CodingInHttp10);
                    }
                    codings.add(value).map_err(|_| Refusal::CodingInvalid)?;
                }
                FieldId::Expect => {
                    if minor == 1 && !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::ExpectationUnknown);
                    }
                    facts.expect = true;
                }
                FieldId::XRequestId => {
                    request_ids += 1;
                    facts.request_id = Some(value);
                }
                _ => {}
            }
        }
        facts.request_id = facts
            .request_id
            .filter(|id| request_ids == 1 && is_request_id(id));
        let coding = codings.coding().map_err(|_| Refusal::CodingInvalid)?;
        facts.framing = match (coding, length) {
            (Some(_), Some(_)) => return Err(Refusal::LengthAndCoding),
            (Some(Coding::Unknown), None) => return Err(Refusal::CodingUnknown),
            (Some(Coding::Chunked), None) => BodyFraming::Chunked,
            (None, Some(length)) => BodyFraming::Length(length),
            (None, None) => BodyFraming::None,
        };
        Ok(facts)
    }

    fn has_body(&self) -> bool {
        !matches!(self.framing, BodyFraming::None | BodyFraming::Length(0))
    }

    /// The protocols the request may switch to (RFC 9110 section 7.8). One with a body, or in
    /// HTTP/1.0, is served as if it had not asked: where its body ends and the new protocol
    /// begins is a question on which peers disagree.
    fn upgrade(&self, fields: &Fields<'a>, minor: u8) -> Option<&'a [u8]> {
        if !self.connection.upgrade || minor == 0 || self.has_body() {
            return None;
        }
        let mut values = fields.by_id(FieldId::Upgrade);
        let value = values.next()?;
        (values.next().is_none() && is_forwardable_upgrade(value)).then_some(value)
    }
}

#[inline]
fn method_id(method: &[u8]) -> u8 {
    match method {
        b"GET" => 0,
        b"HEAD" => 1,
        b"POST" => 2,
        b"PUT" => 3,
        b"DELETE" => 4,
        b"PATCH" => 5,
        b"OPTIONS" => 6,
        b"TRACE" => 7,
        _ => 8,
    }
}
