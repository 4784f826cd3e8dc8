//! The native core of hotswap-proxy: decisions, message heads and shared state.
//!
//! Cython owns sockets, buffers and the life of a connection; this crate owns what a request is,
//! where it goes, and every number that outlives it. It does no I/O and never blocks.

use pyo3::prelude::*;

pub mod codec;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("BUILD_PROFILE", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    Ok(())
}
