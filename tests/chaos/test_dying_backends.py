"""Backends die, stand still, and take no more connections, under load."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator

from chaos.conftest import metric
from chaos.load import Load
from harness.client import Client

from tests.processes import eventually

CHECK = {
    "type": "Tcp",
    "interval": "100ms",
    "timeout": "500ms",
    "unhealthyThreshold": 2,
    "healthyThreshold": 2,
}
TIMEOUTS = {"connectTimeout": "1s", "readTimeout": "1s", "writeTimeout": "1s"}


def test_a_killed_backend_is_left_and_taken_back(nodes, victims, write_routes, rounds):
    file = write_routes(*(victim.url for victim in victims), backend={"healthCheck": CHECK})
    node = nodes.start("--config", str(file))
    victim = victims[0]
    with Load(nodes.port, {"get": 6, "post": 3, "once": 3}) as load:
        for _ in rounds(2):
            eventually(lambda: metric(node, "gateway_backends_unhealthy") == 0, "both are healthy")
            victim.kill()
            eventually(lambda: metric(node, "gateway_backends_unhealthy") == 1, "it is out")
            load.run_on(20)  # what was under way when the status changed has ended
            failed = len(load.failures)
            load.run_on()
            assert load.failures[failed:] == []
            victim.start()
            eventually(lambda: metric(node, "gateway_backends_unhealthy") == 0, "it is back")
            load.run_on()
            assert load.failures[failed:] == []
    # Until the checks had found out: connections refused or broken, and nothing else.
    assert {one.what for one in load.failures} <= {"HTTP/1.1 502 Bad Gateway"}


def test_a_killed_backend_fails_no_request_that_may_be_retried(nodes, victims, write_routes, rounds):
    retry = {"initialDelay": "10ms", "maxDelay": "50ms", "maxAttempts": 3}
    file = write_routes(
        *(victim.url for victim in victims), backend={"healthCheck": CHECK}, retryPolicy=retry
    )
    node = nodes.start("--config", str(file))
    with Load(nodes.port, {"get": 6, "post": 3, "once": 3}) as load:
        for _ in rounds(1):
            eventually(lambda: metric(node, "gateway_backends_unhealthy") == 0, "both are healthy")
            victims[0].kill()
            eventually(lambda: metric(node, "gateway_backends_unhealthy") == 1, "it is out")
            load.run_on()
            victims[0].start()
    assert load.failed("get", "once") == []
    assert set(load.failed("post")) <= {"post: HTTP/1.1 502 Bad Gateway"}


def test_a_backend_that_stands_still_times_out_and_goes_on(nodes, victims, write_routes):
    file = write_routes(
        *(victim.url for victim in victims),
        backend={"healthCheck": {**CHECK, "type": "Http"}, "timeouts": TIMEOUTS},
    )
    node = nodes.start("--config", str(file))
    with Load(nodes.port, {"get": 6, "post": 3, "once": 3}) as load:
        victims[0].signal(signal.SIGSTOP)
        eventually(lambda: metric(node, "gateway_backends_unhealthy") == 1, "it is out")
        time.sleep(1.5)  # what had been sent to it has timed out by now
        failed = len(load.failures)
        load.run_on()
        victims[0].signal(signal.SIGCONT)
        eventually(lambda: metric(node, "gateway_backends_unhealthy") == 0, "it is back")
        load.run_on()
    assert load.failures[failed:] == []
    assert {one.what for one in load.failures} <= {"HTTP/1.1 504 Gateway Timeout"}


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    """The port of a socket whose queue is full: nobody accepts, and no connection comes to be."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                waiting.append(client)
            yield port


def test_a_backend_with_a_full_queue_costs_the_connect_timeout(nodes, write_routes):
    with full_queue() as port:
        timeouts = {"connectTimeout": "500ms", "readTimeout": "1s", "writeTimeout": "1s"}
        nodes.start("--config", str(write_routes(f"http://127.0.0.1:{port}", backend={"timeouts": timeouts})))
        with Client(nodes.port) as client:
            for _ in range(3):
                assert client.get().status == 504
