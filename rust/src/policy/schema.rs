//! JSON Schema for request bodies: which schemas a route may have, and whether a body fits.

use super::json;
use crate::codec::Detail;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Most bytes of a body that is validated.
pub const MAX_BODY: u64 = 1 << 20;
/// Most subschemas that may have to be looked at for one place of a body.
const MAX_PATHS: u64 = 10_000;
/// Most errors that are told.
const MAX_ERRORS: usize = 20;
const MAX_MESSAGE: usize = 300;
const MAX_PATH: usize = 500;
/// Most validators that a worker keeps.
const MAX_VALIDATORS: usize = 256;

/// The validators of a worker, each compiled when it is first needed.
#[derive(Default)]
pub struct Validators {
    by_text: HashMap<String, Arc<Validator>>,
}

impl Validators {
    /// Check a body.
    ///
    /// # Errors
    /// The first violations, at least one: `field` is a JSONPath (RFC 9535), such as `$.items[3].price`, `rule` the
    /// keyword of the schema, or `json`. A schema that cannot be compiled, which `check` refuses, lets
    /// nothing pass.
    pub fn validate(&mut self, schema: &str, body: &[u8]) -> Result<(), Vec<Detail>> {
        let value = json::read(body).map_err(|message| {
            vec![Detail {
                field: "$".into(),
                rule: "json",
                message: clipped(message, MAX_MESSAGE),
            }]
        })?;
        let Some(validator) = self.of(schema) else {
            return Err(vec![Detail {
                field: "$".into(),
                rule: "schema",
                message: "the route's schema cannot be used".into(),
            }]);
        };
        if validator.is_valid(&value) {
            return Ok(());
        }
        let errors = validator.iter_errors(&value).take(MAX_ERRORS);
        Err(errors.map(|error| violation(&error, &value)).collect())
    }

    fn of(&mut self, schema: &str) -> Option<Arc<Validator>> {
        if let Some(found) = self.by_text.get(schema) {
            return Some(Arc::clone(found));
        }
        let validator = Arc::new(compile(&serde_json::from_str(schema).ok()?).ok()?);
        if self.by_text.len() == MAX_VALIDATORS {
            self.by_text.clear(); // most are of configurations that are gone
        }
        self.by_text
            .insert(schema.to_owned(), Arc::clone(&validator));
        Some(validator)
    }
}

/// Whether a route may have this schema (JSON text).
///
/// # Errors
/// The rule that it breaks.
pub fn check(text: &str) -> Result<(), String> {
    let schema: Value =
        serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if !(schema.is_object() || schema.is_boolean()) {
        return Err("a schema is an object or a boolean".into());
    }
    References::new(&schema).follow("", &mut Vec::new())?;
    compile(&schema).map(|_| ()).map_err(|error| {
        let at = error.instance_path.as_str();
        let text = format!(
            "is not a valid JSON Schema (2020-12): {at}: {}",
            error.masked()
        );
        clipped(text, MAX_MESSAGE)
    })
}

fn compile(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        // Linear time, whatever the body is: no look-around, no back-references.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
}

fn violation(error: &ValidationError<'_>, body: &Value) -> Detail {
    let keyword = error.schema_path.as_str().rsplit('/').next();
    Detail {
        field: clipped(json_path(error.instance_path.as_str(), body), MAX_PATH),
        rule: keyword
            .and_then(|keyword| KEYWORDS.iter().find(|&&known| known == keyword).copied())
            .unwrap_or("schema"),
        message: clipped(error.masked().to_string(), MAX_MESSAGE),
    }
}

/// A JSON pointer into `body` as a JSONPath.
fn json_path(pointer: &str, body: &Value) -> String {
    let mut path = String::from("$");
    let mut here = Some(body);
    for segment in pointer.split('/').skip(1) {
        let name = unescape(segment);
        match here {
            Some(Value::Array(items)) => {
                path.push_str(&format!("[{name}]"));
                here = name.parse().ok().and_then(|index: usize| items.get(index));
            }
            _ if is_plain_name(&name) => {
                path.push('.');
                path.push_str(&name);
                here = here.and_then(|value| value.get(&name));
            }
            _ => {
                let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
                path.push_str(&format!("['{quoted}']"));
                here = here.and_then(|value| value.get(&name));
            }
        }
    }
    path
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn is_plain_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn clipped(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// Keywords whose value is a schema for the very value that the schema around them is for.
const IN_PLACE: [&str; 4] = ["not", "if", "then", "else"];
const IN_PLACE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const BELOW: [&str; 8] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

const KEYWORDS: [&str; 30] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "propertyNames",
    "required",
    "type",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Follows a schema through its references, to refuse what would leave this document, never end, or take
/// more steps for one value than anybody meant.
struct References<'a> {
    root: &'a Value,
    /// What a value costs at the subschemas that were followed to their end, by their pointers.
    cost: HashMap<String, u64>,
    seen: HashSet<String>,
}

impl<'a> References<'a> {
    fn new(root: &'a Value) -> Self {
        Self {
            root,
            cost: HashMap::new(),
            seen: HashSet::new(),
        }
    }

    /// `trail`: the schemas for one and the same value, from the outermost to this one.
    fn follow(&mut self, at: &str, trail: &mut Vec<String>) -> Result<u64, String> {
        if trail.iter().any(|pointer| pointer == at) {
            return Err(format!("{}: refers to itself without an end", shown(at)));
        }
        if let Some(&cost) = self.cost.get(at) {
            return Ok(cost);
        }
        let Some(Value::Object(schema)) = self.root.pointer(at) else {
            return Ok(1);
        };
        trail.push(at.to_owned());
        let mut cost = 1u64;
        let mut below = Vec::new();
        for (keyword, value) in schema {
            let here = format!("{at}/{}", escape(keyword));
            match (keyword.as_str(), value) {
                ("$ref", Value::String(target)) => {
                    let target = self.resolve(target)?;
                    cost = cost.saturating_add(self.follow(&target, trail)?);
                }
                ("$dynamicRef" | "$recursiveRef", _) => {
                    return Err(format!(
                        "{}: {keyword} is not supported; use $ref",
                        shown(at)
                    ));
                }
                ("$id" | "id", Value::String(_)) if !at.is_empty() => {
                    return Err(format!(
                        "{}: only the whole schema may have an $id",
                        shown(at)
                    ));
                }
                (name, Value::Object(_)) if IN_PLACE.contains(&name) => {
                    cost = cost.saturating_add(self.follow(&here, trail)?);
                }
                (name, Value::Array(list)) if IN_PLACE_LISTS.contains(&name) => {
                    for index in 0..list.len() {
                        cost = cost.saturating_add(self.follow(&format!("{here}/{index}"), trail)?);
                    }
                }
                ("dependentSchemas" | "dependencies", Value::Object(map)) => {
                    for name in map.keys() {
                        let place = format!("{here}/{}", escape(name));
                        cost = cost.saturating_add(self.follow(&place, trail)?);
                    }
                }
                (name, Value::Object(map)) if MAPS.contains(&name) => {
                    below.extend(map.keys().map(|name| format!("{here}/{}", escape(name))));
                }
                ("prefixItems" | "items", Value::Array(list)) => {
                    below.extend((0..list.len()).map(|index| format!("{here}/{index}")));
                }
                (name, Value::Object(_)) if BELOW.contains(&name) => below.push(here),
                _ => {}
            }
        }
        if cost > MAX_PATHS {
            return Err(format!(
                "{}: more than {MAX_PATHS} schemas for one value",
                shown(at)
            ));
        }
        trail.pop();
        self.cost.insert(at.to_owned(), cost);
        for place in below {
            // For another value, so the trail begins anew; those that are under way need no second look.
            if self.seen.insert(place.clone()) {
                self.follow(&place, &mut Vec::new())?;
            }
        }
        Ok(cost)
    }

    fn resolve(&self, target: &str) -> Result<String, String> {
        let pointer = match target.strip_prefix('#') {
            // Not an anchor, nor percent-encoded: there is one way to say it.
            Some(pointer)
                if (pointer.is_empty() || pointer.starts_with('/')) && !pointer.contains('%') =>
            {
                pointer
            }
            _ => {
                let target = clipped(target.to_owned(), MAX_MESSAGE);
                return Err(format!(
                    "$ref '{target}' leads out of the schema, or is not like #/$defs/name"
                ));
            }
        };
        match self.root.pointer(pointer) {
            Some(Value::Object(_) | Value::Bool(_)) => Ok(pointer.to_owned()),
            _ => Err(format!(
                "$ref '{}' leads to no schema",
                clipped(target.to_owned(), MAX_MESSAGE)
            )),
        }
    }
}

fn shown(pointer: &str) -> &str {
    match pointer {
        "" => "/",
        pointer => pointer,
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r##"{"type":"object","required":["items"],"additionalProperties":false,
        "properties":{"items":{"type":"array","items":{"$ref":"#/$defs/item"}},"3":{"type":"null"},"a b":{"type":"null"}},
        "$defs":{"item":{"type":"object","properties":{"price":{"type":"number","minimum":0},
                         "parts":{"type":"array","items":{"$ref":"#/$defs/item"}}}}}}"##;

    fn fields(schema: &str, body: &str) -> Vec<(String, &'static str)> {
        match Validators::default().validate(schema, body.as_bytes()) {
            Ok(()) => Vec::new(),
            Err(found) => found.into_iter().map(|v| (v.field, v.rule)).collect(),
        }
    }

    #[test]
    fn violations_name_their_place() {
        check(ORDER).unwrap();
        assert_eq!(fields(ORDER, r#"{"items":[{"price":1}]}"#), []);
        let place = |path: &str, rule| vec![(path.to_owned(), rule)];
        assert_eq!(
            fields(ORDER, r#"{"items":[{},{},{},{"price":"1"}]}"#),
            place("$.items[3].price", "type")
        );
        assert_eq!(
            fields(ORDER, r#"{"items":[{"parts":[{"price":-1}]}]}"#),
            place("$.items[0].parts[0].price", "minimum")
        );
        assert_eq!(
            fields(ORDER, r#"{"items":[],"3":1}"#),
            place("$['3']", "type")
        );
        assert_eq!(
            fields(ORDER, r#"{"items":[],"a b":1}"#),
            place("$['a b']", "type")
        );
        assert_eq!(fields(ORDER, "{}"), place("$", "required"));
        assert_eq!(
            fields(ORDER, r#"{"items":[],"x":1}"#),
            place("$", "additionalProperties")
        );
        assert_eq!(fields(ORDER, "{"), place("$", "json"));
    }

    #[test]
    fn at_most_twenty_are_told_and_none_repeats_the_body() {
        let body = format!("[{}]", vec!["\"secret\""; 100].join(","));
        let found = Validators::default()
            .validate(r#"{"items":{"type":"number"}}"#, body.as_bytes())
            .unwrap_err();
        assert_eq!(found.len(), 20);
        assert!(found.iter().all(|v| !v.message.contains("secret")));
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(100_000));
        let found = Validators::default()
            .validate(r#"{"additionalProperties":false}"#, long.as_bytes())
            .unwrap_err();
        assert!(found[0].message.len() < 400);
    }

    #[test]
    fn schemas_that_are_no_good_are_refused() {
        for (schema, why) in [
            ("[]", "object or a boolean"),
            ("{", "is not JSON"),
            (r#"{"type":"nonsense"}"#, "/type"),
            (r#"{"$ref":"https://example.com/x.json"}"#, "leads out"),
            (r#"{"items":{"$ref":"file:///etc/passwd"}}"#, "leads out"),
            (r##"{"$ref":"#/$defs/missing"}"##, "leads to no schema"),
            (r##"{"$ref":"#"}"##, "without an end"),
            (
                r##"{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}"##,
                "without an end",
            ),
            (r#"{"pattern":"(?=x)"}"#, ""),
            (
                r#"{"properties":{"a":{"$id":"https://x.example/"}}}"#,
                "$id",
            ),
            (r##"{"$dynamicRef":"#x"}"##, "$dynamicRef"),
        ] {
            let error = check(schema).expect_err(schema);
            assert!(error.contains(why), "{schema}: {error}");
        }
        let mut defs = vec![r#""d0":{"type":"null"}"#.to_owned()];
        for n in 1..20 {
            let (one, two) = (n, n - 1);
            defs.push(format!(r##""d{one}":{{"anyOf":[{{"$ref":"#/$defs/d{two}"}},{{"$ref":"#/$defs/d{two}"}}]}}"##));
        }
        let bomb = format!(
            r##"{{"$ref":"#/$defs/d19","$defs":{{{}}}}}"##,
            defs.join(",")
        );
        assert!(check(&bomb).unwrap_err().contains("for one value"));
    }

    #[test]
    fn names_that_look_like_keywords_are_not() {
        check(r##"{"properties":{"$ref":{"type":"string"},"$id":{"const":{"$ref":"x"}}},"enum":[{"$ref":"http://x"}]}"##)
            .unwrap();
        check(r##"{"type":"array","items":{"$ref":"#"}}"##).unwrap();
        check("true").unwrap();
    }

    #[test]
    fn a_worker_keeps_a_bounded_number_of_validators() {
        let mut validators = Validators::default();
        for n in 0..MAX_VALIDATORS + 10 {
            let schema = format!(r#"{{"minimum":{n}}}"#);
            assert!(validators.validate(&schema, b"100000").is_ok());
            assert!(validators.validate(&schema, b"-1").is_err());
            assert!(validators.by_text.len() <= MAX_VALIDATORS);
        }
    }
}
