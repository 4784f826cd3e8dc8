//! Cross-origin resource sharing: which pages of other origins may use a route (Fetch standard, section 3.3).

use super::Wrong;
use crate::codec::values::{elements, is_token};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

const MAX_LIST: usize = 256;
const MAX_AGE_S: u32 = 86_400;
/// Longest origin that is compared: scheme, a name of DNS, a port.
const MAX_ORIGIN: usize = 300;

/// Fields of an answer that belong to the gateway on such a route.
pub const FIELDS: [&str; 7] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
];

#[derive(Deserialize, Archive, Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cors {
    /// Serialised origins, `scheme://*.domain[:port]`, or `*` alone.
    pub allow_origins: Vec<String>,
    /// Upper case, or `*`; empty: whatever the route takes.
    #[serde(default)]
    pub allow_methods: Vec<String>,
    /// Names, or `*`.
    #[serde(default)]
    pub allow_headers: Vec<String>,
    #[serde(default)]
    pub expose_headers: Vec<String>,
    #[serde(default)]
    pub allow_credentials: bool,
    /// Seconds that a browser may remember a preflight; none: its own default.
    #[serde(default)]
    pub max_age_s: Option<u32>,
}

impl Cors {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        if self.allow_origins.is_empty() {
            wrong(
                "cors.allowOrigins",
                "names at least one origin, or *".into(),
            );
        }
        for (index, origin) in self.allow_origins.iter().enumerate() {
            if let Err(rule) = check_origin(origin) {
                wrong(&format!("cors.allowOrigins[{index}]"), rule);
            }
        }
        let names = [
            ("allowMethods", &self.allow_methods),
            ("allowHeaders", &self.allow_headers),
            ("exposeHeaders", &self.expose_headers),
        ];
        for (field, list) in names {
            for (index, name) in list.iter().enumerate() {
                if name.len() > 128 || !is_token(name.as_bytes()) {
                    wrong(
                        &format!("cors.{field}[{index}]"),
                        format!("{name:?} is not a name"),
                    );
                }
            }
        }
        for (field, list) in names
            .into_iter()
            .chain([("allowOrigins", &self.allow_origins)])
        {
            if list.len() > MAX_LIST {
                wrong(
                    &format!("cors.{field}"),
                    format!("has at most {MAX_LIST} entries"),
                );
            }
            if list.len() > 1 && list.iter().any(|name| name == "*") {
                wrong(
                    &format!("cors.{field}"),
                    "* already means all; give it alone".into(),
                );
            }
        }
        if self.allow_credentials {
            for (field, list) in [
                ("allowOrigins", &self.allow_origins),
                ("exposeHeaders", &self.expose_headers),
            ] {
                if list.iter().any(|name| name == "*") {
                    wrong(
                        &format!("cors.{field}"),
                        "cannot be * with allowCredentials".into(),
                    );
                }
            }
        }
        if self.max_age_s.is_some_and(|seconds| seconds > MAX_AGE_S) {
            wrong(
                "cors.maxAge",
                format!("must be at most {MAX_AGE_S} seconds"),
            );
        }
    }
}

/// Whether an origin is written as browsers write it (HTML standard, section 7.1.1).
///
/// # Errors
/// The rule that is broken.
pub fn check_origin(origin: &str) -> Result<(), String> {
    if origin == "*" {
        return Ok(());
    }
    if origin == "null" {
        return Err("null is the origin of any sandboxed page; if all may, write *".into());
    }
    let form = || {
        format!(
            "{origin:?} is not an origin such as https://app.example.com or https://*.example.com"
        )
    };
    let (scheme, authority) = origin.split_once("://").ok_or_else(form)?;
    let scheme_is_sound = scheme
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && scheme.starts_with(|c: char| c.is_ascii_lowercase());
    let after_port = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let (host, port) = match after_port {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (
            address,
            port.strip_prefix(':')
                .or(Some("").filter(|_| !port.is_empty())),
        ),
        Some(_) => return Err(form()),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let host_is_sound = after_port.is_some()
        || !name.is_empty()
            && !name.starts_with('.')
            && !name.ends_with('.')
            && name.bytes().all(is_host_byte);
    if !scheme_is_sound || !host_is_sound || origin.len() > MAX_ORIGIN {
        return Err(form());
    }
    match (scheme, port) {
        ("http", Some("80")) | ("https", Some("443")) => Err(format!(
            "{origin:?}: browsers leave out the port that is the scheme's own"
        )),
        (_, Some(port)) if port.starts_with('0') || port.parse::<u16>().is_err() => Err(form()),
        _ => Ok(()),
    }
}

/// Browsers write hosts in lower case, others as punycode.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
}

/// Why a preflight is not answered with a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    Origin,
    Method,
    Headers,
}

/// A preflight, as read from its request.
pub struct Preflight<'a> {
    pub origin: Option<&'a [u8]>,
    pub method: &'a [u8],
    /// Value of Access-Control-Request-Headers; empty when there is none.
    pub headers: &'a [u8],
}

impl ArchivedCors {
    fn any_origin(&self) -> bool {
        self.allow_origins.iter().any(|origin| origin == "*")
    }

    /// Whether pages of this origin may use the route.
    pub fn allows(&self, origin: &[u8]) -> bool {
        origin.len() <= MAX_ORIGIN
            && self.allow_origins.iter().any(|allowed| {
                allowed == "*"
                    || allowed.as_bytes() == origin
                    || is_below(allowed.as_bytes(), origin)
            })
    }

    /// Append the lines for an answer to a request from `origin`; None: a request that names no origin, or
    /// several. Without a right only Vary is left, which keeps caches from mixing answers up.
    pub fn write_answer(&self, out: &mut Vec<u8>, origin: Option<&[u8]>) {
        self.write_origin(out, origin);
        if origin.is_some_and(|origin| self.allows(origin)) && !self.expose_headers.is_empty() {
            push_list(out, "Access-Control-Expose-Headers", &self.expose_headers);
        }
    }

    fn write_origin(&self, out: &mut Vec<u8>, origin: Option<&[u8]>) {
        let any = self.any_origin();
        if !any {
            out.extend_from_slice(b"Vary: Origin\r\n");
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return;
        };
        push(
            out,
            "Access-Control-Allow-Origin",
            if any { b"*" } else { origin },
        );
        if self.allow_credentials {
            push(out, "Access-Control-Allow-Credentials", b"true");
        }
    }

    /// Append the lines for the answer to a preflight (Fetch standard, section 3.3.3).
    ///
    /// # Errors
    /// What is not allowed; then only Vary is written.
    pub fn write_preflight(&self, out: &mut Vec<u8>, asked: &Preflight<'_>) -> Result<(), Denied> {
        let vary = b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n";
        out.extend_from_slice(vary);
        let denied = if !asked.origin.is_some_and(|origin| self.allows(origin)) {
            Some(Denied::Origin)
        } else if !self.takes(asked.method) {
            Some(Denied::Method)
        } else if !self.takes_headers(asked.headers) {
            Some(Denied::Headers)
        } else {
            None
        };
        if let Some(denied) = denied {
            self.write_origin(out, None);
            return Err(denied);
        }
        self.write_origin(out, asked.origin);
        // What was asked for is repeated where anything goes: * says nothing to requests with credentials.
        match self.allow_methods.is_empty() || is_any(&self.allow_methods) {
            true => push(out, "Access-Control-Allow-Methods", asked.method),
            false => push_list(out, "Access-Control-Allow-Methods", &self.allow_methods),
        }
        if is_any(&self.allow_headers) {
            if !asked.headers.is_empty() {
                push(out, "Access-Control-Allow-Headers", asked.headers);
            }
        } else if !self.allow_headers.is_empty() {
            push_list(out, "Access-Control-Allow-Headers", &self.allow_headers);
        }
        if let Some(seconds) = self.max_age_s.as_ref() {
            push(
                out,
                "Access-Control-Max-Age",
                seconds.to_native().to_string().as_bytes(),
            );
        }
        Ok(())
    }

    fn takes(&self, method: &[u8]) -> bool {
        // Those that need no preflight are allowed in any case (Fetch standard, section 2.2.1).
        self.allow_methods.is_empty()
            || is_any(&self.allow_methods)
            || [&b"GET"[..], b"HEAD", b"POST"].contains(&method)
            || self
                .allow_methods
                .iter()
                .any(|known| known.as_bytes() == method)
    }

    fn takes_headers(&self, headers: &[u8]) -> bool {
        let mut asked = elements(headers).filter(|name| !name.is_empty());
        asked.all(|name| {
            let known = |n: &rkyv::string::ArchivedString| n.as_bytes().eq_ignore_ascii_case(name);
            is_token(name) && (is_any(&self.allow_headers) || self.allow_headers.iter().any(known))
        })
    }
}

fn is_any(list: &[rkyv::string::ArchivedString]) -> bool {
    list.iter().any(|name| name == "*")
}

/// Whether an origin is at or below `scheme://*.domain[:port]`'s domain, not the domain itself.
fn is_below(allowed: &[u8], origin: &[u8]) -> bool {
    let Some(star) = memchr::memmem::find(allowed, b"://*.") else {
        return false;
    };
    let (scheme, domain) = (&allowed[..star + 3], &allowed[star + 4..]);
    let inside = origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_suffix(domain));
    // Otherwise `https://evil.com/.example.com` would be below example.com.
    inside.is_some_and(|inside| {
        !inside.is_empty() && !inside.starts_with(b".") && inside.iter().all(|&b| is_host_byte(b))
    })
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    crate::codec::encode::push_field(out, name, value);
}

fn push_list(out: &mut Vec<u8>, name: &str, list: &[rkyv::string::ArchivedString]) {
    out.extend_from_slice(name.as_bytes());
    for (index, item) in list.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b": " } else { b", " });
        out.extend_from_slice(item.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn cors(document: &Value) -> Cors {
        serde_json::from_value(document.clone()).unwrap()
    }

    fn problems(document: Value) -> Vec<String> {
        let mut found = Vec::new();
        cors(&document).check(&mut |path, _| found.push(path.to_owned()));
        found
    }

    fn with<R>(document: Value, look: impl FnOnce(&ArchivedCors) -> R) -> R {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&cors(&document)).unwrap();
        look(rkyv::access::<ArchivedCors, rkyv::rancor::Error>(&bytes).unwrap())
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        for good in [
            "*",
            "https://a.example",
            "http://localhost:3000",
            "https://*.a.example:8443",
            "http://[::1]:1",
            "http://[::1]",
            "app+x://host",
        ] {
            assert_eq!(check_origin(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "null",
            "a.example",
            "https://",
            "https://a.example/",
            "https://A.example",
            "HTTPS://a",
            "https://a:443",
            "http://a:80",
            "https://a:0",
            "https://a:70000",
            "https://a:",
            "https://*",
            "https://*.",
            "https://a.*.b",
            "https://u@a",
            "https://a b",
            "http://[::g]",
            "http://[::1]x",
        ] {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_go_with_named_origins_only() {
        assert_eq!(
            problems(json!({"allowOrigins": ["*"], "allowCredentials": true})),
            ["cors.allowOrigins"]
        );
        assert_eq!(
            problems(json!({"allowOrigins": ["https://a", "*"]})),
            ["cors.allowOrigins"]
        );
        assert_eq!(problems(json!({"allowOrigins": []})), ["cors.allowOrigins"]);
        assert_eq!(
            problems(json!({"allowOrigins": ["*"], "allowMethods": ["A B"]})),
            ["cors.allowMethods[0]"]
        );
        assert_eq!(
            problems(
                json!({"allowOrigins": ["https://a"], "exposeHeaders": ["*"], "allowCredentials": true})
            ),
            ["cors.exposeHeaders"]
        );
        assert_eq!(
            problems(json!({"allowOrigins": ["https://a"], "maxAgeS": 90_000})),
            ["cors.maxAge"]
        );
    }

    #[test]
    fn an_origin_is_compared_whole() {
        with(
            json!({"allowOrigins": ["https://app.example", "https://*.b.example:8443"]}),
            |cors| {
                for good in [
                    "https://app.example",
                    "https://x.b.example:8443",
                    "https://x.y.b.example:8443",
                ] {
                    assert!(cors.allows(good.as_bytes()), "{good}");
                }
                for bad in [
                    "http://app.example",
                    "https://app.example.evil",
                    "https://xapp.example",
                    "null",
                    "",
                    "https://b.example:8443",
                    "https://.b.example:8443",
                    "https://xb.example:8443",
                    "https://evil/.b.example:8443",
                    "https://u@x.b.example:8443",
                    "https://x.b.example",
                ] {
                    assert!(!cors.allows(bad.as_bytes()), "{bad}");
                }
            },
        );
    }

    #[test]
    fn a_preflight_gets_what_it_asked_for_or_nothing() {
        let document = json!({"allowOrigins": ["https://a"], "allowMethods": ["PUT"], "allowHeaders": ["X-One"],
                              "allowCredentials": true, "maxAgeS": 60});
        with(document, |cors| {
            let ask = |origin: &'static str, method: &'static str, headers: &'static str| {
                let mut out = Vec::new();
                let asked = Preflight {
                    origin: Some(origin.as_bytes()),
                    method: method.as_bytes(),
                    headers: headers.as_bytes(),
                };
                let result = cors.write_preflight(&mut out, &asked);
                (result, String::from_utf8(out).unwrap())
            };
            let (result, lines) = ask("https://a", "PUT", "x-one");
            assert_eq!(result, Ok(()));
            assert_eq!(lines, "Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n\
                Vary: Origin\r\nAccess-Control-Allow-Origin: https://a\r\nAccess-Control-Allow-Credentials: true\r\n\
                Access-Control-Allow-Methods: PUT\r\nAccess-Control-Allow-Headers: X-One\r\n\
                Access-Control-Max-Age: 60\r\n");
            assert_eq!(ask("https://a", "GET", "").0, Ok(()));
            for (origin, method, headers, denied) in [
                ("https://b", "PUT", "", Denied::Origin),
                ("https://a", "DELETE", "", Denied::Method),
                ("https://a", "PUT", "X-One, X-Two", Denied::Headers),
                ("https://a", "PUT", "X-One\u{0}", Denied::Headers),
            ] {
                let (result, lines) = ask(origin, method, headers);
                assert_eq!(result, Err(denied));
                assert!(!lines.contains("Access-Control-Allow"), "{lines}");
            }
        });
    }
}
