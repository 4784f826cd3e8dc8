//! How failures of the core reach Python.

use crate::catalog::Problems;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::panic::{catch_unwind, AssertUnwindSafe};

pyo3::create_exception!(
    hotswap_proxy._core,
    ConfigError,
    PyValueError,
    "A change that is not valid."
);

/// The exception for a list of problems.
pub fn config_error(py: Python<'_>, problems: &Problems) -> PyErr {
    let error = ConfigError::new_err(problems.to_string());
    let told = PyList::empty(py);
    let fill = || -> PyResult<()> {
        for problem in problems.as_slice() {
            let item = PyDict::new(py);
            item.set_item("path", &problem.path)?;
            item.set_item("code", problem.code.as_str())?;
            item.set_item("message", &problem.message)?;
            item.set_item("routeId", &problem.route_id)?;
            item.set_item("otherRouteId", &problem.other_route_id)?;
            item.set_item("otherRouteName", &problem.other_route_name)?;
            told.append(item)?;
        }
        error.value(py).setattr("problems", &told)
    };
    match fill() {
        Ok(()) => error,
        Err(failure) => failure,
    }
}

/// Do work without the interpreter lock. A panic, which would be a bug of ours, becomes a
/// `RuntimeError`: the change fails, the process goes on.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work)))
        .map_err(|_| PyRuntimeError::new_err("internal error in the native core; please report it"))
}
