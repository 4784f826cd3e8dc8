//! What the control side of the shared memory can refuse.

use std::fmt;

/// A fixed table (or the arena) has no room left; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The table: "backend slots", "series slots", "generation rows" or "snapshot arena bytes".
    pub what: &'static str,
    /// How many it holds in all.
    pub capacity: u64,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} left (capacity {})", self.what, self.capacity)
    }
}

impl std::error::Error for Exhausted {}

/// Why a staged snapshot was not published; its range has been given back to the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// Another snapshot was published since this one was staged: its slots are no longer held.
    Stale,
    /// The generation does not follow the current one, or its row is still in use: it did not come
    /// from `next_generation`.
    Generation,
    /// A slot in the references is not allocated.
    Slot,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "another configuration was published since this one was staged",
            Self::Generation => "the generation number is not the next one",
            Self::Slot => "the snapshot refers to a slot that is not allocated",
        })
    }
}

impl std::error::Error for PublishError {}
