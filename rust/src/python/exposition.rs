//! `Scrape` and `Lines`: the Prometheus text of series and backends, piece by piece.

use super::catalog::{current, Published};
use super::errors::detached;
use super::node::{lock, Shared};
use crate::exposition::{self, What};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Arc, Mutex, PoisonError};

/// The node is locked for one piece: some tenths of a millisecond.
const PIECE: usize = 64 * 1024;

struct Shares {
    node: Shared,
    published: Published,
    scrape: exposition::Scrape,
}

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Scrape(Arc<Shares>);

impl Scrape {
    pub fn begin(
        py: Python<'_>,
        node: Shared,
        published: Published,
        bounds: Vec<(usize, String)>,
    ) -> PyResult<Self> {
        let scrape = detached(py, || exposition::Scrape::new(&lock(&node), bounds))?;
        Ok(Self(Arc::new(Shares {
            node,
            published,
            scrape,
        })))
    }
}

#[pymethods]
impl Scrape {
    fn lines(&self, name: String, what: &str) -> PyResult<Lines> {
        let what = What::from_name(what)
            .ok_or_else(|| PyValueError::new_err(format!("{what:?} is nothing that is counted")))?;
        Ok(Lines {
            shares: self.0.clone(),
            name,
            what,
            at: Mutex::new(Some(0)),
        })
    }
}

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Lines {
    shares: Arc<Shares>,
    name: String,
    what: What,
    /// Where the next piece begins.
    at: Mutex<Option<usize>>,
}

#[pymethods]
impl Lines {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let piece = detached(py, || {
            let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
            let mut out = Vec::new();
            while let (Some(from), true) = (*at, out.is_empty()) {
                out.reserve(PIECE + PIECE / 8);
                let catalog = current(&self.shares.published);
                let node = lock(&self.shares.node);
                let named = (self.name.as_str(), self.what);
                *at = self
                    .shares
                    .scrape
                    .write(&node, &catalog, named, from, (&mut out, PIECE));
            }
            out
        })?;
        Ok((!piece.is_empty()).then(|| PyBytes::new(py, &piece)))
    }
}
