"""What backends may answer: every row of the table of answers, through a running worker."""

from __future__ import annotations

import time

import pytest
from cases import answers
from peers import OWN, Caller, Reader
from table import Answer

CASES = [pytest.param(case, id=case.id) for case in answers.CASES]
PACKET = 0.02  # seconds between two packets of a backend; if they meet, the case is only a simpler one


def play(case: Answer):
    def plan(reader: Reader, raw: bytes) -> str:
        for number, part in enumerate(case.sends):
            if number:
                time.sleep(PACKET)
            reader.sock.sendall(part)
        if case.then == "reset" and case.sends[-1]:
            time.sleep(PACKET)  # a reset takes what has not been read with it
        return case.then

    return plan


@pytest.mark.parametrize("case", CASES)
def test_answer(gateway, case):
    server = gateway.backend
    server.plan = play(case)
    before = server.connections
    with Caller(gateway.port) as client:
        client.send(case.request)
        got = client.read(case.request.split(b" ", 1)[0])
        assert (got.status, got.version, got.whole) == (case.status, b"HTTP/1.1", case.whole), got
        assert set(got.interim) <= {102, 103} if case.status == 502 else tuple(got.interim) == case.interim
        if case.body is not None:
            assert got.body == case.body
        assert got.chunked == case.chunked
        if case.fields is not None:
            added = {*OWN, b"x-request-id", b"transfer-encoding"}
            if not any(field.startswith("Date:") for field in case.fields):
                added.add(b"date")
            fields = [(name, value) for name, value in got.fields if name.lower() not in added]
            assert sorted(b": ".join(field).decode() for field in fields) == sorted(case.fields)
        assert any(name.lower() == b"date" for name, _ in got.fields)
        if case.keeps:
            client.probe()
        else:
            assert got.until_close or not got.whole or client.closed()
    if not case.keeps:
        with Caller(gateway.port) as client:
            client.probe()
    if case.reused is not None:
        last = server.seen[-1].connection
        assert (server.probed == last) == case.reused, (server.probed, last, before)


def test_ids_are_unique_and_rules_are_named():
    assert len({case.id for case in answers.CASES}) == len(answers.CASES)
    assert all(case.rule for case in answers.CASES)
