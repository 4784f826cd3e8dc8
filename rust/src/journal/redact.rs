//! Values of query parameters, and of path parameters, that must not be told to anybody.

use std::borrow::Cow;

/// Names whose values are hidden where nobody says otherwise.
pub const USUAL: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "api_token",
    "apikey",
    "assertion",
    "auth",
    "auth_token",
    "authorization",
    "client_assertion",
    "client_secret",
    "code",
    "credential",
    "id_token",
    "jsessionid",
    "jwt",
    "key",
    "otp",
    "passphrase",
    "passwd",
    "password",
    "phpsessid",
    "private_token",
    "pwd",
    "refresh_token",
    "samlresponse",
    "secret",
    "session",
    "session_id",
    "sessionid",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
];

const HIDDEN: &[u8] = b"***";

/// Which names are hidden.
pub struct Redaction {
    /// In lower case.
    names: Vec<Box<[u8]>>,
}

impl Redaction {
    /// The usual names, and others.
    pub fn and<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(USUAL.iter().copied().chain(names))
    }

    /// Just these.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes().into_boxed_slice();
        Self {
            names: names.into_iter().map(lower).collect(),
        }
    }

    /// Append a query as it may be seen: `a=1&token=***`.
    pub fn write(&self, out: &mut Vec<u8>, query: &[u8]) {
        // Both have been separators (HTML 4.01, appendix B.2.2): what a backend takes for one is one here.
        self.write_pairs(out, query, true, |byte| matches!(byte, b'&' | b';'));
    }

    /// A path as it may be seen. Segments may have parameters (RFC 3986 section 3.3): `/a;jsessionid=***/b`.
    pub fn path<'p>(&self, path: &'p [u8]) -> Cow<'p, [u8]> {
        let Some(at) = memchr::memchr(b';', path) else {
            return Cow::Borrowed(path);
        };
        let mut out = path[..=at].to_vec();
        for (index, part) in path[at + 1..].split_inclusive(|&b| b == b'/').enumerate() {
            self.write_pairs(&mut out, part, index == 0, |byte| {
                matches!(byte, b';' | b'/')
            });
        }
        Cow::Owned(out)
    }

    /// Pairs between separators; the first piece is one only if `pairs` says so.
    fn write_pairs(
        &self,
        out: &mut Vec<u8>,
        text: &[u8],
        mut pairs: bool,
        separates: impl Fn(u8) -> bool,
    ) {
        for piece in text.split_inclusive(|&byte| separates(byte)) {
            let (pair, separator) = match piece.split_last() {
                Some((&last, pair)) if separates(last) => (pair, Some(last)),
                _ => (piece, None),
            };
            match memchr::memchr(b'=', pair) {
                Some(at) if pairs && self.hides(&pair[..at]) => {
                    out.extend_from_slice(&pair[..=at]);
                    out.extend_from_slice(HIDDEN);
                }
                _ => out.extend_from_slice(pair),
            }
            out.extend(separator);
            pairs = true;
        }
    }

    /// Whether a name, as it stands in a query, is one of those that are hidden, or has one in it as forms
    /// nest them: `user[password]`, `login.token`.
    fn hides(&self, name: &[u8]) -> bool {
        if self.has(name) {
            return true;
        }
        // `%`: one of the others may be behind it.
        if !name.iter().any(|b| matches!(b, b'[' | b']' | b'.' | b'%')) {
            return false;
        }
        let (mut part, mut rest) = (name, Decoded(name));
        loop {
            let before = rest.0.len();
            match rest.next() {
                Some(b'[' | b']' | b'.') => {
                    if self.has(&part[..part.len() - before]) {
                        return true;
                    }
                    part = rest.0;
                }
                Some(_) => {}
                None => return self.has(part),
            }
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        let matches = |wanted: &[u8]| {
            let mut decoded = Decoded(name);
            let mut wanted = wanted.iter();
            loop {
                match (decoded.next(), wanted.next()) {
                    (None, None) => return true,
                    (Some(byte), Some(&other)) if byte.to_ascii_lowercase() == other => {}
                    _ => return false,
                }
            }
        };
        !name.is_empty() && self.names.iter().any(|wanted| matches(wanted))
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self::new(USUAL.iter().copied())
    }
}

/// The bytes of a name, percent-decoded: a backend decodes it too.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (byte, rest) {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                self.0 = after;
                return Some((high * 16 + low) as u8);
            }
        }
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(query: &str) -> String {
        let mut out = Vec::new();
        Redaction::default().write(&mut out, query.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_of_secrets_are_hidden() {
        for (query, shown) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("token=abc", "token=***"),
            ("a=1&Token=abc&b", "a=1&Token=***&b"),
            ("to%6Ben=abc", "to%6Ben=***"),
            ("token=a=b&x", "token=***&x"),
            ("x;password=1;y", "x;password=***;y"),
            ("tokens=1&mytoken=2&token", "tokens=1&mytoken=2&token"),
            ("token=", "token=***"),
            ("&&=&token=x&", "&&=&token=***&"),
            ("%zz=1&%=2&key=%", "%zz=1&%=2&key=***"),
            ("token=1&token=2", "token=***&token=***"),
            ("%74%6F%4Ben=1", "%74%6F%4Ben=***"),
            ("token[]=1&token%5B0%5D=2", "token[]=***&token%5B0%5D=***"),
            (
                "user[password]=1&user[name]=a",
                "user[password]=***&user[name]=a",
            ),
            ("a.token=1&a.b=2&token.a=3", "a.token=***&a.b=2&token.a=***"),
            ("[]=1&.=2&a[=3", "[]=1&.=2&a[=3"),
        ] {
            assert_eq!(seen(query), shown);
        }
    }

    #[test]
    fn parameters_of_a_paths_segments_are_looked_at_too() {
        let redaction = Redaction::default();
        for (path, shown) in [
            ("/", "/"),
            ("/token=1/b", "/token=1/b"),
            ("/a;JSESSIONID=12/b", "/a;JSESSIONID=***/b"),
            (
                "/a;v=1;token=2;w/token=3/b;sig=4",
                "/a;v=1;token=***;w/token=3/b;sig=***",
            ),
            (";;=/;/;token=", ";;=/;/;token=***"),
        ] {
            assert_eq!(redaction.path(path.as_bytes()), shown.as_bytes());
        }
    }

    #[test]
    fn the_list_is_the_operators() {
        let mut out = Vec::new();
        Redaction::new(["Ticket"]).write(&mut out, b"token=1&ticket=2");
        assert_eq!(out, b"token=1&ticket=***");
    }
}
