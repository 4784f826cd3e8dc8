"""The exporter against a real collector that is well, away, slow, hanging, or refuses."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.collector import Collector, taken
from harness.server import free_port
from harness.wait import eventually
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from hotswap_proxy import _core
from hotswap_proxy.observe.tracing.exporting import Exporter
from hotswap_proxy.observe.tracing.sending import HttpSender

Make = Callable[..., Exporter]
MakeCollector = Callable[..., Collector]


def span(name: str) -> bytes:
    """One, as the core gives them: a field of ScopeSpans."""
    return ScopeSpans(spans=[Message(name=name, trace_id=b"t" * 16, span_id=b"s" * 8)]).SerializeToString()


@pytest.fixture
def make_collector() -> Iterator[MakeCollector]:
    made: list[Collector] = []

    def make(*arguments: Any, **more: Any) -> Collector:
        made.append(Collector(*arguments, **more))
        return made[-1]

    yield make
    for collector in made:
        collector.close()
        assert collector.problems == []


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Exporter] = []

    def exporter(
        url: str, *, timeout: float = 5.0, headers: dict[str, str] | None = None, **more: Any
    ) -> Exporter:
        sender = HttpSender(f"{url}/v1/traces", headers or {}, timeout=timeout)
        wrap = _core.OtlpRequest([("service.name", "test")], "1")
        given = {"batch_seconds": 0.01, "first_pause": 0.01} | more
        made.append(Exporter(sender, wrap, **given))
        made[-1].start()
        return made[-1]

    yield exporter
    for each in made:
        asyncio.run(each.stop())


def test_spans_are_delivered_in_batches(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector()
    exporter = make(collector.url, headers={"x-token": "secret"}, batch_seconds=0.2)
    for number in range(50):
        exporter.offer(span(f"s{number}"))
    collector.wait(lambda: len(collector.spans) == 50)
    assert [one.name for one in collector.spans] == [f"s{number}" for number in range(50)]
    assert collector.spans[0].resource == {"service.name": "test"}
    assert collector.asked == 1
    assert collector.headers[0]["x-token"] == "secret"
    assert collector.headers[0]["content-encoding"] == "gzip"
    eventually(lambda: exporter.counts.exported == 50)
    assert sum(exporter.counts.dropped.values()) == 0


def test_spans_of_the_sdk_go_the_same_way(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector()
    exporter = make(collector.url)
    scope = ScopeSpans(spans=[Message(name="one"), Message(name="two")])
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[scope])])
    exporter.offer_encoded(lambda: (request.SerializeToString(), 2))
    collector.wait(lambda: len(collector.spans) == 2)
    eventually(lambda: exporter.counts.exported == 2)


def test_a_span_that_cannot_be_encoded_takes_no_other_with_it(
    make: Make, make_collector: MakeCollector
) -> None:
    collector = make_collector()
    exporter = make(collector.url, batch_seconds=0.3)

    def broken() -> tuple[bytes, int]:
        raise ValueError("no such attribute")

    scope = ScopeSpans(spans=[Message(name="one")])
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[scope])])
    with exporter._lock:  # both are taken at once
        exporter._encoders += [broken, lambda: (request.SerializeToString(), 1)]
        exporter._lock.notify()
    eventually(lambda: exporter.counts.exported == 1)
    assert exporter.counts.dropped["undelivered"] == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes_by_is_waited_for(make: Make, make_collector: MakeCollector, status: int) -> None:
    collector = make_collector(lambda number: (status, {}, b"") if number < 3 else taken(number))
    exporter = make(collector.url)
    exporter.offer(span("patient"))
    collector.wait(lambda: collector.named("patient"))
    assert collector.asked == 4
    eventually(lambda: exporter.counts.exported == 1)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 301])
def test_what_does_not_is_dropped_at_once(make: Make, make_collector: MakeCollector, status: int) -> None:
    collector = make_collector(lambda number: (status, {}, b"no") if number == 0 else taken(number))
    exporter = make(collector.url)
    exporter.offer(span("refused"))
    eventually(lambda: exporter.counts.dropped["refused"] == 1)
    exporter.offer(span("next"))
    collector.wait(lambda: collector.named("next"))
    assert collector.named("refused") == []


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_collector_says_when_to_come_again(make: Make, make_collector: MakeCollector, form: str) -> None:
    times: list[float] = []

    def script(number: int) -> Any:
        times.append(time.monotonic())
        after = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
        return (503, {"retry-after": after}, b"") if number == 0 else taken(number)

    collector = make_collector(script)
    make(collector.url).offer(span("later"))
    collector.wait(lambda: collector.named("later"))
    assert times[1] - times[0] >= 0.9  # without it, it would be 0.015 s at most


def test_one_that_asks_for_too_much_patience_loses_the_batch(
    make: Make, make_collector: MakeCollector
) -> None:
    collector = make_collector(lambda _number: (429, {"retry-after": "3600"}, b""))
    exporter = make(collector.url)
    exporter.offer(span("lost"))
    eventually(lambda: exporter.counts.dropped["undelivered"] == 1)
    assert collector.asked == 1


def test_a_collector_that_is_away_costs_batches_and_two_lines(
    make: Make, make_collector: MakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    exporter = make(f"http://127.0.0.1:{port}", give_up=0.05)
    for number in range(3):
        exporter.offer(span(f"lost{number}"))
        eventually(lambda number=number: exporter.counts.dropped["undelivered"] == number + 1)
    collector = make_collector(port=port)
    exporter.offer(span("back"))
    collector.wait(lambda: collector.named("back"))
    eventually(lambda: exporter.counts.exported == 1)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("hotswap_proxy")]
    assert lines == ["traces cannot be exported", "traces are exported again"]


def test_a_collector_that_hangs_holds_nobody_up(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector(lambda number: None if number == 0 else taken(number))
    exporter = make(collector.url, timeout=60.0)
    exporter.offer(span("hangs"))
    collector.wait(lambda: collector.asked == 1)
    for _ in range(100):
        exporter.offer(span("waits"))  # who waits for the attempt here waits for a minute
    assert collector.asked == 1
    collector.released.set()
    collector.wait(lambda: len(collector.spans) == 101)  # the first one is tried again


def test_a_slow_attempt_ends(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector(lambda number: None if number == 0 else taken(number))
    make(collector.url, timeout=0.1).offer(span("again"))
    collector.wait(lambda: collector.named("again"))


def test_what_waits_is_bounded_and_the_rest_counted(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector(lambda _number: None)
    exporter = make(collector.url, queue_bytes=1000, farewell=0.1)
    exporter.offer(span("hangs"))
    collector.wait(lambda: collector.asked == 1)
    for _ in range(100):
        exporter.offer(span("x" * 100))
    dropped = exporter.counts.dropped["queue_full"]
    assert 90 <= dropped < 100


def test_a_part_that_is_refused_is_counted_and_told_once(
    make: Make, make_collector: MakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    answer = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    collector = make_collector(lambda _number: (200, {}, answer))
    exporter = make(collector.url)
    for count in (1, 2):
        exporter.offer(span("a") + span("b"))
        eventually(lambda count=count: exporter.counts.exported == count)
    assert exporter.counts.dropped["refused"] == 2
    told = [record for record in caplog.records if "refuses some spans" in record.getMessage()]
    assert len(told) == 1 and vars(told[0])["reason"] == "too old"


def test_the_end_sends_what_is_left(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector()
    exporter = make(collector.url, batch_seconds=3600.0)
    exporter.offer(span("last"))
    asyncio.run(exporter.stop())
    assert collector.named("last")
    assert exporter.counts.exported == 1


def test_the_end_is_not_held_up_by_a_collector_that_hangs(make: Make, make_collector: MakeCollector) -> None:
    collector = make_collector(lambda _number: None)
    exporter = make(collector.url, timeout=60.0, farewell=0.2)
    exporter.offer(span("hangs"))
    collector.wait(lambda: collector.asked == 1)
    begun = time.monotonic()
    asyncio.run(exporter.stop())
    assert time.monotonic() - begun < 30  # half of what the attempt would have taken


def test_headers_are_in_no_line(
    make: Make, make_collector: MakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    collector = make_collector(lambda _number: (401, {}, b"who are you"))
    exporter = make(collector.url, headers={"authorization": "Bearer s3cret"})
    exporter.offer(span("refused"))
    eventually(lambda: exporter.counts.dropped["refused"] == 1)
    assert "s3cret" not in json.dumps([str(vars(record)) for record in caplog.records])
