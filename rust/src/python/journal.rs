//! `Journal`: the control process's end of the journal.

use super::errors;
use crate::journal::kept::{Filter, Kept};
use crate::journal::reader::{Drained, Reader};
use crate::journal::redact::Redaction;
use crate::journal::ring::Rings;
use crate::journal::{flags, otlp, tree};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Journal {
    fd: OwnedFd,
    rings: Arc<Rings>,
    reader: Mutex<Reader>,
    /// Of its own: whoever reads lines may wait for a disk.
    kept: Mutex<Kept>,
    redaction: Redaction,
    exports: AtomicBool,
}

#[pymethods]
impl Journal {
    #[new]
    #[pyo3(signature = (lanes, *, ring_bytes = 1_048_576, redact = None))]
    fn new(lanes: usize, ring_bytes: usize, redact: Option<Vec<String>>) -> PyResult<Self> {
        if !ring_bytes.is_power_of_two() || ring_bytes < 1 << 16 {
            return Err(PyValueError::new_err(
                "ring_bytes must be a power of two, and at least 65536",
            ));
        }
        let redact = redact.unwrap_or_default();
        let redaction = || Redaction::and(redact.iter().map(String::as_str));
        let (reader, fd) =
            Reader::create(lanes, ring_bytes, redaction()).map_err(PyOSError::new_err)?;
        Ok(Self {
            fd,
            rings: reader.rings(),
            reader: Mutex::new(reader),
            kept: Mutex::default(),
            redaction: redaction(),
            exports: AtomicBool::new(false),
        })
    }

    #[getter]
    fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Without waiting for a `drain` that is under way.
    #[getter]
    fn dropped(&self) -> u64 {
        self.rings.dropped()
    }

    // As many as bound the memory for the spans of all of them to some 10 MB.
    #[pyo3(signature = (log_fd, *, most = 8_192))]
    fn drain<'py>(&self, py: Python<'py>, log_fd: i32, most: u64) -> PyResult<Bound<'py, PyDict>> {
        let log = (log_fd >= 0).then_some(log_fd);
        let (drained, spans) = errors::detached(py, || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            // Relaxed: nothing else is published by it.
            let exports = self.exports.load(Relaxed);
            let mut spans = Vec::new();
            let drained = reader.drain(log, most, |record| {
                if exports {
                    let found = tree::spans(record, &self.redaction);
                    let each = found.iter().flatten();
                    each.for_each(|span| otlp::push_span(&mut spans, span));
                }
                lock(&self.kept).push(record.to_bytes());
            });
            (drained, spans)
        })?;
        let item = into_dict(py, &drained)?;
        item.set_item("spans", PyBytes::new(py, &spans))?;
        Ok(item)
    }

    /// Whether `drain` gives spans.
    fn export_spans(&self, wanted: bool) {
        self.exports.store(wanted, Relaxed);
    }

    #[pyo3(signature = (limit, route_id = None, status = None, min_duration_ms = 0.0))]
    fn kept<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        route_id: Option<&str>,
        status: Option<(u16, u16)>,
        min_duration_ms: f64,
    ) -> Bound<'py, PyBytes> {
        let filter = Filter {
            limit,
            route_id,
            status,
            min_duration_ns: (min_duration_ms.max(0.0) * 1e6) as u64,
        };
        as_json(py, lock(&self.kept).list(&filter, &self.redaction))
    }

    fn kept_trace<'py>(&self, py: Python<'py>, trace_id: &str) -> Bound<'py, PyBytes> {
        as_json(py, lock(&self.kept).trace(trace_id, &self.redaction))
    }
}

/// What makes the body of a request to a collector of spans that `drain` gave.
#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct OtlpRequest(otlp::Envelope);

#[pymethods]
impl OtlpRequest {
    #[new]
    fn new(resource: Vec<(String, String)>, version: &str) -> Self {
        let attributes = resource.iter().map(|(name, value)| (&name[..], &value[..]));
        Self(otlp::Envelope::new(attributes, version))
    }

    /// The body, and how many spans it has.
    fn __call__<'py>(&self, py: Python<'py>, spans: &[u8]) -> (Bound<'py, PyBytes>, u64) {
        (PyBytes::new(py, &self.0.wrap(spans)), otlp::count(spans))
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_json(py: Python<'_>, found: Vec<serde_json::Value>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, serde_json::Value::from(found).to_string().as_bytes())
}

fn into_dict<'py>(py: Python<'py>, drained: &Drained) -> PyResult<Bound<'py, PyDict>> {
    let item = PyDict::new(py);
    item.set_item("records", drained.records)?;
    item.set_item("sampled", drained.sampled)?;
    item.set_item("lines", drained.written.lines)?;
    item.set_item("bytes", drained.written.bytes)?;
    item.set_item("linesLost", drained.written.lost)?;
    item.set_item("errors", drained.written.errors)?;
    let error = drained.written.error();
    item.set_item("error", error.map(|error| error.to_string()))?;
    item.set_item("dropped", drained.dropped)?;
    item.set_item("corrupt", drained.corrupt)?;
    item.set_item("more", drained.more)?;
    Ok(item)
}

/// Short name → meaning of every response flag.
#[pyfunction]
pub fn response_flags() -> Vec<(&'static str, &'static str)> {
    flags::TABLE.to_vec()
}
