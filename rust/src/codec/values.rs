//! The grammar of single field values.

use super::fields::is_token_byte;

/// Most connection options a message may list: each nominated name costs a comparison per field.
const MAX_OPTIONS: usize = 32;

/// Longest X-Request-ID that is kept.
const MAX_REQUEST_ID: usize = 128;

/// A value that does not follow its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// What the Connection field says (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Names other fields, which then belong to this connection only.
    pub nominates: bool,
    count: u8,
}

impl ConnectionOptions {
    /// Adds the options of one Connection field line.
    #[inline]
    pub fn add(&mut self, value: &[u8]) -> Result<(), Invalid> {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        if value.eq_ignore_ascii_case(b"close") {
            self.close = true;
            return Ok(());
        }
        self.add_list(value)
    }

    #[inline(never)]
    fn add_list(&mut self, value: &[u8]) -> Result<(), Invalid> {
        for option in elements(value) {
            // Empty elements count too: whoever is nominated is looked up in the whole list.
            self.count += 1;
            if usize::from(self.count) > MAX_OPTIONS {
                return Err(Invalid);
            }
            if option.is_empty() {
                continue; // RFC 9110 section 5.6.1.2: recipients accept a few
            }
            if !is_token(option) {
                return Err(Invalid);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !option.eq_ignore_ascii_case(b"te") {
                self.nominates = true;
            }
        }
        Ok(())
    }
}

/// What a Transfer-Encoding value asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Chunked,
    /// Chunked on top of a coding we do not implement.
    Unknown,
}

/// Reads the Transfer-Encoding lines of a message as the one list they are (RFC 9110 section 5.3).
#[derive(Clone, Copy, Default)]
pub struct TransferCodings {
    any: bool,
    unknown: bool,
    ends_chunked: bool,
}

impl TransferCodings {
    /// Adds one line (RFC 9112 sections 6.1 and 7). Chunked twice or not last, chunked with
    /// parameters, and empty elements are errors.
    #[inline]
    pub fn add(&mut self, value: &[u8]) -> Result<(), Invalid> {
        self.any = true;
        for element in elements(value) {
            let name = match element.iter().position(|&b| b == b';') {
                Some(at) => trim(&element[..at]),
                None => element,
            };
            let chunked = name.eq_ignore_ascii_case(b"chunked");
            if self.ends_chunked || !is_token(name) || (chunked && name.len() != element.len()) {
                return Err(Invalid);
            }
            self.unknown |= !chunked;
            self.ends_chunked = chunked;
        }
        Ok(())
    }

    /// What the lines ask for; `None` without any. A list that does not end in chunked leaves the
    /// end of the body open (RFC 9112 section 6.3).
    #[inline]
    pub fn coding(self) -> Result<Option<Coding>, Invalid> {
        match (self.any, self.ends_chunked, self.unknown) {
            (false, _, _) => Ok(None),
            (true, false, _) => Err(Invalid),
            (true, true, false) => Ok(Some(Coding::Chunked)),
            (true, true, true) => Ok(Some(Coding::Unknown)),
        }
    }
}

/// Reads a Content-Length (RFC 9110 section 8.6): digits only, at most 2^63 - 1 so that it fits
/// every signed counter down the line.
#[inline]
pub fn content_length(value: &[u8]) -> Result<u64, Invalid> {
    if value.is_empty() {
        return Err(Invalid);
    }
    let mut length: u64 = 0;
    for &byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Invalid);
        }
        length = match length.checked_mul(10) {
            Some(tens) if tens <= i64::MAX as u64 - u64::from(digit) => tens + u64::from(digit),
            _ => return Err(Invalid),
        };
    }
    Ok(length)
}

/// Whether a Host or authority is `uri-host [ ":" port ]` with a non-empty host (RFC 9110 section
/// 7.2). Of reg-name only what names hosts in practice is taken: letters, digits and `-._~`.
/// Percent-encoding and sub-delims are refused, because backends disagree about them.
#[inline]
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => {
            let Some(end) = value.iter().position(|&b| b == b']') else {
                return false;
            };
            let inside = &value[1..end];
            let literal = inside.len() >= 2
                && inside
                    .iter()
                    .all(|&b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
            if !literal {
                return false;
            }
            (inside, &value[end + 1..])
        }
        _ => {
            let end = value
                .iter()
                .position(|&b| !HOST_BYTE[usize::from(b)])
                .unwrap_or(value.len());
            (&value[..end], &value[end..])
        }
    };
    !host.is_empty() && is_port_suffix(port)
}

/// Nothing, or a colon and a port; RFC 3986 section 3.2.3 lets the digits be absent.
fn is_port_suffix(rest: &[u8]) -> bool {
    let Some((&colon, digits)) = rest.split_first() else {
        return true;
    };
    let port = digits.iter().try_fold(0u32, |port, &b| {
        b.is_ascii_digit()
            .then(|| port * 10 + u32::from(b - b'0'))
            .filter(|&port| port <= 65_535)
    });
    colon == b':' && port.is_some()
}

static HOST_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        table[b] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        b += 1;
    }
    table
};

/// Whether a client's X-Request-ID may be kept: 1 to 128 of `[A-Za-z0-9._-]`, so that it can be
/// logged and copied into JSON as it is.
#[inline]
pub fn is_request_id(value: &[u8]) -> bool {
    !value.is_empty()
        && value.len() <= MAX_REQUEST_ID
        && value
            .iter()
            .all(|&b| HOST_BYTE[usize::from(b)] && b != b'~')
}

/// Whether a protocol list of Upgrade (RFC 9110 section 7.8) may be passed on. HTTP/2 and TLS are
/// withheld: either would carry requests past the route table.
pub fn is_forwardable_upgrade(value: &[u8]) -> bool {
    let mut any = false;
    for protocol in elements(value) {
        let name = protocol.split(|&b| b == b'/').next().unwrap_or_default();
        let version = protocol.get(name.len() + 1..).unwrap_or(b"0");
        let withheld = [&b"h2"[..], b"h2c", b"h3", b"http", b"tls"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        if withheld || !is_token(name) || !is_token(version) {
            return false;
        }
        any = true;
    }
    any
}

/// Whether a server may switch to `chosen` (the value of Upgrade in its 101) when the request asked for
/// `asked`: only to what was named (RFC 9110 section 7.8). A version that was asked for must be met.
pub fn is_asked_for(asked: &[u8], chosen: &[u8]) -> bool {
    elements(chosen).all(|chosen| {
        is_token(chosen.split(|&b| b == b'/').next().unwrap_or_default())
            && elements(asked).any(|asked| {
                let name = chosen.get(..asked.len()).unwrap_or_default();
                asked.eq_ignore_ascii_case(name)
                    && matches!(chosen.get(asked.len()), None | Some(b'/'))
            })
    })
}

/// Whether a Via element names this gateway as a recipient (RFC 9110 section 7.6.3).
pub fn is_own_hop(element: &[u8]) -> bool {
    let mut words = element
        .split(|&b| b == b' ' || b == b'\t')
        .filter(|w| !w.is_empty());
    words.nth(1) == Some(super::PSEUDONYM.as_bytes())
}

/// Whether a media range list takes JSON (RFC 9110 section 12.5.1): the most specific range that
/// covers `application/json` decides, by its weight. Returns (specificity, accepted).
pub fn json_preference(value: &[u8]) -> (u8, bool) {
    let mut best = (0, false);
    for element in elements(value) {
        let mut parts = element.split(|&b| b == b';').map(trim);
        let range = parts.next().unwrap_or_default();
        let specificity = if range.eq_ignore_ascii_case(b"application/json") {
            3
        } else if range.eq_ignore_ascii_case(b"application/*") {
            2
        } else if range == b"*/*" {
            1
        } else {
            continue;
        };
        let refused = parts.any(is_zero_weight);
        if specificity > best.0 {
            best = (specificity, !refused);
        }
    }
    best
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some(weight) = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))
    else {
        return false;
    };
    weight.first() == Some(&b'0') && weight.iter().all(|b| matches!(b, b'0' | b'.'))
}

/// The elements of a comma-separated list, without surrounding blanks.
pub fn elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

/// Whether the bytes are one token (RFC 9110 section 5.6.2).
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// Without the blanks (SP, HTAB) around it.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
