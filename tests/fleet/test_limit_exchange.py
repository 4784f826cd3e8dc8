"""The exchange of rate limits without a clock or a connection: who settles what, and when."""

from __future__ import annotations

import pytest

from hotswap_proxy.fleet.limitmessages import ENTRY, LARGEST, Message, unpack
from hotswap_proxy.fleet.limits import AGAIN, MOST_BATCHES, MOST_KEPT, SILENCE, WORD, Exchange


class Tallies:
    """Buckets that remember what was done to them. An entry is one letter, repeated."""

    def __init__(self) -> None:
        self.fleet: list[int] = []
        self.waiting: list[bytes] = []
        self.charged: list[bytes] = []
        self.raised: list[bytes] = []
        self.settled: list[tuple[bytes, int]] = []

    def set_limits_key(self, key: bytes) -> None:
        raise AssertionError("not asked to")

    def set_fleet(self, nodes: int) -> None:
        self.fleet.append(nodes)

    def take_limit_usage(self, weight: int, *, most: int = 1000) -> bytes:
        return self.waiting.pop(0) if self.waiting else b""

    def charge_limits(self, entries: bytes, *, at_least: bool = False) -> int:
        (self.raised if at_least else self.charged).append(entries[:1])
        return 0

    def settle_limits(self, entries: bytes, weight: int) -> int:
        self.settled.append((entries[:1], weight))
        return 0

    def limit_standing(
        self, weight: int, pending: bytes, start: int = 0, *, most: int = 1000
    ) -> tuple[bytes, int | None]:
        return b"S" * ENTRY, None

    def let_through(self, letter: bytes) -> None:
        self.waiting.append(letter * ENTRY)


class Fleet:
    """Nodes, and a Redis that loses nothing unless it is told to."""

    def __init__(self, count: int, known: int | None = None) -> None:
        self.now = 100.0
        self.known = known if known is not None else count
        self.nodes = [Exchange(Tallies(), bytes([65 + i]) * 8, lambda: self.known) for i in range(count)]
        self.up = True
        self.deaf: set[int] = set()

    def tallies(self, index: int) -> Tallies:
        buckets = self.nodes[index].buckets
        assert isinstance(buckets, Tallies)
        return buckets

    def turn(self, *indices: int) -> list[bytes]:
        """A turn of these nodes, of all by default. Returns what was sent."""
        self.now += 0.005
        sent: list[bytes] = []
        for index in indices or range(len(self.nodes)):
            messages = self.nodes[index].turn(self.now, self.up)
            sent += messages
            for message in messages:
                for other, node in enumerate(self.nodes):
                    if other not in self.deaf:
                        node.hear(message, self.now)
        return sent

    def meet(self) -> None:
        for _ in range(3):
            self.turn()
        self.now += WORD + 0.01
        self.turn()
        assert {node.mode for node in self.nodes} == {"sharing"}

    def pass_seconds(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.1)):
            self.now += 0.1
            self.turn()


def test_a_node_alone_shares_with_nobody() -> None:
    fleet = Fleet(1)
    fleet.pass_seconds(2)
    assert fleet.nodes[0].mode == "alone"
    assert fleet.tallies(0).fleet == []


def test_what_one_lets_through_the_others_charge_once_and_then_it_is_settled() -> None:
    fleet = Fleet(3)
    fleet.meet()
    fleet.tallies(0).let_through(b"x")
    fleet.turn(0)
    assert [fleet.tallies(i).charged for i in range(3)] == [[], [b"x"], [b"x"]]
    fleet.turn(1)
    assert fleet.tallies(0).settled == [], "the third has not said that it knows"
    fleet.turn(2)
    assert fleet.tallies(0).settled == [(b"x", 3)]
    fleet.pass_seconds(1)
    assert fleet.tallies(1).charged == [b"x"]


def test_an_acknowledgement_comes_behind_what_its_sender_let_through() -> None:
    fleet = Fleet(2)
    fleet.meet()
    fleet.tallies(0).let_through(b"x")
    fleet.turn(0)
    fleet.tallies(1).let_through(b"y")
    messages = [unpack(data) for data in fleet.turn(1)]
    kinds = [(message.entries[:1], bool(message.seen)) for message in messages if message]
    assert kinds == [(b"y", False), (b"", True)]
    assert fleet.tallies(0).charged == [b"y"]
    assert fleet.tallies(0).settled == [(b"x", 2)]


def test_a_batch_that_was_lost_is_sent_again_and_what_comes_after_it_waits() -> None:
    fleet = Fleet(2)
    fleet.meet()
    fleet.tallies(0).let_through(b"x")
    fleet.deaf = {1}
    fleet.turn(0)
    fleet.deaf = set()
    fleet.tallies(0).let_through(b"y")
    fleet.turn()
    assert fleet.tallies(1).charged == []
    assert fleet.tallies(0).settled == []
    fleet.now += AGAIN
    fleet.turn()
    fleet.turn()
    assert fleet.tallies(1).charged == [b"x", b"y"]
    assert fleet.tallies(0).settled == [(b"x", 2), (b"y", 2)]


def test_without_redis_nothing_is_settled_and_nothing_is_lost() -> None:
    fleet = Fleet(2)
    fleet.meet()
    fleet.up = False
    fleet.tallies(0).let_through(b"x")
    fleet.pass_seconds(2 * SILENCE)
    assert [node.mode for node in fleet.nodes] == ["apart", "apart"]
    assert fleet.tallies(0).fleet == [2], "its share stays that of two"
    fleet.up = True
    fleet.pass_seconds(1)
    assert fleet.tallies(1).charged == [b"x"]
    assert fleet.tallies(0).settled == [(b"x", 2)]


def test_a_redis_that_hangs_counts_as_away() -> None:
    fleet = Fleet(2)
    fleet.meet()
    fleet.deaf = {0, 1}
    fleet.pass_seconds(SILENCE + 0.2)
    assert [node.mode for node in fleet.nodes] == ["apart", "apart"]


def test_a_node_that_the_store_knows_and_nobody_hears_keeps_its_share() -> None:
    fleet = Fleet(2, known=3)
    fleet.pass_seconds(1)
    assert [node.mode for node in fleet.nodes] == ["apart", "apart"]
    fleet.tallies(0).let_through(b"x")
    fleet.pass_seconds(1)
    assert fleet.tallies(1).charged == [b"x"]
    assert fleet.tallies(0).settled == []
    fleet.known = 2  # it is gone, says the store
    fleet.pass_seconds(1)
    assert fleet.tallies(0).settled == [(b"x", 3)], "as it was counted"
    assert fleet.tallies(0).fleet == [3, 2]


def test_a_node_that_dies_is_not_waited_for_for_ever() -> None:
    fleet = Fleet(3)
    fleet.meet()
    gone = fleet.nodes.pop()
    fleet.tallies(0).let_through(b"x")
    fleet.pass_seconds(0.5)
    assert fleet.tallies(0).settled == []
    fleet.known = 2
    fleet.pass_seconds(SILENCE)
    assert fleet.tallies(0).settled == [(b"x", 3)]
    assert fleet.nodes[0].nodes == 2
    fleet.nodes.append(gone)


def test_a_farewell_is_as_good_as_silence() -> None:
    fleet = Fleet(2)
    fleet.meet()
    fleet.pass_seconds(2 * SILENCE)
    fleet.known = 1
    fleet.nodes[0].hear(fleet.nodes[1].farewell(), fleet.now)
    fleet.turn(0)
    assert (fleet.nodes[0].mode, fleet.nodes[0].nodes) == ("alone", 1)


def test_a_newcomer_is_told_once_what_the_buckets_hold() -> None:
    fleet = Fleet(3)
    newcomer = fleet.nodes.pop()
    fleet.known = 2
    fleet.meet()
    fleet.known = 3
    fleet.nodes.append(newcomer)
    fleet.pass_seconds(1)
    assert fleet.tallies(2).raised == [b"S"], "by one of the two"
    assert fleet.tallies(0).raised.count(b"S") <= 2


def test_a_backlog_is_bounded_and_holds_acknowledgements_back() -> None:
    fleet = Fleet(2, known=3)
    fleet.pass_seconds(1)
    for _ in range(MOST_BATCHES + 10):
        fleet.tallies(0).waiting.append(b"x" * ENTRY * 1000)
    fleet.pass_seconds(2)
    assert len(fleet.tallies(0).waiting) == 10
    fleet.known = 2
    fleet.pass_seconds(3)
    assert fleet.tallies(0).waiting == []
    assert len(fleet.tallies(0).settled) == MOST_BATCHES + 10


def test_a_node_that_is_apart_while_others_come_and_go_keeps_no_more_than_it_can_tell() -> None:
    fleet = Fleet(2, known=3)
    for turn in range(MOST_KEPT + 10):
        fleet.tallies(0).let_through(b"x")
        fleet.known = 3 + turn % 2
        fleet.pass_seconds(1.1)
    assert len(fleet.nodes[0]._batches) == MOST_KEPT
    fleet.known = 2
    fleet.pass_seconds(3)
    assert len(fleet.tallies(0).settled) == MOST_KEPT
    fleet.tallies(0).let_through(b"y")
    fleet.pass_seconds(1)
    assert fleet.tallies(1).charged[-1] == b"y", "the numbers that are missing hold nothing up"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        Message(b"Z" * 8, 0, 1, 1, {}, b"x" * (ENTRY - 1)).pack(),
        Message(b"Z" * 8, 3, 1, 1).pack(),
        Message(b"Z" * 8, 0, 1, 1, {bytes([i]) * 8: 1 for i in range(200)}).pack()[:100],
        Message(b"Z" * 8, 0, 1, 1, {}, b"x" * ENTRY * (LARGEST // ENTRY)).pack(),
        b"HSL\x02" + Message(b"Z" * 8, 0, 1, 1).pack()[4:],
    ],
)
def test_what_is_no_message_is_counted_and_left_alone(data: bytes) -> None:
    fleet = Fleet(1)
    fleet.nodes[0].hear(data, fleet.now)
    fleet.turn()
    assert fleet.nodes[0].counts.refused == 1
    assert fleet.nodes[0].nodes == 1


def test_messages_are_read_as_they_were_written() -> None:
    message = Message(b"A" * 8, 0, 7, 5, {b"B" * 8: 3, b"C" * 8: 9}, b"x" * ENTRY)
    assert unpack(message.pack()) == message
