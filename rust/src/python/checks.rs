//! Rules of the core that the control process asks about while it validates: one grammar, not two.

use crate::exchange::region;
use crate::policy::cors;
use crate::policy::transform::rewrite::Rewrite;
use crate::policy::transform::template::Template;
use crate::policy::transform::{self, Side};
use crate::route::Pattern;
use crate::select::network;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::BorrowedFd;

fn refuse<T>(result: Result<T, impl ToString>) -> PyResult<T> {
    result.map_err(|rule| PyValueError::new_err(rule.to_string()))
}

fn side(response: bool) -> Side {
    match response {
        true => Side::Response,
        false => Side::Request,
    }
}

#[pyfunction]
pub(super) fn check_pattern(pattern: &str) -> PyResult<()> {
    refuse(Pattern::parse(pattern)).map(drop)
}

#[pyfunction]
#[pyo3(signature = (name, *, add, response))]
pub(super) fn check_header_change(name: &str, add: bool, response: bool) -> PyResult<()> {
    refuse(transform::check_name(side(response), name, add))
}

#[pyfunction]
#[pyo3(signature = (value, *, response))]
pub(super) fn check_header_template(value: &str, response: bool) -> PyResult<()> {
    let template = refuse(Template::parse(value))?;
    refuse(transform::check_value(side(response), &template))
}

#[pyfunction]
pub(super) fn check_template_parameters(value: &str, pattern: &str) -> PyResult<()> {
    let pattern = refuse(Pattern::parse(pattern))?;
    refuse(Template::parse(value).and_then(|mut template| template.bind(&pattern)))
}

#[pyfunction]
pub(super) fn check_rewrite(rule: &str) -> PyResult<()> {
    refuse(Rewrite::parse(rule)).map(drop)
}

#[pyfunction]
pub(super) fn check_origin(origin: &str) -> PyResult<()> {
    refuse(cors::check_origin(origin))
}

#[pyfunction]
pub(super) fn check_network(network: &str) -> PyResult<()> {
    refuse(network::parse(network)).map(drop)
}

#[pyfunction]
pub(super) fn examine_regions(py: Python<'_>, fd: i32) -> PyResult<Py<PyDict>> {
    let file = borrow(fd)?;
    let found = super::errors::detached(py, || region::examine(file))?;
    let found = refuse(found)?;
    let described = PyDict::new(py);
    described.set_item("databaseType", found.database_type)?;
    described.set_item("built", found.built)?;
    described.set_item("nodes", found.nodes)?;
    Ok(described.unbind())
}

/// A descriptor as Python has it: for the time of a call, which its owner outlasts.
pub(super) fn borrow<'a>(fd: i32) -> PyResult<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(PyValueError::new_err("not a descriptor"));
    }
    // SAFETY: not -1. The caller keeps it open during the call; were it closed, using it would be an
    // error of the operating system.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Check a TLS bundle. See `_core.pyi`.
#[pyfunction]
pub(super) fn check_tls(bundle: &[u8]) -> PyResult<Vec<(Vec<String>, i64, i64)>> {
    let bundle = crate::tls::read_bundle(bundle).map_err(PyValueError::new_err)?;
    let shown = |c: crate::tls::Certificate| (c.names, c.not_before, c.not_after);
    Ok(bundle.certificates.into_iter().map(shown).collect())
}
