"""Changes take effect as a whole or not at all."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from gateway import Gateway, backend, problems, route

from hotswap_proxy._core import Catalog, Node


def test_nothing_is_live_before_the_first_publication(gateway: Gateway) -> None:
    assert (gateway.node.generation, gateway.worker.generation) == (0, 0)
    with pytest.raises(RuntimeError, match="published"):
        gateway.worker.match("GET", "", "/")


def test_a_staged_change_is_seen_once_it_is_published(gateway: Gateway) -> None:
    gateway.load([route("r1", "/a")])
    staged = gateway.catalog.stage(json.dumps({"upsertRoutes": [route("r2", "/b")]}).encode())
    assert (staged.routes, staged.backends, gateway.catalog.routes) == (2, 1, 1)
    assert gateway.worker.match("GET", "", "/b") == (None, [])
    assert staged.publish() == gateway.node.generation == gateway.worker.generation == 2
    assert gateway.worker.match("GET", "", "/b") == ("r2", "1.0")
    assert (gateway.catalog.routes, gateway.catalog.backends) == (2, 1)
    gateway.apply(removeRoutes=["r1"])
    assert gateway.worker.match("GET", "", "/a") == (None, [])
    gateway.apply(reset=True)
    assert (gateway.catalog.routes, gateway.catalog.backends) == (0, 0)


def test_one_bad_part_refuses_the_whole_change(gateway: Gateway) -> None:
    gateway.load([route("r1", "/a")])
    before = gateway.node.arena_used
    told = problems(
        lambda: gateway.apply(
            upsertBackends=[backend("b2", weight=101)],
            upsertRoutes=[route("r2", "/b"), route("r3", "c", priority=101), {"routeId": "r4"}],
            removeRoutes=["r1"],
        )
    )
    assert {(p["path"], p["routeId"]) for p in told} == {
        ("upsertBackends[0].weight", None),
        ("upsertRoutes[1].pathPattern", "r3"),
        ("upsertRoutes[1].priority", "r3"),
        ("upsertRoutes[2]", None),
    }
    assert {p["code"] for p in told} == {"VALIDATION"}
    assert (gateway.catalog.routes, gateway.catalog.backends, gateway.node.generation) == (1, 1, 1)
    assert gateway.node.arena_used == before
    assert gateway.worker.match("GET", "", "/a") == ("r1", "1.0")
    assert gateway.worker.match("GET", "", "/b") == (None, [])


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"{", ""),
        (b'{"a": 1}', "a"),
        (b'{"reset": 1}', "reset"),
        (b'{"upsertRoutes": 1}', "upsertRoutes"),
        (b'{"upsertRoutes": [[]]}', "upsertRoutes[0]"),
        (b'{"upsertRoutes": [{"routeId": 7}]}', "upsertRoutes[0].routeId"),
        (b'{"addresses": {"a:80": ["b:80"]}}', "addresses.a:80[0]"),
        (b'{"removeRoutes": ["\xff"]}', None),
    ],
)
def test_a_damaged_document_names_the_place(gateway: Gateway, document: bytes, path: str | None) -> None:
    told = problems(lambda: gateway.catalog.stage(document))
    assert path is None or told[0]["path"] == path
    assert told[0]["message"]


def test_a_name_belongs_to_one_route(gateway: Gateway) -> None:
    gateway.load([route("r1", "/a")])
    told = problems(lambda: gateway.apply(upsertRoutes=[{**route("r2", "/b"), "name": "r1"}]))
    assert [(p["path"], p["code"], p["otherRouteId"]) for p in told] == [
        ("upsertRoutes[0].name", "CONFLICT", "r1")
    ]


def test_a_backend_in_use_is_not_removed(gateway: Gateway) -> None:
    gateway.load([route("r1", "/a", isEnabled=False)])
    told = problems(lambda: gateway.apply(removeBackends=["b"]))
    assert [(p["path"], p["routeId"]) for p in told] == [("removeBackends[0]", "r1")]
    gateway.apply(removeBackends=["b"], removeRoutes=["r1"])


def test_of_two_staged_changes_only_one_is_published(gateway: Gateway) -> None:
    gateway.load([route("r1", "/a")])
    first, second = (
        gateway.catalog.stage(json.dumps({"upsertRoutes": [route(r, f"/{r}")]}).encode()) for r in "xy"
    )
    first.publish()
    with pytest.raises(RuntimeError, match="another configuration was published"):
        second.publish()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="already published or discarded"):
            first.publish()
        second.discard()
    assert gateway.worker.match("GET", "", "/y") == (None, [])
    assert gateway.catalog.routes == 2


def test_a_change_that_is_not_published_leaves_no_memory_behind(gateway: Gateway) -> None:
    gateway.load([route("r1", "/a")])
    before = gateway.node.arena_used
    staged = gateway.catalog.stage(b"{}")
    assert gateway.node.arena_used > before
    staged.discard()
    assert gateway.node.arena_used == before
    staged = gateway.catalog.stage(b"{}")
    del staged
    gc.collect()
    assert gateway.node.arena_used == before


def test_a_full_arena_refuses_the_change_and_traffic_goes_on() -> None:
    gateway = Gateway(arena_bytes=64 * 1024)
    gateway.load([route("r1", "/a")])
    many = [route(f"x{n}", f"/x{n}") for n in range(2000)]
    told = problems(lambda: gateway.apply(upsertRoutes=many))
    assert "snapshot arena" in told[0]["message"]
    assert gateway.worker.match("GET", "", "/a") == ("r1", "1.0")
    gateway.apply(upsertRoutes=many[:20])
    assert gateway.worker.match("GET", "", "/x1") == ("x1", "1.0")


def test_addresses_are_kept_until_they_are_replaced_or_unused(gateway: Gateway) -> None:
    named = {"backendId": "n", "name": "n", "url": "http://users.internal:9001"}
    gateway.load([route("r1", "/a", backends=["n"])], [named])
    assert gateway.worker.pick("r1") is None
    gateway.apply(addresses={"users.internal:9001": ["10.0.0.7:9001"]})
    assert gateway.worker.pick("r1") == "n"
    gateway.apply(upsertRoutes=[route("r2", "/b", backends=["n"])])
    assert gateway.worker.pick("r2") == "n"
    gateway.apply(addresses={"users.internal:9001": []})
    assert gateway.worker.pick("r1") is None


def test_handles_refuse_what_is_not_theirs(gateway: Gateway) -> None:
    with pytest.raises(OSError, match="lane 7 of 1"):
        gateway.attach(7)
    with pytest.raises(OSError, match=r".+"):
        gateway.attach(0)
    gateway.load([])
    with pytest.raises(KeyError):
        gateway.worker.pick("nope")
    with pytest.raises(KeyError):
        gateway.worker.enter("http://nowhere:1")
    with pytest.raises(ValueError, match="0 to 3"):
        gateway.node.set_backend_status("http://127.0.0.1:9000", 4)
    assert gateway.node.set_backend_status("http://nowhere:1", 1) is False


def test_two_catalogs_of_one_node_do_not_overwrite_each_other_unseen() -> None:
    node = Node(1)
    one, other = Catalog(node), Catalog(node)
    staged = other.stage(b"{}")
    one.stage(b"{}").publish()
    with pytest.raises(RuntimeError, match="another configuration"):
        staged.publish()


def test_ten_thousand_swaps_leave_nothing_behind() -> None:
    gateway = Gateway(arena_bytes=16 << 20)
    gateway.load([route(f"r{n}", f"/r{n}") for n in range(20)])
    used = gateway.node.arena_used
    for n in range(10_000):
        fresh: dict[str, Any] = route("moving", f"/moving/{n}", backends=[backend(f"own{n % 7}", 10_000 + n)])
        gateway.apply(upsertRoutes=[fresh])
        assert gateway.worker.match("GET", "", f"/moving/{n}")[0] == "moving"
    gateway.apply(removeRoutes=["moving"])
    gateway.node.reclaim()
    assert gateway.node.arena_used == used
    assert gateway.node.generation == 10_002
    live = [row for row in gateway.node.ledger() if row["generation"] is not None]
    assert [row["generation"] for row in live] == [10_002]
    assert all(row["pinned"] == row["inflight"] == 0 for row in gateway.node.ledger())
    # 10,000 addresses came and went; their slots were recycled.
    assert [b["address"] for b in gateway.node.backend_stats()] == ["http://127.0.0.1:9000", None]
