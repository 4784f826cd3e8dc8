//! The references in a JSON Schema: where they lead, and what they make a value cost.

use super::schema::{clipped, MAX_MESSAGE};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Most subschemas that may have to be looked at for one place of a body.
pub(super) const MAX_PATHS: u64 = 10_000;

/// Keywords whose value is a schema for the very value that the schema around them is for.
pub(super) const IN_PLACE: [&str; 4] = ["not", "if", "then", "else"];
pub(super) const IN_PLACE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
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

/// Whether a schema can be followed to its end, within this document.
///
/// # Errors
/// The rule that it breaks.
pub fn check(schema: &Value) -> Result<(), String> {
    References::new(schema)
        .follow("", &mut Vec::new())
        .map(|_| ())
}

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
                    let target = resolve(self.root, target)?;
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
}

/// The pointer that a reference stands for.
pub(super) fn resolve(root: &Value, target: &str) -> Result<String, String> {
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
    match root.pointer(pointer) {
        Some(Value::Object(_) | Value::Bool(_)) => Ok(pointer.to_owned()),
        _ => Err(format!(
            "$ref '{}' leads to no schema",
            clipped(target.to_owned(), MAX_MESSAGE)
        )),
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
