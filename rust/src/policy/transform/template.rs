//! Values with variables: read once when a route is written, so that a request only puts parts together.

use rkyv::{Archive, Serialize};
use serde::Deserialize;

use super::said::Said;
use crate::codec::values::is_token;
use crate::route::{Pattern, Segment};

/// Longest value, as written.
pub const MAX_VALUE: usize = 1024;

/// A piece of a value.
#[derive(Archive, Serialize, Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    RequestId,
    ClientIp,
    RouteName,
    BackendName,
    LatencyMs,
    TraceId,
    Method,
    Path,
    /// All values of a request field, joined as a list; the name in lower case.
    Header(String),
    /// A `{name}` of the route's pattern: the segment of the path that it stands for.
    Param {
        name: String,
        segment: u16,
    },
}

/// A header value with `${…}` in it; `$$` stands for one `$`.
#[derive(Deserialize, Archive, Serialize, Debug, Clone, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Template(pub Vec<Part>);

const KNOWN: &str =
    "requestId, clientIp, routeName, backendName, latencyMs, traceId, method, path, \
                     header.<Name> and param.<name>";

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl Template {
    /// Read a value as written.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_VALUE {
            return Err(format!("a value has 1 to {MAX_VALUE} bytes"));
        }
        if text.trim_matches([' ', '\t']) != text || text.bytes().any(is_control) {
            return Err(
                "a value has no control characters (such as CR, LF and NUL) and no spaces around it"
                    .into(),
            );
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                let Some((name, after)) = after.split_once('}') else {
                    return Err(format!(
                        "'${{' without '}}' at character {}",
                        text.len() - after.len() - 1
                    ));
                };
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(variable(name)?);
                rest = after;
            } else {
                rest = rest.strip_prefix('$').unwrap_or(rest);
                literal.push('$');
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// Tie the parameters to the segments of a pattern.
    ///
    /// # Errors
    /// A parameter that the pattern lacks.
    pub fn bind(&mut self, pattern: &Pattern) -> Result<(), String> {
        for part in &mut self.0 {
            let Part::Param { name, segment } = part else {
                continue;
            };
            let named = |other: &Segment| matches!(other, Segment::Param(Some(n)) if **n == **name);
            match pattern.segments.iter().position(named) {
                Some(at) => *segment = at as u16, // a pattern has at most 64 segments
                None => {
                    return Err(format!(
                        "${{param.{name}}}: the path pattern has no {{{name}}}"
                    ))
                }
            }
        }
        Ok(())
    }

    pub fn uses_latency(&self) -> bool {
        self.0.contains(&Part::LatencyMs)
    }
}

fn variable(name: &str) -> Result<Part, String> {
    Ok(match name {
        "requestId" => Part::RequestId,
        "clientIp" => Part::ClientIp,
        "routeName" => Part::RouteName,
        "backendName" => Part::BackendName,
        "latencyMs" => Part::LatencyMs,
        "traceId" => Part::TraceId,
        "method" => Part::Method,
        "path" => Part::Path,
        _ => match name.split_once('.') {
            Some(("header", field)) if is_token(field.as_bytes()) => {
                Part::Header(field.to_ascii_lowercase())
            }
            Some(("param", param)) if !param.is_empty() => Part::Param {
                name: param.into(),
                segment: 0,
            },
            _ => return Err(format!("${{{name}}} is no variable; there are {KNOWN}")),
        },
    })
}

/// What may not stand in a field value (RFC 9110 section 5.5); a tab may.
#[inline]
fn is_control(byte: u8) -> bool {
    byte < 0x20 && byte != b'\t' || byte == 0x7F
}

/// Append what came from outside, without what could end the line.
#[inline]
fn push_clean(out: &mut Vec<u8>, value: &[u8]) {
    if value.iter().any(|&byte| is_control(byte)) {
        out.extend(value.iter().copied().filter(|&byte| !is_control(byte)));
    } else {
        out.extend_from_slice(value);
    }
}

impl ArchivedTemplate {
    /// Append the value for a request. What is not known yet goes to `hole`, which may append it.
    #[inline]
    pub fn render(
        &self,
        out: &mut Vec<u8>,
        said: &Said<'_>,
        mut hole: impl FnMut(&mut Vec<u8>, &ArchivedPart),
    ) {
        for part in self.0.iter() {
            match part {
                ArchivedPart::Text(text) => out.extend_from_slice(text.as_bytes()),
                ArchivedPart::RequestId => push_clean(out, said.request_id),
                ArchivedPart::ClientIp => push_clean(out, said.client_ip),
                ArchivedPart::RouteName => push_clean(out, said.route_name),
                ArchivedPart::TraceId => said.write_trace_id(out),
                ArchivedPart::Method => push_clean(out, said.head.method),
                ArchivedPart::Path => push_clean(out, said.head.path),
                ArchivedPart::Header(name) => {
                    let from = out.len();
                    for value in said.head.fields.all(name.as_bytes()) {
                        if out.len() > from {
                            out.extend_from_slice(b", ");
                        }
                        push_clean(out, value);
                    }
                }
                ArchivedPart::Param { segment, .. } => {
                    push_clean(out, said.segment(segment.to_native()));
                }
                ArchivedPart::BackendName | ArchivedPart::LatencyMs => hole(out, part),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Template::parse(text).expect_err(text)
    }

    #[test]
    fn values_become_parts() {
        let text = |text: &str| Part::Text(text.into());
        for (value, parts) in [
            ("plain", vec![text("plain")]),
            ("${requestId}", vec![Part::RequestId]),
            (
                "a${clientIp}b${method}",
                vec![text("a"), Part::ClientIp, text("b"), Part::Method],
            ),
            ("${header.X-Tenant}", vec![Part::Header("x-tenant".into())]),
            ("5$ $$ $${path} $", vec![text("5$ $ ${path} $")]),
            ("$$${path}", vec![text("$"), Part::Path]),
            ("\u{e9}", vec![text("\u{e9}")]),
        ] {
            assert_eq!(Template::parse(value), Ok(Template(parts)), "{value}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(
            wrong("a ${requestid}").starts_with("${requestid} is no variable; there are requestId")
        );
        for unknown in [
            "${}",
            "${header.}",
            "${header.a b}",
            "${param.}",
            "${header}",
            "${x.y}",
        ] {
            assert!(wrong(unknown).contains("is no variable"), "{unknown}");
        }
        assert_eq!(wrong("ab${path"), "'${' without '}' at character 3");
        for text in ["a\r\nb", "a\nb", "a\0", " a", "a\t", "a\x7fb", ""] {
            wrong(text);
        }
        wrong(&"a".repeat(MAX_VALUE + 1));
    }

    #[test]
    fn parameters_belong_to_the_pattern() {
        let pattern = Pattern::parse("/a/{id}/*/{name}/**").unwrap();
        let mut template = Template::parse("${param.name}-${param.id}").unwrap();
        template.bind(&pattern).unwrap();
        let segments = template.0.iter().filter_map(|part| match part {
            Part::Param { segment, .. } => Some(*segment),
            _ => None,
        });
        assert_eq!(segments.collect::<Vec<_>>(), [3, 1]);
        let error = Template::parse("${param.no}")
            .unwrap()
            .bind(&pattern)
            .unwrap_err();
        assert_eq!(error, "${param.no}: the path pattern has no {no}");
    }
}
