from __future__ import annotations

import pytest

from hotswap_proxy.admin.limits import AttemptLimit, BackOff, LoginLimits, client_key
from hotswap_proxy.errors import RateLimited


def test_the_window_slides() -> None:
    now = [0.0]
    limit = AttemptLimit(2, window=10, clock=lambda: now[0])
    limit.count("a")
    now[0] = 6
    limit.count("a")
    with pytest.raises(RateLimited) as caught:
        limit.count("a")
    assert caught.value.headers["retry-after"] == "4"
    limit.count("b")
    now[0] = 10.5
    limit.count("a")
    with pytest.raises(RateLimited):
        limit.count("a")


def test_success_begins_anew() -> None:
    limit = AttemptLimit(1)
    limit.count("a")
    limit.forget("a")
    limit.count("a")
    limit.forget("unknown")


def test_memory_is_bounded() -> None:
    limit = AttemptLimit(1, capacity=3)
    for key in "abcd":
        limit.count(key)
    limit.count("a")  # the oldest was forgotten
    with pytest.raises(RateLimited):
        limit.count("d")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "None"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str | None, key: str) -> None:
    assert client_key(address) == key


def test_failures_in_a_row_cost_ever_more_time() -> None:
    now = [0.0]
    limit = BackOff(2, clock=lambda: now[0])
    limit.count("a")
    limit.count("a")
    for wait in (1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60):
        with pytest.raises(RateLimited) as caught:
            limit.count("a")
        assert caught.value.headers["retry-after"] == str(wait)
        now[0] += wait
        limit.count("a")
    limit.count("b")
    limit.forget("a")
    limit.count("a")
    limit.count("a")
    now[0] += BackOff.MEMORY + 1
    limit.count("a")


def test_back_off_has_a_bounded_memory() -> None:
    limit = BackOff(1, capacity=2, clock=lambda: 0.0)
    for key in "abc":
        limit.count(key)
    limit.count("a")  # the oldest was forgotten
    with pytest.raises(RateLimited):
        limit.count("c")


def test_guesses_from_many_addresses_are_slowed_but_lock_nobody_out() -> None:
    limits = LoginLimits(clock=lambda: 0.0)
    limits.count("admin", "192.0.2.1")
    limits.succeeded("admin", "192.0.2.1")
    with pytest.raises(RateLimited, match="failed"):
        for number in range(100):
            limits.count("admin", f"198.51.100.{number}")
    limits.count("admin", "192.0.2.1")
    limits.count("ann", "198.51.100.1")


def test_one_network_has_one_limit() -> None:
    limits = LoginLimits(clock=lambda: 0.0)
    for number in range(10):
        limits.count("admin", f"2001:db8::{number}")
    with pytest.raises(RateLimited):
        limits.count("admin", "2001:db8::ffff")
