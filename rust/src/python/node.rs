//! `Node`: the control process's handle on the shared memory.

use super::bench::{clocks, monotonic_nanos};
use super::{arms, errors, histogram};
use crate::fleet;
use crate::outlier::Outliers;
use crate::policy::limit::MOST_NODES;
use crate::policy::share::Change;
use crate::route::method;
use crate::state::circuit::{Event, State};
use crate::state::sets::HashKey;
use crate::state::stats::{BackendStats, SeriesTotals, EVENTS};
use crate::state::{self, BackendStatus, Capacities};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyList};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The one owner behind its lock; a catalog holds it too.
pub type Shared = Arc<Mutex<state::Node>>;

/// Lock the node. A panic under the lock does not make it unusable: its operations leave no half of
/// their work behind where they could panic.
pub fn lock(node: &Shared) -> MutexGuard<'_, state::Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pyclass(frozen, module = "hotswap_proxy._core")]
pub struct Node {
    pub shared: Shared,
    outliers: Mutex<Outliers>,
}

#[pymethods]
impl Node {
    #[new]
    #[pyo3(signature = (lanes, *, arena_bytes = 1 << 30))]
    fn new(py: Python<'_>, lanes: u32, arena_bytes: usize) -> PyResult<Self> {
        let node = errors::detached(py, || {
            state::Node::new(lanes, arena_bytes, Capacities::default())
        })?;
        let node = node.map_err(PyOSError::new_err)?;
        Ok(Self {
            shared: Arc::new(Mutex::new(node)),
            outliers: Mutex::default(),
        })
    }

    #[getter]
    fn state_fd(&self, py: Python<'_>) -> PyResult<i32> {
        self.with(py, |node| node.state_fd())
    }

    #[getter]
    fn arena_fd(&self, py: Python<'_>) -> PyResult<i32> {
        self.with(py, |node| node.arena_fd())
    }

    #[getter]
    fn generation(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |node| node.generation())
    }

    #[getter]
    fn lanes(&self, py: Python<'_>) -> PyResult<u32> {
        self.with(py, |node| node.lanes())
    }

    #[getter]
    fn arena_used(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |node| node.arena_used())
    }

    fn reset_lane(&self, py: Python<'_>, lane: u32) -> PyResult<u64> {
        self.with(py, |node| node.reset_lane(lane))
    }

    fn take_keys_wanted(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |node| node.take_keys_wanted())
    }

    fn set_limits_key(&self, py: Python<'_>, key: [u8; 16]) -> PyResult<()> {
        let key = u128::from_le_bytes(key);
        let key = HashKey(key as u64, (key >> 64) as u64);
        self.with(py, |node| node.set_limits_key(key))
    }

    fn set_fleet(&self, py: Python<'_>, nodes: u32) -> PyResult<()> {
        if nodes > MOST_NODES {
            return Err(PyValueError::new_err(format!(
                "a fleet has at most {MOST_NODES} nodes"
            )));
        }
        self.with(py, |node| node.set_fleet(nodes))
    }

    #[pyo3(signature = (weight, *, most = 1000))]
    fn take_limit_usage<'py>(
        &self,
        py: Python<'py>,
        weight: u32,
        most: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let entries = self.with(py, |node| fleet::take(node, most, weight, clocks()))?;
        Ok(PyBytes::new(py, &entries))
    }

    #[pyo3(signature = (entries, *, at_least = false))]
    fn charge_limits(&self, py: Python<'_>, entries: &[u8], at_least: bool) -> PyResult<usize> {
        let change = [Change::Add, Change::AtLeast][usize::from(at_least)];
        self.with(py, |node| fleet::change(node, entries, change, clocks()))
    }

    fn settle_limits(&self, py: Python<'_>, entries: &[u8], weight: u32) -> PyResult<usize> {
        let change = Change::Settle(weight);
        self.with(py, |node| fleet::change(node, entries, change, clocks()))
    }

    #[pyo3(signature = (weight, pending, start = 0, *, most = 1000))]
    fn limit_standing<'py>(
        &self,
        py: Python<'py>,
        weight: u32,
        pending: &[u8],
        start: usize,
        most: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<usize>)> {
        let (entries, next) = self.with(py, |node| {
            fleet::standing(node, start, most, weight, pending, clocks())
        })?;
        Ok((PyBytes::new(py, &entries), next))
    }

    fn reclaim(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |node| node.reclaim())
    }

    fn set_backend_status(&self, py: Python<'_>, address: &str, status: u32) -> PyResult<bool> {
        let value = BackendStatus::from_raw(status);
        if value as u32 != status {
            return Err(PyValueError::new_err(format!(
                "a backend status is 0 to 3, not {status}"
            )));
        }
        self.with(py, |node| node.set_backend_status(address, value))
    }

    fn ledger<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for row in self.with(py, |node| node.ledger())? {
            let item = PyDict::new(py);
            item.set_item("generation", row.generation)?;
            item.set_item("accepted", row.accepted)?;
            item.set_item("completed", row.completed)?;
            item.set_item("aborted", row.aborted)?;
            item.set_item("lost", row.lost)?;
            item.set_item("inflight", row.inflight)?;
            item.set_item("pinned", row.pinned)?;
            item.set_item("bytes", row.bytes)?;
            list.append(item)?;
        }
        Ok(list)
    }

    fn backend_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let (stats, retired) =
            self.with(py, |node| (node.backend_stats(), node.retired_backends()))?;
        let list = PyList::empty(py);
        for one in &stats {
            list.append(backend_item(py, one)?)?;
        }
        let item = PyDict::new(py);
        item.set_item("address", None::<&str>)?;
        item.set_item("status", 0)?;
        item.set_item("circuit", "Closed")?;
        item.set_item("ejectedUntil", 0.0)?;
        item.set_item("opened", 0)?;
        item.set_item("active", 0)?;
        item.set_item("requests", retired.requests)?;
        item.set_item("failed", retired.failed)?;
        list.append(item)?;
        Ok(list)
    }

    fn troubled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let now = monotonic_nanos();
        let list = PyList::empty(py);
        for one in self.with(py, |node| node.troubled(now))? {
            list.append(backend_item(py, &one)?)?;
        }
        Ok(list)
    }

    fn order_circuit(
        &self,
        py: Python<'_>,
        address: &str,
        order: &str,
    ) -> PyResult<Option<&'static str>> {
        let event = match order {
            "Open" => Event::OrderOpen,
            "Closed" => Event::OrderClosed,
            "Auto" => Event::OrderAuto,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "an order is Open, Closed or Auto, not {order}"
                )))
            }
        };
        let state = self.with(py, |node| node.order_circuit(address, event))?;
        Ok(state.map(circuit_name))
    }

    fn eject_outliers(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        errors::detached(py, || {
            let mut outliers = self.outliers.lock().unwrap_or_else(PoisonError::into_inner);
            outliers.judge(&mut lock(&self.shared), monotonic_nanos())
        })
    }

    fn eject(&self, py: Python<'_>, address: &str) -> PyResult<bool> {
        self.with(py, |node| node.eject(address, monotonic_nanos()))
    }

    #[pyo3(signature = (route_id = None, *, histograms = true))]
    fn series_stats<'py>(
        &self,
        py: Python<'py>,
        route_id: Option<&str>,
        histograms: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        // Copied first: making Python objects may collect garbage, and that may drop a staged
        // configuration, which takes the lock.
        let all = self.with(py, |node| {
            let mut all = Vec::new();
            node.for_each_series(|series| {
                if !route_id.is_some_and(|id| id != series.route_id) {
                    all.push(Series::new(
                        Some((series.route_id, series.arm)),
                        series.totals,
                        histograms,
                    ));
                }
            });
            if route_id.is_none() {
                all.push(Series::new(None, node.retired_series(), histograms));
            }
            all
        })?;
        let list = PyList::empty(py);
        for series in all {
            list.append(series.into_dict(py)?)?;
        }
        Ok(list)
    }

    fn arm_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for stats in self.with(py, |node| node.arm_stats())? {
            list.append(arms::into_dict(py, &stats)?)?;
        }
        Ok(list)
    }

    fn lane_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for lane in self.with(py, |node| node.lane_stats())? {
            let item = PyDict::new(py);
            item.set_item("lane", lane.lane)?;
            item.set_item("pid", lane.pid)?;
            item.set_item("client_connections", lane.client_connections)?;
            item.set_item("accepted_connections", lane.accepted_connections)?;
            let [worker, client, proxy] = lane.refused_connections;
            item.set_item(
                "refused_connections",
                [("worker", worker), ("client", client), ("proxy", proxy)].into_py_dict(py)?,
            )?;
            item.set_item("upstream_idle", lane.upstream_idle)?;
            let events = PyDict::new(py);
            for (name, count) in EVENT_NAMES.iter().zip(lane.events) {
                events.set_item(name, count)?;
            }
            item.set_item("events", events)?;
            item.set_item(
                "backend_micros",
                histogram::to_bytes(py, &lane.backend_micros)?,
            )?;
            item.set_item(
                "overhead_nanos",
                histogram::to_bytes(py, &lane.overhead_nanos)?,
            )?;
            list.append(item)?;
        }
        Ok(list)
    }
}

/// By number of [`crate::state::stats::Event`].
const EVENT_NAMES: [&str; EVENTS] = [
    "connect",
    "connect_timeout",
    "closed",
    "timeout",
    "status",
    "failover",
    "budget_exhausted",
    "circuit_opened",
    "ejected",
];

fn circuit_name(state: State) -> &'static str {
    match state {
        State::Closed => "Closed",
        State::Open => "Open",
        State::HalfOpen => "HalfOpen",
        State::HeldOpen => "HeldOpen",
        State::HeldClosed => "HeldClosed",
    }
}

fn backend_item<'py>(py: Python<'py>, one: &BackendStats) -> PyResult<Bound<'py, PyDict>> {
    let item = PyDict::new(py);
    item.set_item("address", &one.identity)?;
    item.set_item("status", one.status as u32)?;
    item.set_item("circuit", circuit_name(one.circuit))?;
    item.set_item("ejectedUntil", one.ejected_until as f64 / 1e9)?;
    item.set_item("opened", one.opened)?;
    item.set_item("active", one.active)?;
    item.set_item("requests", one.totals.requests)?;
    item.set_item("failed", one.totals.failed)?;
    Ok(item)
}

impl Node {
    /// Use the node without holding the interpreter lock while waiting for the node's.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        use_it: impl FnOnce(&mut state::Node) -> T + Send,
    ) -> PyResult<T> {
        errors::detached(py, || use_it(&mut lock(&self.shared)))
    }
}

/// The numbers of a series, its histogram without the empty buckets.
struct Series {
    names: Option<(String, String)>,
    requests: u64,
    failed: u64,
    limited: u64,
    recovered: u64,
    codes: Vec<((u8, u16), u64)>,
    buckets: Vec<(usize, u64)>,
}

impl Series {
    fn new(names: Option<(&str, &str)>, totals: &SeriesTotals, histogram: bool) -> Self {
        let filled = totals
            .histogram
            .iter()
            .copied()
            .enumerate()
            .filter(|&(_, n)| n > 0 && histogram);
        Self {
            names: names.map(|(route, arm)| (route.into(), arm.into())),
            requests: totals.requests,
            failed: totals.failed,
            limited: totals.limited,
            recovered: totals.recovered,
            codes: totals
                .codes
                .iter()
                .map(|(&code, &count)| (code, count))
                .collect(),
            buckets: filled.collect(),
        }
    }

    fn into_dict(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let codes = PyDict::new(py);
        for ((method, status), count) in self.codes {
            codes.set_item((method::name(method).unwrap_or("OTHER"), status), count)?;
        }
        let (route, arm) = self.names.unzip();
        let item = PyDict::new(py);
        item.set_item("routeId", route)?;
        item.set_item("arm", arm)?;
        item.set_item("requests", self.requests)?;
        item.set_item("failed", self.failed)?;
        item.set_item("limited", self.limited)?;
        item.set_item("recovered", self.recovered)?;
        item.set_item("codes", codes)?;
        item.set_item("histogram", histogram::sparse_to_bytes(py, &self.buckets)?)?;
        Ok(item)
    }
}
