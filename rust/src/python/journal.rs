//! `Journal`: the control process's end of the journal.

use super::errors;
use crate::journal::flags;
use crate::journal::reader::{Drained, Reader};
use crate::journal::redact::Redaction;
use crate::journal::ring::Rings;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Journal {
    fd: OwnedFd,
    rings: Arc<Rings>,
    reader: Mutex<Reader>,
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
        let redaction = Redaction::and(redact.iter().map(String::as_str));
        let (reader, fd) =
            Reader::create(lanes, ring_bytes, redaction).map_err(PyOSError::new_err)?;
        Ok(Self {
            fd,
            rings: reader.rings(),
            reader: Mutex::new(reader),
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

    #[pyo3(signature = (log_fd, *, most = 65_536))]
    fn drain<'py>(&self, py: Python<'py>, log_fd: i32, most: u64) -> PyResult<Bound<'py, PyDict>> {
        let log = (log_fd >= 0).then_some(log_fd);
        let drained = errors::detached(py, || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.drain(log, most, |_record| {})
        })?;
        into_dict(py, &drained)
    }
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
