//! Path patterns: literals, `*`, `{name}` and a last `**`.
//!
//! Literals are brought to the form in which request paths arrive (RFC 3986 section 6.2.2): escapes of
//! unreserved characters decoded, the hex digits of other escapes in upper case, characters outside
//! ASCII escaped. `/a` and `/a/` are different paths: a trailing slash is an empty last literal.

use std::fmt;

/// Most segments a pattern may have; it also bounds how deep a match can go.
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes a pattern may have.
pub const MAX_LENGTH: usize = 2048;

/// The rule that a pattern breaks, as a sentence for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

fn refuse<T>(rule: impl Into<String>) -> Result<T, PatternError> {
    Err(PatternError(rule.into()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A normalised literal; empty only as the last one, for a trailing slash.
    Literal(Box<str>),
    /// `*` or `{name}`: one segment that is not empty.
    Param(Option<Box<str>>),
}

/// A valid pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub segments: Box<[Segment]>,
    /// Whether it ends in `**`: zero or more further segments.
    pub rest: bool,
}

impl Pattern {
    /// Read and check a pattern.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(path) = text.strip_prefix('/') else {
            return refuse("a path pattern starts with '/'");
        };
        if text.len() > MAX_LENGTH {
            return refuse(format!("a path pattern has at most {MAX_LENGTH} bytes"));
        }
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() > MAX_SEGMENTS {
            return refuse(format!(
                "a path pattern has at most {MAX_SEGMENTS} segments"
            ));
        }
        let mut segments = Vec::with_capacity(parts.len());
        let mut rest = false;
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            if *part == "**" {
                if !last {
                    return refuse("'**' may only be the last segment");
                }
                rest = true;
            } else if part.is_empty() && !last {
                return refuse("a path pattern has no empty segment ('//')");
            } else {
                let segment = segment(part)?;
                unique(&segment, &segments)?;
                segments.push(segment);
            }
        }
        Ok(Self {
            segments: segments.into(),
            rest,
        })
    }

    /// How specific each position is, smaller first: literal, parameter, end, `**`. Compared from the
    /// left this is the order in which patterns that match one path are tried.
    pub fn specificity(&self) -> impl Iterator<Item = u8> + '_ {
        let kinds = self.segments.iter().map(|segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Param(_) => 1,
        });
        kinds.chain([if self.rest { 3 } else { 2 }])
    }
}

fn unique(segment: &Segment, earlier: &[Segment]) -> Result<(), PatternError> {
    match segment {
        Segment::Param(Some(name)) if earlier.contains(segment) => {
            refuse(format!("the capture name '{name}' is used twice"))
        }
        _ => Ok(()),
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    if text == "*" {
        return Ok(Segment::Param(None));
    }
    if text.contains('{') || text.contains('}') {
        return capture(text);
    }
    if text.contains('*') {
        return refuse(format!(
            "'*' is a whole segment, not a part of one: '{text}'"
        ));
    }
    let literal = normalise(text)?;
    if literal == "." || literal == ".." {
        return refuse("a path pattern has no '.' or '..' segment");
    }
    Ok(Segment::Literal(literal.into()))
}

fn capture(text: &str) -> Result<Segment, PatternError> {
    let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) else {
        return refuse(format!(
            "a capture is a whole segment, '{{name}}', not a part of one: '{text}'"
        ));
    };
    let mut bytes = name.bytes();
    let starts = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return refuse(format!(
            "a capture name has letters, digits, '_' and '-', and starts with a letter: '{text}'"
        ));
    }
    Ok(Segment::Param(Some(name.into())))
}

fn normalise(text: &str) -> Result<String, PatternError> {
    use fmt::Write;
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = match byte {
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => (high << 4 | low, true),
                _ => return refuse(format!("'%' is followed by two hex digits: '{text}'")),
            },
            other => (other, false),
        };
        match byte {
            _ if unreserved(byte) || !escaped && b"!$&'()+,;=:@".contains(&byte) => {
                out.push(char::from(byte))
            }
            // Requests with these are refused, so the route could never be reached.
            0..=0x1f | 0x7f => {
                return refuse("a path pattern has no control characters, encoded or not")
            }
            b'?' | b'#' if !escaped => {
                return refuse(format!(
                    "a path pattern has no query or fragment ('{}')",
                    char::from(byte)
                ));
            }
            0..=0x7f if !escaped => {
                return refuse(format!(
                    "{:?} must be percent-encoded in a path: '{text}'",
                    char::from(byte)
                ));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    Ok(out)
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).map(|digit| digit as u8)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(None) => f.write_str("/*")?,
                Segment::Param(Some(name)) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.rest {
            f.write_str("/**")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Pattern::parse(text).map_or_else(|e| format!("error: {e}"), |p| p.to_string())
    }

    #[test]
    fn patterns_are_normalised() {
        for (text, normal) in [
            ("/", "/"),
            ("/**", "/**"),
            ("/a/", "/a/"),
            ("/a/*/{id}/**", "/a/*/{id}/**"),
            ("/%7euser/%41", "/~user/A"),
            ("/a%2fb", "/a%2Fb"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/v1:get@x", "/v1:get@x"),
            ("/...", "/..."),
            ("/%2A", "/%2A"),
        ] {
            assert_eq!(shown(text), normal, "{text}");
        }
    }

    #[test]
    fn errors_name_the_rule() {
        for (text, rule) in [
            ("", "starts with '/'"),
            ("a", "starts with '/'"),
            ("/a//b", "empty segment"),
            ("/**/a", "last segment"),
            ("/**/", "last segment"),
            ("/a*", "whole segment"),
            ("/x{id}", "whole segment"),
            ("/{}", "capture name"),
            ("/{1a}", "capture name"),
            ("/{a b}", "capture name"),
            ("/{a}/{a}", "used twice"),
            ("/a/../b", "'..'"),
            ("/%2e%2E/b", "'..'"),
            ("/.", "'.'"),
            ("/%zz", "hex digits"),
            ("/%2", "hex digits"),
            ("/a?b", "query"),
            ("/a#b", "fragment"),
            ("/a b", "percent-encoded"),
            ("/a\r\nb", "control"),
            ("/%00", "control"),
            ("/%7F", "control"),
            ("//", "empty segment"),
        ] {
            assert!(shown(text).contains(rule), "{text}: {}", shown(text));
        }
        assert!(shown(&"/a".repeat(65)).contains("segments"));
        assert!(shown(&format!("/{}", "a".repeat(3000))).contains("bytes"));
    }

    #[test]
    fn specificity_is_literal_parameter_end_rest() {
        let order = ["/a/b", "/a/*", "/a", "/a/**", "/*/b", "/{x}", "/**"];
        let keys: Vec<_> = order
            .iter()
            .map(|p| Pattern::parse(p).unwrap().specificity().collect::<Vec<_>>())
            .collect();
        assert!(keys.windows(2).all(|w| w[0] < w[1]), "{keys:?}");
    }
}
