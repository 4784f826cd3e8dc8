"""What backends may answer, and what they may not."""

from table import OK, Answer, head

LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
HEAD = head("HEAD / HTTP/1.1")
OLD = head("GET / HTTP/1.0", "Connection: keep-alive")
LAST = b"0\r\n\r\n"


def ok(id: str, rule: str, *sends: bytes, **more: object) -> Answer:
    fixed = {"status": 200, "body": b"ok"} | more
    return Answer(id, rule, sends, **fixed)  # type: ignore[arg-type]


def bad(id: str, rule: str, send: bytes, then: str = "keep") -> Answer:
    """502 for the client, whose connection goes on; the backend's connection is dropped."""
    return Answer(id, rule, (send,), then, reused=False)


def lines(*fields: str, line: str = "HTTP/1.1 200 OK", body: bytes = b"ok") -> bytes:
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1") + body


SIZED = "Content-Length: 2"
BOTH_KEEP = [
    ok("length", "6.3", OK, reused=True, fields=("Content-Length: 2",)),
    ok("length-in-pieces", "6.3", OK[:20], OK[20:38], OK[38:], reused=True),
    ok("length-zero", "6.3", lines("Content-Length: 0", body=b""), body=b"", reused=True),
    ok("length-leading-zero", "RFC 9110 8.6", lines("Content-Length: 02"), fields=(SIZED,)),
    ok("chunked", "7.1", CHUNKED + b"2\r\nok\r\n" + LAST, chunked=True, reused=True),
    ok("chunked-in-pieces", "7.1", CHUNKED, b"1\r\no", b"\r\n1\r\nk\r", b"\n0\r\n\r", b"\n", chunked=True, reused=True),
    ok("chunked-extensions-end-here", "7.1.1", CHUNKED + b"2;a=b\r\nok\r\n0;c\r\n\r\n", chunked=True, reused=True),
    ok("chunked-trailers", "7.1.2", CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n\r\n", chunked=True,
       reused=True),
    ok("chunked-to-an-old-client", "6.1", CHUNKED + b"2\r\nok\r\n" + LAST, request=OLD, keeps=False, reused=True),
    ok("chunked-capitals", "7", lines("Transfer-Encoding: Chunked", body=b"2\r\nok\r\n" + LAST), chunked=True),
    ok("until-close", "6.3", LINE + b"\r\nok", then="close", chunked=True, reused=False),
    ok("until-close-empty", "6.3", LINE + b"\r\n", then="close", body=b"", chunked=True, reused=False),
    ok("until-close-to-an-old-client", "6.3", LINE + b"\r\nok", then="close", request=OLD, keeps=False),
    ok("close-announced", "9.6", lines(SIZED, "Connection: close"), then="close", reused=False, fields=(SIZED,)),
    ok("close-announced-and-not-done", "9.6", lines(SIZED, "Connection: close"), reused=False),
    ok("old-backend", "9.3", lines(SIZED, line="HTTP/1.0 200 OK"), then="close", reused=False),
    ok("old-backend-does-not-close", "9.3", lines(SIZED, line="HTTP/1.0 200 OK"), reused=False),
    ok("old-backend-keeps", "9.3", lines(SIZED, "Connection: keep-alive", line="HTTP/1.0 200 OK"), reused=True,
       fields=(SIZED,)),
    ok("old-backend-until-close", "6.3", b"HTTP/1.0 200 OK\r\n\r\nok", then="close", chunked=True),
    ok("bytes-after-the-answer", "9.2", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", reused=False),
    ok("one-byte-after-the-answer", "9.2", OK + b"\n", reused=False),
    ok("bytes-after-the-last-chunk", "9.2", CHUNKED + b"2\r\nok\r\n" + LAST + b"evil", chunked=True, reused=False),
    ok("bytes-after-204", "RFC 9110 15.3.5", lines(line="HTTP/1.1 204 No Content", body=b"evil"), status=204, body=b"",
       reused=False),
    ok("204", "RFC 9110 15.3.5", lines(line="HTTP/1.1 204 No Content", body=b""), status=204, body=b"", reused=True,
       fields=()),
    ok("204-with-a-length", "RFC 9110 8.6", lines(SIZED, line="HTTP/1.1 204 N", body=b""), status=204, body=b"",
       fields=(), reused=False),
    ok("204-with-length-zero", "RFC 9110 8.6", lines("Content-Length: 0", line="HTTP/1.1 204 N", body=b""), status=204,
       body=b"", fields=(), reused=True),
    ok("204-with-a-coding", "6.1", lines("Transfer-Encoding: chunked", line="HTTP/1.1 204 N", body=b""), status=204,
       body=b"", fields=(), reused=False),
    ok("205", "RFC 9110 15.3.6", lines("Content-Length: 0", line="HTTP/1.1 205 R", body=b""), status=205, body=b"",
       reused=True),
    ok("304", "RFC 9110 15.4.5", lines('ETag: "x"', line="HTTP/1.1 304 N", body=b""), status=304, body=b"",
       fields=('ETag: "x"',), reused=True),
    ok("304-with-a-length", "RFC 9110 15.4.5", lines(SIZED, line="HTTP/1.1 304 N", body=b""), status=304, body=b"",
       fields=(SIZED,), reused=True),
    ok("304-with-a-coding", "6.1", lines("Transfer-Encoding: chunked", line="HTTP/1.1 304 N", body=b""), status=304,
       body=b"", fields=()),
    ok("head", "RFC 9110 9.3.2", lines(SIZED, body=b""), request=HEAD, body=b"", fields=(SIZED,), reused=True),
    ok("head-without-a-length", "RFC 9110 9.3.2", lines(body=b""), request=HEAD, body=b"", fields=(), reused=True),
    ok("head-with-a-coding", "RFC 9110 9.3.2", lines("Transfer-Encoding: chunked", body=b""), request=HEAD, body=b"",
       fields=(), reused=True),
    ok("head-with-a-body", "RFC 9110 9.3.2", lines(SIZED), request=HEAD, body=b"", fields=(SIZED,), reused=False),
    ok("head-404", "RFC 9110 9.3.2", lines("Content-Length: 9", line="HTTP/1.1 404 N", body=b""), request=HEAD,
       status=404, body=b"", fields=("Content-Length: 9",), reused=True),
    ok("reason-empty", "4", lines(SIZED, line="HTTP/1.1 200 ")),
    ok("reason-absent", "4", lines(SIZED, line="HTTP/1.1 200")),
    ok("reason-odd", "4", lines(SIZED, line="HTTP/1.1 200 a\tb (c)")),
    ok("status-unknown", "RFC 9110 15", lines(SIZED, line="HTTP/1.1 299 X"), status=299),
    ok("status-out-of-range", "RFC 9110 15", lines(SIZED, line="HTTP/1.1 799 X"), status=799),
    ok("hop-fields-end-here", "RFC 9110 7.6.1", lines(
        SIZED, "Connection: keep-alive, X-Secret", "X-Secret: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x",
        "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Upgrade: h2c", "TE: x", "A: 1"),
       fields=(SIZED, "A: 1")),
    ok("fields-pass", "RFC 9110 5.3", lines(SIZED, "Set-Cookie: a=1", "Set-Cookie: b=2", "Vary: x", "Content-Encoding: br",
                                            "Trailer: X-Sum", "Server: z"),
       fields=(SIZED, "Set-Cookie: a=1", "Set-Cookie: b=2", "Vary: x", "Content-Encoding: br", "Trailer: X-Sum",
               "Server: z")),
    ok("date-kept", "RFC 9110 6.6.1", lines(SIZED, "Date: Tue, 15 Nov 1994 08:12:31 GMT"),
       fields=(SIZED, "Date: Tue, 15 Nov 1994 08:12:31 GMT")),
    ok("426-names-its-upgrade", "RFC 9110 15.5.22", lines(SIZED, "Connection: upgrade", "Upgrade: own",
                                                           line="HTTP/1.1 426 U"), status=426,
       fields=(SIZED, "Connection: upgrade", "Upgrade: own")),
    ok("interim-103", "RFC 8297 2", lines("Link: </a>", line="HTTP/1.1 103 Early Hints", body=b"") + OK, interim=(103,),
       reused=True),
    ok("interim-several", "RFC 9110 15.2", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 102 P\r\n\r\n", b"HTTP/1.1 199 X\r\n\r\n" + OK,
       interim=(100, 102, 199), reused=True),
    ok("interim-in-pieces", "RFC 9110 15.2", b"HTTP/1.1 10", b"3 E\r\nLi", b"nk: a\r\n\r", b"\n" + OK, interim=(103,)),
    ok("interim-with-framing", "RFC 9110 15.2", lines(SIZED, line="HTTP/1.1 103 E", body=b"") + OK, interim=(103,)),
    ok("interim-not-to-an-old-client", "RFC 9110 15.2", b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" + OK, request=OLD,
       reused=True),
    ok("events-flow", "7.1", LINE + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
       b"2\r\nok\r\n", LAST, chunked=True),
]

CUT = [
    Answer("cut-length", "8", (LINE + b"Content-Length: 5\r\n\r\nok",), "close", status=200, body=b"ok", whole=False,
           keeps=False),
    Answer("cut-length-reset", "8", (LINE + b"Content-Length: 5\r\n\r\nok",), "reset", status=200, whole=False,
           keeps=False),
    Answer("cut-chunk", "8", (CHUNKED + b"5\r\nok",), "close", status=200, whole=False, keeps=False, chunked=True),
    Answer("cut-between-chunks", "8", (CHUNKED + b"2\r\nok\r\n",), "close", status=200, body=b"ok", whole=False,
           keeps=False, chunked=True),
    Answer("cut-in-the-last-chunk", "8", (CHUNKED + b"2\r\nok\r\n0\r\n",), "close", status=200, body=b"ok", whole=False,
           keeps=False, chunked=True),
    Answer("cut-by-reset-until-close", "8", (LINE + b"\r\nok",), "reset", status=200, whole=False, keeps=False,
           chunked=True),
    Answer("cut-chunked-to-an-old-client", "8", (CHUNKED + b"5\r\nok",), "close", request=OLD, status=200, whole=False,
           keeps=False),
    Answer("cut-by-a-bad-chunk", "7.1", (CHUNKED + b"2\r\nok\r\n", b"zz\r\n"), status=200, body=b"ok", whole=False,
           keeps=False, chunked=True, reused=False),
    Answer("cut-by-a-bad-trailer", "7.1.2", (CHUNKED + b"2\r\nok\r\n", b"0\r\nX : y\r\n\r\n"), status=200, body=b"ok",
           whole=False, keeps=False, chunked=True, reused=False),
    Answer("cut-by-an-endless-extension", "7.1.1", (CHUNKED + b"2\r\nok\r\n", b"2;" + b"a" * 400), status=200,
           body=b"ok", whole=False, keeps=False, chunked=True, reused=False),
    Answer("cut-by-too-large", "RFC 9110 15.6.3", (CHUNKED + b"2\r\nok\r\n", b"a\r\n0123456789\r\n" + LAST),
           request=head("GET /small/a HTTP/1.1"), status=200, whole=False, keeps=False, chunked=True, reused=False),
]

REFUSED = [
    bad("length-twice-different", "6.3", lines(SIZED, "Content-Length: 3")),
    bad("length-twice-same", "6.3", lines(SIZED, SIZED)),
    bad("length-list", "6.3", lines("Content-Length: 2, 2")),
    bad("length-plus", "6.3", lines("Content-Length: +2")),
    bad("length-minus", "6.3", lines("Content-Length: -2")),
    bad("length-empty", "6.3", lines("Content-Length:")),
    bad("length-letters", "6.3", lines("Content-Length: two")),
    bad("length-over-63-bits", "6.3", lines("Content-Length: 9223372036854775808")),
    bad("length-and-coding", "6.3", lines(SIZED, "Transfer-Encoding: chunked", body=LAST)),
    bad("coding-unknown", "6.3", lines("Transfer-Encoding: gzip")),
    bad("coding-gzip-chunked", "6.1", lines("Transfer-Encoding: gzip, chunked", body=LAST)),
    bad("coding-chunked-gzip", "6.1", lines("Transfer-Encoding: chunked, gzip", body=LAST)),
    bad("coding-twice", "6.1", lines("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=LAST)),
    bad("coding-identity", "6.1", lines("Transfer-Encoding: identity")),
    bad("coding-in-1.0", "6.1", lines("Transfer-Encoding: chunked", line="HTTP/1.0 200 OK", body=LAST)),
    bad("first-chunk-bad", "7.1", CHUNKED + b"zz\r\n"),
    bad("first-chunk-bare-lf", "2.2", CHUNKED + b"2\nok\r\n" + LAST),
    bad("bare-lf", "2.2", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    bad("bare-lf-in-fields", "2.2", b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 2\r\n\r\nok"),
    bad("bare-cr", "2.2", lines("X: a\rb", SIZED)),
    bad("nul", "RFC 9110 5.5", lines("X: a\0b", SIZED)),
    bad("control", "RFC 9110 5.5", lines("X: a\x01b", SIZED)),
    bad("folded", "5.2", lines("X: a", " b", SIZED)),
    bad("space-before-colon", "5.1", lines("X : a", SIZED)),
    bad("no-colon", "5", lines("X", SIZED)),
    bad("empty-name", "5", lines(": x", SIZED)),
    bad("connection-not-a-token", "RFC 9110 7.6.1", lines("Connection: a b", SIZED)),
    bad("status-two-digits", "4", lines(SIZED, line="HTTP/1.1 20 OK")),
    bad("status-four-digits", "4", lines(SIZED, line="HTTP/1.1 2000 OK")),
    bad("status-below-100", "RFC 9110 15", lines(SIZED, line="HTTP/1.1 099 OK")),
    bad("status-letters", "4", lines(SIZED, line="HTTP/1.1 abc OK")),
    bad("version-2.0", "4", lines(SIZED, line="HTTP/2.0 200 OK")),
    bad("version-0.9", "4", b"<html>hello</html>\r\n\r\n"),
    bad("version-small-letters", "4", lines(SIZED, line="http/1.1 200 OK")),
    bad("another-protocol", "4", b"SSH-2.0-OpenSSH_9\r\n\r\n"),
    bad("space-before", "4", b" " + OK),
    bad("empty-line-before", "4", b"\r\n" + OK),
    bad("two-spaces", "4", lines(SIZED, line="HTTP/1.1  200 OK")),
    bad("head-too-large", "RFC 9110 5.4", lines(*[f"X-{n}: {'a' * 4000}" for n in range(20)], SIZED)),
    bad("too-many-fields", "RFC 9110 5.4", lines(*["X: y"] * 130, SIZED)),
    bad("too-large-for-the-route", "RFC 9110 15.6.3", lines("Content-Length: 11", body=b"0123456789a")),
    bad("101-not-asked-for", "RFC 9110 7.8", lines("Connection: upgrade", "Upgrade: own", line="HTTP/1.1 101 S",
                                                    body=b"")),
    bad("interim-of-an-old-backend", "RFC 9110 15.2", b"HTTP/1.0 103 E\r\n\r\n" + OK),
    bad("interim-flood", "RFC 9110 15.2", b"HTTP/1.1 102 P\r\n\r\n" * 101),
    bad("interim-then-nothing", "8", b"HTTP/1.1 103 E\r\n\r\n", "close"),
    bad("nothing", "8", b"", "close"),
    bad("half-a-head", "8", b"HTTP/1.1 200 OK\r\nContent-Le", "close"),
    bad("reset-at-once", "8", b"", "reset"),
]
UPGRADE = head("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: own/1, other")
SWITCH = [
    Answer(f"switch-{name}", "RFC 9110 7.8",
           (lines(*fields, line=line, body=b""),), request=UPGRADE, reused=False)
    for name, line, fields in [
        ("to-nothing", "HTTP/1.1 101 S", ("Connection: upgrade",)),
        ("to-something-else", "HTTP/1.1 101 S", ("Connection: upgrade", "Upgrade: third")),
        ("to-another-version", "HTTP/1.1 101 S", ("Connection: upgrade", "Upgrade: own/2")),
        ("to-http2", "HTTP/1.1 101 S", ("Connection: upgrade", "Upgrade: h2c")),
        ("in-1.0", "HTTP/1.0 101 S", ("Connection: upgrade", "Upgrade: own/1")),
    ]
]
CASES = BOTH_KEEP + CUT + REFUSED + SWITCH  # fmt: skip
CASES = [
    Answer(**{**case.__dict__, "request": head("GET /small/a HTTP/1.1")}) if case.id == "too-large-for-the-route" else case
    for case in CASES
]
