//! The address of a backend: `http://` or `https://`, a host and perhaps a port, nothing else.

use crate::route::host::HostRule;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a backend is. One string holds its identity, `scheme://host:port`; the rest are parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    identity: Box<str>,
    pub tls: bool,
    /// The socket address, where the host is an IP address.
    pub literal: Option<SocketAddr>,
}

impl Origin {
    /// Read a backend's URL.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn parse(url: &str) -> Result<Self, String> {
        let lower = url.to_ascii_lowercase();
        let (tls, rest) = match (
            lower.strip_prefix("http://"),
            lower.strip_prefix("https://"),
        ) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("a backend URL starts with http:// or https://".into()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("a backend URL has no user or password".into());
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(
                "a backend URL has no path, query or fragment: requests keep their own".into(),
            );
        }
        let (host, port) = split_port(rest)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        let (host, ip) = host_and_ip(host)?;
        let scheme = if tls { "https" } else { "http" };
        let identity = format!("{scheme}://{host}:{port}").into();
        Ok(Self {
            identity,
            tls,
            literal: ip.map(|ip| SocketAddr::new(ip, port)),
        })
    }

    /// `scheme://host:port`, in lower case, the port always written.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// `host:port`, the name under which resolved addresses are given.
    pub fn host_port(&self) -> &str {
        let scheme = if self.tls { "https://" } else { "http://" };
        &self.identity[scheme.len()..]
    }

    /// The host alone, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        let host = self.host_port();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Host and, unless it is the scheme's own, port (RFC 9110 section 7.2).
    pub fn authority(&self) -> &str {
        let own = if self.tls { ":443" } else { ":80" };
        self.host_port()
            .strip_suffix(own)
            .unwrap_or(self.host_port())
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let from = text.find(']').unwrap_or(0);
    let Some(colon) = text[from..].find(':').map(|at| from + at) else {
        return Ok((text, None));
    };
    let digits = &text[colon + 1..];
    match digits.parse::<u16>() {
        Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok((&text[..colon], Some(port)))
        }
        _ => Err("the port of a backend URL is a number from 1 to 65535".into()),
    }
}

fn host_and_ip(host: &str) -> Result<(String, Option<IpAddr>), String> {
    if let Some(inner) = host.strip_prefix('[') {
        let ip: Option<Ipv6Addr> = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
        let ip = ip.ok_or("brackets hold one IPv6 address")?;
        return Ok((format!("[{ip}]"), Some(ip.into())));
    }
    let name = match HostRule::parse(host) {
        Ok(HostRule::Exact(name)) => name,
        Ok(HostRule::Suffix(_)) => return Err("a backend URL has one host, not a wildcard".into()),
        Err(rule) => return Err(rule),
    };
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Ok((ip.to_string(), Some(ip.into())));
    }
    // Resolvers read 127.1, 0x7f000001 or 2130706433 as addresses; a check against lists does not.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err(format!(
            "'{name}' is neither a host name nor an IPv4 address in dotted form"
        ));
    }
    Ok((name.into(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_origin() {
        for (url, identity, authority) in [
            (
                "http://Users.internal:9001",
                "http://users.internal:9001",
                "users.internal:9001",
            ),
            ("http://a/", "http://a:80", "a"),
            ("HTTPS://a:443", "https://a:443", "a"),
            ("https://a:80", "https://a:80", "a:80"),
            ("http://[0:0::1]:80", "http://[::1]:80", "[::1]"),
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080",
                "127.0.0.1:8080",
            ),
        ] {
            let origin = Origin::parse(url).unwrap();
            assert_eq!(
                (origin.identity(), origin.authority()),
                (identity, authority),
                "{url}"
            );
            assert!(origin.identity().ends_with(origin.host_port()));
            assert_eq!(
                origin.literal.is_some(),
                url.contains("[") || url.contains("127"),
                "{url}"
            );
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        for url in [
            "",
            "a:80",
            "ftp://a",
            "http://",
            "http:///",
            "http://a/b",
            "http://a?x",
            "http://u:p@a",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:",
            "http://*.a",
            "http://a b",
            "http://127.1",
            "http://0x7f1",
            "http://2130706433",
            "http://1.2.3.256",
            "http://[::1",
            "http://[::1]x",
            "http://[fe80::1%25eth0]",
            "http://a\r\nb",
            "http://a:1:2",
        ] {
            assert!(Origin::parse(url).is_err(), "{url:?}");
        }
    }
}
