//! The native core of hotswap-proxy: decisions, message heads and shared state.
//!
//! Cython owns sockets, buffers and the life of a connection; this crate owns what a request is,
//! where it goes, and every number that outlives it. It does no I/O and never blocks.

pub mod capi;
pub mod catalog;
pub mod codec;
pub mod exchange;
pub mod exposition;
pub mod fleet;
pub mod journal;
pub mod net;
pub mod outlier;
pub mod policy;
pub mod route;
pub mod select;
pub mod snapshot;
pub mod state;
pub mod tls;

#[cfg(feature = "python")]
mod python;
