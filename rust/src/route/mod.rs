//! Routing: what a pattern, a host and a method set are, and which route a request belongs to.
//!
//! Everything here is pure. Patterns are read once by the control process (`pattern`, `host`,
//! `method`), compiled into one flat trie (`trie`) and matched by the workers (`matcher`) on the
//! archived form, without an allocation.

pub mod hash;
pub mod host;
pub mod matcher;
pub mod method;
pub mod pattern;
pub mod trie;

pub use matcher::{find, Match};
pub use pattern::{Pattern, PatternError, Segment};
