//! What the nesting of a body can cost: a schema that leads to itself in two ways looks at a value twice, at
//! what is in it four times, and so on. A body of a hundred bytes could keep a worker for hours.

use super::json::MAX_DEPTH;
use super::references::{resolve, IN_PLACE, IN_PLACE_LISTS, MAX_PATHS};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Steps that finding this out may take.
const MAX_STEPS: usize = 5_000_000;
/// What is not yet evaluated is found by evaluating all that might have done it once more, and again to mark it.
const UNEVALUATED: u64 = 3;

type Schema<'a> = &'a Map<String, Value>;
/// The schemas that one value is held against, each with the number of times; found by their address.
type Held<'a> = BTreeMap<*const Value, (&'a Value, u64)>;

/// Whether no value, however deep in a body, is looked at more often than [`MAX_PATHS`] times. The references
/// are known to lead somewhere, and not in circles for one value.
///
/// # Errors
/// The rule that is broken.
pub fn check(root: &Value) -> Result<(), String> {
    let mut walk = Walk { root, steps: 0 };
    let mut seen = HashSet::new();
    let mut level: Vec<Held<'_>> = vec![BTreeMap::from([(root as *const Value, (root, 1))])];
    for _ in 0..=MAX_DEPTH {
        let mut next = Vec::new();
        for held in &level {
            let looks = walk.looks(held)?;
            for inner in walk.inner(&looks)? {
                let key: Vec<_> = inner.iter().map(|(at, (_, times))| (*at, *times)).collect();
                if seen.insert(key) {
                    next.push(inner);
                }
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(())
}

struct Walk<'a> {
    root: &'a Value,
    steps: usize,
}

impl<'a> Walk<'a> {
    fn step(&mut self, count: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(count);
        match self.steps > MAX_STEPS {
            true => Err("is too large, or too entangled, to tell what a body would cost".into()),
            false => Ok(()),
        }
    }

    /// All that looks at the value itself, with the number of times.
    fn looks(&mut self, held: &Held<'a>) -> Result<Vec<(Schema<'a>, u64)>, String> {
        let mut found: BTreeMap<*const Value, (Schema<'a>, u64)> = BTreeMap::new();
        let mut open: Vec<(&'a Value, u64)> = held.values().copied().collect();
        let mut total = 0u64;
        while let Some((value, times)) = open.pop() {
            self.step(1)?;
            total = total.saturating_add(times);
            if total > MAX_PATHS {
                return Err(format!(
                    "more than {MAX_PATHS} looks at one value where a body is nested deeply: what repeats itself may \
                     apply to a value only once (not in several branches of anyOf, oneOf or allOf, and without \
                     unevaluatedProperties and unevaluatedItems)"
                ));
            }
            let Value::Object(schema) = value else {
                continue;
            };
            let unevaluated = ["unevaluatedProperties", "unevaluatedItems"];
            let times = match unevaluated.iter().any(|name| schema.contains_key(*name)) {
                true => times.saturating_mul(UNEVALUATED),
                false => times,
            };
            let entry = found.entry(value).or_insert((schema, 0));
            entry.1 = entry.1.saturating_add(times);
            for (keyword, value) in schema {
                match (keyword.as_str(), value) {
                    ("$ref", Value::String(target)) => {
                        open.extend(
                            self.root
                                .pointer(&resolve(self.root, target)?)
                                .map(|to| (to, times)),
                        );
                    }
                    (name, value) if IN_PLACE.contains(&name) => open.push((value, times)),
                    (name, Value::Array(list)) if IN_PLACE_LISTS.contains(&name) => {
                        open.extend(list.iter().map(|one| (one, times)));
                    }
                    ("dependentSchemas" | "dependencies", Value::Object(map)) => {
                        open.extend(map.values().map(|one| (one, times)));
                    }
                    _ => {}
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// What the members, and the items, of a value are held against: one result for each kind of them. None of
    /// those that could be a member's is left out; of patterns, each may match any name.
    fn inner(&mut self, looks: &[(Schema<'a>, u64)]) -> Result<Vec<Held<'a>>, String> {
        let object = |schema: Schema<'a>, name: &str| schema.get(name).and_then(Value::as_object);
        let list = |schema: Schema<'a>, name: &str| schema.get(name).and_then(Value::as_array);
        let mut names: BTreeSet<Option<&str>> = BTreeSet::from([None]);
        let mut longest = 0;
        for (schema, _) in looks {
            names.extend(
                object(schema, "properties")
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| Some(name.as_str())),
            );
            for keyword in ["prefixItems", "items"] {
                longest = longest.max(list(schema, keyword).map_or(0, Vec::len));
            }
        }
        self.step((names.len() + longest + 1).saturating_mul(looks.len()))?;
        let mut found = Vec::new();
        for name in names {
            let mut held = Held::new();
            for &(schema, times) in looks {
                let own = name.and_then(|name| object(schema, "properties")?.get(name));
                let patterns = object(schema, "patternProperties").into_iter().flatten();
                hold(
                    &mut held,
                    own.or_else(|| schema.get("additionalProperties")),
                    times,
                );
                hold(&mut held, patterns.map(|(_, value)| value), times);
                hold(&mut held, schema.get("unevaluatedProperties"), times);
            }
            found.push(held);
        }
        for index in 0..=longest {
            let mut held = Held::new();
            for &(schema, times) in looks {
                let own = ["prefixItems", "items"]
                    .iter()
                    .find_map(|keyword| list(schema, keyword)?.get(index));
                let items = schema.get("items").filter(|items| !items.is_array());
                hold(&mut held, own.or(items), times);
                for keyword in ["additionalItems", "contains", "unevaluatedItems"] {
                    hold(&mut held, schema.get(keyword), times);
                }
            }
            found.push(held);
        }
        found.retain(|held| !held.is_empty());
        Ok(found)
    }
}

fn hold<'a>(held: &mut Held<'a>, schemas: impl IntoIterator<Item = &'a Value>, times: u64) {
    for schema in schemas.into_iter().filter(|schema| schema.is_object()) {
        let entry = held.entry(schema).or_insert((schema, 0));
        entry.1 = entry.1.saturating_add(times);
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema;

    #[test]
    fn what_would_double_with_each_level_is_refused() {
        for grows in [
            r##"{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"}}]}"##,
            r##"{"allOf":[{"properties":{"a":{"$ref":"#"}}}],"unevaluatedProperties":false}"##,
            r##"{"items":{"$ref":"#"},"contains":{"$ref":"#"}}"##,
            r##"{"patternProperties":{"a":{"$ref":"#"},"b":{"$ref":"#"}}}"##,
            r##"{"properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"oneOf":[{"additionalProperties":{"$ref":"#"}},
                {"properties":{"c":{"$ref":"#"}}}]}}}"##,
        ] {
            let error = schema::check(grows).expect_err(grows);
            assert!(error.contains("one value"), "{error}");
        }
    }

    #[test]
    fn trees_are_allowed() {
        for tree in [
            r##"{"properties":{"child":{"$ref":"#"},"children":{"type":"array","items":{"$ref":"#"}},
                "left":{"$ref":"#"},"right":{"$ref":"#"}},"additionalProperties":{"$ref":"#"}}"##,
            r##"{"anyOf":[{"type":"string"},{"type":"array","items":{"$ref":"#"}},
                {"type":"object","additionalProperties":{"$ref":"#"}}]}"##,
            r##"{"allOf":[{"properties":{"a":{"$ref":"#"}}},{"properties":{"b":{"$ref":"#"}}}]}"##,
            r##"{"type":"object","properties":{"a":{"type":"object","unevaluatedProperties":false}}}"##,
        ] {
            schema::check(tree).expect(tree);
        }
    }

    #[test]
    fn many_properties_are_no_trouble() {
        let names: Vec<String> = (0..5000)
            .map(|n| format!(r#""p{n}":{{"type":"null"}}"#))
            .collect();
        schema::check(&format!(r#"{{"properties":{{{}}}}}"#, names.join(","))).unwrap();
    }
}
