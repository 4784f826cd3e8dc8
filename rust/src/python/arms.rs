//! The arms of routes, as Python sees them.

use crate::select::arms;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The place of a key. See `_core.pyi`.
#[pyfunction]
pub fn assignment_bucket(salt: &str, key: &[u8]) -> PyResult<u64> {
    match arms::salt(salt) {
        Some(salt) => Ok(arms::bucket(salt, key)),
        None => Err(PyValueError::new_err("a salt is 16 hexadecimal digits")),
    }
}
