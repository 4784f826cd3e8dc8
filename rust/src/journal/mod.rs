//! What a worker tells of its requests: for the access log and for traces.

pub mod context;
pub mod sampling;
