//! Response heads from backends: RFC 9112 sections 4 to 6. Anything a client could read
//! differently from us is the backend's fault and becomes a 502.

use std::mem::MaybeUninit;

use super::fields::{collect, Fault, FieldId, Fields};
use super::values::{content_length, is_asked_for, Coding, ConnectionOptions, TransferCodings};
use super::verdict::BadGateway;
use super::{BodyFraming, Limits, Scratch, MAX_FIELDS};

/// What the request determines about its response.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseContext<'a> {
    /// The request was HEAD: the response has no body, whatever its fields say.
    pub head_request: bool,
    /// The protocols that the request asked to switch to: 101 is a possible answer.
    pub upgrade: Option<&'a [u8]>,
}

/// A response head, read in place.
#[derive(Clone, Copy)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub version_minor: u8,
    /// May be empty.
    pub reason: &'a [u8],
    pub framing: BodyFraming,
    /// Content-Length of a response without a body (HEAD, 304): describes, does not frame.
    pub described_length: Option<u64>,
    /// Whether the backend's connection may serve another request after this body.
    pub keep_alive: bool,
    pub fields: Fields<'a>,
    /// Bytes of the buffer that the head takes; the body begins there.
    pub head_len: usize,
    pub(super) connection: ConnectionOptions,
}

impl<'a> ResponseHead<'a> {
    /// Value of the first field of that name.
    #[inline]
    pub fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.fields.get(name)
    }

    /// Whether the final response is yet to come (RFC 9110 section 15.2). 101 is final here: what
    /// follows it is the new protocol.
    #[inline]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads one response head from the start of `buf`; `None` while it is incomplete.
///
/// # Errors
/// The fault, for which the gateway answers 502 and drops the backend's connection.
pub fn parse_response<'a>(
    buf: &'a [u8],
    ctx: &ResponseContext<'_>,
    limits: &Limits,
    scratch: &'a mut Scratch,
) -> Result<Option<ResponseHead<'a>>, BadGateway> {
    let window = &buf[..buf.len().min(limits.head_window())];
    // httparse skips empty lines here; only requests may have one (RFC 9112 section 2.2).
    if !window.is_empty() && window[0] != b'H' {
        return Err(BadGateway::StatusLine);
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        window,
        &mut headers,
    );
    let head_len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if window.len() == limits.head_window() => {
            return Err(BadGateway::HeadTooLarge)
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(fault_for(error)),
    };
    let (Some(status @ 100..=999), Some(minor)) = (response.code, response.version) else {
        return Err(BadGateway::StatusLine);
    };
    if response.headers.len() > limits.fields {
        return Err(BadGateway::TooManyFields);
    }
    let (spans, present) = collect(buf, response.headers, head_len, &mut scratch.spans).map_err(
        |fault| match fault {
            Fault::LineEnding => BadGateway::LineEnding,
            Fault::NameTooLong => BadGateway::FieldName,
        },
    )?;
    let fields = Fields {
        buf,
        spans,
        present,
        end: head_len - 2,
    };
    let facts = Facts::read(&fields, minor)?;
    if status < 200 && minor == 0 {
        return Err(BadGateway::StatusLine); // RFC 9110 section 15.2: HTTP/1.0 has none
    }
    if status == 101 && !is_switch(&fields, ctx.upgrade) {
        return Err(BadGateway::UnexpectedUpgrade);
    }
    let bodiless = ctx.head_request || status < 200 || status == 204 || status == 304;
    let framing = match (bodiless, facts.chunked, facts.length) {
        (true, _, _) => BodyFraming::None,
        (false, true, _) => BodyFraming::Chunked,
        (false, false, Some(length)) => BodyFraming::Length(length),
        (false, false, None) => BodyFraming::UntilClose,
    };
    let describes = bodiless && status != 204 && status >= 200;
    // RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid both fields here. A backend that sends
    // them may send a body too: its connection is not used again.
    let suspicious = (status < 200 || status == 204)
        && (facts.chunked || facts.length.is_some_and(|length| length > 0));
    let persistent = !facts.connection.close && (minor == 1 || facts.connection.keep_alive);
    Ok(Some(ResponseHead {
        status,
        version_minor: minor,
        reason: response.reason.unwrap_or_default().as_bytes(),
        framing,
        described_length: facts.length.filter(|_| describes && !facts.chunked),
        keep_alive: persistent
            && status != 101
            && framing != BodyFraming::UntilClose
            && !suspicious,
        fields,
        head_len,
        connection: facts.connection,
    }))
}

/// Whether a 101 names the protocol it switches to, and the request had named it (RFC 9110 section 7.8).
#[cold]
fn is_switch(fields: &Fields<'_>, asked: Option<&[u8]>) -> bool {
    let mut chosen = fields.by_id(FieldId::Upgrade);
    let named = fields.has(FieldId::Upgrade.bit());
    named && asked.is_some_and(|asked| chosen.all(|chosen| is_asked_for(asked, chosen)))
}

/// What the fields say, gathered in one pass.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    connection: ConnectionOptions,
}

impl Facts {
    #[inline]
    fn read(fields: &Fields<'_>, minor: u8) -> Result<Self, BadGateway> {
        const READ: u32 = FieldId::Connection.bit()
            | FieldId::ContentLength.bit()
            | FieldId::TransferEncoding.bit();
        let mut facts = Facts::default();
        let mut codings = TransferCodings::default();
        for span in fields.spans {
            if span.id.bit() & READ == 0 {
                continue;
            }
            let value = fields.value(span);
            match span.id {
                FieldId::Connection => facts
                    .connection
                    .add(value)
                    .map_err(|_| BadGateway::ConnectionOptions)?,
                FieldId::ContentLength => {
                    let value = content_length(value).map_err(|_| BadGateway::LengthInvalid)?;
                    // RFC 9112 section 6.3 would let the same value pass if repeated; no sane server does.
                    if facts.length.replace(value).is_some() {
                        return Err(BadGateway::LengthInvalid);
                    }
                }
                _ if minor == 0 => return Err(BadGateway::CodingInHttp10),
                _ => codings
                    .add(value)
                    .map_err(|_| BadGateway::CodingUnsupported)?,
            }
        }
        facts.chunked = match codings.coding() {
            Ok(None) => false,
            Ok(Some(Coding::Chunked)) => true,
            _ => return Err(BadGateway::CodingUnsupported),
        };
        match facts.chunked && facts.length.is_some() {
            true => Err(BadGateway::LengthAndCoding),
            false => Ok(facts),
        }
    }
}

#[cold]
fn fault_for(error: httparse::Error) -> BadGateway {
    match error {
        httparse::Error::TooManyHeaders => BadGateway::TooManyFields,
        httparse::Error::HeaderName => BadGateway::FieldName,
        httparse::Error::HeaderValue => BadGateway::FieldValue,
        httparse::Error::NewLine => BadGateway::LineEnding,
        _ => BadGateway::StatusLine,
    }
}
