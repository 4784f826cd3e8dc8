//! The second arm of a route: another version of it, which takes a share of its requests.

use super::input;
use super::model::{Assignment, Canary, Route};
use super::problem::Problems;
use super::read::{self, Reader};
use crate::codec::values::is_token;
use crate::select::arms::{self, WHOLE};

/// Check the canary of a route that is good by itself; None when it has problems, which are added at `at`.
pub fn canary(
    input: input::Canary,
    stable: &Route,
    at: String,
    problems: &mut Problems,
) -> Option<Canary> {
    let mut nested = *input.route;
    let twice = nested.canary.take().is_some();
    let route = read::route(nested, format!("{at}.route"), problems);
    let mut reader = Reader::new(at, Some(stable.id.to_string()), problems);
    if twice {
        reader.wrong("route.canary", "a canary has no canary of its own");
    }
    reader.text("deploymentId", &input.deployment_id);
    reader.number("share", input.share, 0..=WHOLE.into());
    let salt = arms::salt(&input.salt);
    if salt.is_none() {
        reader.wrong("salt", "must be 16 hexadecimal digits");
    }
    let assignment = assignment(input.assignment, &mut reader);
    let route = route?;
    takes_the_same(&route, stable, &mut reader);
    let (salt, assignment) = (salt?, assignment?);
    reader.good.then(|| Canary {
        deployment: input.deployment_id.into(),
        share: input.share as u16,
        salt,
        assignment,
        route,
    })
}

fn assignment(input: input::Assignment, reader: &mut Reader<'_>) -> Option<Assignment> {
    use input::AssignmentKind as Kind;
    let named = matches!(input.kind, Kind::Header | Kind::Cookie);
    if named != input.name.is_some() {
        let rule = "Header and Cookie have a name, the others have none";
        reader.wrong("assignment.name", rule);
        return None;
    }
    let name = input.name.unwrap_or_default();
    // RFC 6265 section 4.1.1: the name of a cookie is a token too.
    if named && (name.is_empty() || name.len() > read::MAX_NAME || !is_token(name.as_bytes())) {
        let rule = "must be a name that a header or cookie may have (RFC 9110 section 5.6.2)";
        reader.wrong("assignment.name", rule);
        return None;
    }
    Some(match input.kind {
        Kind::Random => Assignment::Random,
        Kind::ClientIp => Assignment::ClientIp,
        Kind::Header => Assignment::Header(name.to_ascii_lowercase().into()),
        Kind::Cookie => Assignment::Cookie(name.into()),
    })
}

/// Requests are matched once, for both arms.
fn takes_the_same(canary: &Route, stable: &Route, reader: &mut Reader<'_>) {
    let hosts =
        |route: &Route, other: &Route| route.hosts.iter().all(|host| other.hosts.contains(host));
    for (field, same) in [
        ("routeId", canary.id == stable.id),
        ("pathPattern", canary.pattern == stable.pattern),
        ("hosts", hosts(canary, stable) && hosts(stable, canary)),
        ("methods", canary.methods == stable.methods),
        ("priority", canary.priority == stable.priority),
        ("isEnabled", canary.enabled == stable.enabled),
    ] {
        if !same {
            reader.wrong(
                format_args!("route.{field}"),
                "must be that of the route: both arms take the same requests",
            );
        }
    }
}
