"""The life of a connection: who may close, leave, wait or be early, and what the other side sees of it."""

from table import OK, Life, head

GET = head()
NEXT = head("GET /next HTTP/1.1")
POST = head("POST / HTTP/1.1", "Content-Length: 5")
CHUNKED = head("POST / HTTP/1.1", "Transfer-Encoding: chunked")
WAITING = head("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue")
UPGRADE = head("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: own")
SWITCH = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
SHORT = (("keepalive_timeout", 0.2), ("header_timeout", 0.2), ("body_timeout", 0.2))

CASES = [
    Life("keeps-after-an-answer", "9.3", (
        ("send", GET), ("backend", OK), ("read", 200), ("send", NEXT), ("backend", OK), ("read", 200), ("open", None))),
    Life("pipelined-in-order", "9.3.2", (
        ("send", GET + NEXT), ("backend", OK), ("read", 200), ("backend", OK), ("read", 200), ("open", None))),
    Life("half-closed-client-gets-its-answer", "9.6", (
        ("send", GET), ("shut", None), ("backend", OK), ("read", 200), ("closed", None))),
    Life("half-closed-client-gets-both-answers", "9.6", (
        ("send", GET + NEXT), ("shut", None), ("backend", OK), ("read", 200), ("backend", OK), ("read", 200),
        ("closed", None))),
    Life("client-that-resets-cancels-its-request", "9.5", (
        ("send", GET), ("arrived", None), ("reset", None), ("backend-ended", None))),
    Life("client-that-resets-in-an-answer-cancels-it", "9.5", (
        ("send", GET), ("backend", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), ("reset", None),
        ("backend-ended", None))),
    Life("client-that-closes-events-cancels-them", "9.5", (
        ("send", GET), ("backend", EVENTS + b"data: 1\n\n"), ("part", b"data: 1\n\n"), ("close", None),
        ("backend-ended", None))),
    Life("events-arrive-one-by-one", "7.1", (
        ("send", GET), ("backend", EVENTS), ("part", b"\r\n\r\n"), ("backend", b"data: 1\n\n"), ("part", b"data: 1\n\n"),
        ("backend", b"data: 2\n\n"), ("part", b"data: 2\n\n"), ("reset", None))),
    Life("body-cut-short-is-never-whole", "8", (
        ("send", POST + b"hel"), ("shut", None), ("closed", None), ("backend-cut", None))),
    Life("chunks-cut-short-are-never-whole", "8", (
        ("send", CHUNKED + b"3\r\nabc\r\n"), ("shut", None), ("closed", None), ("backend-cut", None))),
    Life("bad-chunk-after-a-good-one", "7.1", (
        ("send", CHUNKED + b"3\r\nabc\r\n"), ("backend-begins", None), ("send", b"zz\r\n"), ("read", 400),
        ("closed", None), ("backend-cut", None))),
    Life("continue-is-forwarded", "RFC 9110 10.1.1", (
        ("send", WAITING), ("backend-begins", b"HTTP/1.1 100 Continue\r\n\r\n"), ("part", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("send", b"hello"), ("backend", OK), ("read", 200), ("open", None))),
    Life("final-answer-instead-of-continue", "RFC 9110 10.1.1", (
        ("send", WAITING), ("backend-begins", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), ("read", 403),
        ("closed", None))),
    Life("early-answer-closes", "9.6", (
        ("send", POST), ("backend-begins", OK), ("read", 200), ("closed", None))),
    Life("bytes-in-after-close-are-not-served", "9.6", (
        ("send", head("GET / HTTP/1.1", "Connection: close")), ("send", NEXT), ("backend", OK), ("read", 200),
        ("closed", None), ("nothing-more", None))),
    Life("idle-connection-is-closed", "9.8", (
        ("send", GET), ("backend", OK), ("read", 200), ("closed", None)), SHORT),
    Life("silent-connection-is-closed", "9.8", (("closed", None),), SHORT),
    Life("slow-head-is-a-408", "RFC 9110 15.5.9", (("send", b"GET / HT"), ("read", 408), ("closed", None)), SHORT),
    Life("slow-body-is-a-408", "RFC 9110 15.5.9", (("send", POST + b"he"), ("read", 408), ("closed", None)), SHORT),
    Life("switch-and-bytes-both-ways", "RFC 9110 7.8", (
        ("send", UPGRADE), ("backend", SWITCH + b"hi"), ("part", b"\r\n\r\nhi"), ("send", b"\0GET"), ("backend-gets", b"\0GET"),
        ("backend", b"\xff"), ("part", b"\xff"), ("reset", None), ("backend-ended", None))),
    Life("switch-with-early-bytes", "RFC 9110 7.8", (
        ("send", UPGRADE + b"early\n"), ("backend", SWITCH), ("part", b"\r\n\r\n"), ("backend-gets", b"early\n"),
        ("close", None))),
    Life("switch-ended-by-the-backend", "RFC 9110 7.8", (
        ("send", UPGRADE), ("backend", SWITCH), ("part", b"\r\n\r\n"), ("backend-close", None), ("closed", None))),
    Life("switch-to-something-else", "RFC 9110 7.8", (
        ("send", UPGRADE), ("backend", SWITCH.replace(b"own", b"other")), ("read", 502), ("backend-ended", None),
        ("send", NEXT), ("backend-again", OK), ("read", 200))),
    Life("switch-refused-then-http", "RFC 9110 7.8", (
        ("send", UPGRADE), ("backend", OK), ("read", 200), ("send", NEXT), ("backend", OK), ("read", 200), ("open", None))),
    Life("switch-idle-is-closed", "9.8", (
        ("send", UPGRADE), ("backend", SWITCH), ("part", b"\r\n\r\n"), ("closed", None), ("backend-ended", None)),
        (("stream_idle_timeout", 0.2),)),
]  # fmt: skip
