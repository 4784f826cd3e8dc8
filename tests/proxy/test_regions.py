"""Routing by where the client is: country, continent and network."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest
from harness.backend import ok
from harness.mmdb import database, place
from harness.worker import backend, route

PLACES = {
    "127.0.0.0/8": place("DE", "EU"),
    "10.0.0.0/8": {"registered_country": {"iso_code": "FR"}},
    "2001:db8::/32": place("JP", "AS"),
}


def sealed(data: bytes, seals: int = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK) -> int:
    fd = os.memfd_create("regions", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.fixture
def use(plane) -> Iterator[object]:
    """Gives the worker a database."""

    def give(data: bytes | None, seals: int = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK) -> None:
        if data is None:
            plane.call(lambda: plane.worker.use_regions(None))
            return
        fd = sealed(data, seals)
        try:
            plane.call(lambda: plane.worker.use_regions(fd))
        finally:
            os.close(fd)

    yield give


def split(make_backend, header: str, **rules: str):
    """A route whose backends answer with their names; ``rules`` by name of the backend."""
    backends = [
        backend(make_backend(lambda _, name=name: ok(name.encode())).url, name)
        for name in (*rules, "default")
    ]
    header_rules = {
        "headerName": header,
        "routingRules": {value: name for name, value in rules.items()},
        "defaultBackend": "default",
    }
    return route("/**", *backends, strategy="HeaderBased", headerRules=header_rules)


@pytest.mark.parametrize(("header", "value", "other"), [(":country", "DE", "FR"), (":continent", "EU", "AS")])
def test_a_client_goes_where_its_region_does(plane, make_backend, connect, use, header, value, other):
    plane.publish(split(make_backend, header, here=value, there=other))
    client = connect()
    assert client.get().body == b"default", "without a database nobody is anywhere"
    use(database(PLACES))
    assert client.get().body == b"here"
    assert client.get("/", f"{header[1:]}: {other}", f"X-{header[1:]}: {other}").body == b"here"
    use(database({"127.0.0.0/8": place(other if header == ":country" else "FR", other)}))
    assert client.get().body == b"there", "from the next request on"
    use(database({"128.0.0.0/8": place(value, value)}))
    assert client.get().body == b"default"
    use(None)
    assert client.get().body == b"default"


def test_where_the_address_is_registered_counts_when_nothing_better_is_known(
    plane, make_backend, connect, use
):
    plane.publish(split(make_backend, ":country", there="FR"))
    use(database({"127.0.0.1/32": {"registered_country": {"iso_code": "FR"}}}))
    assert connect().get().body == b"there"


def test_a_backend_that_is_out_leaves_its_region_to_the_default(plane, make_backend, connect, use):
    document = split(make_backend, ":country", here="DE")
    plane.publish(document)
    use(database(PLACES))
    client = connect()
    assert client.get().body == b"here"
    address = document["backends"][0]["url"]
    assert plane.node.set_backend_status(address, 2)
    assert client.get().body == b"default"


def test_the_longest_network_wins(plane, make_backend, connect):
    plane.publish(
        split(make_backend, ":cidr", all="0.0.0.0/0", loop="127.0.0.0/8", one="127.0.0.1", six="::/0")
    )
    assert connect().get().body == b"one"
    plane.publish(split(make_backend, ":cidr", all="0.0.0.0/0", loop="127.0.0.0/8", no="127.0.0.2/32"))
    assert connect().get().body == b"loop"
    plane.publish(split(make_backend, ":cidr", no="10.0.0.0/8"))
    assert connect().get().body == b"default"
    plane.publish(split(make_backend, ":cidr", six="2001:db8::/32", four="10.0.0.0/8"))
    for address, name in (
        ("2001:db8:1::1", "six"),
        ("10.9.9.9", "four"),
        ("::ffff:10.9.9.9", "four"),
        ("x", "default"),
    ):
        assert plane.call(lambda address=address: plane.worker.pick("/**", "", address)) == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "metadata"),
        (b"not a database at all", "metadata"),
        (database(PLACES)[:-200], "metadata"),
        (database(PLACES, "Test-ASN"), "says nothing of countries"),
    ],
)
def test_a_file_that_is_no_database_is_refused_and_the_one_before_stays(
    plane, make_backend, connect, use, data, reason
):
    plane.publish(split(make_backend, ":country", here="DE"))
    use(database(PLACES))
    with pytest.raises(ValueError, match=reason):
        use(data)
    assert connect().get().body == b"here"


def test_a_file_that_may_change_is_not_mapped(plane, use):
    with pytest.raises(ValueError, match="not sealed"):
        use(database(PLACES), seals=0)


def test_damaged_entries_are_nowhere(plane, make_backend, connect, use):
    """What examining did not find must not cost the worker its life."""
    plane.publish(split(make_backend, ":country", here="DE"))
    good = database(PLACES)
    client = connect()
    for at in range(0, len(good) - 300, 97):
        damaged = bytearray(good)
        damaged[at : at + 4] = b"\xff\xff\xff\xff"
        try:
            use(bytes(damaged))
        except ValueError:
            continue
        assert client.get().status == 200
