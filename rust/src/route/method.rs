//! Request methods as small numbers, and sets of them as one word.
//!
//! The numbers are the same in every snapshot and every process, so a counter keyed by one outlives
//! the configuration. A route may list any method that is registered with IANA (and QUERY and PURGE,
//! which are in wide use); a method nobody registered reaches only the routes that take every method.

/// Names by number. New names go to the end: the numbers are kept in shared memory.
const NAMES: [&str; 40] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "QUERY",
    "PURGE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

pub const GET: u8 = 0;
pub const HEAD: u8 = 1;
pub const POST: u8 = 2;
pub const PUT: u8 = 3;
pub const DELETE: u8 = 4;
pub const PATCH: u8 = 5;
pub const OPTIONS: u8 = 6;
pub const TRACE: u8 = 7;
pub const CONNECT: u8 = 8;
/// Every method without a number of its own.
pub const OTHER: u8 = 63;

/// No method has this number.
pub const UNUSED: u8 = 62;

/// GET to TRACE: what is listed where every method is taken.
pub const USUAL: u64 = 0xFF;

/// The set of all methods (`*`).
pub const ALL: u64 = u64::MAX;

/// The number of a method as written in a request; names are case-sensitive (RFC 9110 section 9.1).
#[inline]
pub fn id(name: &[u8]) -> u8 {
    match name {
        b"GET" => GET,
        b"HEAD" => HEAD,
        b"POST" => POST,
        b"PUT" => PUT,
        b"DELETE" => DELETE,
        b"PATCH" => PATCH,
        b"OPTIONS" => OPTIONS,
        _ => rare(name),
    }
}

#[cold]
fn rare(name: &[u8]) -> u8 {
    NAMES
        .iter()
        .position(|known| known.as_bytes() == name)
        .map_or(OTHER, |n| n as u8)
}

/// The name of a method number; `OTHER` and numbers that are not in use have none.
pub fn name(id: u8) -> Option<&'static str> {
    NAMES.get(usize::from(id)).copied()
}

/// The names in a set, in the order of their numbers: the value of an Allow field.
pub fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .enumerate()
        .filter(move |(n, _)| mask >> n & 1 == 1)
        .map(|(_, name)| *name)
}

/// The set that a route's list means. An empty list means all.
///
/// # Errors
/// The index of the bad entry, and the rule it breaks.
pub fn mask<S: AsRef<str>>(list: &[S]) -> Result<u64, (usize, String)> {
    if list.is_empty() {
        return Ok(ALL);
    }
    let mut mask = 0;
    for (index, entry) in list.iter().enumerate() {
        let entry = entry.as_ref();
        mask |= match id(entry.as_bytes()) {
            _ if entry == "*" => ALL,
            CONNECT => {
                return Err((
                    index,
                    "CONNECT asks for a tunnel and is never routed".into(),
                ))
            }
            OTHER if id(entry.to_ascii_uppercase().as_bytes()) != OTHER => {
                return Err((
                    index,
                    format!("methods are written in upper case, not '{entry}'"),
                ));
            }
            OTHER => {
                return Err((
                    index,
                    format!("'{entry}' is not a registered method; use * to accept every method"),
                ));
            }
            known => 1 << known,
        };
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for (n, known) in NAMES.iter().enumerate() {
            assert_eq!(usize::from(id(known.as_bytes())), n);
            assert_eq!(name(n as u8), Some(*known));
        }
        assert_eq!(id(b"get"), OTHER);
        assert_eq!(id(b""), OTHER);
        assert_eq!(name(OTHER), None);
    }

    #[test]
    fn a_list_becomes_a_set() {
        assert_eq!(mask::<&str>(&[]), Ok(ALL));
        assert_eq!(mask(&["GET", "POST"]), Ok(0b101));
        assert_eq!(mask(&["GET", "*"]), Ok(ALL));
        assert_eq!(names(0b101).collect::<Vec<_>>(), ["GET", "POST"]);
    }

    #[test]
    fn a_bad_entry_is_named() {
        assert_eq!(mask(&["GET", "get"]).unwrap_err().0, 1);
        assert!(mask(&["get"]).unwrap_err().1.contains("upper case"));
        assert!(mask(&["FETCH"]).unwrap_err().1.contains("FETCH"));
        assert!(mask(&["CONNECT"]).unwrap_err().1.contains("tunnel"));
    }
}
