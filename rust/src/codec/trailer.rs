//! Which trailer fields may travel (RFC 9110 section 6.5.1).

/// Longest name kept while deciding; no name of the list is longer.
pub const LONGEST: usize = 31;

/// Fields that mean something before the body is read, so that a late one would get past whoever
/// decided by the head: framing, routing, request modifiers, authentication, response control,
/// content format, hop-by-hop fields and what gateways set. In lower case, with `-`.
const FORBIDDEN: &[&[u8]] = &[
    b"accept-encoding",
    b"age",
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"expect",
    b"expires",
    b"forwarded",
    b"host",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"keep-alive",
    b"location",
    b"max-forwards",
    b"pragma",
    b"proxy",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"vary",
    b"via",
    b"warning",
    b"www-authenticate",
    b"x-real-ip",
    b"x-request-id",
];

/// Whether a trailer field is dropped. `_` counts as `-`, as CGI and WSGI backends read it.
pub fn is_forbidden(name: &[u8]) -> bool {
    let mut folded = [0u8; LONGEST];
    let Some(folded) = folded.get_mut(..name.len()) else {
        return false;
    };
    for (to, from) in folded.iter_mut().zip(name) {
        *to = match from {
            b'_' => b'-',
            byte => byte.to_ascii_lowercase(),
        };
    }
    let folded = &*folded;
    folded.starts_with(b"x-forwarded-") || FORBIDDEN.binary_search(&folded).is_ok()
}
