"""One request to a collector, and what its answer means (OTLP/HTTP)."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from hotswap_proxy import __version__

TIMEOUT = 5.0  # seconds for an attempt to connect, and for each further step
MAX_ANSWER = 64 * 1024
RETRYABLE = frozenset({429, 502, 503, 504})


class Sent(NamedTuple):
    """What became of one attempt. ``retry_after``: seconds that the collector asks for."""

    delivered: bool
    reason: str | None = None
    retry: bool = False
    retry_after: float | None = None
    rejected: int = 0  # spans of a request that was taken


class Sender(Protocol):
    name: str

    def send(self, body: bytes, timeout: float | None = None) -> Sent:
        """Never raises; ``timeout`` is a bound below the usual one."""

    def close(self) -> None: ...


class HttpSender:
    """Used by one thread. ``url``: where exactly to POST."""

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout: float = TIMEOUT) -> None:
        import httpx  # some megabytes, for those who export

        self.name = urlsplit(url).netloc
        self._url = url
        self._timeout = timeout
        self._errors = (httpx.HTTPError, httpx.InvalidURL, OSError)
        self._client = httpx.Client(
            headers={
                **headers,
                "content-type": "application/x-protobuf",
                "content-encoding": "gzip",
                "accept-encoding": "identity",  # an answer is small, and is not to grow here
                "user-agent": f"hotswap-proxy/{__version__}",
            },
            # The system's certificates, and SSL_CERT_FILE, as everything else here has them.
            verify=ssl.create_default_context() if url.startswith("https:") else False,
            trust_env=False,
            timeout=timeout,
        )

    def send(self, body: bytes, timeout: float | None = None) -> Sent:
        bound = self._timeout if timeout is None else min(timeout, self._timeout)
        until = time.monotonic() + bound
        try:
            with self._client.stream("POST", self._url, content=body, timeout=bound) as answer:
                answered = bytearray()
                for chunk in answer.iter_raw():
                    answered += chunk
                    if len(answered) > MAX_ANSWER or time.monotonic() > until:
                        break
                return _meaning(answer.status_code, answer.headers.get("retry-after"), bytes(answered))
        except self._errors as error:
            return Sent(False, str(error) or type(error).__name__, retry=True)

    def close(self) -> None:
        self._client.close()


def _meaning(status: int, retry_after: str | None, body: bytes) -> Sent:
    if 200 <= status < 300:
        return _taken(body)
    retry = status in RETRYABLE
    return Sent(False, f"status {status}", retry, _seconds(retry_after) if retry else None)


def _taken(body: bytes) -> Sent:
    """A collector may take a request and refuse some spans of it, or take it with a remark."""
    if not body:
        return Sent(True)
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return Sent(True)  # it was taken, whatever else it says
    return Sent(True, partial.error_message[:200] or None, rejected=max(0, partial.rejected_spans))


def _seconds(value: str | None) -> float | None:
    """Of Retry-After (RFC 9110 section 10.2.3): a number or a date; None for neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
