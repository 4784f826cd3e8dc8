"""Selection against models that count."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import gcd, inf, log

import pytest
from gateway import Gateway, backend, route
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotswap_proxy._core import Worker

weights = st.lists(st.integers(0, 100) | st.sampled_from([1, 10, 50, 90, 100]), min_size=1, max_size=6)


def address(index: int) -> str:
    return f"http://127.0.0.1:{9000 + index}"


def load(gateway: Gateway, strategy: str, shares: list[int], **more: object) -> None:
    """One route "r" on backends b0, b1, … with these weights, all up."""
    backends = [backend(f"b{n}", 9000 + n, weight=w) for n, w in enumerate(shares)]
    gateway.load(
        [route("r", "/", backends=[f"b{n}" for n in range(len(shares))], strategy=strategy, **more)], backends
    )
    for n in range(len(shares)):
        gateway.node.set_backend_status(address(n), 1)


def down(gateway: Gateway, indices: set[int]) -> None:
    for n in indices:
        gateway.node.set_backend_status(address(n), 2 + n % 2)


def picks(worker: Worker, count: int, **more: object) -> Counter[str | None]:
    return Counter(worker.pick("r", **more) for _ in range(count))  # type: ignore[arg-type]


def shares_of(counts: dict[str, int]) -> Counter[str | None]:
    """What is expected of `picks`; one refusal when there is nobody to pick."""
    expected: Counter[str | None] = Counter()
    for name, count in counts.items():
        expected[name] = count
    return expected or Counter({None: 1})


def test_ninety_to_ten_is_exact_and_interleaved(shared: Gateway) -> None:
    load(shared, "WeightedRoundRobin", [90, 10])
    turns = [shared.worker.pick("r") for _ in range(1000)]
    for start in range(901):
        assert turns[start : start + 100].count("b1") == 10
    gaps = [i for i, t in enumerate(turns) if t == "b1"]
    assert {b - a for a, b in pairwise(gaps)} == {10}


@settings(deadline=None)
@given(shares=weights)
def test_weighted_turns_are_exact_over_all_workers(shared: Gateway, shares: list[int]) -> None:
    load(shared, "WeightedRoundRobin", shares)
    total = sum(shares) // max(gcd(*shares), 1)
    if not total:
        assert shared.worker.pick("r") is None
        return
    other = shared.attach(1)
    counted: Counter[str | None] = Counter()
    for n in range(3 * total):
        counted[(shared.worker if n % 3 else other).pick("r")] += 1
    assert counted == Counter({f"b{n}": 3 * w * total // sum(shares) for n, w in enumerate(shares) if w})


@settings(deadline=None)
@given(shares=weights, out=st.sets(st.integers(0, 5)))
def test_those_left_share_exactly_by_weight_when_some_are_out(
    shared: Gateway, shares: list[int], out: set[int]
) -> None:
    out &= set(range(len(shares)))
    left = {n: w for n, w in enumerate(shares) if n not in out and w}
    load(shared, "WeightedRoundRobin", shares)
    down(shared, out)
    if not left:
        assert shared.worker.pick("r") is None
        return
    # One whole round of turns gives those left their own and total - own turns of the others by fallback.
    total, own = sum(shares) // gcd(*shares), sum(left.values()) // gcd(*shares)
    rounds = sum(left.values())
    assume(total * rounds <= 60_000)
    counted = picks(shared.worker, total * rounds)
    assert own <= total
    assert counted == Counter({f"b{n}": total * w for n, w in left.items()})


@settings(deadline=None)
@given(shares=weights, out=st.sets(st.integers(0, 5)))
def test_round_robin_gives_equal_shares(shared: Gateway, shares: list[int], out: set[int]) -> None:
    load(shared, "RoundRobin", shares)
    up = [n for n, w in enumerate(shares) if w]
    assert picks(shared.worker, 2 * len(up) or 1) == shares_of({f"b{n}": 2 for n in up})
    down(shared, out & set(range(len(shares))))
    left = [n for n in up if n not in out]
    assert picks(shared.worker, 5 * len(up) * len(left) or 1) == shares_of(
        {f"b{n}": 5 * len(up) for n in left}
    )


def test_neighbouring_turns_of_round_robin_differ(shared: Gateway) -> None:
    load(shared, "RoundRobin", [100, 1, 50])
    turns = [shared.worker.pick("r") for _ in range(30)]
    assert all(len(set(turns[n : n + 3])) == 3 for n in range(28))


def test_a_retry_goes_elsewhere_and_takes_no_turn(shared: Gateway) -> None:
    load(shared, "RoundRobin", [100, 100, 100])
    first = shared.worker.pick("r")
    assert first is not None
    assert picks(shared.worker, 62, tried=1 << int(first[1])) == Counter(
        {b: 31 for b in ("b0", "b1", "b2") if b != first}
    )
    assert shared.worker.pick("r") == f"b{(int(first[1]) + 1) % 3}"
    assert shared.worker.pick("r", tried=0b111) is None


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["pick", "pick", "pick", "end", "down", "up"]), st.integers(0, 3)),
        max_size=60,
    )
)
def test_least_connections_takes_one_with_the_fewest(shared: Gateway, steps: list[tuple[str, int]]) -> None:
    load(shared, "LeastConnections", [100] * 4)
    workers = [shared.worker, shared.attach(1)]
    active = [0] * 4
    out: set[int] = set()
    held: list[tuple[Worker, int]] = []
    try:
        for step, n in steps:
            if step == "pick":
                picked = workers[n % 2].pick("r")
                least = min((a for i, a in enumerate(active) if i not in out), default=inf)
                if picked is None:
                    assert least == inf
                    continue
                index = int(picked[1])
                assert index not in out
                assert active[index] == least
                workers[n % 2].enter(address(index))
                active[index] += 1
                held.append((workers[n % 2], index))
            elif step == "end" and held:
                worker, index = held.pop(n % len(held))
                worker.leave(address(index))
                active[index] -= 1
            elif step in ("down", "up"):
                out = out | {n} if step == "down" else out - {n}
                shared.node.set_backend_status(address(n), 2 if step == "down" else 0)
        stats = {b["address"]: b["active"] for b in shared.node.backend_stats()}
        assert [stats[address(n)] for n in range(4)] == active
    finally:
        for worker, index in held:
            worker.leave(address(index))


def test_least_connections_breaks_ties_in_turn(shared: Gateway) -> None:
    load(shared, "LeastConnections", [100, 100, 100])
    assert picks(shared.worker, 300) == Counter({"b0": 100, "b1": 100, "b2": 100})


@pytest.mark.parametrize("shares", [[100, 100, 100, 100, 100], [100, 50, 25, 10, 5]])
def test_ip_hash_moves_only_the_clients_of_the_backend_that_left(shared: Gateway, shares: list[int]) -> None:
    load(shared, "IPHash", shares)
    clients = [f"10.{n % 251}.{n // 251}.7" for n in range(5000)]

    def homes() -> list[str | None]:
        return [shared.worker.pick("r", client) for client in clients]

    before = homes()
    assert before == homes()
    counted = Counter(before)
    for n, share in enumerate(shares):
        assert abs(counted[f"b{n}"] / 5000 - share / sum(shares)) < 0.03
    down(shared, {1})
    during = homes()
    assert {was for was, now in zip(before, during, strict=True) if was != now} == {"b1"}
    assert "b1" not in during
    # Its clients spread over all that are left.
    assert len(set(during)) == len(shares) - 1
    shared.node.set_backend_status(address(1), 0)
    assert homes() == before
    # Removing it from the configuration is the same as its being out.
    load(shared, "IPHash", [*shares[:1], 0, *shares[2:]])
    assert homes() == during


def test_ip_hash_survives_a_new_node(shared: Gateway) -> None:
    """The choice depends on addresses alone, so a fleet and a restarted node agree."""
    fresh = Gateway()
    for one in (fresh, shared):
        load(one, "IPHash", [100, 100, 100])
    for n in range(300):
        assert fresh.worker.pick("r", f"192.168.0.{n}") == shared.worker.pick("r", f"192.168.0.{n}")


def finalise(value: int) -> int:
    """The finaliser of MurmurHash3."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor % 2**64
    return value ^ value >> 33


def hashed(text: str) -> int:
    """FNV-1a, finalised."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return finalise(value)


@settings(deadline=None)
@given(shares=weights, clients=st.lists(st.ip_addresses().map(str), max_size=20))
def test_ip_hash_is_the_documented_function(shared: Gateway, shares: list[int], clients: list[str]) -> None:
    """Pinned: a new version of the gateway must not move clients."""
    load(shared, "IPHash", shares)

    def cost(client: str, index: int) -> float:
        score = finalise((hashed(client) + hashed(address(index)) * 0x9E3779B97F4A7C15) % 2**64)
        return -log((score + 1) / 2**64) / shares[index]

    for client in clients:
        best = min((n for n, w in enumerate(shares) if w), key=lambda n: cost(client, n), default=None)
        assert shared.worker.pick("r", client) == (None if best is None else f"b{best}")


@settings(deadline=None)
@given(
    rules=st.dictionaries(st.sampled_from(["gold", "silver", "é", "x" * 300]), st.integers(0, 3), max_size=4),
    default=st.integers(0, 3),
    value=st.sampled_from(["gold", "silver", "é", "Gold", "", "x" * 300, None]),
    out=st.sets(st.integers(0, 3)),
)
def test_a_header_decides_or_else_the_default(
    shared: Gateway, rules: dict[str, int], default: int, value: str | None, out: set[int]
) -> None:
    header_rules = {
        "headerName": "X-Tier",
        "routingRules": {v: f"b{n}" for v, n in rules.items()},
        "defaultBackend": f"b{default}",
    }
    load(shared, "HeaderBased", [100, 1, 100, 100], headerRules=header_rules)
    down(shared, out)
    wanted = [rules[value]] if value in rules else []
    left = [n for n in [*wanted, default] if n not in out]
    assert shared.worker.pick("r", header=value) == (f"b{left[0]}" if left else None)


@settings(deadline=None)
@given(shares=weights, out=st.sets(st.integers(0, 5)))
def test_direct_takes_the_first_that_is_up(shared: Gateway, shares: list[int], out: set[int]) -> None:
    load(shared, "Direct", shares)
    down(shared, out & set(range(len(shares))))
    left = [n for n, w in enumerate(shares) if w and n not in out]
    assert picks(shared.worker, 3) == Counter({f"b{left[0]}" if left else None: 3})


def test_disabled_backends_take_nothing(shared: Gateway) -> None:
    backends = [backend("b0", 9000, isEnabled=False), backend("b1", 9001)]
    shared.load([route("r", "/", backends=["b0", "b1", backend("own", 9002, weight=0)])], backends)
    shared.node.set_backend_status(address(1), 0)
    assert picks(shared.worker, 10) == Counter({"b1": 10})


def test_health_and_turns_outlive_a_change_of_the_configuration(shared: Gateway) -> None:
    load(shared, "RoundRobin", [100, 100, 100])
    down(shared, {2})
    shared.apply(upsertRoutes=[route("other", "/other", backends=["b1"])])
    assert picks(shared.worker, 12) == Counter({"b0": 6, "b1": 6})
