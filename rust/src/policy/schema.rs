//! JSON Schema for request bodies: which schemas a route may have, and whether a body fits.

use super::{json, nesting, references};
use crate::codec::Detail;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of a body that is validated.
pub const MAX_BODY: u64 = 1 << 20;
/// Most errors that are told.
const MAX_ERRORS: usize = 20;
/// Most values in a body of which more than the first error is told.
const MAX_VALUES: usize = 5_000;
pub(super) const MAX_MESSAGE: usize = 300;
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
        // All errors are made before the first can be taken: a body made of nothing else could cost a
        // thousand times its size.
        let all = is_small(&value, &mut { MAX_VALUES });
        let found: Vec<Detail> = if all {
            let errors = validator.iter_errors(&value).take(MAX_ERRORS);
            errors.map(|error| violation(&error, &value)).collect()
        } else {
            let error = validator.validate(&value).err();
            error.iter().map(|error| violation(error, &value)).collect()
        };
        Err(found)
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
    references::check(&schema)?;
    nesting::check(&schema)?;
    compile(&schema).map(|_| ())
}

fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        // Linear time, whatever the body is: no look-around, no back-references.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| {
            let (at, what) = (error.instance_path.as_str(), error.masked());
            let text = format!("is not a valid JSON Schema (2020-12): {at}: {what}");
            clipped(text, MAX_MESSAGE)
        })
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

/// Whether no more than `left` values are in it.
fn is_small(value: &Value, left: &mut usize) -> bool {
    let Some(less) = left.checked_sub(1) else {
        return false;
    };
    *left = less;
    match value {
        Value::Array(items) => items.iter().all(|item| is_small(item, left)),
        Value::Object(members) => members.values().all(|member| is_small(member, left)),
        _ => true,
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

pub(super) fn clipped(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

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

    #[test]
    fn of_a_large_body_the_first_error_is_told() {
        let schema = r#"{"items":{"anyOf":[{"type":"number"},{"type":"null"}]}}"#;
        for (items, told) in [(MAX_VALUES - 1, MAX_ERRORS), (MAX_VALUES, 1)] {
            let body = format!("[{}\"x\"]", "\"x\",".repeat(items - 1));
            let found = Validators::default()
                .validate(schema, body.as_bytes())
                .unwrap_err();
            assert_eq!(found.len(), told);
            assert_eq!(found[0].field, "$[0]");
        }
    }
}
