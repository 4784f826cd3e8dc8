"""The answer to a probe, read from the bytes received so far. Bounded, tolerant of nothing odd."""

from __future__ import annotations

import re

MAX_ANSWER = 64 * 1024
MAX_HEAD = 16 * 1024

Verdict = tuple[bool, str]
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*(?=\r|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r", re.IGNORECASE)
_NO_BODY = frozenset({204, 304})


def judge(data: bytes | bytearray, ended: bool, status: int, expected: bytes | None) -> Verdict | None:
    """(success, reason) of a final response; None while more has to come.

    ``ended``: the backend has closed. Waits for the whole answer, for a backend whose answer is cut off by
    its prober writes an error into its log, every few seconds.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if not data.startswith(b"HTTP/1."[: len(data)]):
            return False, "the answer is not HTTP/1"
        if len(data) >= MAX_HEAD:
            return False, f"the answer's head is larger than {MAX_HEAD} bytes"
        return (
            (False, "closed without an answer" if not data else "closed within the head") if ended else None
        )
    got = _status(data)
    if got is None:
        return False, "the answer is not HTTP/1"
    if 100 <= got < 200:  # RFC 9110 section 15.2: interim, the final one follows
        return judge(data[end + 4 :], ended, status, expected)
    body = _body(data, end, got, ended)
    if body is None and not ended and len(data) < MAX_ANSWER:
        return None
    if got != status:
        return False, f"status {got} instead of {status}"
    if body is None and len(data) < MAX_ANSWER:
        return False, "closed within the body"
    if expected is not None and expected not in (data[end + 4 :] if body is None else body):
        return False, f"status {got}, but the expected text is not in the body"
    return True, f"status {got}"


def _status(data: bytes | bytearray) -> int | None:
    # RFC 9112 section 4: HTTP/1.x SP 3DIGIT SP
    code = bytes(data[9:12])
    if data.startswith(b"HTTP/1.") and data[8:9] == b" " and len(code) == 3 and code.isdigit():
        return int(code)
    return None


def _body(data: bytes | bytearray, end: int, status: int, ended: bool) -> bytes | None:
    """The complete body, or None when it is not (yet)."""
    if status in _NO_BODY:
        return b""
    if _CHUNKED.search(data, 0, end):
        return _chunks(bytes(data[end + 4 :]))
    length = _LENGTH.search(data, 0, end + 2)
    if length is None:
        return bytes(data[end + 4 :]) if ended else None
    stop = end + 4 + int(length[1])
    return bytes(data[end + 4 : stop]) if len(data) >= stop else None


def _chunks(data: bytes) -> bytes | None:
    """A chunked body decoded (RFC 9112 section 7.1), or None when its last chunk is not there."""
    body = bytearray()
    at = 0
    while (line := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:line].partition(b";")[0], 16)
        except ValueError:
            return None
        at = line + 2
        if size <= 0:  # the last chunk; after it trailers, and an empty line
            return bytes(body) if size == 0 and data.find(b"\r\n\r\n", line) >= 0 else None
        body += data[at : at + size]
        at += size + 2
    return None
