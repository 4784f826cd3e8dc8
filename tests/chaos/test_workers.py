"""Processes of the node die or stand still under load."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

import pytest
from chaos.conftest import kill_control, metric, served_by
from chaos.load import Load

from tests.processes import alive, ask, connect, eventually, peer_inode, read_answer, socket_inodes

CLIENTS = {"get": 6, "post": 3, "once": 4, "slow": 4, "websocket": 2}


def test_a_killed_worker_takes_only_its_own_connections_along(nodes, victims, write_routes, rounds):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    with Load(nodes.port, CLIENTS) as load:
        for _ in rounds(1):
            load.run_on()
            failed = len(load.failures)
            worker = node.workers()[0]
            os.kill(worker, signal.SIGSTOP)  # so that it can be told whose connections it has
            theirs = served_by(worker, nodes.port)
            os.kill(worker, signal.SIGKILL)
            eventually(
                lambda gone=worker: len(node.workers()) == 2 and gone not in node.workers(), "a new one"
            )
            load.run_on()
            assert {one.port for one in load.failures[failed:]} <= theirs
            node.logged("worker replaced")
    # What had been read but not answered is booked as lost, nothing else is.
    died = [line for line in node.events() if line["event"] == "worker died"]
    assert metric(node, "gateway_requests_lost_total") == sum(line["requests_lost"] for line in died)
    assert sum(line["requests_lost"] for line in died) <= len(load.failures)


def test_the_ledger_shows_exactly_the_lost_requests(nodes, victims, write_routes):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    clients = [connect(nodes.port) for _ in range(12)]
    for client in clients:
        client.sendall(b"GET /wait/2000 HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: metric(node, "gateway_backend_active_requests") == 12, "all are with a backend")
    worker = node.workers()[0]
    doomed = socket_inodes(worker)
    theirs = [
        client for client in clients if eventually(lambda c=client: peer_inode(c), "its peer") in doomed
    ]
    os.kill(worker, signal.SIGKILL)
    outcomes = []
    for client in clients:
        with contextlib.suppress(ConnectionError):
            outcomes.append((client in theirs, b"HTTP/1.1 200" in read_answer(client)))
            continue
        outcomes.append((client in theirs, False))
    assert all(answered is not lost for lost, answered in outcomes)
    eventually(lambda: metric(node, "gateway_requests_lost_total") == len(theirs), "they are booked as lost")
    assert metric(node, "gateway_backend_active_requests") == 0
    for client in clients:
        client.close()


def test_connections_in_the_queue_of_a_killed_worker_are_served(nodes, victims, write_routes):
    node = nodes.start("--config", str(write_routes(victims[0].url)))
    workers = node.workers()
    for worker in workers:  # whoever gets a connection does not accept it
        os.kill(worker, signal.SIGSTOP)
    clients = [connect(nodes.port) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    for client in clients:
        assert read_answer(client).startswith(b"HTTP/1.1 200")
        client.close()
    assert metric(node, "gateway_requests_lost_total") == 0


def test_a_killed_spawner_costs_nothing(nodes, victims, write_routes):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    workers = node.workers()
    spawner = node.spawner()
    try:
        with Load(nodes.port, CLIENTS) as load:
            os.kill(spawner, signal.SIGKILL)
            node.logged("the spawner ended")
            load.run_on()
        assert load.failed() == []
        os.kill(workers[0], signal.SIGKILL)  # the next worker needs a new spawner
        node.logged("worker replaced")
        eventually(lambda: node.health()["status"] == "Healthy", "both slots have a worker")
        with connect(nodes.port) as client:
            assert b"200" in ask(client)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_worker_that_is_told_to_end_loses_nothing(nodes, victims, write_routes, rounds):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    with Load(nodes.port, {"get": 6, "post": 3, "once": 6, "slow": 3}) as load:
        for _ in rounds(1):
            worker = node.workers()[0]
            os.kill(worker, signal.SIGTERM)
            eventually(lambda gone=worker: not alive(gone), "it drains and ends")
            load.run_on()
    assert load.failed() == []
    assert metric(node, "gateway_requests_lost_total") == 0


def test_a_worker_that_stands_still_goes_on_where_it_was(nodes, victims, write_routes):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    with Load(nodes.port, CLIENTS) as load:
        worker = node.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        time.sleep(1.5)  # what stands still is what is tested
        os.kill(worker, signal.SIGCONT)
        load.run_on()
    assert load.failed() == []
    assert node.workers()[0] == worker


def test_the_control_process_and_a_worker_die_together(nodes, victims, write_routes):
    config = write_routes(*(victim.url for victim in victims))
    node = nodes.start("--config", str(config), "--drain-timeout", "2")
    with Load(nodes.port, CLIENTS) as load:
        worker, other = node.workers()
        os.kill(worker, signal.SIGSTOP)
        theirs = served_by(worker, nodes.port)
        kill_control(node)
        os.kill(worker, signal.SIGKILL)
        # Nobody holds its listening socket now: what stood in its queue goes with it. All else is served.
        load.run_on()
        failed = len(load.failures)
        # 4 connections at a time have no connection of their own, each could stand in the queue that is lost.
        assert sum(one.port not in theirs for one in load.failures) <= CLIENTS["once"]
        node = nodes.start("--config", str(config), "--drain-timeout", "2")
        eventually(lambda: not alive(other), "the orphan ends")
        load.run_on()
        assert node.health()["status"] == "Healthy"
        # An upgraded connection ends with the worker that has it; no request does.
        assert {one.kind for one in load.failures[failed:]} <= {"websocket"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_without_a_control_process_there_is_no_admin_api_and_all_else(nodes, victims, write_routes, number):
    node = nodes.start("--config", str(write_routes(*(victim.url for victim in victims))))
    with Load(nodes.port, CLIENTS) as load:
        os.kill(node.process.pid, number)
        load.run_on(500)
        host, _, port = node.ready["admin"].rpartition(":")
        with pytest.raises(OSError), socket.create_connection((host, int(port)), timeout=0.5) as client:
            client.sendall(b"GET /api/v1/gateway/health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(1)
    assert load.failed() == []
