//! Paths that are rewritten: `<regex> -> <replacement>`.
//!
//! The regular expressions are of the kind without back-references, which run in time linear in the
//! path (times the size of the expression, which is bounded). They match the normalised path; each match is
//! replaced.

use std::collections::HashMap;

use regex::bytes::{CaptureLocations, Regex, RegexBuilder};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

/// Longest expression and replacement, as written.
pub const MAX_LENGTH: usize = 512;
/// Bytes that a compiled expression may have: `(a{99}){99}` is short and would be huge.
const MAX_COMPILED: usize = 128 * 1024;
/// Bytes that matching may build up as it goes.
const MAX_LAZY: usize = 128 * 1024;

/// A piece of a replacement.
#[derive(Archive, Serialize, Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// What a group matched; nothing where it took no part.
    Group(u16),
}

/// A rule of how paths are rewritten.
#[derive(Deserialize, Archive, Serialize, Debug, Clone, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Rewrite {
    pub pattern: String,
    pub replacement: Vec<Piece>,
}

impl TryFrom<String> for Rewrite {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl Rewrite {
    /// Read a rule as written.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The last arrow: a path has none, an expression may.
        let arrow = [
            text.rfind("->").map(|at| (at, 2)),
            text.rfind('→').map(|at| (at, 3)),
        ];
        let Some((at, width)) = arrow.into_iter().flatten().max() else {
            return Err("is written '<regex> -> <replacement>'".into());
        };
        let (pattern, replacement) = (text[..at].trim(), text[at + width..].trim());
        if pattern.is_empty() {
            return Err("there is no regex before the arrow".into());
        }
        if pattern.len() > MAX_LENGTH || replacement.len() > MAX_LENGTH {
            return Err(format!(
                "regex and replacement have at most {MAX_LENGTH} bytes each"
            ));
        }
        let regex = check(pattern)?;
        let pieces = pieces(replacement, &regex)?;
        let anchored = pattern.starts_with('^') && !pattern.contains('|');
        match pieces.first() {
            Some(Piece::Text(text)) if anchored && !text.starts_with('/') => {
                Err("the replacement of a path's beginning starts with '/'".into())
            }
            _ => Ok(Self {
                pattern: pattern.into(),
                replacement: pieces,
            }),
        }
    }
}

/// Compile an expression that was not written by us; the error says where it is wrong.
fn check(pattern: &str) -> Result<Regex, String> {
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .build()
        .parse(pattern);
    match parsed {
        Ok(_) => {}
        Err(regex_syntax::Error::Parse(error)) => {
            let at = error.span().start.column;
            return Err(format!("regex: {} at character {at}", error.kind()));
        }
        Err(regex_syntax::Error::Translate(error)) => {
            let at = error.span().start.column;
            return Err(format!("regex: {} at character {at}", error.kind()));
        }
        Err(error) => return Err(format!("regex: {error}")),
    }
    compile(pattern).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            "regex: too large when compiled; bound its repetitions".into()
        }
        error => format!("regex: {error}"),
    })
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    // Paths are ASCII.
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_LAZY)
        .build()
}

/// Read a replacement: `$1`, `${1}`, `${name}`, `$$`.
fn pieces(text: &str, regex: &Regex) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let name = if let Some(after) = rest.strip_prefix('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err("replacement: '${' without '}'".into());
            };
            rest = after;
            name
        } else if digits > 0 {
            let (name, after) = rest.split_at(digits);
            rest = after;
            name
        } else {
            return Err("replacement: '$' is followed by a number, {name} or another '$'".into());
        };
        let group = match name.parse::<usize>() {
            Ok(number) => (number < regex.captures_len()).then_some(number),
            Err(_) => regex.capture_names().position(|known| known == Some(name)),
        };
        let Some(group) = group.and_then(|group| u16::try_from(group).ok()) else {
            return Err(format!("replacement: the regex has no group '{name}'"));
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Group(group));
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    for piece in &pieces {
        if let Piece::Text(text) = piece {
            check_literal(text)?;
        }
    }
    Ok(pieces)
}

/// The query is kept as it came, hence no `?`; the rest is what no path may have.
fn check_literal(text: &str) -> Result<(), String> {
    match text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '\\'))
    {
        Some('?') => {
            Err("replacement: '?' is not part of a path; the query is kept as it is".into())
        }
        Some(bad) => Err(format!(
            "replacement: {bad:?} cannot stand in a path; percent-encode it"
        )),
        None => Ok(()),
    }
}

/// Compiled expressions of one worker, by their text. Two generations: what was not used while the
/// younger one filled up is forgotten.
#[derive(Default)]
pub struct Regexes {
    young: HashMap<Box<str>, Compiled>,
    old: HashMap<Box<str>, Compiled>,
}

struct Compiled {
    regex: Regex,
    groups: CaptureLocations,
}

/// Of each generation.
const KEPT: usize = 256;

impl Regexes {
    fn get(&mut self, pattern: &str) -> Option<&mut Compiled> {
        if !self.young.contains_key(pattern) {
            let compiled = match self.old.remove(pattern) {
                Some(compiled) => compiled,
                None => {
                    let regex = compile(pattern).ok()?;
                    let groups = regex.capture_locations();
                    Compiled { regex, groups }
                }
            };
            if self.young.len() >= KEPT {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(pattern.into(), compiled);
        }
        self.young.get_mut(pattern)
    }

    /// Write the path that `rule` makes of `path` to `out`. False: the rule does not match. None: the
    /// result would be longer than `most`.
    pub fn rewrite(
        &mut self,
        rule: &ArchivedRewrite,
        path: &[u8],
        most: usize,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        out.clear();
        // One that does not compile was never written; its route then keeps its paths.
        let Some(Compiled { regex, groups }) = self.get(&rule.pattern) else {
            return Some(false);
        };
        let (mut copied, mut from, mut last) = (0, 0, None);
        while from <= path.len() {
            let Some(found) = regex.captures_read_at(groups, path, from) else {
                break;
            };
            let (start, end) = (found.start(), found.end());
            if start == end && last == Some(end) {
                from = end + 1; // nothing, right behind a match: part of it, as everywhere
                continue;
            }
            out.extend_from_slice(path.get(copied..start).unwrap_or_default());
            for piece in rule.replacement.iter() {
                match piece {
                    ArchivedPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
                    ArchivedPiece::Group(group) => {
                        if let Some((a, b)) = groups.get(group.to_native().into()) {
                            out.extend_from_slice(path.get(a..b).unwrap_or_default());
                        }
                    }
                }
                if out.len() > most {
                    return None;
                }
            }
            (copied, last) = (end, Some(end));
            from = if start == end { end + 1 } else { end };
        }
        out.extend_from_slice(path.get(copied..).unwrap_or_default());
        (out.len() <= most).then_some(last.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(rule: &str, path: &str) -> Option<String> {
        let rule = Rewrite::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&rule).unwrap();
        let rule = rkyv::access::<ArchivedRewrite, rkyv::rancor::Error>(&bytes).unwrap();
        let mut out = Vec::new();
        let matched = Regexes::default().rewrite(rule, path.as_bytes(), 8192, &mut out)?;
        assert!(matched || out == path.as_bytes());
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_match_is_replaced() {
        for (rule, path, result) in [
            ("^/api/(.*)$ -> /v2/$1", "/api/users/7", "/v2/users/7"),
            ("^/api/(.*)$ → /v2/$1", "/api/", "/v2/"),
            ("^/api/(.*)$->/v2/$1", "/other", "/other"),
            ("^/(?P<a>[^/]+)/(?P<b>.+) -> /${b}/${a}", "/x/y", "/y/x"),
            ("^/old -> ", "/old/a", "/a"),
            ("^/old -> ", "/old", ""),
            ("(.*) -> /v2$1", "/a", "/v2/a"),
            ("a -> b", "/aaca", "/bbcb"),
            ("x* -> -", "/axb", "-/-a-b-"),
            ("^/(a)|^/(b) -> /1$1$2", "/b", "/1b"),
            ("^/p -> /$$1${0}", "/p", "/$1/p"),
            ("^/(\\d+)$ -> /n/${1}0", "/42", "/n/420"),
            ("^/a->b -> /c", "/a->b", "/c"),
        ] {
            assert_eq!(
                apply(rule, path).as_deref(),
                Some(result),
                "{rule} on {path}"
            );
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        for (rule, message) in [
            ("/a", "is written"),
            (" -> /a", "no regex"),
            ("^/(a -> /b", "unclosed group at character 3"),
            ("^/a[z -> /b", "unclosed character class at character 4"),
            (
                "^/(a)\\1 -> /b",
                "backreferences are not supported at character 6",
            ),
            ("^/(?=a) -> /b", "look-around"),
            ("^/a{1000}{1000} -> /b", "too large"),
            ("^/((a{50}){50}){50} -> /b", "too large"),
            ("^/(a) -> /$2", "no group '2'"),
            ("^/(a) -> /${x}", "no group 'x'"),
            ("^/(a) -> /$x", "followed by"),
            ("^/(a) -> /${1", "without '}'"),
            ("^/a -> /b?c=d", "query"),
            ("^/a -> /b c", "' '"),
            ("^/a -> /b\r\nX: 1", "'\\r'"),
            ("^/a -> /\u{e9}", "percent-encode"),
            ("^/a -> b", "starts with '/'"),
        ] {
            let error = Rewrite::parse(rule).expect_err(rule);
            assert!(error.contains(message), "{rule}: {error}");
        }
        let long = format!("^/{} -> /b", "a".repeat(MAX_LENGTH));
        assert!(Rewrite::parse(&long).unwrap_err().contains("at most"));
    }

    #[test]
    fn results_are_bounded() {
        let groups = "$0".repeat(200);
        assert_eq!(
            apply(
                &format!("^/.* -> /{groups}"),
                &format!("/{}", "a".repeat(8000))
            ),
            None
        );
        assert_eq!(apply("a -> aaaa", &format!("/{}", "a".repeat(8000))), None);
    }

    #[test]
    fn hard_expressions_take_no_longer_than_others() {
        let path = format!("/{}!", "a".repeat(4000));
        for rule in ["^/(a|a)*$ -> /b", "^/(a*)*$ -> /b", "^/(.*a){12}$ -> /b"] {
            assert_eq!(apply(rule, &path).as_deref(), Some(&*path), "{rule}");
        }
    }

    #[test]
    fn few_expressions_are_kept() {
        let mut regexes = Regexes::default();
        for n in 0..3 * KEPT {
            assert!(regexes.get(&format!("^/{n}$")).is_some());
            assert!(regexes.get("^/always$").is_some());
            assert!(regexes.young.len() <= KEPT && regexes.old.len() <= KEPT);
        }
        assert!(regexes.young.contains_key("^/always$") || regexes.old.contains_key("^/always$"));
    }

    proptest! {
        #[test]
        fn as_the_library_replaces(path in "/[ab/]{0,12}", rule in prop::sample::select(vec![
            ("a", "x$0"), ("a*", "x"), ("(a)(b)?", "$2$1"), ("^/a|b$", "/$0"), ("(.*)", "/v$1"), ("", "/-"),
        ])) {
            let (pattern, replacement) = rule;
            prop_assume!(!pattern.is_empty());
            let expected = Regex::new(pattern).unwrap().replace_all(path.as_bytes(), {
                let braced = replacement.replace("$2$1", "${2}${1}");
                move |caps: &regex::bytes::Captures<'_>| {
                    let mut out = Vec::new();
                    caps.expand(braced.as_bytes(), &mut out);
                    out
                }
            }).into_owned();
            // Not anchored at '^', so that the rule about a beginning does not apply.
            if let Ok(rule) = Rewrite::parse(&format!("{pattern} -> {replacement}")) {
                let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&rule).unwrap();
                let rule = rkyv::access::<ArchivedRewrite, rkyv::rancor::Error>(&bytes).unwrap();
                let mut out = Vec::new();
                Regexes::default().rewrite(rule, path.as_bytes(), 8192, &mut out).unwrap();
                prop_assert_eq!(out, expected);
            }
        }
    }
}
