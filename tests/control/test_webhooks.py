"""Events for webhooks: their ids, their signature, and the recipe of docs/webhooks.md to check it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from harness.backend import Backend, Received, ok

from hotswap_proxy.control.audithead import AuditHeadTeller
from hotswap_proxy.control.standing import StandingWatch
from hotswap_proxy.control.webhooks import Webhooks
from hotswap_proxy.settings import Settings, SettingsError
from hotswap_proxy.store import AuditEntry, Author, audit
from tests.gateway import Gateway

pytestmark = pytest.mark.anyio
SECRET = "a secret of the hooks"
PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture
async def hook() -> AsyncIterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


def recipe() -> Callable[[bytes, Any, bytes], Any]:
    """The function that the documentation shows."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    function: Callable[[bytes, Any, bytes], Any] = names["event_of"]
    return function


async def deliver(hook: Backend, count: int, clock: Callable[[], float] | None = None, **more: Any) -> None:
    """One event, with ``count`` attempts."""
    clocked = {} if clock is None else {"clock": clock}
    hooks = Webhooks((hook.url,), {"nodeId": "n1"}, pause=0.01, **clocked, **more)
    hooks.start()
    hooks.event("deployment.started", deploymentId="dp-1", name="ä", share=2.5)
    await asyncio.to_thread(hook.wait, lambda: len(hook.requests) >= count)
    await hooks.stop()


def headers(request: Received) -> dict[str, str]:
    return dict(request.headers)


async def test_a_signed_event_passes_the_documented_check(hook: Backend) -> None:
    await deliver(hook, 1, secret=SECRET)
    (request,) = hook.requests
    event = recipe()(SECRET.encode(), headers(request), request.body)
    assert event == json.loads(request.body)
    assert event["event"] == "deployment.started" and event["nodeId"] == "n1" and event["name"] == "ä"
    assert list(event)[:3] == ["event", "eventId", "at"]
    assert event["eventId"] == request.header("X-Hotswap-Event-Id") and len(event["eventId"]) == 36


@pytest.mark.parametrize("what", ["body", "timestamp", "signature", "secret", "version", "old", "missing"])
async def test_what_was_tampered_with_fails_the_documented_check(hook: Backend, what: str) -> None:
    old = (lambda: 1_000_000.0) if what == "old" else None
    await deliver(hook, 1, old, secret=SECRET)
    (request,) = hook.requests
    given, body, secret = headers(request), request.body, SECRET.encode()
    name = next(key for key in given if key.lower() == "x-hotswap-signature")
    stamp = next(key for key in given if key.lower() == "x-hotswap-timestamp")
    if what == "body":
        body = body.replace(b"dp-1", b"dp-2")
    elif what == "timestamp":
        given[stamp] = str(int(given[stamp]) + 1)
    elif what == "signature":
        given[name] = given[name][:-1] + ("0" if given[name][-1] != "0" else "1")
    elif what == "version":
        given[name] = given[name].replace("v1", "v0")
    elif what == "secret":
        secret = b"another secret"
    elif what == "missing":
        del given[name]
    with pytest.raises(ValueError, match="webhook"):
        recipe()(secret, given, body)


async def test_attempts_of_one_event_have_its_id_and_a_signature_each(hook: Backend) -> None:
    answers = iter([b"500 No", b"503 No", b"200 OK"])
    hook.script = lambda _request: ok(status=next(answers))
    moments = iter([1000.0, 1001.0, 1002.0])
    await deliver(hook, 3, lambda: next(moments), secret=SECRET)
    assert len({request.header("X-Hotswap-Event-Id") for request in hook.requests}) == 1
    assert len({request.body for request in hook.requests}) == 1
    assert [request.header("X-Hotswap-Timestamp") for request in hook.requests] == ["1000", "1001", "1002"]
    assert len({request.header("X-Hotswap-Signature") for request in hook.requests}) == 3


async def test_without_a_secret_nothing_is_signed(hook: Backend) -> None:
    await deliver(hook, 1)
    (request,) = hook.requests
    assert request.header("X-Hotswap-Signature") is None and request.header("X-Hotswap-Event-Id")


async def test_the_secret_is_shown_nowhere() -> None:
    settings = Settings.from_environment({"HOTSWAP_WEBHOOK_SECRET": SECRET})
    assert settings.webhook_secret == SECRET
    assert SECRET not in repr(settings) and SECRET.encode() not in settings.worker_json()
    with pytest.raises(SettingsError, match=r"WEBHOOK_SECRET.*16 bytes") as caught:
        Settings.from_environment({"HOTSWAP_WEBHOOK_SECRET": "too short"})
    assert "too short" not in str(caught.value)


async def test_an_event_that_is_no_json_does_not_fail_its_teller(hook: Backend) -> None:
    hooks = Webhooks((hook.url,), {})
    hooks.start()
    hooks.event("deployment.started", path=Path("/x"), huge=1 << 70)
    hooks.event("deployment.completed")
    await asyncio.to_thread(hook.wait, lambda: len(hook.requests) >= 1)
    await hooks.stop()
    assert json.loads(hook.requests[-1].body)["event"].startswith("deployment.")


class Circuits:
    """A node whose one backend has a circuit breaker."""

    def __init__(self) -> None:
        self.circuit = "Closed"

    def troubled(self) -> list[dict[str, Any]]:
        return [{"address": "http://10.0.0.1:80", "circuit": self.circuit, "ejectedUntil": 0.0}]

    def eject_outliers(self) -> list[str]:
        return []


async def test_circuits_are_told_when_they_open_and_close() -> None:
    told: list[tuple[str, bool]] = []
    node = Circuits()
    watch = StandingWatch(node, lambda event, address, **more: told.append((event, more["byOrder"])))
    for circuit in ("Closed", "Open", "HalfOpen", "Open", "HeldOpen", "HeldClosed", "Closed", "Open"):
        node.circuit = circuit
        watch.look()
    assert told == [
        ("backend.circuitOpened", False),
        ("backend.circuitClosed", True),
        ("backend.circuitOpened", False),
    ]


async def test_a_new_head_of_the_audit_log_is_told_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[dict[str, Any]] = []
    moments = iter([0.0, 1.0, 1.0, 3600.0, 3601.0, 3601.0, 9999.0])
    teller = AuditHeadTeller(
        gateway.store, lambda event, **fields: told.append({"event": event} | fields), lambda: next(moments)
    )
    caplog.set_level("INFO")
    await teller.look()
    await teller.look()
    head = (await gateway.client.get("/api/v1/audit-logs/head")).json()
    assert told == [{"event": "audit.head"} | head]
    (line,) = [record for record in caplog.records if record.message == "audit head"]
    assert vars(line)["hash"] == head["hash"]
    await gateway.store.write(audit.append, Author("x"), [AuditEntry("user.login")])
    await teller.look()  # an hour after the first
    assert told[1]["count"] == head["count"] + 1
    await teller.look()
    assert len(told) == 2, "it has not changed"
