from __future__ import annotations

import pytest

from hotswap_proxy.admin.limits import AttemptLimit
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
