//! The Python face of the core: argument conversion only, no rules.

mod bench;
mod capsule;
mod catalog;
mod errors;
mod histogram;
mod node;
mod worker;

use crate::net::Cidr;
use crate::route::Pattern;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Check a path pattern. See `_core.pyi`.
#[pyfunction]
fn check_pattern(pattern: &str) -> PyResult<()> {
    Pattern::parse(pattern)
        .map(drop)
        .map_err(|rule| PyValueError::new_err(rule.to_string()))
}

/// Check a network in CIDR notation. See `_core.pyi`.
#[pyfunction]
fn check_network(network: &str) -> PyResult<()> {
    network
        .parse::<Cidr>()
        .map(drop)
        .map_err(|rule| PyValueError::new_err(rule.to_string()))
}

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    m.add("BUILD_PROFILE", profile)?;
    m.add("ConfigError", m.py().get_type::<errors::ConfigError>())?;
    m.add("_C_API", capsule::new(m.py())?)?;
    m.add_class::<node::Node>()?;
    m.add_class::<catalog::Catalog>()?;
    m.add_class::<catalog::Staged>()?;
    m.add_class::<worker::Worker>()?;
    m.add_function(wrap_pyfunction!(check_network, m)?)?;
    m.add_function(wrap_pyfunction!(check_pattern, m)?)?;
    m.add_function(wrap_pyfunction!(histogram::histogram_bounds, m)?)?;
    m.add_function(wrap_pyfunction!(histogram::histogram_quantile, m)?)?;
    m.add_function(wrap_pyfunction!(histogram::histogram_sum, m)?)?;
    Ok(())
}
