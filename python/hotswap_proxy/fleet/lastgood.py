"""The last configuration that was live, in a file: what a node starts with when the store is away.

One whole change set (``Catalog.stage``), then those that came after it, each with its checksum. A tail that
was torn by a crash is left out: it is a moment older, and consistent. Records are never written behind a gap:
after a failed write nothing is appended until a whole one stands again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from hotswap_proxy.control.health.spec import Described
from hotswap_proxy.control.publishing import Live
from hotswap_proxy.control.snapshot import Snapshot

log = logging.getLogger("hotswap_proxy.control")

FILE_NAME = "last-known-good"
_MAGIC = b"hotswap-lkg 1\n"
_FRAME = struct.Struct(">II")  # length and CRC-32 of what follows
_OBJECTS = {
    "upsertRoutes": ("removeRoutes", "routeId"),
    "upsertBackends": ("removeBackends", "backendId"),
}
MOST_RECORDS = 500
LEAST_BYTES = 1 << 20  # a journal shorter than this is left alone
MAX_WAITING = 1000  # records on their way to a disk that hangs


@dataclass(slots=True)
class Remembered:
    """What the file holds. ``objects``: ``upsertRoutes`` and ``upsertBackends``, by id."""

    revision: int = 0
    fleet_id: str | None = None
    environment: str = ""
    objects: dict[str, dict[str, Any]] = field(default_factory=lambda: {key: {} for key in _OBJECTS})
    addresses: dict[str, list[str]] = field(default_factory=dict)
    key_sets: dict[str, Any] = field(default_factory=dict)
    checks: Described = field(default_factory=dict)

    def take(self, head: dict[str, Any], payload: bytes) -> None:
        if head["reset"]:
            self.objects = {key: {} for key in _OBJECTS}
            self.addresses, self.key_sets, self.checks = {}, {}, {}
        change = orjson.loads(payload)
        for key, (removals, name) in _OBJECTS.items():
            for one in change.get(removals, ()):
                self.objects[key].pop(one, None)
            self.objects[key].update((one[name], one) for one in change.get(key, ()))
        self.addresses.update(change.get("addresses", {}))
        self.key_sets.update(change.get("keySets", {}))
        self.checks.update(head["checks"])
        self.revision = head["revision"]

    def snapshot(self) -> Snapshot:
        """The same for the compiler, but for the addresses."""
        found = Snapshot(self.revision, checks=self.checks, key_sets=self.key_sets)
        for key in ("upsertBackends", "upsertRoutes"):
            found.append(key, self.objects[key].values())
        return found


class LastGood:
    """Writes in a thread of its own, in order; nobody waits for the disk."""

    def __init__(self, directory: Path, environment: str) -> None:
        self.path = directory / FILE_NAME
        self.wants_all = True  # a whole record is due: there is none, or the journal is long
        self.fleet_id: str | None = None
        self._environment = environment
        self._thread = ThreadPoolExecutor(1, "last-good")
        self._whole = False  # what is in the file is what was published, as far as it was told
        self._base = self._journal = self._records = self._waiting = 0
        self._failed = self._held = False
        self._gap = False  # the thread's: something could not be written, and nothing may follow it

    def note(self, record: Live) -> None:
        """This is live now. Called on the event loop, in the order of publication."""
        if self._waiting >= MAX_WAITING or self._held:
            self._whole, self.wants_all = False, True
            return
        if record.reset:
            self._whole, self.wants_all = True, False
        elif not self._whole:
            return
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._write, record)
        future.add_done_callback(self._written)

    def hold(self, held: bool) -> None:
        """While held nothing is written: the file is another control process's."""
        if held == self._held:
            return  # what was noted at the start counts
        self._held = held
        self._whole, self.wants_all = False, True

    async def close(self) -> None:
        """Wait for what is on its way, a moment."""
        await asyncio.to_thread(self._thread.shutdown, True)

    def _written(self, future: asyncio.Future[None]) -> None:
        self._waiting -= 1
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._whole, self.wants_all = False, True
            if not self._failed:
                log.error("the last good configuration cannot be kept", extra={"reason": str(error)})
            self._failed = True
        elif self._failed and self._whole:
            self._failed = False
            log.info("the last good configuration is kept again")
        if self._records > MOST_RECORDS or self._journal > max(LEAST_BYTES, self._base):
            self.wants_all = True

    # --- in the thread ---------------------------------------------------------------------------------

    def _write(self, record: Live) -> None:
        if self._gap and not record.reset:
            return  # it was on its way already when the one before it failed
        self._gap = True
        head = {"revision": record.revision, "reset": record.reset, "checks": record.checks}
        frames = _frame(orjson.dumps(head) + b"\n" + record.payload)
        if record.reset:
            about = {"fleetId": self.fleet_id, "environment": self._environment}
            _replace(self.path, [_MAGIC, *_frame(orjson.dumps(about)), *frames])
            self._base, self._journal, self._records = len(record.payload), 0, 0
        else:
            _append(self.path, frames)
            self._journal += len(record.payload)
            self._records += 1
        self._gap = False

    # --- reading ---------------------------------------------------------------------------------------

    def read(self) -> Remembered | None:
        """What can be served; None if there is nothing whole. Blocks: call it in a thread."""
        found = Remembered()
        records = 0
        try:
            for index, body in enumerate(_bodies(self.path)):
                if index == 0:
                    about = orjson.loads(body)
                    found.fleet_id, found.environment = about["fleetId"], about["environment"]
                    continue
                head, _, payload = body.partition(b"\n")
                found.take(orjson.loads(head), payload)
                records += 1
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("the last good configuration cannot be read", extra={"reason": str(error)})
            return None
        return found if records and found.environment == self._environment else None


def _frame(body: bytes) -> list[bytes]:
    return [_FRAME.pack(len(body), zlib.crc32(body)), body]


def _bodies(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it is not one of ours")
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, checksum = _FRAME.unpack(head)
            if length > size - file.tell():
                return
            body = file.read(length)
            if zlib.crc32(body) != checksum:
                return
            yield body


def _replace(path: Path, parts: list[bytes]) -> None:
    """All or nothing, also when the power goes."""
    draft = path.with_name(f"{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _append(path: Path, parts: list[bytes]) -> None:
    # Not made if it is not there: somebody has removed it, and a journal alone is worth nothing.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    with os.fdopen(descriptor, "ab") as file:
        file.writelines(parts)
        file.flush()
        os.fdatasync(descriptor)
