"""The rules of health checks without sockets: thresholds, answers, who is checked and in what health."""

from __future__ import annotations

from typing import Any

import pytest

from hotswap_proxy.control.health import registry as registry_module
from hotswap_proxy.control.health.http import MAX_ANSWER, judge
from hotswap_proxy.control.health.machine import FLIPS, Health, State, Thresholds
from hotswap_proxy.control.health.registry import Registry, Target
from hotswap_proxy.control.health.spec import Wanted, described, read_spec, wanted_of
from hotswap_proxy.model import Backend, HealthCheck
from hotswap_proxy.settings import Settings

UNKNOWN, HEALTHY, UNHEALTHY = 0, 1, 2
A = "http://10.0.0.1:80"


def path(start: State, answers: str, thresholds: Thresholds = Thresholds()) -> str:  # noqa: B008
    """The states after each answer: ``+`` a success, ``-`` a failure; N, U, D, H."""
    health = Health(start)
    seen = ""
    for answer in answers:
        health = health.after(answer == "+", thresholds)
        seen += health.state.name[0]
    return seen


@pytest.mark.parametrize(
    ("start", "answers", "seen"),
    [
        (State.NEW, "+", "U"),
        (State.NEW, "---", "NND"),
        (State.NEW, "--+", "NNU"),
        (State.UP, "---", "UUD"),
        (State.UP, "--+--+---", "UUUUUUUUD"),
        (State.DOWN, "++", "DU"),
        (State.DOWN, "+-+-++", "DDDDDU"),
        (State.DOWN, "++---++", "DUUUDDU"),
        (State.HELD, "+", "U"),
        (State.HELD, "--+", "HHU"),
        (State.HELD, "---+", "HHDD"),
    ],
)
def test_thresholds_count_answers_in_a_row(start: State, answers: str, seen: str) -> None:
    assert path(start, answers) == seen


def test_thresholds_are_the_checks_own() -> None:
    assert path(State.UP, "-++-", Thresholds(1, 1)) == "DUUD"
    assert path(State.UP, "-----", Thresholds(5, 1)) == "UUUUD"
    assert path(State.DOWN, "++++", Thresholds(1, 4)) == "DDDU"


def test_what_everybody_expects_is_no_flip() -> None:
    assert (State.NEW, State.UP) not in FLIPS
    assert {(State.UP, State.DOWN), (State.DOWN, State.UP), (State.HELD, State.UP)} <= FLIPS


# --- answers --------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body", "expected"),
    [
        (OK, None, (True, "status 200")),
        (OK, b"ell", (True, "status 200")),
        (OK, b"bye", (False, "status 200, but the expected text is not in the body")),
        (CHUNKED, b"hello", (True, "status 200")),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, b"hello", (True, "status 200")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None, (False, "status 204 instead of 200")),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", None, (False, "status 503 instead of 200")),
        (b"SSH-2.0-OpenSSH\r\n", None, (False, "the answer is not HTTP/1")),
        (b"HTTP/1.1 2xx OK\r\n\r\n", None, (False, "the answer is not HTTP/1")),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
            None,
            (False, "the answer's head is larger than 16384 bytes"),
        ),
    ],
)
def test_a_whole_answer_is_judged_and_no_part_of_it_before(
    answer: bytes, body: bytes | None, expected: tuple[bool, str]
) -> None:
    assert judge(answer, False, 200, body) == expected
    if expected[0]:
        for cut in range(len(answer)):
            assert judge(answer[:cut], False, 200, body) is None, answer[:cut]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", (False, "closed without an answer")),
        (b"HTTP/1.1 200", (False, "closed within the head")),
        (OK[:-1], (False, "closed within the body")),
        (CHUNKED[:-5], (False, "closed within the body")),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", (True, "status 200")),
    ],
)
def test_an_answer_that_ends_with_the_connection(answer: bytes, expected: tuple[bool, str]) -> None:
    assert judge(answer, True, 200, None) == expected


def test_an_endless_answer_is_judged_by_its_beginning() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\nhello" + b"x" * MAX_ANSWER
    assert judge(endless, False, 200, b"hello") == (True, "status 200")
    assert judge(endless, False, 200, b"hullo") == (
        False,
        "status 200, but the expected text is not in the body",
    )


def spec(**fields: Any) -> Any:
    return read_spec(HealthCheck.model_validate(fields).document())


def test_the_request_has_the_headers_of_the_check_and_one_host() -> None:
    plain = spec(headers={"X-Probe": "1"}).request(b"10.0.0.1:80")
    assert plain == (
        b"GET /health HTTP/1.1\r\nHost: 10.0.0.1:80\r\nConnection: close\r\nX-Probe: 1\r\n"
        b"User-Agent: hotswap-proxy-health\r\nAccept: */*\r\n\r\n"
    )
    named = spec(headers={"host": "users.example", "User-Agent": "me"}, endpoint="/up?x=1").request(
        b"10.0.0.1:80"
    )
    assert (
        named == b"GET /up?x=1 HTTP/1.1\r\nHost: users.example\r\nConnection: close\r\n"
        b"User-Agent: me\r\nAccept: */*\r\n\r\n"
    )


# --- who is checked -------------------------------------------------------------------------------


class Table:
    """What workers would read."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}

    def set_backend_status(self, address: str, status: int) -> bool:
        self.statuses[address] = status
        return True


class Clocked:
    """A registry, its table, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.table = Table()
        self.registry = Registry(self.table, lambda: self.now)

    def configure(self, **owners: tuple[Wanted, ...]) -> None:
        self.registry.prepare(dict(owners), {})
        self.registry.settle()

    def answer(self, target: Target, answers: str) -> None:
        for answer in answers:
            self.registry.note(target, answer == "+")

    @property
    def only(self) -> Target:
        (target,) = self.registry
        return target


def checked(address: str = A, name: str = "b", **fields: Any) -> tuple[Wanted, ...]:
    return (Wanted(name, name, address, spec(**fields)),)


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


@pytest.mark.parametrize(("initial", "status"), [("Up", UNKNOWN), ("Down", UNHEALTHY), ("Hold", UNHEALTHY)])
def test_the_initial_state_is_set_before_publication(clocked: Clocked, initial: str, status: int) -> None:
    clocked.registry.prepare({"b": checked(initialState=initial)}, {})
    assert clocked.table.statuses == {A: status}


def test_equal_checks_of_one_address_share_one_target(clocked: Clocked) -> None:
    clocked.configure(x=checked(name="one"), y=checked(name="two"))
    assert clocked.only.names() == [("one", "one"), ("two", "two")]
    clocked.configure(x=())
    assert clocked.only.names() == [("two", "two")]
    assert clocked.registry.counts() == {"healthy": 0, "unhealthy": 0, "unknown": 1}


def test_different_checks_of_one_address_must_all_pass(clocked: Clocked) -> None:
    clocked.configure(x=checked(), y=checked(type="Tcp"))
    http, tcp = sorted(clocked.registry, key=lambda target: target.spec.type)
    clocked.answer(http, "+")
    clocked.answer(tcp, "+")
    assert clocked.table.statuses[A] == HEALTHY
    clocked.answer(http, "---")
    assert clocked.table.statuses[A] == UNHEALTHY
    clocked.configure(x=())
    assert clocked.table.statuses[A] == HEALTHY


def test_health_survives_what_a_change_does_to_a_backend(clocked: Clocked) -> None:
    clocked.configure(x=checked())
    clocked.answer(clocked.only, "---")
    clocked.table.statuses.clear()  # a new slot, as after a while in no route
    clocked.configure(other=checked("http://10.0.0.2:80", "c"))
    assert clocked.table.statuses[A] == UNHEALTHY
    clocked.configure(x=(), y=checked(name="moved"))  # from one route to another
    assert clocked.table.statuses[A] == UNHEALTHY
    clocked.configure(y=checked(interval="1s"))  # another check of the same address
    assert clocked.table.statuses[A] == UNHEALTHY
    clocked.configure(y=())
    assert clocked.table.statuses[A] == UNKNOWN, "no check, no verdict"
    clocked.configure(z=checked())
    assert clocked.table.statuses[A] == UNHEALTHY, "and it is not Up again because it was away"


def test_a_removed_check_is_unknown_only_after_publication(clocked: Clocked) -> None:
    clocked.configure(x=checked())
    clocked.answer(clocked.only, "---")
    clocked.registry.prepare({"x": ()}, {})
    assert clocked.table.statuses[A] == UNHEALTHY, "the old configuration still serves"
    clocked.registry.settle()
    assert clocked.table.statuses[A] == UNKNOWN


def test_what_was_away_for_long_begins_anew(clocked: Clocked) -> None:
    clocked.configure(x=checked())
    clocked.answer(clocked.only, "---")
    clocked.configure(x=())
    clocked.now += registry_module.REMEMBERED_SECONDS + 1
    clocked.configure(y=checked("http://10.0.0.2:80"))
    clocked.configure(y=())
    clocked.configure(x=checked())
    assert clocked.table.statuses[A] == UNKNOWN


def test_a_reset_removes_what_is_not_named(clocked: Clocked) -> None:
    clocked.configure(x=checked(), y=checked("http://10.0.0.2:80"))
    clocked.registry.prepare({"y": checked("http://10.0.0.2:80")}, {}, reset=True)
    assert [target.address for target in clocked.registry] == ["http://10.0.0.2:80"]


def carried_out(document: dict[str, Any], settings: Settings) -> tuple[Wanted, ...]:
    return wanted_of(described(document), settings)


def test_disabled_backends_and_withdrawn_commands_are_not_checked() -> None:
    document = Backend.model_validate({"name": "b", "url": A, "healthCheck": {}}).document() | {
        "backendId": "b"
    }
    assert len(carried_out(document, Settings())) == 1
    assert carried_out(document | {"isEnabled": False}, Settings()) == ()
    route = {"isEnabled": True, "backends": [document, document | {"isEnabled": False}, {"backendId": "ref"}]}
    assert len(carried_out(route, Settings())) == 1
    assert carried_out(route | {"isEnabled": False}, Settings()) == ()
    custom = document | {
        "healthCheck": document["healthCheck"] | {"type": "Custom", "command": ["/bin/true"]}
    }
    assert carried_out(custom, Settings()) == ()
    assert len(carried_out(custom, Settings(health_check_commands=("/bin/true",)))) == 1
