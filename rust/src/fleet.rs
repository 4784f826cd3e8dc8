//! What the control process does with limits that nodes share, in bytes that nodes send each other.
//!
//! An entry is 32 bytes, little-endian: tag, shape, `at` (8 each), `before`, `count` (4 each); see
//! [`crate::policy::share::Usage`].

use crate::policy::limit::{Limit, Now};
use crate::policy::share::{Change, Usage};
use crate::state::{Found, Node};
use std::collections::HashMap;

/// Bytes of an entry.
pub const ENTRY: usize = 32;

/// Take what workers have let through, counted with `weight`, about `most` entries at most.
pub fn take(node: &mut Node, most: usize, weight: u32, now: Now) -> Vec<u8> {
    let mut entries = Vec::new();
    node.take_tallies(most, |found| {
        let usage = Limit::of_shape(found.shape)
            .and_then(|limit| limit.usage(found.tally, found.state, now, weight));
        if let Some(usage) = usage {
            push(&mut entries, &found, usage);
        }
    });
    entries
}

/// What the shared buckets of a stretch of sets, counted with `weight`, hold, and where to go on. Tallies, and
/// the entries of `pending`, are left out: the others will hear of them by themselves.
pub fn standing(
    node: &Node,
    from: usize,
    most: usize,
    weight: u32,
    pending: &[u8],
    now: Now,
) -> (Vec<u8>, Option<usize>) {
    let mut sent: HashMap<u64, Vec<Usage>> = HashMap::new();
    for (tag, _, usage) in pending.chunks_exact(ENTRY).filter_map(read) {
        sent.entry(tag).or_default().push(usage);
    }
    let mut entries = Vec::new();
    let next = node.shared_buckets(from, most, |found| {
        let Some(limit) = Limit::of_shape(found.shape) else {
            return;
        };
        let noted = limit.usage(found.tally, found.state, now, weight);
        let ours = sent.get(&found.tag).into_iter().flatten().copied();
        let state = ours.chain(noted).fold(found.state, |state, usage| {
            let step = limit.adjust(state, usage, Change::Omit(weight), now);
            step.next.unwrap_or(state)
        });
        if let Some(usage) = limit.standing(state, now) {
            push(&mut entries, &found, usage);
        }
    });
    (entries, next)
}

fn push(entries: &mut Vec<u8>, found: &Found, usage: Usage) {
    entries.extend_from_slice(&found.tag.to_le_bytes());
    entries.extend_from_slice(&found.shape.to_le_bytes());
    entries.extend_from_slice(&usage.at.to_le_bytes());
    entries.extend_from_slice(&usage.before.to_le_bytes());
    entries.extend_from_slice(&usage.count.to_le_bytes());
}

/// Change buckets by the usage in `entries`. What is no entry of a limit is left out. Returns how many were.
pub fn change(node: &Node, entries: &[u8], change: Change, now: Now) -> usize {
    let mut strange = entries.len() % ENTRY;
    for entry in entries.chunks_exact(ENTRY) {
        let Some((tag, limit, usage)) = read(entry) else {
            strange += 1;
            continue;
        };
        let step = |state| limit.adjust(state, usage, change, now);
        match change {
            Change::Settle(_) | Change::Omit(_) => node.amend_bucket(tag, step),
            Change::Add | Change::AtLeast => {
                node.charge_bucket(tag, limit.shape(), now.monotonic, step);
            }
        }
    }
    strange
}

fn read(entry: &[u8]) -> Option<(u64, Limit, Usage)> {
    let long = |at: usize| Some(u64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?));
    let (tag, limit) = (long(0)?, Limit::of_shape(long(8)?)?);
    let usage = Usage {
        at: long(16)?,
        before: short(24)?,
        count: short(28)?,
    };
    // The marks of a table are no tags.
    (tag > 1).then_some((tag, limit, usage))
}
