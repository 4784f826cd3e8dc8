//! Transformations: what a route changes in requests and answers. Applied in the order remove, add, rewrite.

pub mod respond;
pub mod rewrite;
pub mod said;
pub mod template;

use std::fmt;

use rkyv::{Archive, Serialize};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::Deserialize;

use super::{cors, Wrong};
use crate::codec::edit::{length_bit, Names};
use crate::codec::fields::{classify, FieldId};
use crate::codec::values::is_token;
use crate::route::Pattern;
use rewrite::Rewrite;
use template::Template;

/// Most fields that one side may add, and that it may remove.
pub const MAX_FIELDS: usize = 64;
/// Longest name of a field.
const MAX_NAME: usize = 128;

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Transformations {
    pub request: Option<RequestChange>,
    pub response: Option<ResponseChange>,
}

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestChange {
    #[serde(deserialize_with = "added")]
    pub add_headers: Vec<Added>,
    pub remove_headers: Vec<String>,
    pub rewrite_path: Option<Rewrite>,
    #[serde(skip)]
    pub drops: NameList,
}

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResponseChange {
    #[serde(deserialize_with = "added")]
    pub add_headers: Vec<Added>,
    pub remove_headers: Vec<String>,
    #[serde(skip)]
    pub drops: NameList,
}

/// A field that is written, in place of what the sender has under that name.
#[derive(Archive, Serialize, Debug, Clone)]
pub struct Added {
    pub name: String,
    pub value: Template,
}

/// See [`Names`].
#[derive(Archive, Serialize, Debug, Clone, Default)]
pub struct NameList {
    list: String,
    lengths: u64,
}

impl NameList {
    fn push(&mut self, name: &str) {
        self.list.push_str(&name.to_ascii_lowercase());
        self.list.push('\n');
        self.lengths |= length_bit(name.len());
    }

    fn of(removed: &[String], added: &[Added]) -> Self {
        let mut names = Self::default();
        for name in removed {
            names.push(name);
        }
        // A cookie is no list: it joins those that the backend sets (RFC 9110 section 5.3).
        for field in added
            .iter()
            .filter(|f| !f.name.eq_ignore_ascii_case("set-cookie"))
        {
            names.push(&field.name);
        }
        names
    }
}

impl ArchivedNameList {
    pub fn names(&self) -> Names<'_> {
        Names {
            list: self.list.as_bytes(),
            lengths: self.lengths.to_native(),
        }
    }
}

/// A map of name and value, in the order in which it is written.
fn added<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Added>, D::Error> {
    struct Fields;

    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<Added>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of header names and values")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(0).min(MAX_FIELDS));
            while let Some((name, value)) = map.next_entry()? {
                fields.push(Added { name, value });
            }
            Ok(fields)
        }
    }

    from.deserialize_map(Fields)
}

impl Transformations {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        if let Some(request) = &self.request {
            check_side(
                Side::Request,
                &request.add_headers,
                &request.remove_headers,
                wrong,
            );
        }
        if let Some(response) = &self.response {
            check_side(
                Side::Response,
                &response.add_headers,
                &response.remove_headers,
                wrong,
            );
        }
    }

    /// On a route with CORS its fields are written by that policy alone.
    pub fn leave_to_cors(&self, wrong: &mut Wrong<'_>) {
        for field in self
            .response
            .iter()
            .flat_map(|response| &response.add_headers)
        {
            if cors::FIELDS
                .iter()
                .any(|name| field.name.eq_ignore_ascii_case(name))
            {
                let path = Side::Response.path("addHeaders", &field.name);
                wrong(&path, format!("{} is written by cors", field.name));
            }
        }
    }

    /// The field by which a backend is told who asks has one author.
    pub fn leave_to_auth(&self, identity: &str, wrong: &mut Wrong<'_>) {
        let fold = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        for field in self.request.iter().flat_map(|request| &request.add_headers) {
            if fold(&field.name) == fold(identity) {
                let path = Side::Request.path("addHeaders", &field.name);
                wrong(&path, format!("{} is written by auth", field.name));
            }
        }
    }

    /// Work out what depends on the route's pattern.
    pub fn bind(&mut self, pattern: &Pattern, wrong: &mut Wrong<'_>) {
        let mut bind = |side: Side, fields: &mut [Added]| {
            for field in fields {
                if let Err(rule) = field.value.bind(pattern) {
                    wrong(&side.path("addHeaders", &field.name), rule);
                }
            }
        };
        if let Some(request) = &mut self.request {
            bind(Side::Request, &mut request.add_headers);
            request.drops = NameList::of(&request.remove_headers, &request.add_headers);
        }
        if let Some(response) = &mut self.response {
            bind(Side::Response, &mut response.add_headers);
            response.drops = NameList::of(&response.remove_headers, &response.add_headers);
        }
    }
}

/// Whose head is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

impl Side {
    fn path(self, group: &str, name: &str) -> String {
        let side = match self {
            Self::Request => "request",
            Self::Response => "response",
        };
        format!("transformations.{side}.{group}.{name}")
    }
}

fn check_side(side: Side, added: &[Added], removed: &[String], wrong: &mut Wrong<'_>) {
    let mut told = |group: &str, name: &str, rule: String| wrong(&side.path(group, name), rule);
    let mut seen: Vec<String> = Vec::new();
    let names = added.iter().map(|field| ("addHeaders", &field.name));
    for (group, name) in names.chain(removed.iter().map(|name| ("removeHeaders", name))) {
        if let Err(rule) = check_name(side, name, group == "addHeaders") {
            told(group, name, rule);
        }
        let known = format!("{group} {}", name.to_ascii_lowercase());
        if seen.contains(&known) {
            told(group, name, "is given twice".into());
        }
        seen.push(known);
    }
    for (group, count) in [
        ("addHeaders", added.len()),
        ("removeHeaders", removed.len()),
    ] {
        if count > MAX_FIELDS {
            told(group, "", format!("has at most {MAX_FIELDS} entries"));
        }
    }
    for field in added {
        if let Err(rule) = check_value(side, &field.value) {
            told("addHeaders", &field.name, rule);
        }
    }
}

/// Whether a route may add, or remove, the fields of a name.
///
/// # Errors
/// The rule that forbids it.
pub fn check_name(side: Side, name: &str, add: bool) -> Result<(), String> {
    if name.len() > MAX_NAME || !is_token(name.as_bytes()) {
        return Err(format!(
            "{name:?} is not an HTTP header name of at most {MAX_NAME} characters"
        ));
    }
    let id = classify(name.as_bytes());
    let own = |known: &[&str]| known.iter().any(|n| name.eq_ignore_ascii_case(n));
    match id {
        FieldId::Connection
        | FieldId::ContentLength
        | FieldId::Expect
        | FieldId::MaxForwards
        | FieldId::Te
        | FieldId::TransferEncoding
        | FieldId::Upgrade
        | FieldId::Via
        | FieldId::Dropped => return Err(frames(name)),
        _ if own(&["trailer"]) => return Err(frames(name)),
        FieldId::Host if !add || side == Side::Response => {
            return Err("Host can be set in requests, and not removed".into())
        }
        _ => {}
    }
    let written: &[&str] = match side {
        Side::Request => &[
            "x-request-id",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
        ],
        Side::Response => &["x-request-id", "date"],
    };
    match own(written) {
        true => Err(format!("{name} is written by the gateway itself")),
        false => Ok(()),
    }
}

fn frames(name: &str) -> String {
    format!(
        "{name} belongs to one connection or delimits the message, and is the gateway's to write"
    )
}

/// Whether a value may stand on a side.
///
/// # Errors
/// The rule that forbids it.
pub fn check_value(side: Side, value: &Template) -> Result<(), String> {
    match side == Side::Request && value.uses_latency() {
        true => Err("${latencyMs} is known only in responses".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn problems(document: Value, pattern: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut policy: Transformations = serde_json::from_value(document).unwrap();
        let mut wrong = |path: &str, rule: String| found.push(format!("{path}: {rule}"));
        policy.check(&mut wrong);
        policy.bind(&Pattern::parse(pattern).unwrap(), &mut wrong);
        found
    }

    #[test]
    fn sound_changes_have_no_problems() {
        let document = json!({
            "request": {"addHeaders": {"Host": "a", "X-Real-IP": "${clientIp}", "X-Id": "${param.id}"},
                        "removeHeaders": ["Cookie", "X-Id"], "rewritePath": "^/a -> /b"},
            "response": {"addHeaders": {"X-Time": "${latencyMs}", "Set-Cookie": "a=b"}, "removeHeaders": ["Server"]}
        });
        assert_eq!(problems(document, "/a/{id}"), Vec::<String>::new());
    }

    #[test]
    fn names_that_frame_or_are_the_gateways_are_refused() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "CONNECTION",
            "TE",
            "Trailer",
            "Upgrade",
            "Via",
            "Keep-Alive",
            "Proxy-Connection",
            "Expect",
            "content_length",
            "X-Request-ID",
            "a b",
            "",
            "HTTP2-Settings",
            "Max-Forwards",
            "Proxy",
        ] {
            for side in ["request", "response"] {
                let add = json!({side: {"addHeaders": {name: "x"}}});
                assert_eq!(problems(add, "/").len(), 1, "add {name} to a {side}");
                let remove = json!({side: {"removeHeaders": [name]}});
                assert_eq!(
                    problems(remove, "/").len(),
                    1,
                    "remove {name} from a {side}"
                );
            }
        }
        for (side, group, name) in [
            ("request", "addHeaders", "X-Forwarded-For"),
            ("request", "addHeaders", "x-forwarded-proto"),
            ("response", "addHeaders", "Date"),
            ("response", "addHeaders", "Host"),
        ] {
            let found = problems(json!({side: {group: {name: "x"}}}), "/");
            assert!(
                found[0].starts_with(&format!("transformations.{side}.{group}.{name}: ")),
                "{found:?}"
            );
        }
        assert_eq!(
            problems(json!({"request": {"removeHeaders": ["Host"]}}), "/").len(),
            1
        );
    }

    #[test]
    fn values_must_make_sense_where_they_are() {
        let late = problems(
            json!({"request": {"addHeaders": {"X": "${latencyMs}"}}}),
            "/",
        );
        assert_eq!(
            late,
            ["transformations.request.addHeaders.X: ${latencyMs} is known only in responses"]
        );
        let unbound = problems(
            json!({"response": {"addHeaders": {"X": "${param.id}"}}}),
            "/{name}",
        );
        assert!(unbound[0].contains("no {id}"), "{unbound:?}");
        let twice = problems(
            json!({"request": {"addHeaders": {"X-A": "1", "x-a": "2"}}}),
            "/",
        );
        assert_eq!(
            twice,
            ["transformations.request.addHeaders.x-a: is given twice"]
        );
        let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("X-{n}"), json!("1"))).collect();
        assert!(problems(json!({"request": {"addHeaders": many}}), "/")[0].contains("at most 64"));
    }

    #[test]
    fn a_list_knows_its_names_in_any_case() {
        let long = "x".repeat(100);
        let list = NameList::of(&["X-A".into(), long.clone()], &[]);
        let names = Names {
            list: list.list.as_bytes(),
            lengths: list.lengths,
        };
        assert!(names.contains(b"x-A") && names.contains(long.to_uppercase().as_bytes()));
        assert!(!names.contains(b"x-b") && !names.contains(b"") && !names.contains(b"x-a\nx"));
    }
}
