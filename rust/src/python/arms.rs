//! The arms of routes, as Python sees them.

use super::histogram;
use crate::select::arms;
use crate::state::ArmStats;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A row of `Node.arm_stats`.
pub fn into_dict<'py>(py: Python<'py>, stats: &ArmStats) -> PyResult<Bound<'py, PyDict>> {
    let totals = &stats.totals;
    let item = PyDict::new(py);
    item.set_item("deploymentId", &stats.deployment)?;
    item.set_item("routeId", &stats.route_id)?;
    item.set_item("arm", &stats.arm)?;
    item.set_item("share", stats.share)?;
    item.set_item("requests", totals.requests)?;
    item.set_item("failed", totals.failed)?;
    item.set_item("unavailable", totals.unavailable)?;
    item.set_item("limited", totals.limited)?;
    item.set_item("aborted", totals.aborted)?;
    item.set_item("refused", totals.refused)?;
    item.set_item("active", totals.active)?;
    item.set_item("latency", histogram::to_bytes(py, &totals.latency)?)?;
    Ok(item)
}

/// The place of a key. See `_core.pyi`.
#[pyfunction]
pub fn assignment_bucket(salt: &str, key: &[u8]) -> PyResult<u64> {
    match arms::salt(salt) {
        Some(salt) => Ok(arms::bucket(salt, key)),
        None => Err(PyValueError::new_err("a salt is 16 hexadecimal digits")),
    }
}
