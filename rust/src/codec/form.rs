//! The four forms of a request target (RFC 9112 section 3.2).

use super::target::{normalise, split_query, Target};
use super::values::is_host;
use super::verdict::Refusal;

/// A target and, if it named one, the authority that overrides Host.
pub(super) struct Resolved<'a> {
    pub target: Target<'a>,
    pub authority: Option<&'a [u8]>,
}

/// Sorts out the form. CONNECT is not implemented (501): a gateway is no tunnel.
#[inline]
pub(super) fn resolve_target<'a>(
    method: &[u8],
    target: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<Resolved<'a>, Refusal> {
    if target.first() == Some(&b'/') && method != b"CONNECT" {
        return Ok(Resolved {
            target: normalise(target, scratch)?,
            authority: None,
        });
    }
    resolve_other_target(method, target, scratch)
}

#[inline(never)]
fn resolve_other_target<'a>(
    method: &[u8],
    target: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<Resolved<'a>, Refusal> {
    const ASTERISK: Target<'static> = Target {
        path: b"*",
        query: None,
        verbatim: false,
    };
    if method == b"CONNECT" {
        return Err(Refusal::ConnectMethod);
    }
    let options = method == b"OPTIONS";
    if target == b"*" && options {
        return Ok(Resolved {
            target: ASTERISK,
            authority: None,
        });
    }
    let after_scheme = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(|scheme| &target[scheme.len()..])
        .ok_or(Refusal::TargetForm)?;
    let end = after_scheme
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(after_scheme.len());
    let (authority, rest) = after_scheme.split_at(end);
    // User information is refused with the rest: RFC 9110 section 4.2.4.
    if !is_host(authority) {
        return Err(Refusal::HostInvalid);
    }
    let target = match rest.first() {
        Some(b'/') => normalise(rest, scratch)?,
        None if options => ASTERISK, // RFC 9112 section 3.2.4
        _ => Target {
            path: b"/",
            query: split_query(rest)?,
            verbatim: false,
        },
    };
    Ok(Resolved {
        target,
        authority: Some(authority),
    })
}
