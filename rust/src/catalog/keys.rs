//! The keys of routes that ask for tokens: which are needed, which are there.

use super::model::Route;
use super::Catalog;
use crate::policy::auth::keys::{Key, KeySet};
use crate::policy::auth::Auth;
use crate::policy::Policy;
use crate::route::hash::Map;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A URL that keys are to be fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How often, milliseconds: the shortest that a route asks for.
    pub refresh_ms: u32,
    /// Whether there are keys from it already.
    pub known: bool,
}

fn url_of(route: &Route) -> Option<(&str, u32)> {
    match route.policy.as_deref()?.auth.as_ref()? {
        Auth::Jwt(jwt) => jwt
            .jwks_url
            .as_deref()
            .map(|url| (url, jwt.jwks_refresh_ms)),
        Auth::ApiKey(_) => None,
    }
}

impl Catalog {
    /// The URLs that enabled routes have their keys from.
    pub fn key_urls(&self) -> BTreeMap<String, Wanted> {
        let mut found = BTreeMap::<String, Wanted>::new();
        let enabled = self.routes.values().filter(|route| route.enabled);
        for (_, route) in enabled.flat_map(|route| route.versions()) {
            let Some((url, refresh_ms)) = url_of(route) else {
                continue;
            };
            let wanted = found.entry(url.to_owned()).or_insert(Wanted {
                refresh_ms,
                known: self.key_sets.contains_key(url),
            });
            wanted.refresh_ms = wanted.refresh_ms.min(refresh_ms);
        }
        found
    }

    /// An empty list forgets the keys of a URL.
    pub(super) fn merge_keys(&mut self, sets: BTreeMap<String, Vec<Key>>) {
        for (url, keys) in sets {
            if keys.is_empty() {
                self.key_sets.remove(url.as_str());
            } else {
                self.key_sets.insert(url.into(), Arc::new(KeySet::of(keys)));
            }
        }
    }

    /// Keys that no route asks for any more are not kept: the next to ask gets fresh ones.
    pub(super) fn forget_keys(&mut self) {
        if !self.key_sets.is_empty() {
            let urls = self.key_urls();
            self.key_sets.retain(|url, _| urls.contains_key(&**url));
        }
    }
}

/// The key sets of a snapshot, each in it once.
#[derive(Default)]
pub(super) struct Compiling {
    pub sets: Vec<KeySet>,
    urls: Map<String, u32>,
    own: Map<[u8; 16], u32>,
}

impl Compiling {
    /// A route's policies with what workers need of the keys.
    pub fn policy(&mut self, catalog: &Catalog, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        policy.auth = policy.auth.map(|auth| match auth {
            Auth::ApiKey(keys) => Auth::ApiKey(Box::new(keys.compiled())),
            Auth::Jwt(jwt) => {
                let number = match (&jwt.jwks_url, jwt.own_key()) {
                    (_, Some(key)) => self.own(key),
                    (Some(url), None) => self.fetched(catalog, url),
                    (None, None) => u32::MAX,
                };
                let fingerprint = self.sets.get(number as usize).map(|set| set.fingerprint);
                Auth::Jwt(Box::new(
                    jwt.compiled(number, &fingerprint.unwrap_or_default()),
                ))
            }
        });
        policy
    }

    fn own(&mut self, key: Key) -> u32 {
        let set = KeySet::of(vec![key]);
        let next = self.sets.len() as u32;
        let number = *self.own.entry(set.fingerprint).or_insert(next);
        if number == next {
            self.sets.push(set);
        }
        number
    }

    fn fetched(&mut self, catalog: &Catalog, url: &str) -> u32 {
        if let Some(&number) = self.urls.get(url) {
            return number;
        }
        let number = self.sets.len() as u32;
        let set = catalog.key_sets.get(url);
        self.sets
            .push(set.map_or_else(KeySet::default, |set| KeySet::clone(set)));
        self.urls.insert(url.to_owned(), number);
        number
    }
}
