//! Why a head was refused, and which answer that is.

/// A request the gateway answers itself and whose connection it closes: what follows a head that
/// could not be understood cannot be told apart from a body (RFC 9112 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    RequestLine,
    LineEnding,
    LeadingLines,
    FieldName,
    FieldValue,
    HostMissing,
    HostInvalid,
    TargetForm,
    TargetCharacter,
    TargetPercent,
    TargetControl,
    TargetEmptySegment,
    TargetAboveRoot,
    TargetAmbiguous,
    ConnectionOptions,
    LengthInvalid,
    LengthAndCoding,
    CodingInHttp10,
    CodingInvalid,
    CodingUnknown,
    ExpectationUnknown,
    ConnectMethod,
    MethodTooLong,
    VersionUnsupported,
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        use Refusal::*;
        match self {
            TargetTooLong => 414,
            ExpectationUnknown => 417,
            HeadTooLarge | TooManyFields => 431,
            CodingUnknown | ConnectMethod | MethodTooLong => 501,
            VersionUnsupported => 505,
            _ => 400,
        }
    }

    /// One sentence for the client; never quotes what it sent.
    pub fn message(self) -> &'static str {
        use Refusal::*;
        match self {
            RequestLine => "The request line is malformed.",
            LineEnding => "Lines must end with CR LF.",
            LeadingLines => "At most one empty line may precede a request.",
            FieldName => "A header field name is malformed.",
            FieldValue => "A header field value holds a forbidden character.",
            HostMissing => "The Host header field is missing.",
            HostInvalid => "The Host header field is invalid or repeated.",
            TargetForm => "The request target has a form this gateway does not serve.",
            TargetCharacter => "The request target holds a forbidden character.",
            TargetPercent => "The request target holds a malformed percent-encoding.",
            TargetControl => "The request target holds an encoded control character.",
            TargetEmptySegment => "The path holds an empty segment.",
            TargetAboveRoot => "The path leads above the root.",
            TargetAmbiguous => "The path holds a disguised dot segment.",
            ConnectionOptions => "The Connection header field is malformed.",
            LengthInvalid => "The Content-Length header field is invalid or repeated.",
            LengthAndCoding => "Content-Length and Transfer-Encoding exclude each other.",
            CodingInHttp10 => "HTTP/1.0 knows no Transfer-Encoding.",
            CodingInvalid => "The Transfer-Encoding header field is invalid.",
            CodingUnknown => "The transfer coding is not implemented.",
            ExpectationUnknown => "The expectation cannot be met.",
            ConnectMethod => "The CONNECT method is not implemented.",
            MethodTooLong => "The method is not implemented.",
            VersionUnsupported => "The HTTP version is not supported.",
            TargetTooLong => "The request target is too long.",
            HeadTooLarge => "The request head is too large.",
            TooManyFields => "The request has too many header fields.",
        }
    }
}

/// A response that cannot be relayed safely: answered with 502, its connection dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BadGateway {
    StatusLine,
    LineEnding,
    FieldName,
    FieldValue,
    ConnectionOptions,
    LengthInvalid,
    LengthAndCoding,
    CodingInHttp10,
    CodingUnsupported,
    UnexpectedUpgrade,
    HeadTooLarge,
    TooManyFields,
}

impl BadGateway {
    /// What the backend did wrong, for logs and the answer.
    pub fn reason(self) -> &'static str {
        use BadGateway::*;
        match self {
            StatusLine => "The backend sent a malformed status line.",
            LineEnding => "The backend ended a line without CR LF.",
            FieldName => "The backend sent a malformed header field name.",
            FieldValue => "The backend sent a malformed header field value.",
            ConnectionOptions => "The backend sent a malformed Connection header field.",
            LengthInvalid => "The backend sent an invalid Content-Length.",
            LengthAndCoding => "The backend sent Content-Length with Transfer-Encoding.",
            CodingInHttp10 => "The backend sent Transfer-Encoding in HTTP/1.0.",
            CodingUnsupported => "The backend sent an unsupported transfer coding.",
            UnexpectedUpgrade => "The backend switched to a protocol that nobody asked for.",
            HeadTooLarge => "The backend sent a head that is too large.",
            TooManyFields => "The backend sent too many header fields.",
        }
    }
}

/// Why a chunked body was refused: 400 for a request, an aborted connection for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Malformed {
    Size,
    SizeTooLarge,
    LineEnding,
    Extension,
    ExtensionTooLong,
    Trailer,
    TrailersTooLong,
}

impl Malformed {
    /// One sentence for the answer or the log.
    pub fn reason(self) -> &'static str {
        match self {
            Malformed::Size => "A chunk size is malformed.",
            Malformed::SizeTooLarge => "A chunk size is too large.",
            Malformed::LineEnding => "A line of the chunked body does not end with CR LF.",
            Malformed::Extension => "A chunk extension holds a forbidden character.",
            Malformed::ExtensionTooLong => "A chunk extension is too long.",
            Malformed::Trailer => "A trailer field is malformed.",
            Malformed::TrailersTooLong => "The trailer section is too large.",
        }
    }
}

/// The machine-readable code of an error answer.
pub fn code_for(status: u16) -> &'static str {
    match status {
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        405 => "METHOD_NOT_ALLOWED",
        408 => "REQUEST_TIMEOUT",
        413 => "PAYLOAD_TOO_LARGE",
        414 => "URI_TOO_LONG",
        415 => "UNSUPPORTED_MEDIA_TYPE",
        417 => "EXPECTATION_FAILED",
        429 => "RATE_LIMIT_EXCEEDED",
        431 => "REQUEST_HEADER_TOO_LARGE",
        501 => "NOT_IMPLEMENTED",
        502 => "BAD_GATEWAY",
        503 => "SERVICE_UNAVAILABLE",
        504 => "GATEWAY_TIMEOUT",
        505 => "HTTP_VERSION_NOT_SUPPORTED",
        508 => "LOOP_DETECTED",
        _ => "INTERNAL_ERROR",
    }
}

/// The reason phrase of a status the gateway answers with.
pub fn phrase_for(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}
