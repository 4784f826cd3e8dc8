//! Histograms as Python holds them: the 352 counts of `state::histogram` as little-endian u64.

use crate::state::histogram::{self, Counts, BUCKETS};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The counts as bytes.
pub fn to_bytes<'py>(py: Python<'py>, counts: &Counts) -> PyResult<Bound<'py, PyBytes>> {
    let filled = counts.iter().copied().enumerate().filter(|&(_, n)| n > 0);
    sparse_to_bytes(py, &filled.collect::<Vec<_>>())
}

/// The same from (bucket, count); no bytes at all when nothing was counted, as for most routes of a
/// large node.
pub fn sparse_to_bytes<'py>(
    py: Python<'py>,
    filled: &[(usize, u64)],
) -> PyResult<Bound<'py, PyBytes>> {
    if filled.is_empty() {
        return Ok(PyBytes::new(py, b""));
    }
    PyBytes::new_with(py, BUCKETS * 8, |bytes| {
        for (bucket, count) in filled {
            if let Some(place) = bytes.get_mut(bucket * 8..bucket * 8 + 8) {
                place.copy_from_slice(&count.to_le_bytes());
            }
        }
        Ok(())
    })
}

fn from_bytes(bytes: &[u8]) -> PyResult<Counts> {
    let mut counts = [0; BUCKETS];
    if bytes.is_empty() {
        return Ok(counts);
    }
    if bytes.len() != BUCKETS * 8 {
        return Err(PyValueError::new_err(format!(
            "a histogram has 0 or {} bytes",
            BUCKETS * 8
        )));
    }
    for (count, word) in counts.iter_mut().zip(bytes.chunks_exact(8)) {
        *count = word
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
    }
    Ok(counts)
}

/// Bounds of the buckets. See `_core.pyi`.
#[pyfunction]
pub fn histogram_bounds() -> Vec<(u64, u64)> {
    (0..BUCKETS).map(histogram::bounds).collect()
}

/// Value at a quantile. See `_core.pyi`.
#[pyfunction]
pub fn histogram_quantile(histogram: &[u8], q: f64) -> PyResult<Option<f64>> {
    Ok(histogram::quantile(&from_bytes(histogram)?, q))
}

/// Sum of the values. See `_core.pyi`.
#[pyfunction]
pub fn histogram_sum(histogram: &[u8]) -> PyResult<f64> {
    Ok(histogram::sum(&from_bytes(histogram)?))
}
