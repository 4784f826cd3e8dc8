"""A collector of traces: a real HTTP server that takes OTLP, decodes it, and answers as a test wants it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

# Status, headers and body of an answer; None: no answer until the collector is closed.
Reply = tuple[int, dict[str, str], bytes] | None
Script = Callable[[int], Reply]  # of the number of the request, from 0


def taken(_number: int) -> Reply:
    return 200, {}, ExportTraceServiceResponse().SerializeToString()


@dataclass
class Span:
    """One as it arrived; ids are hexadecimal, times nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: int
    end: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: list[str]
    links: list[str]
    flags: int
    trace_state: str
    resource: dict[str, Any]
    scope: str


@dataclass
class Collector:
    script: Script = taken
    port: int = 0
    spans: list[Span] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)  # of each request
    problems: list[str] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, condition: Callable[[], Any], timeout: float = 20) -> Any:
        """Wait until it holds, looking whenever something has come; what it is then."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), f"in vain; {self._seen()}"
            return condition()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def trace(self, trace_id: str, count: int) -> list[Span]:
        """All spans of a trace, once there are so many."""

        def of_it() -> list[Span]:
            found = [span for span in self.spans if span.trace_id == trace_id]
            return found if len(found) >= count else []

        found: list[Span] = self.wait(of_it)
        return found

    def _seen(self) -> str:
        return f"{self.asked} requests, spans {[span.name for span in self.spans]}, {self.problems}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with collector.changed:
                    number = collector.asked
                    collector.asked += 1
                    collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                    collector.changed.notify_all()
                reply = collector.script(number)
                if reply is None:
                    collector.released.wait(60)
                    self.close_connection = True
                    return
                status, headers, answer = reply
                if status == 200:
                    collector.take(self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on standard error."""

        return Handler

    def take(self, path: str, headers: Any, body: bytes) -> None:
        if path != "/v1/traces":
            self.problems.append(f"path {path}")
        if headers["content-type"] != "application/x-protobuf":
            self.problems.append(f"type {headers['content-type']}")
        if headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        with self.changed:
            self.spans += _spans(request)
            self.changed.notify_all()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    span.status.message,
                    _values(span.attributes),
                    [event.name for event in span.events],
                    [link.trace_id.hex() for link in span.links],
                    span.flags,
                    span.trace_state,
                    resource,
                    of_scope.scope.name,
                )


def _values(pairs: Any) -> dict[str, Any]:
    found = {pair.key: _value(pair.value) for pair in pairs}
    assert len(found) == len(pairs), "an attribute is there twice"
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind is not None else None


def decoded(body: bytes) -> list[Span]:
    """The spans of a request's body."""
    return list(_spans(ExportTraceServiceRequest.FromString(body)))
