"""Who is checked, and in what health. Outlives every change of the configuration: keyed by address.

A change is taken in two steps around its publication. ``prepare``, before it: what is new has its status in
shared memory before the first request can pick it. ``settle``, after it: what is checked no more becomes
Unknown only when no new request can see the old configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from hotswap_proxy.model import parse_url

from .machine import STATUS, Health, State, Status
from .spec import Checks, CheckSpec, Wanted

# How long the health of an address is remembered that is in no configuration: long enough for a file that is
# edited, short enough that what comes back is not judged by another life.
REMEMBERED_SECONDS = 600.0
REMEMBERED_ADDRESSES = 10_000


class StatusTable(Protocol):
    """What is written of ``_core.Node``."""

    def set_backend_status(self, address: str, status: int) -> bool: ...


class Probed:
    """The last probe of a target."""

    __slots__ = ("at", "latency", "reason", "success")

    def __init__(self, at: float, success: bool, reason: str, latency: float) -> None:
        self.at = at  # when it ended, seconds since the epoch
        self.success = success
        self.reason = reason
        self.latency = latency  # seconds


class Target:
    """One check of one address, for all backends that have it. The scheduler keeps its times here too."""

    __slots__ = (
        "address", "authority", "deadline", "due", "entry", "failures", "flight", "health", "host",
        "host_field", "last", "port", "probes", "since", "spec", "started", "users", "waiting",
    )  # fmt: skip

    def __init__(self, address: str, spec: CheckSpec, health: Health) -> None:
        url = parse_url(address)
        self.address = address
        self.spec = spec
        self.health = health
        # A literal can be connected to as it is; a name is looked up in the node's addresses each time.
        self.host: str | None = None if url.is_name else url.host
        self.port = url.port
        self.authority = url.authority
        self.host_field = url.authority.encode()
        self.users: dict[tuple[str, str], str] = {}  # (owner, backend id) → backend name
        self.since = time.time()
        self.last: Probed | None = None
        self.probes = self.failures = 0
        self.due = self.deadline = self.started = 0.0
        self.entry = -1  # the scheduler's slot
        self.flight: Any = None
        self.waiting: list[Any] = []  # futures of who asked for a check now

    @property
    def status(self) -> Status:
        return STATUS[self.health.state]

    def names(self) -> list[tuple[str, str]]:
        """(id, name) of the backends, each once."""
        return sorted({(backend_id, name) for (_, backend_id), name in self.users.items()})


class Registry:
    def __init__(self, table: StatusTable, clock: Callable[[], float] = time.monotonic) -> None:
        self.addresses: Mapping[str, list[str]] = {}
        self.on_added: Callable[[list[Target]], None] = lambda _targets: None
        self.on_removed: Callable[[Target], None] = lambda _target: None
        self._table = table
        self._clock = clock
        self._targets: dict[tuple[str, CheckSpec], Target] = {}
        self._by_address: dict[str, list[Target]] = {}
        self._owned: Checks = {}
        self._remembered: dict[str, tuple[float, Health]] = {}
        self._left: set[str] = set()

    def __len__(self) -> int:
        return len(self._targets)

    def __iter__(self) -> Iterator[Target]:
        return iter(self._targets.values())

    def find(self, address: str, spec: CheckSpec) -> Target | None:
        return self._targets.get((address, spec))

    def status(self, address: str) -> Status | None:
        """The status of an address; None if nothing checks it."""
        targets = self._by_address.get(address)
        return None if targets is None else _combined(targets)

    def counts(self) -> dict[str, int]:
        """Backends (not addresses) by status: ``healthy``, ``unhealthy``, ``unknown`` of those checked."""
        found = {Status.HEALTHY: set[str](), Status.UNHEALTHY: set[str](), Status.UNKNOWN: set[str]()}
        for targets in self._by_address.values():
            found[_combined(targets)].update(backend for target in targets for _, backend in target.users)
        return {status.name.lower(): len(backends) for status, backends in found.items()}

    def healths(self) -> dict[str, Health]:
        """What is known of the addresses that are checked: of several checks, that with the worst status."""
        found = {
            address: max(targets, key=lambda target: int(target.status)).health
            for address, targets in self._by_address.items()
        }
        return {address: health for address, health in found.items() if health.state is not State.NEW}

    def recall(self, healths: Mapping[str, Health]) -> None:
        """Begin with what another process has found, for those checked now and those soon to be."""
        now = self._clock()
        for address, health in healths.items():
            targets = self._by_address.get(address)
            if targets is None:
                self._remembered[address] = (now, health)
                continue
            for target in targets:
                target.health = health
            self._table.set_backend_status(address, _combined(targets))

    # --- changes ---------------------------------------------------------------------------------------

    def prepare(self, checks: Checks, addresses: Mapping[str, list[str]], *, reset: bool = False) -> None:
        """Take a change over that is about to be published. ``reset``: ``checks`` is all there is."""
        self.addresses = addresses
        if reset:
            checks = dict.fromkeys(self._owned, ()) | checks
        new = [(owner, each) for owner, wanted in checks.items() for each in wanted]
        # What stays must not be dropped and made again by moving from one owner to another.
        missing = [(owner, each) for owner, each in new if not self._join(owner, each)]
        for owner, wanted in checks.items():
            self._leave(owner, wanted)
        added = [self._add(owner, each) for owner, each in missing]
        for address, targets in self._by_address.items():
            # All of them: an address that was in no route until now has a fresh slot.
            self._table.set_backend_status(address, _combined(targets))
        self.on_added([target for target in added if target is not None])

    def settle(self) -> None:
        """The change is live."""
        for address in self._left:
            if address not in self._by_address:
                self._table.set_backend_status(address, Status.UNKNOWN)
        self._left.clear()

    def note(self, target: Target, success: bool) -> tuple[Health, Health]:
        """Count an answer: (health before, health after). Every worker knows of a flip when this returns."""
        before = target.health
        after = target.health = before.after(success, target.spec.thresholds)
        if after.state is not before.state:
            target.since = time.time()
            self._table.set_backend_status(target.address, _combined(self._by_address[target.address]))
        return before, after

    def _join(self, owner: str, wanted: Wanted) -> bool:
        target = self._targets.get((wanted.address, wanted.spec))
        if target is None:
            return False
        target.users[owner, wanted.backend_id] = wanted.name
        return True

    def _add(self, owner: str, wanted: Wanted) -> Target | None:
        """The target, if it is a new one."""
        if self._join(owner, wanted):
            return None
        _, health = self._remembered.pop(wanted.address, (0.0, Health(wanted.spec.initial)))
        target = Target(wanted.address, wanted.spec, health)
        target.users[owner, wanted.backend_id] = wanted.name
        self._targets[wanted.address, wanted.spec] = target
        self._by_address.setdefault(wanted.address, []).append(target)
        return target

    def _leave(self, owner: str, wanted: tuple[Wanted, ...]) -> None:
        """Forget what ``owner`` had and has no more."""
        stays = {(each.address, each.spec, each.backend_id) for each in wanted}
        for old in self._owned.pop(owner, ()):
            if (old.address, old.spec, old.backend_id) not in stays:
                target = self._targets[old.address, old.spec]
                target.users.pop((owner, old.backend_id), None)
                if not target.users:
                    self._remove(target)
        if wanted:
            self._owned[owner] = wanted

    def _remove(self, target: Target) -> None:
        del self._targets[target.address, target.spec]
        others = self._by_address[target.address]
        others.remove(target)
        if not others:
            del self._by_address[target.address]
            self._left.add(target.address)
            self._remember(target)
        self.on_removed(target)

    def _remember(self, target: Target) -> None:
        now = self._clock()
        self._remembered.pop(target.address, None)
        self._remembered[target.address] = (now, target.health)
        # In the order of leaving, so what is too old or too much is at the front.
        while self._remembered:
            address, (at, _) = next(iter(self._remembered.items()))
            if now - at < REMEMBERED_SECONDS and len(self._remembered) <= REMEMBERED_ADDRESSES:
                return
            del self._remembered[address]


def _combined(targets: list[Target]) -> Status:
    """Workers know one status per address: out if one of its checks says so."""
    if len(targets) == 1:
        return targets[0].status
    return max((target.status for target in targets), key=int)
