//! `Worker`: one worker process's lane and its view of the snapshots.

use super::bench::monotonic_nanos;
use crate::codec::Limits;
use crate::exchange::edge::Edge;
use crate::exchange::{NodePolicy, WorkerCore};
use crate::journal;
use crate::route::{find, method, Match};
use crate::select;
use crate::select::network;
use crate::snapshot::{ArchivedRoute, ArchivedSnapshot, Guard};
use crate::state::LaneState;
use crate::tls::read_bundle;
use pyo3::exceptions::{PyKeyError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde::Deserialize;
use std::cell::UnsafeCell;

/// What a worker is told at its start; sizes in bytes.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Settings {
    max_header_bytes: Option<usize>,
    max_target_bytes: Option<usize>,
    max_connections_per_client: u32,
    max_requests_per_second_per_client: u32,
    trusted_proxies: Vec<String>,
    forwarded: bool,
    retry_budget: Option<u32>,
    outlier_ejection: Option<bool>,
    access_log: bool,
    access_log_sample: Option<f64>,
    tracing: bool,
    trace_sample: f64,
    trace_forced_limit: u32,
}

impl Settings {
    fn policy(&self) -> NodePolicy {
        let usual = NodePolicy::default();
        NodePolicy {
            retry_budget: self.retry_budget.unwrap_or(usual.retry_budget),
            outlier_ejection: self.outlier_ejection.unwrap_or(usual.outlier_ejection),
        }
    }

    fn journal(&self) -> journal::Options {
        journal::Options {
            access_log: self.access_log,
            access_log_sample: journal::share(self.access_log_sample.unwrap_or(1.0)),
            tracing: self.tracing.then_some(journal::sampling::Policy {
                ratio: self.trace_sample,
                forced_per_second: self.trace_forced_limit,
            }),
        }
    }

    fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            head: self.max_header_bytes.unwrap_or(usual.head),
            target: self.max_target_bytes.unwrap_or(usual.target),
            ..usual
        }
    }

    fn edge(&self) -> Result<Edge, String> {
        let networks = self.trusted_proxies.iter().map(|text| {
            network::parse(text).map_err(|problem| format!("trustedProxies: {problem}"))
        });
        Ok(Edge {
            max_connections_per_client: self.max_connections_per_client,
            max_requests_per_second_per_client: self.max_requests_per_second_per_client,
            trusted_proxies: networks.collect::<Result<_, _>>()?,
            forwarded: self.forwarded,
        })
    }
}

/// A worker's core has one user at a time. Every way to it takes the interpreter lock (the data plane
/// calls its C functions under it too), under which calls come one after another, and no caller lets
/// that lock go during a call.
struct Core(UnsafeCell<WorkerCore>);

// SAFETY: `Core::lane` demands a `Python` token, and whoever uses `Core::handle` holds the lock; see
// above. The module does not declare itself free of the interpreter lock, so there is one lock in
// every build of Python.
unsafe impl Sync for Core {}

impl Core {
    fn lane<'a>(&'a self, _py: Python<'a>) -> &'a LaneState {
        // SAFETY: the data plane's exclusive references live only during its C calls, none of which
        // runs Python code, so none exists now.
        unsafe { &(*self.0.get()).lane }
    }

    /// For the data plane.
    fn handle(&self) -> usize {
        self.0.get() as usize
    }
}

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub(crate) struct Worker {
    core: Core,
}

impl Worker {
    /// The lane, for as long as the interpreter lock is held without a break.
    pub(crate) fn lane<'a>(&'a self, py: Python<'a>) -> &'a LaneState {
        self.core.lane(py)
    }

    pub(super) fn pinned<'a>(&'a self, py: Python<'a>) -> PyResult<Guard<'a>> {
        Guard::take(self.lane(py))
            .ok_or_else(|| PyRuntimeError::new_err("no configuration was published yet"))
    }
}

pub(super) fn route<'a>(snapshot: &'a ArchivedSnapshot, id: &str) -> PyResult<&'a ArchivedRoute> {
    snapshot
        .route_by_id(id)
        .ok_or_else(|| PyKeyError::new_err(id.to_owned()))
}

#[pymethods]
impl Worker {
    #[new]
    #[pyo3(signature = (state_fd, arena_fd, lane, settings = None, journal_fd = None))]
    fn new(
        state_fd: i32,
        arena_fd: i32,
        lane: u32,
        settings: Option<&[u8]>,
        journal_fd: Option<i32>,
    ) -> PyResult<Self> {
        let settings: Settings = serde_json::from_slice(settings.unwrap_or(b"{}"))
            .map_err(|error| PyValueError::new_err(format!("settings: {error}")))?;
        let edge = settings
            .edge()
            .map_err(|problem| PyValueError::new_err(format!("settings: {problem}")))?;
        let state = LaneState::attach(state_fd, arena_fd, lane).map_err(PyOSError::new_err)?;
        let mut core = WorkerCore::new(state, settings.limits(), settings.policy(), edge);
        if let Some(fd) = journal_fd {
            core.use_journal(fd, lane, settings.journal())
                .map_err(PyOSError::new_err)?;
        }
        Ok(Self {
            core: Core(UnsafeCell::new(core)),
        })
    }

    /// Address of the core for `_wire`, valid as long as this object lives.
    #[getter]
    fn handle(&self) -> usize {
        self.core.handle()
    }

    #[getter]
    fn generation(&self, py: Python<'_>) -> u64 {
        self.lane(py).generation()
    }

    #[pyo3(signature = (fd))]
    fn use_regions(&self, _py: Python<'_>, fd: Option<i32>) -> PyResult<()> {
        let file = fd.map(super::checks::borrow).transpose()?;
        // SAFETY: under the interpreter lock nobody else uses the core, see `Core`.
        let core = unsafe { &mut *self.core.0.get() };
        core.regions.replace(file).map_err(PyValueError::new_err)
    }

    #[pyo3(name = "match")]
    fn find(&self, py: Python<'_>, method: &str, host: &str, path: &str) -> PyResult<Py<PyAny>> {
        let snapshot = self.pinned(py)?;
        let found = find(
            &snapshot,
            host.as_bytes(),
            path.as_bytes(),
            method::id(method.as_bytes()),
        );
        let allowed = match found {
            Match::Route(index) => match snapshot.routes.get(index as usize) {
                Some(route) => {
                    return Ok((route.id.as_str(), route.version.as_str())
                        .into_pyobject(py)?
                        .into_any()
                        .unbind())
                }
                None => Vec::new(),
            },
            Match::Methods(mask) => method::names(mask).collect(),
            Match::None => Vec::new(),
        };
        Ok((py.None(), allowed).into_pyobject(py)?.into_any().unbind())
    }

    #[pyo3(signature = (route_id, client = "", header = None, *, tried = 0))]
    fn pick(
        &self,
        py: Python<'_>,
        route_id: &str,
        client: &str,
        header: Option<&str>,
        tried: u64,
    ) -> PyResult<Option<String>> {
        let snapshot = self.pinned(py)?;
        let route = route(&snapshot, route_id)?;
        let client = select::client_hash(client.as_bytes());
        let picked = select::pick(
            route,
            &select::View {
                lane: self.lane(py),
                now: monotonic_nanos(),
            },
            client,
            header.map(str::as_bytes),
            (tried != 0).then_some(tried),
        );
        let backend = picked.and_then(|candidate| snapshot.backend(route, candidate));
        Ok(backend.map(|backend| backend.name.as_str().to_owned()))
    }

    fn use_tls(&self, _py: Python<'_>, bundle: &[u8]) -> PyResult<()> {
        let bundle = read_bundle(bundle).map_err(PyValueError::new_err)?;
        // SAFETY: under the interpreter lock nobody else uses the core, see `Core`.
        let core = unsafe { &mut *self.core.0.get() };
        core.tls.use_bundle(bundle);
        Ok(())
    }

    fn enter(&self, py: Python<'_>, address: &str) -> PyResult<()> {
        let slot = self.slot(py, address)?;
        self.lane(py).backend_enter(slot);
        Ok(())
    }

    #[pyo3(signature = (address, *, failed = false))]
    fn leave(&self, py: Python<'_>, address: &str, failed: bool) -> PyResult<()> {
        let slot = self.slot(py, address)?;
        self.lane(py).backend_leave(slot, failed);
        Ok(())
    }

    fn bench_match(
        &self,
        py: Python<'_>,
        requests: Vec<(String, String, String)>,
        rounds: u32,
    ) -> PyResult<f64> {
        let snapshot = self.pinned(py)?;
        super::bench::matching(&snapshot, &requests, rounds)
    }

    fn bench_exchange(
        &self,
        _py: Python<'_>,
        request: &[u8],
        response: &[u8],
        rounds: u32,
    ) -> PyResult<f64> {
        // SAFETY: under the interpreter lock nobody else uses the core, see `Core`.
        let core = unsafe { &mut *self.core.0.get() };
        super::bench::exchange(core, request, response, rounds)
    }

    fn bench_pick(&self, py: Python<'_>, route_id: &str, rounds: u32) -> PyResult<f64> {
        let snapshot = self.pinned(py)?;
        super::bench::picking(route(&snapshot, route_id)?, self.lane(py), rounds)
    }
}

impl Worker {
    fn slot(&self, py: Python<'_>, address: &str) -> PyResult<u32> {
        let snapshot = self.pinned(py)?;
        let backend = snapshot
            .backends
            .iter()
            .find(|backend| backend.identity == address);
        backend
            .map(|b| b.slot.to_native())
            .ok_or_else(|| PyKeyError::new_err(address.to_owned()))
    }
}
