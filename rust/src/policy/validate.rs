//! Request validation: what a request has to look like before a backend sees it.
//!
//! What the head decides is decided here; a JSON Schema needs the body, which the data plane collects
//! first.

use super::{schema, within, Wrong};
use crate::codec::{self, BodyFraming, Detail, RequestHead};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

const MAX_ITEMS: u64 = 64;
const MAX_SCHEMA: u64 = 256 * 1024;
/// Of what a client sent, this much is told back.
const SHOWN: usize = 80;

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Validation {
    /// `type/subtype`, `type/*` or `*/*`, without parameters; empty: any.
    pub content_types: Vec<String>,
    /// Bytes.
    pub max_body_size: Option<u64>,
    pub required_headers: Vec<String>,
    pub required_query: Vec<String>,
    /// JSON Schema (2020-12) as JSON text.
    pub json_schema: Option<String>,
}

impl Validation {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        for (field, count) in [
            ("validation.contentTypes", self.content_types.len()),
            ("validation.requiredHeaders", self.required_headers.len()),
            ("validation.requiredQuery", self.required_query.len()),
        ] {
            if count as u64 > MAX_ITEMS {
                wrong(field, format!("must have at most {MAX_ITEMS} items"));
            }
        }
        for (index, range) in self.content_types.iter().enumerate() {
            if !is_media_range(range.as_bytes()) {
                wrong(
                    &format!("validation.contentTypes[{index}]"),
                    "must be type/subtype or type/*, without parameters".into(),
                );
            }
        }
        for (index, name) in self.required_headers.iter().enumerate() {
            if !codec::is_token(name.as_bytes()) {
                wrong(
                    &format!("validation.requiredHeaders[{index}]"),
                    "must be a field name (RFC 9110 section 5.1)".into(),
                );
            }
        }
        for (index, name) in self.required_query.iter().enumerate() {
            if name.is_empty() {
                wrong(
                    &format!("validation.requiredQuery[{index}]"),
                    "must not be empty".into(),
                );
            }
        }
        if let Some(bytes) = self.max_body_size {
            within(wrong, "validation.maxBodySize", bytes, 1, i64::MAX as u64);
        }
        if let Some(text) = &self.json_schema {
            if text.len() as u64 > MAX_SCHEMA {
                wrong(
                    "validation.jsonSchema",
                    format!("must have at most {MAX_SCHEMA} bytes as JSON"),
                );
            } else if let Err(rule) = schema::check(text) {
                wrong("validation.jsonSchema", rule);
            }
        }
    }
}

fn is_media_range(range: &[u8]) -> bool {
    let mut parts = range.splitn(2, |&b| b == b'/');
    let (kind, sub) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    codec::is_token(kind) && codec::is_token(sub) && (kind != b"*" || sub == b"*")
}

/// What a request head is refused for.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// 415
    ContentType,
    /// 413
    TooLarge,
    /// 400
    Missing,
}

impl ArchivedValidation {
    /// Bytes a request body may have.
    pub fn max_body(&self) -> Option<u64> {
        self.max_body_size.as_ref().map(|bytes| bytes.to_native())
    }

    /// Hold a head against the rules; what is wrong with it goes into `details`.
    ///
    /// # Errors
    /// The first kind of fault: type, size, what is missing.
    pub fn admit(&self, head: &RequestHead<'_>, details: &mut Vec<Detail>) -> Result<(), Fault> {
        let length = match head.framing {
            BodyFraming::Length(length) => length,
            BodyFraming::Chunked => 1, // at least, as far as anyone can tell now
            BodyFraming::None | BodyFraming::UntilClose => 0,
        };
        if length > 0 && !self.content_types.is_empty() {
            self.check_type(head, details)?;
        }
        if let Some(most) = self.max_body() {
            if length > most {
                details.push(Detail {
                    field: "body".into(),
                    rule: "max_body_size",
                    message: format!("the body must have at most {most} bytes"),
                });
                return Err(Fault::TooLarge);
            }
        }
        for name in self.required_headers.iter() {
            if head.fields.all(name.as_bytes()).all(<[u8]>::is_empty) {
                details.push(required("headers", "header", name));
            }
        }
        for name in self.required_query.iter() {
            if !has_parameter(head.query.unwrap_or_default(), name.as_bytes()) {
                details.push(required("query", "query parameter", name));
            }
        }
        if details.is_empty() {
            Ok(())
        } else {
            Err(Fault::Missing)
        }
    }

    fn check_type(&self, head: &RequestHead<'_>, details: &mut Vec<Detail>) -> Result<(), Fault> {
        let mut values = head.fields.all(b"content-type");
        // Of two, who knows which one the backend goes by.
        let given = match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => b"",
        };
        let given = given
            .split(|&b| b == b';')
            .next()
            .map_or(given, codec::trim);
        if self
            .content_types
            .iter()
            .any(|range| covers(range.as_bytes(), given))
        {
            return Ok(());
        }
        let allowed: Vec<&str> = self.content_types.iter().map(|range| &**range).collect();
        let given = match given {
            b"" => "the request has no single content type".into(),
            given => format!("{} is not taken", shown(given)),
        };
        details.push(Detail {
            field: "headers.Content-Type".into(),
            rule: "content_type",
            message: format!("{given}; send {}", allowed.join(", ")),
        });
        Err(Fault::ContentType)
    }
}

fn required(place: &str, kind: &str, name: &str) -> Detail {
    Detail {
        field: format!("{place}.{name}"),
        rule: "required",
        message: format!("the {kind} {name} is required"),
    }
}

/// As text, and not more than anyone wants to read.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes)).into_owned()
}

/// Whether a media range (RFC 9110 section 12.5.1) covers a media type.
fn covers(range: &[u8], given: &[u8]) -> bool {
    if range == b"*/*" {
        return is_media_range(given) && !given.contains(&b'*');
    }
    match range.strip_suffix(b"*") {
        Some(kind) => {
            given.len() > kind.len()
                && given
                    .get(..kind.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(kind))
        }
        None => range.eq_ignore_ascii_case(given),
    }
}

/// Whether the query (`application/x-www-form-urlencoded`) has a parameter of that name with a value.
fn has_parameter(query: &[u8], name: &[u8]) -> bool {
    query.split(|&b| b == b'&').any(|pair| {
        let mut parts = pair.splitn(2, |&b| b == b'=');
        let key = parts.next().unwrap_or_default();
        parts.next().is_some_and(|value| !value.is_empty()) && decodes_to(key, name)
    })
}

/// Whether `encoded`, with `%xx` and `+` undone, is `want`.
fn decodes_to(encoded: &[u8], want: &[u8]) -> bool {
    let mut rest = encoded;
    for &byte in want {
        let (have, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => return false,
            },
            [b'+', after @ ..] => (b' ', after),
            [byte, after @ ..] => (*byte, after),
            [] => return false,
        };
        if have != byte {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{parse_request, Limits, Scratch};

    fn rules(text: &str) -> Validation {
        serde_json::from_str(text).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        rules(text).check(&mut |field, message| found.push(format!("{field}: {message}")));
        found
    }

    /// The fault of a request with this line, further fields and these rules, and the fields it names.
    fn judged(text: &str, request: &str) -> (Option<Fault>, Vec<String>) {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&rules(text)).unwrap();
        let rules = rkyv::access::<ArchivedValidation, rkyv::rancor::Error>(&bytes).unwrap();
        let mut scratch = Scratch::new();
        let raw = format!("{request}\r\nHost: a\r\n\r\n");
        let head = parse_request(raw.as_bytes(), &Limits::default(), &mut scratch)
            .unwrap()
            .unwrap();
        let mut details = Vec::new();
        let fault = rules.admit(&head, &mut details).err();
        (
            fault,
            details.into_iter().map(|detail| detail.field).collect(),
        )
    }

    #[test]
    fn a_body_has_one_of_the_types() {
        let rules = r#"{"contentTypes": ["application/json", "image/*"]}"#;
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "image/png",
            "application/json;a=b;c",
        ] {
            let request = format!("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Type: {good}");
            assert_eq!(judged(rules, &request), (None, vec![]), "{good}");
        }
        for bad in [
            "text/html",
            "imagex/png",
            "image/",
            "application/json+x",
            "",
        ] {
            let request = format!("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Type: {bad}");
            assert_eq!(judged(rules, &request).0, Some(Fault::ContentType), "{bad}");
        }
        let twice = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\
                     Content-Type: image/png\r\nContent-Type: text/html";
        assert_eq!(judged(rules, twice).0, Some(Fault::ContentType));
        assert_eq!(judged(rules, "GET / HTTP/1.1").0, None, "no body, no type");
        assert_eq!(
            judged(rules, "POST / HTTP/1.1\r\nContent-Length: 0").0,
            None
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let rules = r#"{"requiredHeaders": ["X-Tenant"], "requiredQuery": ["page size", "q"]}"#;
        let (fault, fields) = judged(rules, "GET /?q&page+siz=1 HTTP/1.1\r\nx-tenant:  ");
        assert_eq!(fault, Some(Fault::Missing));
        assert_eq!(fields, ["headers.X-Tenant", "query.page size", "query.q"]);
        let whole = "GET /?a=1&%71=0&page%20size=2 HTTP/1.1\r\nx-tenant: t";
        assert_eq!(judged(rules, whole), (None, vec![]));
    }

    #[test]
    fn an_announced_body_has_its_limit() {
        let rules = r#"{"maxBodySize": 10}"#;
        let request = |n: u64| format!("PUT / HTTP/1.1\r\nContent-Length: {n}");
        assert_eq!(judged(rules, &request(10)).0, None);
        assert_eq!(judged(rules, &request(11)).0, Some(Fault::TooLarge));
    }

    #[test]
    fn rules_are_checked() {
        assert!(problems(r#"{"contentTypes": ["*/*", "a/*"], "jsonSchema": "{}"}"#).is_empty());
        for (bad, field) in [
            (
                r#"{"contentTypes": ["json"]}"#,
                "validation.contentTypes[0]:",
            ),
            (r#"{"contentTypes": ["*/x"]}"#, "validation.contentTypes[0]"),
            (
                r#"{"requiredHeaders": ["a b"]}"#,
                "validation.requiredHeaders[0]",
            ),
            (r#"{"requiredQuery": [""]}"#, "validation.requiredQuery[0]"),
            (r#"{"maxBodySize": 0}"#, "validation.maxBodySize"),
            (
                r#"{"jsonSchema": "{"}"#,
                "validation.jsonSchema: is not JSON",
            ),
            (
                r#"{"jsonSchema": "{\"type\": 7}"}"#,
                "validation.jsonSchema: is not a valid",
            ),
            (
                r#"{"jsonSchema": "{\"items\": [{\"$ref\": \"http://a.example/s\"}]}"}"#,
                "validation.jsonSchema: $ref 'http://a.example/s'",
            ),
            (
                r##"{"jsonSchema": "{\"$ref\": \"#/nowhere\"}"}"##,
                "validation.jsonSchema",
            ),
            (
                r#"{"jsonSchema": "{\"pattern\": \"(?=a)\"}"}"#,
                "validation.jsonSchema",
            ),
        ] {
            let found = problems(bad);
            assert!(
                found.len() == 1 && found[0].starts_with(field),
                "{bad}: {found:?}"
            );
        }
    }
}
