from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable, Mapping
from typing import Protocol, final

from hotswap_proxy._core import Worker

class _RequestCodec(Protocol):
    def feed(self, data: bytes, /) -> bytes: ...

class _ResponseCodec(_RequestCodec, Protocol):
    def begin(self) -> None: ...

@final
class Call:
    """One request in the hands of a middleware. For the loop's own callbacks.

    The exchange may end without the middleware: then its task is cancelled, and nothing here has an effect.
    """

    description: bytes
    """JSON: method, path, query, headers (pairs), scheme, client_ip, request_id, route, middleware (names),
    identity. Bytes of fields are characters of ISO 8859-1."""
    body: bytes
    @property
    def open(self) -> bool:
        """Whether anybody waits for an answer."""

    def send(self, head: bytes, body: bytes) -> Future[bytes]:
        """Send a request on, once. The result is the answer as bytes: head, empty line, and all of the body.

        Raises:
            ValueError: The head is no request, and why.
            RuntimeError: The request was sent on before, or the exchange is over.
        """

    def answer(self, head: bytes, body: bytes) -> bool:
        """Answer the client. False when that was no answer: the client gets a 500."""

    def fail(self) -> None:
        """Answer 500."""

@final
class Server:
    """The data plane of one worker: serves clients with the routes of the current snapshot.

    Everything runs on the thread of ``loop`` and must be called there.

    Args:
        worker: This process's lane in the shared memory; one server per worker object.
        loop: The event loop (uvloop), running or about to run.
        settings: Numbers; those not known here are ignored. In seconds: ``keepalive_timeout`` (75) for the
            next request, ``header_timeout`` (10) for a whole request head (408), ``body_timeout`` (30) for
            the next part of a request body (408), ``write_timeout`` (30) for a client to take a part of its
            answer, ``stream_idle_timeout`` (300) for an upgraded connection. ``max_waiting`` (10000) clients
            are queued for one backend (503 beyond). ``max_connections`` (0: any number) of this server;
            further ones are closed when they are accepted. ``min_transfer_rate`` (0: any), in bytes per
            second: a client that sends a body, or takes the rest of its answer, more slowly for as long as
            the timeout of silence is cut. ``proxy_protocol`` (0 or 1): connections begin with a PROXY header.
            Timers run in steps of 100 ms: late by up to two steps, never early.
        codec: None for the native codec, or factories of a request and a response codec that read every
            message before it (``hotswap_proxy.worker.codec.factories``).
        middleware: Called with a `Call` for each request on a route with middleware; returns the task that
            deals with it (``hotswap_proxy.worker.middleware.Runner``). None: such requests get a 500.

    Raises:
        OSError: No readiness set can be made.
    """

    core_worker: Worker
    draining: bool
    illegal_moves: int  # states entered out of order; each closed a connection and is a bug
    def __init__(
        self,
        worker: Worker,
        loop: AbstractEventLoop,
        settings: Mapping[str, str | int | float] | None = None,
        codec: tuple[Callable[[], _RequestCodec], Callable[[], _ResponseCodec]] | None = None,
        middleware: Callable[[Call], Task[None]] | None = None,
    ) -> None: ...
    @property
    def connections(self) -> int:
        """Client connections that are open."""

    def listen(self, fd: int, tls: bool = False) -> None:
        """Accept on the listening socket ``fd``, which is this server's from now on; may be repeated.

        With ``tls`` its clients speak TLS, with what ``Worker.use_tls`` was given; while it was given
        nothing, connections are closed at once.

        Raises:
            OSError: ``fd`` is not a socket that can be watched.
        """

    def stop_accepting(self) -> None:
        """Close the listening sockets here; other processes that hold them go on accepting."""

    async def drain(self) -> None:
        """Stop accepting, close idle connections, and return when the last exchange has ended.

        Requests that had come before are answered, with ``Connection: close`` (RFC 9112 section 9.6). There
        is no limit of time: the caller sets one and then calls `close`.
        """

    def close(self) -> None:
        """Close every connection now; exchanges under way count as aborted. Again: no effect."""
