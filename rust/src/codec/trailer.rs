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
    b"upgrade",
    b"vary",
    b"via",
    b"warning",
    b"www-authenticate",
    b"x-real-ip",
    b"x-request-id",
];

/// What becomes of a trailer field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Dropped,
    /// It would frame the message again: whoever sends it is not to be trusted with the next one.
    Refused,
}

/// The fate of a field by its name. `_` counts as `-`, as CGI and WSGI backends read it.
pub fn fate(name: &[u8]) -> Fate {
    let mut folded = [0u8; LONGEST];
    let Some(folded) = folded.get_mut(..name.len()) else {
        return Fate::Kept;
    };
    for (to, from) in folded.iter_mut().zip(name) {
        *to = match from {
            b'_' => b'-',
            byte => byte.to_ascii_lowercase(),
        };
    }
    let folded = &*folded;
    if folded == b"content-length" || folded == b"transfer-encoding" {
        return Fate::Refused;
    }
    match folded.starts_with(b"x-forwarded-") || FORBIDDEN.binary_search(&folded).is_ok() {
        true => Fate::Dropped,
        false => Fate::Kept,
    }
}
