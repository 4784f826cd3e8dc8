//! Request heads that are incomplete or invalid: the limits, and the reason of a refusal.

use super::verdict::Refusal;
use super::Limits;

/// Longest method that is forwarded; the registry's longest has 17 characters.
pub(super) const MAX_METHOD: usize = 64;

/// More bytes are needed.
pub(super) struct Unfinished;

/// At most one empty line may precede the request line (RFC 9112 section 2.2).
#[inline]
pub(super) fn check_leading(buf: &[u8], start: usize) -> Result<(), Refusal> {
    match start {
        0 => Ok(()),
        2 if buf.starts_with(b"\r\n") => Ok(()),
        _ => Err(Refusal::LeadingLines),
    }
}

/// Applies the limits to a request line that is not complete, or not valid.
#[cold]
pub(super) fn check_beginning(buf: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let start = buf
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n'))
        .unwrap_or(buf.len());
    if start > 2 || (start > 0 && !b"\r\n".starts_with(&buf[..start])) {
        return Err(Refusal::LeadingLines);
    }
    let line = &buf[start..];
    let method = line.iter().position(|&b| b == b' ');
    if method.unwrap_or(line.len()) > MAX_METHOD {
        return Err(Refusal::MethodTooLong);
    }
    let Some(method) = method else {
        return Ok(());
    };
    let target = &line[method + 1..];
    let end = target
        .iter()
        .position(|b| matches!(b, b' ' | b'\r' | b'\n'));
    match end.unwrap_or(target.len()) > limits.target {
        true => Err(Refusal::TargetTooLong),
        false => Ok(()),
    }
}

/// Names the reason for which httparse gave up.
#[cold]
pub(super) fn refusal_for(
    error: httparse::Error,
    buf: &[u8],
    limits: &Limits,
) -> Result<Unfinished, Refusal> {
    check_beginning(buf, limits)?;
    Err(match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::NewLine => Refusal::LineEnding,
        httparse::Error::Version => {
            let start = if buf.starts_with(b"\r\n") { 2 } else { 0 };
            let line = &buf[start..];
            match line.iter().position(|&b| b == b'\n') {
                Some(end) if names_other_version(&line[..end]) => Refusal::VersionUnsupported,
                Some(_) => Refusal::RequestLine,
                None => return unfinished(buf, limits),
            }
        }
        _ => Refusal::RequestLine,
    })
}

/// Whether a request line has three parts and ends in an HTTP version (RFC 9112 section 2.3).
fn names_other_version(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|&b| b == b' ').skip(2);
    let is_version = matches!(
        parts.next(),
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit()
    );
    is_version && parts.next().is_none()
}

/// An incomplete head, if it may still grow.
pub(super) fn unfinished(buf: &[u8], limits: &Limits) -> Result<Unfinished, Refusal> {
    match buf.len() >= limits.head_window() {
        true => Err(Refusal::HeadTooLarge),
        false => Ok(Unfinished),
    }
}
