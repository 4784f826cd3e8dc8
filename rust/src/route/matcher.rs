//! Matching a request on the archived trie: no allocation, and no deeper than the longest pattern.

use super::host::HostKey;
use super::trie::{EXACT, SUFFIX};
use super::{hash, pattern};
use crate::snapshot::{ArchivedSnapshot, ArchivedTerm, ArchivedTrie};

/// Which route a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Index in the snapshot's routes.
    Route(u32),
    /// Routes match host and path, none of them the method: these methods they take (405).
    Methods(u64),
    /// No route matches host and path (404).
    None,
}

/// Find the route of a request.
///
/// `host` is the value of the Host field or the target's authority, in any case, with or without a
/// port. `path` is the normalised path of the target, without the query. `method` is a number of
/// [`super::method`].
#[inline]
pub fn find(snapshot: &ArchivedSnapshot, host: &[u8], path: &[u8], method: u8) -> Match {
    let [b'/', path @ ..] = path else {
        return Match::None;
    };
    let trie = &snapshot.trie;
    let mut search = Search {
        trie,
        method: 1 << (method & 63),
        rank: u32::MAX,
        route: 0,
        allow: 0,
    };
    if trie.exact_hosts || trie.suffix_hosts {
        search.hosts(host, path);
    }
    search.walk(0, Some(path), 0);
    match search {
        Search {
            rank: u32::MAX,
            allow: 0,
            ..
        } => Match::None,
        Search {
            rank: u32::MAX,
            allow,
            ..
        } => Match::Methods(allow),
        Search { route, .. } => Match::Route(route),
    }
}

struct Search<'a> {
    trie: &'a ArchivedTrie,
    method: u64,
    /// Best match so far.
    rank: u32,
    route: u32,
    /// Methods of the routes that match but for their method.
    allow: u64,
}

impl Search<'_> {
    fn hosts(&mut self, host: &[u8], path: &[u8]) {
        let key = HostKey::new(host);
        if self.trie.exact_hosts {
            if let Some(root) = self.child(EXACT, key.as_bytes()) {
                self.walk(root, Some(path), 0);
            }
        }
        if self.trie.suffix_hosts {
            for suffix in key.suffixes() {
                if let Some(root) = self.child(SUFFIX, suffix) {
                    self.walk(root, Some(path), 0);
                }
            }
        }
    }

    /// Try everything below a node. `rest` is what follows the last slash consumed, None at the end
    /// of the path. Recursion is only for a second branch, so it ends with the trie's own depth.
    fn walk(&mut self, mut at: u32, mut rest: Option<&[u8]>, mut depth: usize) {
        while depth <= pattern::MAX_SEGMENTS {
            let Some(node) = self.trie.nodes.get(at as usize) else {
                return;
            };
            if node.min_rank >= self.rank {
                return;
            }
            let (from, ends) = (
                node.terms_at.to_native() as usize,
                node.ends.to_native() as usize,
            );
            let rests = node.rests.to_native() as usize;
            if rests > 0 {
                self.take(self.trie.terms.get(from + ends..from + ends + rests));
            }
            let Some(path) = rest else {
                return self.take(self.trie.terms.get(from..from + ends));
            };
            let (literals, wild) = (node.literals != 0, node.wild.to_native());
            if !literals && wild == 0 {
                return;
            }
            let (segment, after) = split(path);
            let literal = if literals {
                self.child(at, segment)
            } else {
                None
            };
            let wild = if segment.is_empty() { 0 } else { wild };
            at = match (literal, wild) {
                (None, 0) => return,
                (None, wild) => wild,
                (Some(child), 0) => child,
                (Some(child), wild) => {
                    self.walk(child, after, depth + 1);
                    wild
                }
            };
            rest = after;
            depth += 1;
        }
    }

    /// Keep the best of the routes that end at one place; they are sorted by rank.
    #[inline]
    fn take(&mut self, terms: Option<&[ArchivedTerm]>) {
        for term in terms.unwrap_or_default() {
            if term.rank >= self.rank {
                return;
            }
            if term.methods & self.method != 0 {
                self.rank = term.rank.to_native();
                self.route = term.route.to_native();
                return;
            }
            self.allow |= term.methods.to_native();
        }
    }

    #[inline]
    fn child(&self, parent: u32, label: &[u8]) -> Option<u32> {
        let slots = &self.trie.slots;
        let mask = slots.len().wrapping_sub(1);
        let hash = hash::edge(parent, hash::label(label));
        let mut at = hash as usize & mask;
        loop {
            let slot = slots.get(at)?;
            let child = slot.child.to_native();
            if child == 0 {
                return None;
            }
            if slot.tag == (hash >> 32) as u32 && self.is(child, parent, label) {
                return Some(child);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn is(&self, node: u32, parent: u32, label: &[u8]) -> bool {
        let Some(node) = self.trie.nodes.get(node as usize) else {
            return false;
        };
        let from = node.label_at.to_native() as usize;
        let to = from + usize::from(node.label_len.to_native());
        node.parent == parent && self.trie.labels.get(from..to) == Some(label)
    }
}

#[inline]
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'/', path) {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    }
}
