//! Hosts of a route: exact names and `*.suffix`, compared without case and without the port.

/// A host rule, lower-cased.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostRule {
    /// `a.example.com`, an IPv4 address, or an IPv6 address in brackets.
    Exact(Box<str>),
    /// `*.example.com`, kept as `example.com`: any name below it, at any depth, not the name itself.
    Suffix(Box<str>),
}

/// Longest name that DNS allows (RFC 1035 section 2.3.4), and the longest that is looked up.
pub const MAX_HOST: usize = 253;

impl HostRule {
    /// Read a rule.
    ///
    /// # Errors
    /// The rule of the syntax that is broken.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (suffix, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err("a host is a name, an address or *.name".into());
        }
        if name.len() > MAX_HOST {
            return Err(format!("a host has at most {MAX_HOST} characters"));
        }
        if name.starts_with('[') {
            return address(name, suffix);
        }
        if name.contains(':') {
            return Err("a host has no port; requests are matched whatever their port".into());
        }
        if name.contains('*') {
            return Err("* stands only at the start of a host, as in *.example.com".into());
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err("each label of a host has 1 to 63 characters".into());
            }
            if !label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return Err(
                    "a host has letters, digits, '-', '_' and '.' (use punycode for others)".into(),
                );
            }
        }
        Ok(if suffix {
            Self::Suffix(name.into())
        } else {
            Self::Exact(name.into())
        })
    }

    /// Order among rules that match one request: exact, then the longer suffix.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Suffix(name) => (1, MAX_HOST - name.len()),
        }
    }
}

fn address(name: &str, suffix: bool) -> Result<HostRule, String> {
    let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match inner.map(str::parse::<std::net::Ipv6Addr>) {
        Some(Ok(_)) if !suffix => Ok(HostRule::Exact(name.into())),
        _ => Err("brackets hold one IPv6 address".into()),
    }
}

/// A request's host, ready to be looked up: lower-cased into a buffer on the stack, without its port.
pub struct HostKey {
    bytes: [u8; MAX_HOST + 1],
    len: usize,
}

impl HostKey {
    /// Take the value of a Host field. A host longer than any rule becomes the empty key, which
    /// matches the routes for any host only.
    #[inline]
    pub fn new(host: &[u8]) -> Self {
        let name = without_port(host);
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut key = Self {
            bytes: [0; MAX_HOST + 1],
            len: 0,
        };
        if name.len() <= MAX_HOST {
            key.len = name.len();
            key.bytes[..name.len()].copy_from_slice(name);
            key.bytes[..name.len()].make_ascii_lowercase();
        }
        key
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The suffixes that a wildcard may match, longest first: `b.c` and `c` for `a.b.c`.
    #[inline]
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.as_bytes();
        std::iter::from_fn(move || {
            let dot = memchr::memchr(b'.', rest)?;
            rest = &rest[dot + 1..];
            Some(rest)
        })
    }
}

#[inline]
fn without_port(host: &[u8]) -> &[u8] {
    let from = if host.first() == Some(&b'[') {
        memchr::memchr(b']', host).unwrap_or(0)
    } else {
        0
    };
    match memchr::memchr(b':', &host[from..]) {
        Some(colon) if from > 0 || host.first() != Some(&b'[') => &host[..from + colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        assert_eq!(
            HostRule::parse("A.Example.COM"),
            Ok(HostRule::Exact("a.example.com".into()))
        );
        assert_eq!(
            HostRule::parse("a.com."),
            Ok(HostRule::Exact("a.com".into()))
        );
        assert_eq!(
            HostRule::parse("*.Example.com"),
            Ok(HostRule::Suffix("example.com".into()))
        );
        assert_eq!(
            HostRule::parse("[::1]"),
            Ok(HostRule::Exact("[::1]".into()))
        );
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            "a.*.b",
            "a.com:80",
            "a b",
            "bücher.de",
            "[::1",
            "*.[::1]",
            "[1.2.3.4]",
        ] {
            assert!(HostRule::parse(bad).is_err(), "{bad}");
        }
        assert!(HostRule::parse(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn more_specific_rules_come_first() {
        let order = ["z.example.com", "*.b.example.com", "*.example.com", "*.com"];
        let keys: Vec<_> = order
            .iter()
            .map(|h| HostRule::parse(h).unwrap().specificity())
            .collect();
        assert!(keys.windows(2).all(|w| w[0] < w[1]), "{keys:?}");
    }

    #[test]
    fn a_request_host_loses_case_and_port() {
        for (raw, key) in [
            ("A.com", "a.com"),
            ("a.com:8080", "a.com"),
            ("a.com.", "a.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
            (":80", ""),
            ("[", "["),
            ("[::1", "[::1"),
        ] {
            assert_eq!(
                HostKey::new(raw.as_bytes()).as_bytes(),
                key.as_bytes(),
                "{raw}"
            );
        }
        assert_eq!(HostKey::new(&[b'a'; 5000]).as_bytes(), b"");
    }

    #[test]
    fn suffixes_run_from_long_to_short() {
        let key = HostKey::new(b"a.b.c");
        assert_eq!(key.suffixes().collect::<Vec<_>>(), [&b"b.c"[..], b"c"]);
        assert_eq!(HostKey::new(b"localhost").suffixes().count(), 0);
    }
}
