"""What clients may send: every row of the tables of requests, through a running worker."""

from __future__ import annotations

import pytest
from cases import chunks, fields, framing, heads, hosts, methods, targets
from peers import Caller, Reader, meaning
from table import OK, SAME, Request

FILES = (heads, hosts, targets, methods, framing, chunks, fields)
CASES = [pytest.param(case, id=case.id) for file in FILES for case in file.CASES]


def answer_ok(reader: Reader, raw: bytes) -> str:
    reader.sock.sendall(OK.partition(b"ok")[0] if raw.startswith(b"HEAD ") else OK)
    return "keep"


def converse(gateway, case: Request, cut: bool) -> None:
    server = gateway.backend
    server.plan = answer_ok
    before = len(server.seen)
    got: list[bytes] = []
    with Caller(gateway.port) as client:
        if cut:
            for at in range(len(case.send)):
                client.send(case.send[at : at + 1])
        else:
            client.send(case.send)
        rest = case.send
        for want in case.status:
            method = rest.lstrip(b"\r\n").split(b" ", 1)[0]
            answer = client.read(b"HEAD" if method == b"HEAD" else b"GET")
            assert answer.status in (want if isinstance(want, frozenset) else {want}), answer
            assert answer.whole
            got.append(
                b"".join(name + b": " + value + b"\r\n" for name, value in answer.fields) + answer.body
            )
            rest = rest.partition(b"\r\n\r\n")[2]
        if case.closes:
            assert client.closed()
        else:
            client.probe()
    seen = server.seen[before:]
    assert len(seen) == len(case.seen), [request.raw for request in seen]
    for request, want in zip(seen, case.seen, strict=True):
        expected = case.send if want is SAME else want
        joined = cut or gateway.codec == "httptools"  # which begins a chunk with each line
        assert meaning(request.raw, case.own, joined) == meaning(expected, case.own, joined)
    for text in case.contains:
        assert any(text in part for part in got), got


@pytest.mark.parametrize("case", CASES)
def test_request(gateway, case):
    converse(gateway, case, cut=False)
    if not case.closes and len(case.send) < 500:
        converse(gateway, case, cut=True)


def test_ids_are_unique_and_rules_are_named():
    cases = [case for file in FILES for case in file.CASES]
    assert len({case.id for case in cases}) == len(cases)
    assert all(case.rule for case in cases)
