//! `_C_API`: the way from one extension module to the other without Python objects in between.

use crate::capi::API;
use pyo3::ffi;
use pyo3::prelude::*;

/// A capsule holding the address of the table of C functions.
pub fn new(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let table = (&raw const API).cast_mut().cast();
    let name = c"hotswap_proxy._core._C_API".as_ptr();
    // SAFETY: table and name are static; without a destructor nothing is done with the pointer.
    let capsule = unsafe { ffi::PyCapsule_New(table, name, None) };
    // SAFETY: PyCapsule_New returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}
