//! Request targets in one form, the same for matching and for forwarding.
//!
//! Rules: percent-encoded unreserved characters are decoded, other percent-encodings get capital
//! hex digits (RFC 3986 section 6.2.2), dot segments are resolved after decoding (section 5.2.4).
//! Refused: a path above the root; an empty segment other than the last (`//`), which backends
//! merge or keep as they like; raw backslashes, controls, bytes above 0x7E and `#`; encoded
//! controls; segments that become dot segments for a backend that decodes `%2F` or `%5C` or cuts
//! path parameters (`..%2Fadmin`, `..;/admin`). The query is visible ASCII and never changed.

use super::verdict::Refusal;

/// A target split at the first `?`, its path normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
    /// The path is the client's own bytes.
    pub verbatim: bool,
}

/// What a byte of a path asks for; everything from `CONTROL` on is refused.
const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const QUESTION: u8 = 2;
const PERCENT: u8 = 3;
const FORBIDDEN: u8 = 4;

static CLASS: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'/' => SLASH,
            b'?' => QUESTION,
            b'%' => PERCENT,
            b'\\' | b'#' | 0..=0x20 | 0x7F..=0xFF => FORBIDDEN,
            _ => PLAIN,
        };
        b += 1;
    }
    table
};

/// Normalises `target`, which must begin with `/`. `scratch` holds the path if it had to change.
///
/// # Errors
/// A [`Refusal`] of status 400 that names the rule.
#[inline]
pub fn normalise<'a>(target: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Target<'a>, Refusal> {
    if target.first() != Some(&b'/') {
        return Err(Refusal::TargetForm);
    }
    let mut at = 0;
    let mut clean = true;
    while let Some(&byte) = target.get(at) {
        match CLASS[usize::from(byte)] {
            PLAIN => {}
            // A dot may be part of a name (`/.well-known`): the slow way decides.
            SLASH => clean &= !matches!(target.get(at + 1), Some(b'/' | b'.')),
            PERCENT => clean = false,
            QUESTION => break,
            _ => return Err(Refusal::TargetCharacter),
        }
        at += 1;
    }
    let (path, rest) = target.split_at(at);
    let query = split_query(rest)?;
    if clean {
        return Ok(Target {
            path,
            query,
            verbatim: true,
        });
    }
    scratch.clear();
    resolve(path, scratch)?;
    Ok(Target {
        path: scratch,
        query,
        verbatim: false,
    })
}

/// The query of what follows a path: nothing, or `?` and visible ASCII.
#[inline]
pub(super) fn split_query(rest: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let Some((&mark, query)) = rest.split_first() else {
        return Ok(None);
    };
    // No early exit: this loop becomes vector instructions.
    let bad = query.iter().fold(mark != b'?', |bad, &b| {
        bad | !(0x21..=0x7E).contains(&b) | (b == b'#')
    });
    match bad {
        true => Err(Refusal::TargetCharacter),
        false => Ok(Some(query)),
    }
}

/// Appends the normal form of `path` to `out`, segment by segment.
#[inline(never)]
fn resolve(path: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut segments = path.split(|&b| b == b'/').skip(1).peekable();
    while let Some(raw) = segments.next() {
        let last = segments.peek().is_none();
        if raw.is_empty() && !last {
            return Err(Refusal::TargetEmptySegment);
        }
        let parent = out.len();
        out.push(b'/');
        decode(raw, out)?;
        match &out[parent + 1..] {
            b"." => out.truncate(parent),
            b".." => {
                out.truncate(parent);
                match out.iter().rposition(|&b| b == b'/') {
                    Some(slash) => out.truncate(slash),
                    None => return Err(Refusal::TargetAboveRoot),
                }
            }
            segment => {
                if has_disguised_dots(segment) {
                    return Err(Refusal::TargetAmbiguous);
                }
                continue;
            }
        }
        if last {
            out.push(b'/');
        }
    }
    Ok(())
}

/// Appends one segment with unreserved characters decoded and other hex digits in capitals.
fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(Refusal::TargetPercent);
        };
        rest = tail;
        let (Some(h), Some(l)) = (hex(*high), hex(*low)) else {
            return Err(Refusal::TargetPercent);
        };
        match h << 4 | l {
            0..=0x1F | 0x7F => return Err(Refusal::TargetControl),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(b),
            _ => {
                out.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()])
            }
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// Whether a decoded segment that is no dot segment becomes one where `%2F` and `%5C` separate or
/// `;` begins a parameter.
fn has_disguised_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let separator = rest
            .windows(3)
            .position(|window| window == b"%2F" || window == b"%5C");
        let part = separator.map_or(rest, |at| &rest[..at]);
        let name = part.split(|&b| b == b';').next().unwrap_or_default();
        if name == b"." || name == b".." {
            return true;
        }
        match separator {
            Some(at) => rest = &rest[at + 3..],
            None => return false,
        }
    }
}
