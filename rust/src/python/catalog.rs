//! `Catalog` and `Staged`: changing the configuration in two steps.

use super::errors::{config_error, detached};
use super::exposition::Scrape;
use super::node::{lock, Node, Shared};
use crate::catalog::{self, Compiled, Problems, SlotAllocator};
use crate::state::{Exhausted, Range, SlotRefs};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Published configuration. Locked after the node, where both are.
pub type Published = Arc<Mutex<Arc<catalog::Catalog>>>;

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Catalog {
    node: Shared,
    published: Published,
}

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Staged {
    node: Shared,
    published: Published,
    /// Taken by the first publish or discard.
    pending: Mutex<Option<Pending>>,
    #[pyo3(get)]
    routes: usize,
    #[pyo3(get)]
    backends: usize,
    #[pyo3(get)]
    bytes: usize,
}

struct Pending {
    catalog: catalog::Catalog,
    range: Range,
    refs: SlotRefs,
}

/// Why a step failed, before the interpreter is there to make an exception of it.
enum Failure {
    Problems(Problems),
    State(String),
}

const STALE: &str = "another configuration was published since this one was staged";
const DONE: &str = "this configuration was already published or discarded";
/// From this size on the memory that compiling took is worth giving back to the system.
const LARGE: usize = 256 * 1024;

pub fn current(published: &Published) -> Arc<catalog::Catalog> {
    published
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

fn exhausted(error: &Exhausted) -> Failure {
    let mut problems = Problems::default();
    problems.invalid("", error.to_string(), None);
    Failure::Problems(problems)
}

fn key_sets(catalog: &catalog::Catalog) -> BTreeMap<String, (u32, bool)> {
    let told = catalog.key_urls().into_iter();
    told.map(|(url, wanted)| (url, (wanted.refresh_ms, wanted.known)))
        .collect()
}

struct Slots<'a>(&'a mut crate::state::Node);

impl SlotAllocator for Slots<'_> {
    fn backend(&mut self, identity: &str) -> Result<u32, String> {
        self.0
            .backend_slot(identity)
            .map_err(|error| error.to_string())
    }

    fn series(&mut self, route_id: &str, arm: &str) -> Result<u32, String> {
        self.0
            .series_slot(route_id, arm)
            .map_err(|error| error.to_string())
    }

    fn arm(&mut self, deployment: &str, route_id: &str, arm: &str) -> Result<u32, String> {
        self.0
            .arm_slot(deployment, route_id, arm)
            .map_err(|error| error.to_string())
    }
}

#[pymethods]
impl Catalog {
    #[new]
    fn new(node: &Node) -> Self {
        Self {
            node: node.shared.clone(),
            published: Arc::default(),
        }
    }

    #[getter]
    fn routes(&self) -> usize {
        current(&self.published).routes()
    }

    #[getter]
    fn backends(&self) -> usize {
        current(&self.published).backends()
    }

    #[getter]
    fn uses_regions(&self) -> bool {
        current(&self.published).uses_regions()
    }

    #[getter]
    fn key_sets(&self) -> BTreeMap<String, (u32, bool)> {
        key_sets(&current(&self.published))
    }

    /// See `_core.pyi`.
    fn scrape(&self, py: Python<'_>, bounds: Vec<(usize, String)>) -> PyResult<Scrape> {
        Scrape::begin(py, self.node.clone(), self.published.clone(), bounds)
    }

    fn stage(&self, py: Python<'_>, changes: &[u8]) -> PyResult<Staged> {
        match detached(py, || self.stage_detached(changes))? {
            Ok(staged) => Ok(staged),
            Err(Failure::Problems(problems)) => Err(config_error(py, &problems)),
            Err(Failure::State(message)) => Err(PyRuntimeError::new_err(message)),
        }
    }
}

impl Catalog {
    fn stage_detached(&self, changes: &[u8]) -> Result<Staged, Failure> {
        let (base, catalog) = {
            let mut node = lock(&self.node);
            node.reclaim();
            (node.generation(), current(&self.published))
        };
        // The long part is done without the lock: metrics are read meanwhile.
        let plan = catalog.stage(changes).map_err(Failure::Problems)?;
        drop(catalog);
        let mut node = lock(&self.node);
        if node.generation() != base {
            return Err(Failure::State(STALE.into()));
        }
        let (pending, bytes) = compile(plan, &mut node)?;
        drop(node);
        Ok(Staged {
            node: self.node.clone(),
            published: self.published.clone(),
            routes: pending.catalog.routes(),
            backends: pending.catalog.backends(),
            bytes,
            pending: Mutex::new(Some(pending)),
        })
    }
}

/// Compile into the arena. Slots are asked for, and the range reserved, under one hold of the lock.
fn compile(
    plan: catalog::Plan,
    node: &mut crate::state::Node,
) -> Result<(Pending, usize), Failure> {
    let compiled = plan.compile(&mut Slots(node));
    let (catalog, compiled) = match compiled {
        Ok(done) => done,
        Err(problems) => {
            forget_slots(node);
            return Err(Failure::Problems(problems));
        }
    };
    let Compiled {
        bytes,
        backend_slots,
        series_slots,
        exposed,
    } = compiled;
    let range = match node.stage(bytes.len()) {
        Ok(range) => range,
        Err(error) => {
            forget_slots(node);
            return Err(exhausted(&error));
        }
    };
    node.range_mut(&range).copy_from_slice(&bytes);
    let refs = SlotRefs {
        backends: backend_slots,
        series: series_slots,
        arms: exposed,
    };
    Ok((
        Pending {
            catalog,
            range,
            refs,
        },
        bytes.len(),
    ))
}

/// Let go of slots that were asked for by a stage that came to nothing: they are held until the last
/// staged range is discarded, so one is made and discarded.
fn forget_slots(node: &mut crate::state::Node) {
    if let Ok(range) = node.stage(0) {
        node.discard(range);
    }
}

#[pymethods]
impl Staged {
    #[getter]
    fn key_sets(&self) -> BTreeMap<String, (u32, bool)> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending
            .as_ref()
            .map(|pending| key_sets(&pending.catalog))
            .unwrap_or_default()
    }

    fn publish(&self, py: Python<'_>) -> PyResult<u64> {
        detached(py, || self.publish_detached())?.map_err(PyRuntimeError::new_err)
    }

    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.give_back())
    }
}

impl Staged {
    fn take(&self) -> Option<Pending> {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn publish_detached(&self) -> Result<u64, String> {
        let mut node = lock(&self.node);
        let Pending {
            catalog,
            range,
            refs,
        } = self.take().ok_or(DONE)?;
        let generation = match node.next_generation() {
            Ok(generation) => generation,
            Err(error) => {
                node.discard(range);
                return Err(error.to_string());
            }
        };
        node.publish(generation, range, &refs)
            .map_err(|error| error.to_string())?;
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *published, Arc::new(catalog));
        drop(published);
        // As a rule no request is before its response head this very moment: freed at once.
        node.reclaim();
        drop(node);
        drop((before, refs));
        if self.bytes >= LARGE {
            trim();
        }
        Ok(generation)
    }

    fn give_back(&self) {
        // The lock first, as everywhere.
        let mut node = lock(&self.node);
        if let Some(pending) = self.take() {
            node.discard(pending.range);
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let pending = self
            .pending
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(pending) = pending {
            lock(&self.node).discard(pending.range);
        }
    }
}

/// Give freed memory back: a large change takes tens of megabytes for a moment, which glibc's
/// allocator would keep.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks and has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
