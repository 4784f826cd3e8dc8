//! Values of query parameters that must not be told to anybody.

/// Names whose values are hidden where nobody says otherwise.
pub const USUAL: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "client_secret",
    "code",
    "credential",
    "id_token",
    "jwt",
    "key",
    "passwd",
    "password",
    "private_token",
    "pwd",
    "refresh_token",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
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
        for piece in query.split_inclusive(|&byte| matches!(byte, b'&' | b';')) {
            let (pair, separator) = match piece.split_last() {
                Some((last @ (b'&' | b';'), pair)) => (pair, Some(*last)),
                _ => (piece, None),
            };
            match memchr::memchr(b'=', pair) {
                Some(at) if self.hides(&pair[..at]) => {
                    out.extend_from_slice(&pair[..=at]);
                    out.extend_from_slice(HIDDEN);
                }
                _ => out.extend_from_slice(pair),
            }
            out.extend(separator);
        }
    }

    /// Whether a name, as it stands in a query, is one of those that are hidden.
    fn hides(&self, name: &[u8]) -> bool {
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
        self.names.iter().any(|wanted| matches(wanted))
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
        ] {
            assert_eq!(seen(query), shown);
        }
    }

    #[test]
    fn the_list_is_the_operators() {
        let mut out = Vec::new();
        Redaction::new(["Ticket"]).write(&mut out, b"token=1&ticket=2");
        assert_eq!(out, b"token=1&ticket=***");
    }
}
