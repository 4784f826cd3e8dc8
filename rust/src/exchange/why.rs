//! The gateway's own answers: why it did not forward, and what the client is told.

use crate::journal::flags::Flag;

/// An answer by the gateway: status, code and message of the error body.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
    /// Counts against the backend.
    pub backend_failed: bool,
    /// Why, for access log and traces; None: it is no refusal.
    pub flag: Option<Flag>,
}

const fn gateway(flag: Flag, status: u16, code: &'static str, message: &'static str) -> Answer {
    Answer {
        status,
        code,
        message,
        backend_failed: false,
        flag: Some(flag),
    }
}

const fn backend(flag: Flag, status: u16, code: &'static str, message: &'static str) -> Answer {
    Answer {
        status,
        code,
        message,
        backend_failed: true,
        flag: Some(flag),
    }
}

/// By number, as `refuse` gets it (`HS_WHY_…` of core_api.h).
const REASONS: [Answer; 15] = [
    backend(
        Flag::ConnectFailed,
        502,
        "BAD_GATEWAY",
        "The backend could not be reached.",
    ),
    backend(
        Flag::ConnectFailed,
        504,
        "GATEWAY_TIMEOUT",
        "The backend did not accept a connection in time.",
    ),
    gateway(
        Flag::PoolFull,
        503,
        "SERVICE_UNAVAILABLE",
        "All connections to the backend are in use.",
    ),
    backend(
        Flag::BackendClosed,
        502,
        "BAD_GATEWAY",
        "The backend closed the connection before it answered.",
    ),
    backend(
        Flag::BackendTimeout,
        504,
        "GATEWAY_TIMEOUT",
        "The backend did not answer in time.",
    ),
    backend(
        Flag::BackendMalformed,
        502,
        "BAD_GATEWAY",
        "The backend's answer is malformed.",
    ),
    gateway(
        Flag::RequestTooLarge,
        413,
        "PAYLOAD_TOO_LARGE",
        "The request body is larger than this route allows.",
    ),
    gateway(
        Flag::ResponseTooLarge,
        502,
        "BAD_GATEWAY",
        "The backend's answer is larger than this route allows.",
    ),
    gateway(
        Flag::Malformed,
        400,
        "BAD_REQUEST",
        "The request body's framing is malformed.",
    ),
    gateway(
        Flag::ClientTooSlow,
        408,
        "REQUEST_TIMEOUT",
        "The request did not arrive in time.",
    ),
    gateway(
        Flag::NoSocket,
        503,
        "SERVICE_UNAVAILABLE",
        "The gateway has no socket left for the backend.",
    ),
    gateway(
        Flag::NoHealthyBackend,
        503,
        "SERVICE_UNAVAILABLE",
        "No backend of this route can take the request.",
    ),
    gateway(
        Flag::MiddlewareFailed,
        500,
        "INTERNAL_ERROR",
        "The gateway failed.",
    ),
    gateway(
        Flag::MiddlewareTimeout,
        504,
        "GATEWAY_TIMEOUT",
        "The request was not processed in time.",
    ),
    backend(
        Flag::TlsFailed,
        502,
        "BAD_GATEWAY",
        "The TLS handshake with the backend failed.",
    ),
];

/// Why the data plane ended an exchange that had its answer, or none to get (`HS_WHY_…` too).
const CLIENT_SLOW: i32 = 15;
const STREAM_IDLE: i32 = 16;
const STOPPED: i32 = 17;
const INTERNAL: i32 = 18;

/// The flag of a reason of the data plane.
pub fn flag(why: i32) -> Option<Flag> {
    match why {
        CLIENT_SLOW => Some(Flag::ClientTooSlow),
        STREAM_IDLE => Some(Flag::StreamIdle),
        STOPPED => Some(Flag::Stopped),
        INTERNAL => Some(Flag::Internal),
        why => answer(why).flag,
    }
}

pub const CONNECT_FAILED: i32 = 0;
pub const CONNECT_TIMEOUT: i32 = 1;
pub const BACKEND_CLOSED: i32 = 3;
pub const BACKEND_TIMEOUT: i32 = 4;
pub const RESPONSE_TOO_LARGE: i32 = 7;
pub const NO_BACKEND_LEFT: i32 = 11;
pub const TLS_FAILED: i32 = 14;

/// Whether nothing can have been sent.
pub fn is_unconnected(why: i32) -> bool {
    matches!(why, CONNECT_FAILED | CONNECT_TIMEOUT | TLS_FAILED)
}

/// The answer for a reason; an unknown one is a malfunction of the gateway.
pub fn answer(why: i32) -> Answer {
    usize::try_from(why)
        .ok()
        .and_then(|index| REASONS.get(index).copied())
        .unwrap_or(gateway(
            Flag::Internal,
            500,
            "INTERNAL_ERROR",
            "The gateway failed.",
        ))
}

pub const NOT_FOUND: Answer = gateway(
    Flag::NoRoute,
    404,
    "NOT_FOUND",
    "No route matches this request.",
);
pub const METHOD_NOT_ALLOWED: Answer = gateway(
    Flag::MethodNotAllowed,
    405,
    "METHOD_NOT_ALLOWED",
    "The route does not take this method.",
);
pub const NO_BACKEND: Answer = REASONS[11];
pub const NO_CONFIGURATION: Answer = gateway(
    Flag::NoConfiguration,
    503,
    "SERVICE_UNAVAILABLE",
    "The gateway has no configuration yet.",
);
pub const RATE_LIMITED: Answer = gateway(
    Flag::RateLimited,
    429,
    "RATE_LIMIT_EXCEEDED",
    "Too many requests. Retry-After says when to try again.",
);
/// The same by the node's own limit.
pub const CLIENT_LIMITED: Answer = Answer {
    flag: Some(Flag::ClientLimited),
    ..RATE_LIMITED
};
/// Backends would be fit, but for their circuit breakers.
pub const CIRCUIT_OPEN: Answer = Answer {
    flag: Some(Flag::CircuitOpen),
    ..NO_BACKEND
};
pub const LAST_HOP: Answer = gateway(
    Flag::LastHop,
    501,
    "NOT_IMPLEMENTED",
    "The request ends at this gateway (Max-Forwards: 0), which does not answer it.",
);
/// An answer that refuses nothing.
const OWN: Answer = Answer {
    status: 204,
    code: "",
    message: "",
    backend_failed: false,
    flag: None,
};
/// The answer to OPTIONS by the gateway itself.
pub const OPTIONS: Answer = OWN;
pub const LOOP: Answer = gateway(
    Flag::Loop,
    508,
    "LOOP_DETECTED",
    "The request has come through this gateway too often.",
);
pub const TOO_LARGE: Answer = REASONS[6];
/// The route is wrong, not the request: it must show where failures are counted.
pub const REWRITE_FAILED: Answer = gateway(
    Flag::RewriteFailed,
    500,
    "REWRITE_FAILED",
    "The route's rewritePath makes no valid path of this request's.",
);
pub const HOST_FAILED: Answer = gateway(
    Flag::RewriteFailed,
    500,
    "REWRITE_FAILED",
    "The Host header that the route sets is not valid for this request.",
);
pub const HEAD_GREW: Answer = gateway(
    Flag::HeadGrew,
    431,
    "REQUEST_HEADER_TOO_LARGE",
    "With what the route adds to it, the request head is too large.",
);
pub const PREFLIGHT: Answer = OWN;

const fn denied(message: &'static str) -> Answer {
    gateway(Flag::CorsDenied, 403, "CORS_DENIED", message)
}

pub const CORS_ORIGIN: Answer = denied("This route does not allow requests from that origin.");
pub const CORS_METHOD: Answer = denied("This route does not allow that method from other origins.");
pub const CORS_HEADERS: Answer =
    denied("This route does not allow those headers from other origins.");
pub const NO_CREDENTIALS: Answer = gateway(
    Flag::Unauthorized,
    401,
    "UNAUTHORIZED",
    "This route needs credentials.",
);
pub const BAD_CREDENTIALS: Answer = gateway(
    Flag::Unauthorized,
    401,
    "UNAUTHORIZED",
    "The credentials are not valid, or no longer.",
);
pub const NOT_ALLOWED: Answer = gateway(
    Flag::Unauthorized,
    403,
    "FORBIDDEN",
    "The credentials do not allow this.",
);
pub const NO_KEYS: Answer = gateway(
    Flag::NoKeys,
    503,
    "SERVICE_UNAVAILABLE",
    "The keys that credentials are verified with are not available yet.",
);
pub const UNSUPPORTED_TYPE: Answer = gateway(
    Flag::Invalid,
    415,
    "UNSUPPORTED_MEDIA_TYPE",
    "This route does not take a body of this type.",
);
pub const NOT_VALID: Answer = gateway(
    Flag::Invalid,
    400,
    "VALIDATION_ERROR",
    "The request is not what this route takes.",
);
