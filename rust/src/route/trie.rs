//! Building the trie: every (route, host) pair is one entry, put in the order in which it wins.

use super::hash::{self, Map};
use super::host::HostRule;
use super::pattern::{Pattern, Segment};
use crate::snapshot::{Node, Slot, Term, Trie};
use std::cmp::Ordering;

/// Parent of the roots of exact hosts and of `*.suffix` hosts: numbers no node has.
pub(super) const EXACT: u32 = u32::MAX;
pub(super) const SUFFIX: u32 = u32::MAX - 1;

/// One route under one of its hosts.
pub struct Entry<'a> {
    /// Index of the route, given back in matches and clashes.
    pub route: u32,
    pub id: &'a str,
    pub pattern: &'a Pattern,
    /// None: any host.
    pub host: Option<&'a HostRule>,
    pub methods: u64,
    pub priority: u8,
}

/// Two routes of which neither is the better match for some request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    pub route: u32,
    pub other: u32,
}

impl Entry<'_> {
    /// Which of two entries wins where both match: priority, then the path from left to right, then
    /// the host. The id only makes the order of entries that never compete the same every time.
    pub fn rank(&self, other: &Self) -> Ordering {
        let host = |entry: &Self| entry.host.map_or((2, 0), HostRule::specificity);
        (other.priority.cmp(&self.priority))
            .then_with(|| self.pattern.specificity().cmp(other.pattern.specificity()))
            .then_with(|| host(self).cmp(&host(other)))
            .then_with(|| self.id.cmp(other.id))
    }
}

/// Build the trie of entries that are sorted by [`Entry::rank`]. Entries that clash with an earlier
/// one are left out and reported, at most `limit` of them.
pub fn build(entries: &[Entry<'_>], limit: usize) -> (Trie, Vec<Clash>) {
    let mut builder = Builder::default();
    builder.node(0, "", 0);
    let mut clashes = Vec::new();
    for (rank, entry) in entries.iter().enumerate() {
        if let Err(clash) = builder.insert(rank as u32, entry) {
            clashes.push(clash);
            if clashes.len() >= limit {
                break;
            }
        }
    }
    (builder.finish(), clashes)
}

#[derive(Default)]
struct Builder<'a> {
    nodes: Vec<Open>,
    edges: Map<(u32, &'a str), u32>,
    labels: Map<&'a str, u32>,
    trie: Trie,
}

/// A node while entries are still coming in.
struct Open {
    node: Node,
    ends: Vec<Owned>,
    rests: Vec<Owned>,
}

struct Owned {
    term: Term,
    priority: u8,
}

impl<'a> Builder<'a> {
    fn insert(&mut self, rank: u32, entry: &Entry<'a>) -> Result<(), Clash> {
        let mut at = match entry.host {
            None => 0,
            Some(HostRule::Exact(name)) => {
                self.trie.exact_hosts = true;
                self.literal(EXACT, name, rank)
            }
            Some(HostRule::Suffix(name)) => {
                self.trie.suffix_hosts = true;
                self.literal(SUFFIX, name, rank)
            }
        };
        self.nodes[at as usize].node.min_rank = self.nodes[at as usize].node.min_rank.min(rank);
        for segment in &entry.pattern.segments {
            at = match segment {
                Segment::Literal(label) => self.literal(at, label, rank),
                Segment::Param(_) => self.parameter(at, rank),
            };
        }
        let open = &mut self.nodes[at as usize];
        let terms = if entry.pattern.rest {
            &mut open.rests
        } else {
            &mut open.ends
        };
        // Entries of one place come by falling priority, so rivals are at the end of the list; being
        // disjoint in methods, they are few.
        let rivals = terms
            .iter()
            .rev()
            .take_while(|t| t.priority == entry.priority);
        for rival in rivals {
            if rival.term.methods & entry.methods != 0 {
                return Err(Clash {
                    route: entry.route,
                    other: rival.term.route,
                });
            }
        }
        let term = Term {
            methods: entry.methods,
            rank,
            route: entry.route,
        };
        terms.push(Owned {
            term,
            priority: entry.priority,
        });
        Ok(())
    }

    fn literal(&mut self, parent: u32, label: &'a str, rank: u32) -> u32 {
        if let Some(&child) = self.edges.get(&(parent, label)) {
            return child;
        }
        let child = self.node(parent, label, rank);
        self.edges.insert((parent, label), child);
        if let Some(open) = self.nodes.get_mut(parent as usize) {
            open.node.literals = 1;
        }
        child
    }

    fn parameter(&mut self, parent: u32, rank: u32) -> u32 {
        match self.nodes[parent as usize].node.wild {
            0 => {
                let child = self.node(parent, "", rank);
                self.nodes[parent as usize].node.wild = child;
                child
            }
            child => child,
        }
    }

    /// A new node. Entries come by rising rank, so the first one through it has the lowest.
    fn node(&mut self, parent: u32, label: &'a str, rank: u32) -> u32 {
        let pool = &mut self.trie.labels;
        let label_at = *self.labels.entry(label).or_insert_with(|| {
            pool.extend_from_slice(label.as_bytes());
            (pool.len() - label.len()) as u32
        });
        let min_rank = if self.nodes.is_empty() {
            u32::MAX
        } else {
            rank
        };
        let node = Node {
            parent,
            label_at,
            // Labels are bounded by the limits of patterns and hosts.
            label_len: label.len() as u16,
            literals: 0,
            wild: 0,
            min_rank,
            terms_at: 0,
            ends: 0,
            rests: 0,
        };
        self.nodes.push(Open {
            node,
            ends: Vec::new(),
            rests: Vec::new(),
        });
        (self.nodes.len() - 1) as u32
    }

    fn finish(mut self) -> Trie {
        let mut trie = self.trie;
        trie.nodes.reserve_exact(self.nodes.len());
        for open in self.nodes.drain(..) {
            let mut node = open.node;
            node.terms_at = trie.terms.len() as u32;
            node.ends = open.ends.len() as u32;
            node.rests = open.rests.len() as u32;
            trie.terms.extend(
                open.ends
                    .into_iter()
                    .chain(open.rests)
                    .map(|owned| owned.term),
            );
            trie.nodes.push(node);
        }
        // At most half full: probes stay short, and one empty slot ends every probe.
        let capacity = (self.edges.len() * 2).next_power_of_two().max(2);
        trie.slots = vec![Slot::default(); capacity];
        for ((parent, label), child) in self.edges {
            let hash = hash::edge(parent, hash::label(label.as_bytes()));
            let mut at = hash as usize & (capacity - 1);
            while trie.slots[at].child != 0 {
                at = (at + 1) & (capacity - 1);
            }
            trie.slots[at] = Slot {
                tag: (hash >> 32) as u32,
                child,
            };
        }
        trie
    }
}
