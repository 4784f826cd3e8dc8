"""Chunked requests."""

from table import Request, head, refused, served

START = head("POST / HTTP/1.1", "Transfer-Encoding: chunked")
NEXT = head("GET /next HTTP/1.1")
LAST = b"0\r\n\r\n"
PLAIN = START + b"3\r\nabc\r\n" + LAST


def bad(id: str, rule: str, body: bytes, status: int = 400) -> Request:
    return refused(f"chunk-{id}", rule, START + body, status)


def good(id: str, rule: str, body: bytes, *seen: bytes) -> Request:
    return served(f"chunk-{id}", rule, START + body, *seen)


CASES: list[Request] = [
    good("several", "7.1", b"3\r\nabc\r\n2\r\nde\r\n" + LAST),
    good("empty-body", "7.1", LAST),
    good("size-capital-hex", "7.1", b"A\r\n0123456789\r\n" + LAST, START + b"a\r\n0123456789\r\n" + LAST),
    good("size-leading-zeros", "7.1", b"003\r\nabc\r\n" + LAST, PLAIN),
    good("last-many-zeros", "7.1", b"3\r\nabc\r\n000\r\n\r\n", PLAIN),
    good("crlf-in-data", "7.1", b"4\r\n\r\n\r\n\r\n" + LAST),
    good("looks-like-a-request", "7.1", b"%x\r\n%b\r\n" % (len(NEXT), NEXT) + LAST),
    good("extension", "7.1.1", b"3;a\r\nabc\r\n" + LAST, PLAIN),
    good("extension-value", "7.1.1", b"3;a=b;c\r\nabc\r\n0;d\r\n\r\n", PLAIN),
    good("extension-quoted", "7.1.1", b'3;a="b;c"\r\nabc\r\n' + LAST, PLAIN),
    bad("extension-endless", "7.1.1", b"3;" + b"a" * 300 + b"\r\nabc\r\n" + LAST),
    bad("extension-bare-lf", "7.1.1", b"3;a\nabc\r\n" + LAST),
    bad("extension-lf-inside", "7.1.1", b"3;a\nb\r\nabc\r\n" + LAST + NEXT),
    bad("extension-bare-cr", "7.1.1", b"3;a\rb\r\nabc\r\n" + LAST),
    bad("extension-nul", "7.1.1", b"3;a\0\r\nabc\r\n" + LAST),
    bad("extension-control", "7.1.1", b"3;\x01\r\nabc\r\n" + LAST),
    bad("size-empty", "7.1", b"\r\nabc\r\n" + LAST),
    bad("size-only-extension", "7.1", b";a\r\nabc\r\n" + LAST),
    bad("size-plus", "7.1", b"+3\r\nabc\r\n" + LAST),
    bad("size-minus", "7.1", b"-3\r\nabc\r\n" + LAST),
    bad("size-0x", "7.1", b"0x3\r\nabc\r\n" + LAST),
    bad("size-underscore", "7.1", b"1_0\r\n0123456789abcdef\r\n" + LAST),
    bad("size-not-hex", "7.1", b"g\r\nabc\r\n" + LAST),
    bad("size-blank-before", "7.1", b" 3\r\nabc\r\n" + LAST),
    bad("size-blank-after", "7.1", b"3 \r\nabc\r\n" + LAST),
    bad("size-blank-before-extension", "7.1.1", b"3 ;a\r\nabc\r\n" + LAST),
    bad("size-tab-after", "7.1", b"3\t\r\nabc\r\n" + LAST),
    bad("size-over-64-bits", "7.1", b"10000000000000003\r\nabc\r\n" + LAST),
    bad("size-of-forty-zeros", "7.1", b"0" * 40 + b"3\r\nabc\r\n" + LAST),
    bad("size-nul", "7.1", b"3\0\r\nabc\r\n" + LAST),
    bad("size-bare-lf", "2.2", b"3\nabc\r\n" + LAST),
    bad("size-bare-cr", "2.2", b"3\rabc\r\n" + LAST),
    bad("size-cr-cr-lf", "2.2", b"3\r\r\nabc\r\n" + LAST),
    bad("data-longer", "7.1", b"3\r\nabcd\r\n" + LAST),
    bad("data-shorter", "7.1", b"5\r\nabc\r\n" + LAST),
    bad("data-bare-lf", "2.2", b"3\r\nabc\n" + LAST),
    bad("data-bare-cr", "2.2", b"3\r\nabc\r" + LAST),
    bad("data-no-end", "7.1", b"3\r\nabc" + LAST),
    bad("last-bare-lf", "2.2", b"0\r\n\n" + NEXT),
    bad("last-line-bare-lf", "2.2", b"0\n\r\n" + NEXT),
    bad("over-the-limit", "RFC 9110 15.5.14", b"", 413),
    good("trailer", "7.1.2", b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"),
    good("trailer-then-next", "7.1.2", b"0\r\nX-Sum: 1\r\n\r\n" + NEXT, START + b"0\r\nX-Sum: 1\r\n\r\n", NEXT),
    *[good(f"trailer-drops-{name.lower()}", "RFC 9110 6.5.1", f"0\r\n{name}: 5\r\nX: y\r\n\r\n".encode(),
           START + b"0\r\nX: y\r\n\r\n")
      for name in ("Host", "Authorization", "Cookie", "Content-Type",
                   "Connection", "X-Forwarded-For", "Via", "Expect", "Max-Forwards", "X_Forwarded_For")],
    *[bad(f"trailer-frames-again-{name.lower()}", "RFC 9110 6.5.1", f"0\r\n{name}: 5\r\n\r\n".encode() + NEXT)
      for name in ("Content-Length", "Transfer-Encoding")],
    bad("trailer-folded", "5.2", b"0\r\nX: a\r\n b\r\n\r\n"),
    bad("trailer-no-colon", "7.1.2", b"0\r\nX\r\n\r\n"),
    bad("trailer-space-before-colon", "5.1", b"0\r\nX : a\r\n\r\n"),
    bad("trailer-empty-name", "7.1.2", b"0\r\n: a\r\n\r\n"),
    bad("trailer-bare-lf", "2.2", b"0\r\nX: a\nY: b\r\n\r\n"),
    bad("trailer-nul", "RFC 9110 5.5", b"0\r\nX: a\0\r\n\r\n"),
    bad("trailer-endless", "7.1.2", b"0\r\n" + b"X: " + b"a" * 9000 + b"\r\n\r\n"),
]  # fmt: skip

CASES = [
    refused("chunk-over-the-limit", "RFC 9110 15.5.14",
            head("POST /small/a HTTP/1.1", "Transfer-Encoding: chunked") + b"b\r\nhello world\r\n" + LAST, 413)
    if case.id == "chunk-over-the-limit" else case
    for case in CASES
]  # fmt: skip
