"""The native core: routing, selection and the shared memory of a node.

The control process owns a `Node` (the shared memory) and a `Catalog` (the configuration). It changes the
configuration in two steps, `Catalog.stage` and `Staged.publish`; publication is one atomic store that
every worker sees with its next request. A worker process attaches a `Worker` to the two inherited
descriptors.

All classes may be used from any thread. Long work (`Catalog.stage`) is done without the interpreter lock.
"""

import builtins
from collections.abc import Iterator, Sequence
from typing import Final, TypedDict, final, type_check_only

__all__ = [
    "BUILD_PROFILE",
    "REDACTED_PARAMETERS",
    "_C_API",
    "Catalog",
    "ConfigError",
    "Journal",
    "Lines",
    "Node",
    "OtlpRequest",
    "Rollups",
    "Scrape",
    "Staged",
    "Worker",
    "__version__",
    "assignment_bucket",
    "check_header_change",
    "check_header_template",
    "check_network",
    "check_origin",
    "check_pattern",
    "check_rewrite",
    "check_template_parameters",
    "check_tls",
    "examine_regions",
    "histogram_bounds",
    "histogram_quantile",
    "histogram_sum",
    "response_flags",
]

__version__: Final[str]
REDACTED_PARAMETERS: Final[tuple[str, ...]]
"""Query parameters whose values access lines and traces never show."""
_C_API: Final[object]
"""Capsule with the table of C functions that ``_wire`` calls (``cext/core_api.h``)."""
BUILD_PROFILE: Final[str]
"""``"release"`` or ``"debug"``; benchmarks refuse the latter."""

@type_check_only
class Problem(TypedDict):
    """One thing that is wrong with a change."""

    path: str
    """Where in the changes document, such as ``upsertRoutes[3].pathPattern``; empty for the whole of it. A
    route that the document does not contain is ``routes``, and ``routeId`` says which."""
    code: str
    """``VALIDATION``, or ``CONFLICT`` when another route is in the way."""
    message: str
    routeId: str | None
    otherRouteId: str | None
    otherRouteName: str | None

@type_check_only
class Regions(TypedDict):
    """What a database of regions is."""

    databaseType: str
    built: int
    """Unix seconds."""
    nodes: int

@type_check_only
class LedgerRow(TypedDict):
    """Conservation of one generation: ``accepted == completed + aborted + lost + inflight``."""

    generation: int | None
    """None: the sum over all generations that have ended."""
    accepted: int
    completed: int
    aborted: int
    lost: int
    """Were in flight in a worker that died."""
    inflight: int
    pinned: int
    """Requests that have not sent their response head yet; these keep the snapshot's memory."""
    bytes: int
    """Size of the snapshot while it is in memory, else 0."""

@type_check_only
class BackendStats(TypedDict):
    """One backend address, all workers together."""

    address: str | None
    """``scheme://host:port``; None: the sum over addresses that are no longer configured."""
    status: int
    """0 Unknown, 1 Healthy, 2 Unhealthy, 3 Draining."""
    circuit: str
    """Closed, Open, HalfOpen; HeldOpen and HeldClosed by order."""
    ejectedUntil: float
    """On the monotonic clock, seconds; 0: not ejected."""
    opened: int
    """How often the circuit opened, while it is not closed."""
    active: int
    requests: int
    failed: int

@type_check_only
class SeriesStats(TypedDict):
    """One arm of one route, all workers together."""

    routeId: str | None
    """Empty: requests that no route took. None: the sum over routes that are no longer configured."""
    arm: str | None
    requests: int
    failed: int
    limited: int
    """Refused by a rate limit."""
    recovered: int
    """Those whose first attempt failed and a later one did not; they are not in `failed`."""
    codes: dict[tuple[str, int], int]
    """Count by method and status; ``("OTHER", 0)`` holds what found no entry of its own."""
    histogram: bytes
    """Durations in microseconds; empty when there are none. See `histogram_quantile`."""

@type_check_only
class ArmStats(TypedDict):
    """What one arm of a deployment did, all workers together. Counts go up as long as the deployment is in
    the configuration, whatever becomes of its share.

    Each request is counted in one of ``requests``, ``unavailable``, ``limited``, ``aborted`` and
    ``refused``, or not yet: it is ``active``. Only the first attempt is looked at. Preflights are not in it,
    nor what the ceiling of a client refused: no arm was chosen for these.
    """

    deploymentId: str
    routeId: str
    arm: str
    """``stable`` or ``canary``."""
    share: int | None
    """Of the requests that go to this arm, 1/100 percent; None: the deployment is over, and requests that
    began on this arm are not."""
    requests: int
    """Judged: first attempts that came to an end."""
    failed: int
    """Of them: a status of 500 or more, no connection, no answer in time, or one that broke off."""
    unavailable: int
    """The gateway answered 503: no backend, connection or key of the route was to be had."""
    limited: int
    """A rate limit refused it."""
    aborted: int
    """The client left before the end of the answer."""
    refused: int
    """The gateway answered with another 4xx status."""
    active: int
    """In progress now, upgraded connections among them."""
    latency: bytes
    """Histogram of what is in ``requests``, microseconds: from the request's first byte to the end of the
    answer, or of the first attempt when others followed; to the head of the answer for upgraded connections
    and event streams. See `histogram_quantile`."""

@type_check_only
class LaneStats(TypedDict):
    """One worker's lane."""

    lane: int
    pid: int
    """0 when no worker has the lane."""
    client_connections: int
    accepted_connections: int
    refused_connections: dict[str, int]
    """Closed before their first request, by reason: ``worker`` or ``client`` has as many as it may,
    ``proxy``: no valid PROXY header, or not from one who may send it."""
    upstream_idle: int
    events: dict[str, int]
    """What happened to attempts: retries by reason (``connect``, ``connect_timeout``, ``closed``,
    ``timeout``, ``status``), ``failover``, ``budget_exhausted``, ``circuit_opened``, ``ejected``."""
    backend_micros: bytes
    """Histogram of the time to a backend's answer, microseconds."""
    overhead_nanos: bytes
    """Histogram of the time the proxy itself took, nanoseconds."""

class ConfigError(ValueError):
    """A change that is not valid. Nothing was changed."""

    problems: list[Problem]
    """At least one, at most 100. All problems of the parts are found at once; those between the parts
    (references, names, conflicts) once the parts are valid."""

@final
class Node:
    """Owner of a node's shared memory: one per control process, made before the workers are forked.

    Backend addresses are written ``scheme://host:port`` in lower case, the port always given.
    """

    def __new__(cls, lanes: int, *, arena_bytes: int = 1 << 30) -> Node:
        """Make the shared memory for `lanes` worker processes.

        `arena_bytes` bounds all snapshots alive together; it costs addresses, not memory. Raises OSError.
        """
    @property
    def state_fd(self) -> int:
        """Descriptor of the tables, to be inherited by workers. Owned by the node; not inheritable by
        default."""
    @property
    def arena_fd(self) -> int:
        """Descriptor of the snapshots, read-only, to be inherited by workers. Owned by the node."""
    @property
    def generation(self) -> int:
        """Number of the configuration that is live; 0 before the first."""
    @property
    def lanes(self) -> int: ...
    @property
    def arena_used(self) -> int:
        """Bytes of snapshots, live and staged, in whole pages."""
    def reset_lane(self, lane: int) -> int:
        """Clear what a dead worker left behind. Returns the requests lost with it.

        Only once the process was reaped: a lane has one writer.
        """
    def reclaim(self) -> int:
        """Free the snapshots that no request reads any more. Returns how many. Cheap; call it on a timer."""
    def take_keys_wanted(self) -> bool:
        """Whether, since this was asked last, a token came whose key no set has."""
    def set_limits_key(self, key: bytes) -> None:
        """Find the buckets of routes' rate limits by this key, 16 bytes, which all nodes of a fleet have in
        common.

        At any time; the buckets begin anew. Without it a node has one of its own.
        """
    def set_fleet(self, nodes: int) -> None:
        """Say how many nodes share the rate limits of routes: each request is counted as that many, until
        it is settled.

        0 and 1: nobody else does, and nothing is noted for others. At most 4096.
        """
    def take_limit_usage(self, weight: int, *, most: int = 1000) -> bytes:
        """What workers have let through on shared limits since it was taken last, as entries for the other
        nodes.

        `weight` is what they were counted with; `most` entries or a few more are returned, the rest
        comes first the next time. An entry is 32 bytes, little-endian: tag, limit, time (8 each), requests
        of the window
        before, requests (4 each). Cheap when there is none.
        """
    def charge_limits(self, entries: bytes, *, at_least: bool = False) -> int:
        """Add what another node has let through; or, with `at_least`, raise the buckets to what it knows of
        them.

        What belongs to a window that is over is left out. Returns how many entries were none; never raises
        for their contents.
        """
    def settle_limits(self, entries: bytes, weight: int) -> int:
        """All others know of these entries, which this node took: from now on they count once, not `weight`
        times."""
    def limit_standing(
        self, weight: int, pending: bytes, start: int = 0, *, most: int = 1000
    ) -> tuple[bytes, int | None]:
        """What the buckets hold, for a node that has come anew; go on from the second item until it is None.

        `pending` are the entries taken and not settled: like those not taken yet, they are left out.
        """
    def set_backend_status(self, address: str, status: int) -> bool:
        """Set the health of an address: 0 Unknown, 1 Healthy, 2 Unhealthy, 3 Draining.

        Effective for the next request on every worker. Returns False for an address that is not
        configured; raises ValueError for another number.
        """
    def troubled(self) -> list[BackendStats]:
        """The addresses whose circuit is not Closed, or that are ejected now. Cheap; for a timer."""
    def order_circuit(self, address: str, order: str) -> str | None:
        """Hold the circuit of an address ``Open`` or ``Closed``, or leave it to itself (``Auto``).

        Returns its state afterwards, None for an address that is not configured; raises ValueError for
        another order. Outlives changes of the configuration, as long as the address is in it.
        """
    def eject(self, address: str) -> bool:
        """Leave an address out for 10 s, longer each time in a row; False if it is out, or not configured."""
    def eject_outliers(self) -> list[str]:
        """Eject the addresses that failed far more often than the others of their routes since the call
        before the last, and return them. For a timer of a few seconds; see docs/resilience.md for the rule.
        """
    def ledger(self) -> list[LedgerRow]:
        """Generations that are live or have requests in flight, oldest first, then the sum of the others."""
    def backend_stats(self) -> list[BackendStats]:
        """Every configured address, then the sum of the former ones: the total never goes down."""
    def series_stats(self, route_id: str | None = None, *, histograms: bool = True) -> list[SeriesStats]:
        """Every configured route, "no route", and the sum of the former ones; or the arms of one route.

        A histogram takes 2.8 kB: leave them out where 10,000 routes are asked for and they are not needed.
        """
    def arm_stats(self) -> list[ArmStats]:
        """Both arms of every deployment that is in the configuration, or has requests in flight. Cheap; for a
        timer."""
    def lane_stats(self) -> list[LaneStats]:
        """The lanes that were ever used."""

@final
class Catalog:
    """The configuration that is published on a node, and changes to it."""

    def __new__(cls, node: Node) -> Catalog: ...
    @property
    def routes(self) -> int:
        """Published routes, the disabled ones too."""
    @property
    def backends(self) -> int:
        """Published backends, registered or a route's own, the disabled ones too."""
    @property
    def uses_regions(self) -> bool:
        """Whether an enabled route decides by ``:country`` or ``:continent``."""
    @property
    def key_sets(self) -> dict[str, tuple[int, bool]]:
        """The URLs that enabled routes have their keys from: how often they want them (milliseconds), and
        whether there are any."""
    def stage(self, changes: bytes) -> Staged:
        """Work out what a change makes of the published configuration, and compile it. Nothing is changed
        yet.

        `changes` is a JSON object of ``reset``, ``upsertBackends``, ``removeBackends``, ``upsertRoutes``,
        ``removeRoutes``, ``addresses`` and ``keySets``, all optional. Removals come first; removing what is
        not there is no error. ``reset`` starts from nothing. ``addresses`` maps a ``host:port`` that is not
        an IP literal to its resolved ``ip:port`` strings (an empty list forgets them); a backend without an
        address takes no traffic. ``keySets`` maps the URL of a JWKS to its keys, likewise; without them the
        routes that need them answer 503. A body limit of null or 0 is none.

        A route may have two arms. ``canary`` of an upserted route is an object of ``deploymentId``,
        ``share`` (0 to 10000, in 1/100 percent), ``salt`` (16 hexadecimal digits), ``assignment`` (``type``
        Random, ClientIP, Header or Cookie, the last two with a ``name``) and ``route``: the version that gets
        this share of the requests, with the same routeId, pathPattern, hosts, methods, priority and
        isEnabled. An upsert without ``canary`` ends the split.

        Raises ConfigError for a change that is not valid, RuntimeError when another configuration was
        published meanwhile (stage again).
        """

    def scrape(self, bounds: Sequence[tuple[int, str]]) -> Scrape:
        """Begin a scrape of the series and backends in use.

        `bounds` are the upper bounds that histograms are shown with: the last bucket below each, and the
        bound as it is written.
        """

@final
class Scrape:
    """What one scrape tells of: decided at its beginning, counted when its lines are read."""

    def lines(self, name: str, what: str) -> Lines:
        """The samples of the metric `name`, in pieces of some 64 kB.

        `what`: ``requests``, ``failed``, ``recovered``, ``limited``, ``duration``, ``routeInfo``,
        ``backendRequests``, ``backendFailed``, ``backendActive``, ``backendUp`` or ``backendCircuit``; else
        ValueError.
        """

@final
class Lines(Iterator[bytes]):
    """Pieces of the Prometheus text format, from any thread."""

    def __iter__(self) -> Lines: ...
    def __next__(self) -> bytes: ...

@final
class Staged:
    """A compiled configuration, not live yet. Dropping it discards it."""

    @property
    def routes(self) -> int: ...
    @property
    def backends(self) -> int: ...
    @property
    def bytes(self) -> int:
        """Size of the snapshot."""
    @property
    def key_sets(self) -> dict[str, tuple[int, bool]]:
        """As of `Catalog`; empty once it was published or discarded."""
    def publish(self) -> int:
        """Make it live on every worker at once. Returns its generation.

        Raises RuntimeError when another one was published since it was staged, or when it was published or
        discarded before.
        """
    def discard(self) -> None:
        """Free its memory. Harmless when it was published or discarded before."""

@final
class Rollups:
    """What the series of a node have counted, minute by minute or whenever it is asked. One reader: what is
    taken is not told again. Begins with all that was counted until now.
    """

    def __new__(cls, node: Node) -> Rollups: ...
    def take(self) -> tuple[tuple[int, int, bytes], list[tuple[str | None, str, int, int, bytes]]]:
        """What was counted since the last `take`: the sum of all series, (requests, failed, latency), and of
        those that had requests (route id, arm, requests, failed, latency). A latency is a histogram in the
        encoding of `hotswap_proxy.history.encoding`.

        Each request is told once, whatever became of its series: what those have counted that have ended
        meanwhile is in a row without a route. Never negative. In a few ms for 10,000 series, without the
        interpreter lock but for the list.
        """
    def peek(
        self, route_id: str | None = None
    ) -> tuple[tuple[int, int, bytes], list[tuple[str | None, str, int, int, bytes]]]:
        """The same for one route (its sum, its arms), or for all of them (the sum only); nothing is taken."""

@final
class Worker:
    """A worker process's handle on the shared memory: it takes one lane, until it is dropped."""

    def __new__(
        cls,
        state_fd: int,
        arena_fd: int,
        lane: int,
        settings: bytes | None = None,
        journal_fd: int | None = None,
    ) -> Worker:
        """Attach to a node by its inherited descriptors, which may be closed afterwards.

        `settings` is a JSON object with the optional members `maxHeaderBytes`, `maxTargetBytes`,
        `maxConnectionsPerClient` and `maxRequestsPerSecondPerClient` (0: any number), `trustedProxies` (a
        list of networks), `forwarded` (whether backends get that field), `retryBudget` (percent),
        `outlierEjection`, and for the journal `accessLog`, `tracing` (whether records are for it),
        `accessLogSample` and `traceSample` (shares from 0 to 1), `traceForcedLimit`. `journal_fd` is a
        `Journal`'s; without it nothing is told of requests. Raises OSError when the descriptors are not a
        node's of this version, or the lane does not exist or is taken; ValueError for other settings.
        """
    @property
    def generation(self) -> int:
        """Number of the configuration that the next request would use."""
    @property
    def handle(self) -> int:
        """Address of the worker's core, for ``_wire``; valid as long as this object lives."""
    def use_regions(self, fd: int | None) -> None:
        """Look countries and continents up in the database in this file from now on; None: in none.

        The file must be sealed against changes (``F_SEAL_WRITE | F_SEAL_SHRINK``); it is mapped, and may be
        closed afterwards. ValueError says what is wrong with it; then the one before stays.
        """
    def match(self, method: str, host: str, path: str) -> tuple[str, str] | tuple[None, list[str]]:
        """Which route takes a request: (route id, version), or None and the methods allowed (empty: no
        route).

        `host` may have a port and any case; `path` is the normalised path without the query. RuntimeError
        before the first publication.
        """
    def pick(
        self, route_id: str, client: str = "", header: str | None = None, *, tried: int = 0
    ) -> str | None:
        """Which backend of a route would take a request, by its name; None when none can. Takes the
        route's turn.

        `client` stands for the client's address, `header` is the value of the header that the route
        decides by, `tried` has bit ``i % 64`` set for each candidate `i` that this request has been to.
        KeyError for a route that is not live.
        """
    def use_tls(self, bundle: bytes) -> None:
        """Serve new TLS connections of clients with this bundle; those that are open keep theirs.

        `bundle` is a JSON object: `certificates` ({chain, key}, PEM texts; the first is the default),
        `clientCa` (PEM), `clientAuth` (off, optional or required), `minVersion` (1.2 or 1.3), `ticketKeys`
        (64 hexadecimal digits each, the first seals), `ticketSeconds`, `hstsSeconds`. ValueError names what
        is wrong, and then nothing has changed.
        """
    def enter(self, address: str) -> None:
        """Count a request as active on a backend address, as an exchange does. KeyError if it is not
        configured."""
    def leave(self, address: str, *, failed: bool = False) -> None:
        """End what `enter` began."""
    def bench_match(self, requests: list[tuple[str, str, str]], rounds: int) -> float:
        """Nanoseconds for matching one of `requests` (method, host, path), mean over `rounds` times all of
        them."""
    def bench_pick(self, route_id: str, rounds: int) -> float:
        """Nanoseconds for picking a backend for a request's first attempt, mean over `rounds`."""
    def bench_exchange(self, request: bytes, response: bytes, rounds: int) -> float:
        """Nanoseconds for a whole exchange without sockets (both heads read and written, all decisions, all
        counting), mean over `rounds`. Raises ValueError when the request is not plainly forwarded."""

@type_check_only
class Drained(TypedDict):
    records: int
    sampled: int
    lines: int
    bytes: int
    linesLost: int
    errors: int
    error: str | None
    dropped: int
    corrupt: int
    more: bool
    spans: builtins.bytes

@final
class Journal:
    """What workers tell of single requests: a ring in shared memory for each lane, and what reads it."""

    def __new__(
        cls, lanes: int, *, ring_bytes: int = 1048576, redact: Sequence[str] | None = None
    ) -> Journal:
        """Make the memory: `ring_bytes` a lane, a power of two from 65,536 on, of which only what is used is
        taken.

        `redact` names query parameters (any case) whose values access lines show as ``***``, besides
        `REDACTED_PARAMETERS`. Raises OSError without memory, ValueError for another size.
        """
    @property
    def fd(self) -> int:
        """What workers attach by; open as long as this object lives."""
    @property
    def dropped(self) -> int:
        """Records that found a ring full, since the journal was made; also while `drain` is under way."""
    def drain(self, log_fd: int, *, most: int = 8192) -> Drained:
        """Take what workers have told, about `most` records, and write access lines to `log_fd` (-1: none).

        Without the interpreter lock; one call at a time. Blocks as long as a write(2) to `log_fd` does.
        Returns what this call found: `records`, `sampled` (of them, for traces), `lines` and `bytes`
        written, `linesLost` (that could not be), `errors` (writes that failed), `error` (why the last one
        did; None), `dropped` (records that found a ring full, since the last call), `corrupt` (records that
        were none), `more` (call again), `spans` (of the sampled requests, for `OtlpRequest`; empty unless
        `export_spans`).
        """
    def export_spans(self, wanted: bool) -> None:
        """Whether `drain` gives spans from now on."""
    def kept(
        self,
        limit: int,
        route_id: str | None = None,
        status: tuple[int, int] | None = None,
        min_duration_ms: float = 0.0,
    ) -> bytes:
        """JSON: the last sampled requests, newest first; `status` is the first and the last one wanted."""
    def kept_trace(self, trace_id: str) -> bytes:
        """JSON: the spans of the requests of a trace that are kept; an empty list for any other text."""

@final
class OtlpRequest:
    """Makes bodies of requests to a collector: ``ExportTraceServiceRequest`` of OTLP."""

    def __new__(cls, resource: list[tuple[str, str]], version: str) -> OtlpRequest:
        """`resource`: attributes of the node; `version`: of the scope."""
    def __call__(self, spans: bytes) -> tuple[bytes, int]:
        """The body for spans that `Journal.drain` gave, of one call or of several one behind the other; and
        how many they are."""

def response_flags() -> list[tuple[str, str]]:
    """Every response flag of access lines: short name and meaning, in the order in which a line has them."""

def assignment_bucket(salt: str, key: bytes) -> int:
    """Where `key` stands in a split, from 0 to 2**64 - 1: below ``share * 2**64 // 10000`` it is in.

    So who is in at one share is in at every larger one. `salt` is 16 hexadecimal digits, ValueError
    otherwise; the value is the finaliser of MurmurHash3 of the 64 bits of FNV-1a over the salt's 8 bytes, a
    zero byte and the key, the same on every node and for good.
    """

def check_header_change(name: str, *, add: bool, response: bool) -> None:
    """Raise ValueError naming the rule by which a route may not add (else: remove) this header."""

def check_header_template(value: str, *, response: bool) -> None:
    """Raise ValueError naming the rule that a value with ``${…}`` breaks."""

def check_network(network: str) -> None:
    """Raise ValueError for what is no network in the form ``address/bits``."""

def check_origin(origin: str) -> None:
    """Raise ValueError for what no browser would send as an origin, but ``*`` and ``scheme://*.domain``."""

def check_tls(bundle: bytes) -> list[tuple[list[str], int, int]]:
    """Read a bundle as `Worker.use_tls` does: of each certificate its names (subjectAltName) and the time
    from and to which it is valid (seconds since 1970). ValueError, as there."""

def check_pattern(pattern: str) -> None:
    """Raise ValueError naming the rule that a path pattern breaks."""

def check_rewrite(rule: str) -> None:
    """Raise ValueError saying what is wrong with ``<regex> -> <replacement>``, and where."""

def check_template_parameters(value: str, pattern: str) -> None:
    """Raise ValueError for a ``${param.<name>}`` that the path pattern has no ``{name}`` for."""

def examine_regions(fd: int) -> Regions:
    """Check a database of regions in a sealed file; ValueError says what is wrong with it. Takes some ten
    milliseconds, without the interpreter lock."""

def histogram_bounds() -> list[tuple[int, int]]:
    """Half-open bounds of the 352 buckets of every histogram, in its unit.

    A histogram's bytes are one little-endian unsigned 64-bit count for each, or nothing at all.
    """

def histogram_quantile(histogram: bytes, q: float) -> float | None:
    """The value at quantile `q` (0 to 1), within 3.1 %; None for an empty histogram."""

def histogram_sum(histogram: bytes) -> float:
    """Sum of the values, within 3.1 %."""
