"""The core's part of a scrape: many routes and backends in use, piece by piece."""

from __future__ import annotations

import gzip
from collections import Counter

from harness.backend import Backend
from harness.client import Client
from harness.worker import Plane, backend, route

from hotswap_proxy.control.scraping import BOUNDS
from hotswap_proxy.observe import exposition
from hotswap_proxy.observe.metrics import of_core

ROUTES = 2_000
PIECE = 64 * 1024


def pieces(plane: Plane) -> list[bytes]:
    return list(of_core(plane.catalog.scrape(BOUNDS)))


def test_many_routes_in_use_are_written_in_small_pieces() -> None:
    server, plane = Backend(), Plane("native")
    try:
        target = backend(server.url)
        plane.publish(*(route(f"/r{number}", target, name=f"name {number}") for number in range(ROUTES)))
        assert len(b"".join(pieces(plane)).splitlines()) == 22, "nothing but the headers"
        with Client(plane.port) as client:
            for number in range(ROUTES):
                client.send(b"GET /r%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
                assert client.read().status == 200
        found = pieces(plane)
        assert max(map(len, found)) < 1.2 * PIECE
        lines = b"".join(found).decode().splitlines()
        names = Counter(line.partition("{")[0] for line in lines if line[0] != "#")
        assert names["gateway_requests_total"] == names["gateway_route_info"] == ROUTES
        assert names["gateway_request_duration_seconds_bucket"] == 31 * ROUTES
        assert names["gateway_requests_backend_total"] == 1
        assert len(lines) == 22 + 36 * ROUTES + 5, "as the page says"
        assert len(set(lines)) == len(lines)
        packed = b"".join(exposition.compressed(iter(found)))
        assert gzip.decompress(packed) == b"".join(found)
        assert len(packed) < sum(map(len, found)) / 10
    finally:
        plane.close()
        server.close()


def test_a_route_that_is_gone_has_no_lines_and_a_new_one_begins_at_nought() -> None:
    server, plane = Backend(), Plane("native")
    try:
        a, b = (route(path, backend(server.url), routeId=path[1:]) for path in ("/a", "/b"))
        plane.publish(a, b)
        with Client(plane.port) as client:
            for path in ("/a", "/b", "/b"):
                assert client.get(path).status == 200
        text = b"".join(pieces(plane)).decode()
        assert 'gateway_requests_total{route="b",arm="stable",method="GET",code="200"} 2\n' in text
        assert 'gateway_route_info{route="a",name="/a",path="/a"} 1\n' in text
        plane.publish(a)
        plane.node.reclaim()
        assert 'route="b"' not in b"".join(pieces(plane)).decode()
        plane.publish(a, b)
        with Client(plane.port) as client:
            assert client.get("/b").status == 200
        text = b"".join(pieces(plane)).decode()
        assert 'gateway_requests_total{route="b",arm="stable",method="GET",code="200"} 1\n' in text
    finally:
        plane.close()
        server.close()
