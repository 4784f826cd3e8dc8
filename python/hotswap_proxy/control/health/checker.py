"""When to probe: one loop for all backends of the node.

One wheel of times, one timer. Every target is in one slot that counts, that of the next time something may
have to be done about it; what is met too early is put into a later one. What is due within one turn starts
together: a hundred probes in a row find the caches warm, and cost a third less than one by one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from hotswap_proxy.errors import Unavailable

from .command import CommandProbes
from .machine import FLIPS, Health, State
from .registry import Probed, Registry, StatusTable, Target
from .sockets import SocketProbes
from .spec import Checks, CheckSpec
from .tls import Contexts

log = logging.getLogger("hotswap_proxy.control")

TICK = 0.05  # seconds: how exact times are
BURST = 128  # probes begun in one turn of the event loop, which serves the admin API too
JITTER = 0.1  # of the interval, to both sides
MAX_OPEN = 8192
SPARE_FILES = 256  # for all else the control process does
ASKED_AGAIN = 1.0  # seconds beyond the check's timeout that `check_now` waits

Told = Callable[[Target, Health, Health], None]


class Checker:
    """Owns the schedule. ``prepare`` and ``settle`` are called around each publication of a configuration."""

    def __init__(
        self,
        table: StatusTable,
        on_flip: Told = lambda _target, _old, _new: None,
        tls_files: Path = Path("tls"),
    ) -> None:
        self._contexts = Contexts(tls_files)
        self.registry = Registry(table)
        self.registry.on_added = self._added
        self.registry.on_removed = self._removed
        self.results = {"success": 0, "failure": 0, "notRun": 0}
        self._starved = False  # probes cannot be begun
        self.flips = {"healthy": 0, "unhealthy": 0}
        self._on_flip = on_flip
        self._wheel: dict[int, list[Target]] = {}  # number of a tick → who has to be looked at then
        self._tick_number = 0  # the last one done
        self._timer: asyncio.TimerHandle | None = None
        self._sockets: SocketProbes | None = None
        self._commands: CommandProbes | None = None
        self._limit = max(16, min(MAX_OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES))
        self._random = random.Random()  # noqa: S311  spreads load, keeps no secret

    def prepare(self, checks: Checks, addresses: Mapping[str, list[str]], *, reset: bool = False) -> None:
        """A configuration is about to be published; see ``Registry.prepare``."""
        self.registry.prepare(checks, addresses, reset=reset)

    def settle(self) -> None:
        """It was published."""
        self.registry.settle()

    def start(self) -> None:
        """Begin to probe. Before it, targets are only gathered. Again: no effect."""
        if self._sockets is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._sockets = SocketProbes(self._ended, self._contexts)
        self._commands = CommandProbes(self._ended)
        self._added(list(self.registry))

    async def stop(self) -> None:
        """End all probes; the last results stay."""
        if self._timer is not None:
            self._timer.cancel()
        sockets, commands = self._sockets, self._commands
        self._sockets = self._commands = None
        self._wheel.clear()
        if sockets is not None:
            sockets.close()
        if commands is not None:
            await commands.close()

    def check_now(self, address: str, spec: CheckSpec) -> Coroutine[Any, Any, Target] | None:
        """Probe at once, as if it were due, and return the target when it has ended; None: not checked."""
        target = self.registry.find(address, spec)
        return None if target is None else self._check_now(target)

    async def _check_now(self, target: Target) -> Target:
        if self._sockets is None:
            raise Unavailable("health checks do not run: the node is starting or ending")
        answer: asyncio.Future[None] = self._loop.create_future()
        target.waiting.append(answer)
        if target.flight is None:
            target.due = self._loop.time()
            self._push(target, target.due)
            self._arm()
        try:
            async with asyncio.timeout(target.spec.timeout + ASKED_AGAIN):
                await answer
        except TimeoutError:
            raise Unavailable("the check did not get its turn in time; try again") from None
        finally:
            if answer in target.waiting:
                target.waiting.remove(answer)
        return target

    # --- the schedule ----------------------------------------------------------------------------------

    def _added(self, targets: list[Target]) -> None:
        if self._sockets is None:
            return
        now = self._loop.time()
        if not self._timer:
            self._tick_number = max(self._tick_number, int(now / TICK) - 1)  # nothing was due while it stood
        for target in targets:  # at once; `BURST` and the sockets' limit pace them
            target.due = now
            self._push(target, now)
        self._arm()

    def _removed(self, target: Target) -> None:
        target.entry = -1  # no slot of the wheel is its any more
        if target.flight is not None:
            self._stop(target)
        for answer in target.waiting:
            if not answer.done():
                answer.set_exception(Unavailable("the check was changed or removed meanwhile"))

    def _push(self, target: Target, when: float) -> None:
        """Look at ``target`` at ``when``, and not at the time noted before."""
        number = max(int(when / TICK), self._tick_number) + 1
        target.entry = number
        found = self._wheel.get(number)
        if found is None:
            self._wheel[number] = [target]
        else:
            found.append(target)

    def _arm(self) -> None:
        if self._timer is None and len(self.registry) and self._sockets is not None:
            self._timer = self._loop.call_at((int(self._loop.time() / TICK) + 1) * TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        number = int(now / TICK)
        begun = 0
        while self._tick_number < number:
            due = self._wheel.get(self._tick_number + 1, [])
            while due:
                target = due.pop()
                if target.entry == self._tick_number + 1:
                    begun += self._look_at(target, now)
                if begun >= BURST:  # let others have a turn; the rest of the slot is still there
                    self._timer = self._loop.call_later(0, self._tick)
                    return
            self._tick_number += 1
            self._wheel.pop(self._tick_number, None)
        self._arm()

    def _look_at(self, target: Target, now: float) -> bool:
        """Do what is due. True if a probe was begun."""
        if target.flight is not None:
            if target.deadline > now:
                self._push(target, target.deadline)
            else:
                self._expire(target)
        elif target.due > now:
            self._push(target, target.due)
        elif len(self._sockets or ()) >= self._limit:
            self._push(target, now)
        else:
            self._begin(target, now)
            return True
        return False

    def _begin(self, target: Target, now: float) -> None:
        assert self._sockets is not None and self._commands is not None
        spec = target.spec
        target.started = now
        target.deadline = now + spec.timeout
        # Each round drifts by its own amount, and the first one more: who was added together parts soon.
        low = 1 - JITTER if target.probes else 0.5
        target.due = now + spec.interval * self._random.uniform(low, 1 + JITTER if target.probes else 1)
        if spec.type == "Custom":
            # It keeps its own time: waiting for its turn is not the command's fault.
            target.deadline = float("inf")
            target.entry = 0  # its end puts it back
            self._commands.start(target)
            return
        host, port = target.host, target.port
        if host is None:
            host, port = self._look_up(target.authority)
        ended = self._sockets.start(target, host, port) if host else (False, "the name has no address")
        self._push(target, target.due if ended else min(target.deadline, target.due))
        if ended:
            self._ended(target, *ended)

    def _look_up(self, authority: str) -> tuple[str, int]:
        # The first one: the data plane connects to that.
        for address in self.registry.addresses.get(authority, ()):
            host, _, port = address.rpartition(":")
            return host.strip("[]"), int(port)
        return "", 0

    def _stop(self, target: Target) -> str:
        assert self._sockets is not None and self._commands is not None
        if target.spec.type == "Custom":
            self._commands.stop(target)
            return "the command"
        return self._sockets.stop(target)

    def _expire(self, target: Target) -> None:
        waited = self._stop(target)
        self._push(target, target.due)
        self._ended(target, False, f"timed out after {target.spec.timeout:g} s waiting for {waited}")

    # --- results ---------------------------------------------------------------------------------------

    def _ended(self, target: Target, success: bool | None, reason: str) -> None:
        """Every probe ends here; a target with a socket is in the wheel meanwhile."""
        if target.entry < 0 or self._sockets is None:
            return
        latency = self._loop.time() - target.started
        if target.spec.type == "Custom":
            target.due = max(target.due, target.started + latency)  # it may take longer than its interval
            self._push(target, target.due)
            self._arm()
        if self._starved is not (success is None):
            self._starved = success is None
            if self._starved:
                log.error("health checks cannot be run; statuses stay as they are", extra={"reason": reason})
            else:
                log.info("health checks are run again")
        if success is None:
            self._not_run(target, reason)
            return
        target.probes += 1
        target.failures += not success
        self.results["success" if success else "failure"] += 1
        if target.last is None:
            target.last = Probed(0.0, success, reason, latency)
        last = target.last
        last.at, last.success, last.reason, last.latency = time.time(), success, reason, latency
        before, after = self.registry.note(target, success)
        if before.state is not after.state and (before.state, after.state) in FLIPS:
            self._flipped(target, before, after)
        for answer in target.waiting:
            if not answer.done():
                answer.set_result(None)
        target.waiting.clear()

    def _not_run(self, target: Target, reason: str) -> None:
        self.results["notRun"] += 1
        for answer in target.waiting:
            if not answer.done():
                answer.set_exception(Unavailable(f"the check was not run: {reason}"))
        target.waiting.clear()

    def _flipped(self, target: Target, before: Health, after: Health) -> None:
        assert target.last is not None
        told = {
            "backend": target.address,
            "backends": [name for _, name in target.names()],
            "reason": target.last.reason,
            "probes": abs(after.streak),
        }
        if after.state is State.UP:
            self.flips["healthy"] += 1
            log.info("backend is healthy", extra=told)
        else:
            self.flips["unhealthy"] += 1
            log.warning("backend is unhealthy", extra=told)
        self._on_flip(target, before, after)
