//! The Python face of the core: argument conversion only, no rules.

mod arms;
mod bench;
mod capsule;
mod catalog;
mod checks;
mod errors;
mod exposition;
mod histogram;
mod journal;
mod node;
mod rollups;
mod worker;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

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
    m.add(
        "REDACTED_PARAMETERS",
        PyTuple::new(m.py(), crate::journal::redact::USUAL)?,
    )?;
    m.add_class::<node::Node>()?;
    m.add_class::<catalog::Catalog>()?;
    m.add_class::<catalog::Staged>()?;
    m.add_class::<worker::Worker>()?;
    m.add_class::<rollups::Rollups>()?;
    m.add_class::<exposition::Scrape>()?;
    m.add_class::<exposition::Lines>()?;
    m.add_class::<journal::Journal>()?;
    m.add_class::<journal::OtlpRequest>()?;
    m.add_function(wrap_pyfunction!(arms::assignment_bucket, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_header_change, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_header_template, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_network, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_origin, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_pattern, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_rewrite, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_template_parameters, m)?)?;
    m.add_function(wrap_pyfunction!(checks::check_tls, m)?)?;
    m.add_function(wrap_pyfunction!(checks::examine_regions, m)?)?;
    m.add_function(wrap_pyfunction!(histogram::histogram_bounds, m)?)?;
    m.add_function(wrap_pyfunction!(histogram::histogram_quantile, m)?)?;
    m.add_function(wrap_pyfunction!(histogram::histogram_sum, m)?)?;
    m.add_function(wrap_pyfunction!(journal::response_flags, m)?)?;
    Ok(())
}
