//! `Rollups`: what the series have counted since they were last asked.

use super::errors::detached;
use super::node::{lock, Node, Shared};
use crate::state::rollup::{self, Count, Told};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests, failed, latency.
type Counted<'py> = (u64, u64, Bound<'py, PyBytes>);
/// Route, arm, and their counts.
type Row<'py> = (Option<String>, String, u64, u64, Bound<'py, PyBytes>);

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Rollups {
    node: Shared,
    /// Locked before the node.
    rollups: Mutex<rollup::Rollups>,
}

impl Rollups {
    fn lock(&self) -> MutexGuard<'_, rollup::Rollups> {
        self.rollups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Rollups {
    #[new]
    fn new(node: &Node) -> Self {
        Self {
            node: node.shared.clone(),
            rollups: Mutex::default(),
        }
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Counted<'py>, Vec<Row<'py>>)> {
        let told = detached(py, || self.lock().take(&lock(&self.node)))?;
        Ok(shown(py, told))
    }

    #[pyo3(signature = (route_id=None))]
    fn peek<'py>(
        &self,
        py: Python<'py>,
        route_id: Option<&str>,
    ) -> PyResult<(Counted<'py>, Vec<Row<'py>>)> {
        let told = detached(py, || self.lock().peek(&lock(&self.node), route_id))?;
        Ok(shown(py, told))
    }
}

fn shown(py: Python<'_>, told: Told) -> (Counted<'_>, Vec<Row<'_>>) {
    let counted = |count: &Count| {
        (
            count.requests,
            count.failed,
            PyBytes::new(py, &count.latency),
        )
    };
    let rows = told.rows.into_iter().map(|row| {
        let (requests, failed, latency) = counted(&row.count);
        (row.route_id, row.arm, requests, failed, latency)
    });
    let rows = rows.collect();
    (counted(&told.total), rows)
}
