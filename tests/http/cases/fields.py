"""Fields that end at this hop, that the gateway sets, and that pass."""

from table import BAD, Request, head, refused, served

LINE = "GET / HTTP/1.1"
OURS = ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "Via: 1.1 hotswap", "X-Forwarded-Host: x")


def dropped(name: str, *fields: str) -> Request:
    return served(
        f"hop-{name}", "RFC 9110 7.6.1", head(LINE, "A: 1", *fields, "B: 2"), head(LINE, "A: 1", "B: 2")
    )


def kept(name: str, rule: str, *fields: str) -> Request:
    return served(f"pass-{name}", rule, head(LINE, *fields))


CASES: list[Request] = [
    dropped("keep-alive", "Keep-Alive: timeout=5", "Connection: keep-alive"),
    dropped("connection", "Connection: keep-alive"),
    dropped("proxy-connection", "Proxy-Connection: keep-alive"),
    dropped("proxy-authorization", "Proxy-Authorization: Basic eDp5"),
    dropped("proxy-authenticate", "Proxy-Authenticate: Basic"),
    dropped("proxy-httpoxy", "Proxy: http://evil"),
    dropped("te-other", "TE: gzip"),
    dropped("te-list", "TE: gzip;q=0.5, deflate"),
    dropped("upgrade-not-named-in-connection", "Upgrade: own"),
    dropped("connection-upgrade-without-upgrade", "Connection: upgrade"),
    dropped("http2-settings", "Connection: upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    dropped("upgrade-h2c", "Connection: upgrade", "Upgrade: h2c"),
    dropped("upgrade-tls", "Connection: upgrade", "Upgrade: TLS/1.2"),
    dropped("upgrade-http2", "Connection: upgrade", "Upgrade: HTTP/2.0"),
    dropped("upgrade-h2c-hidden-in-a-list", "Connection: upgrade", "Upgrade: own, h2c"),
    dropped("upgrade-not-a-token", "Connection: upgrade", "Upgrade: a b"),
    dropped("nominated", "Connection: X-Secret", "X-Secret: 1"),
    dropped("nominated-two-lines", "Connection: X-One", "X-One: 1", "Connection: keep-alive, x-TWO", "X-Two: 2"),
    dropped("nominated-repeated-field", "Connection: X-One", "X-One: 1", "X-One: 2"),
    dropped("nominated-absent", "Connection: X-Absent"),
    dropped("nominated-empty-elements", "Connection: , keep-alive, ,X-One", "X-One: 1"),
    dropped("forwarded-claim", "Forwarded: for=1.2.3.4"),
    dropped("x-real-ip-claim", "X-Real-IP: 1.2.3.4"),
    dropped("x-forwarded-port-claim", "X-Forwarded-Port: 1"),
    dropped("underscore-claim", "X_Forwarded_For: 1.2.3.4"),
    dropped("underscore-host", "X_Forwarded_Host: y"),
    served("hop-te-trailers", "RFC 9110 10.1.4", head(LINE, "TE: trailers, gzip", "Connection: te"),
           head(LINE, "Connection: te", "TE: trailers")),
    served("hop-nominated-host-stays", "RFC 9110 7.6.1", head(LINE, "Connection: Host"), head(LINE)),
    served("hop-nominated-length-stays", "RFC 9110 7.6.1",
           head("POST / HTTP/1.1", "Connection: Content-Length", "Content-Length: 2") + b"hi",
           head("POST / HTTP/1.1", "Content-Length: 2") + b"hi"),
    served("hop-nominated-coding-stays", "RFC 9110 7.6.1",
           head("POST / HTTP/1.1", "Connection: Transfer-Encoding", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
           head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    served("hop-nominated-identity-stays", "RFC 9110 7.6.1",
           head(LINE, "Connection: X-Forwarded-For, Via, X-Forwarded-Proto"), head(LINE, *OURS), own=True),
    Request("hop-close", "9.6", head(LINE, "Connection: close"), (200,), (head(LINE),),
            contains=(b"Connection: close",)),
    Request("hop-close-capitals-in-a-list", "9.6", head(LINE, "Connection: keep-alive, CLOSE"), (200,), (head(LINE),)),
    refused("hop-connection-not-a-token", "RFC 9110 7.6.1", head(LINE, "Connection: a b")),
    refused("hop-connection-quoted", "RFC 9110 7.6.1", head(LINE, 'Connection: "close"')),
    refused("hop-connection-endless", "RFC 9110 7.6.1", head(LINE, "Connection: " + "a," * 40)),
    served("own-fields", "RFC 9110 7.6.3", head(LINE), head(LINE, *OURS), own=True),
    served("own-for-is-appended", "RFC 7239 5.2", head(LINE, "X-Forwarded-For: 192.0.2.7"),
           head(LINE, "X-Forwarded-For: 192.0.2.7, 127.0.0.1", *OURS[1:]), own=True),
    served("own-for-lines-become-one", "RFC 7239 5.2",
           head(LINE, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 192.0.2.8"),
           head(LINE, "X-Forwarded-For: 192.0.2.7, 192.0.2.8, 127.0.0.1", *OURS[1:]), own=True),
    served("own-host-and-proto-replaced", "RFC 7239 4",
           head(LINE, "X-Forwarded-Host: evil", "X-Forwarded-Proto: https"), head(LINE, *OURS), own=True),
    served("own-via-is-appended", "RFC 9110 7.6.3", head(LINE, "Via: 1.0 fred"),
           head(LINE, *OURS[:2], "Via: 1.0 fred", *OURS[2:]), own=True),
    kept("accept-encoding", "RFC 9110 7.7", "Accept-Encoding: gzip, br;q=0.5"),
    kept("authorization", "RFC 9110 11.6.2", "Authorization: Bearer x"),
    kept("cookies-apart", "RFC 9110 5.3", "Cookie: a=1", "Cookie: b=2"),
    kept("range", "RFC 9110 14.2", "Range: bytes=0-1", "If-Range: \"x\""),
    kept("trailer-announcement", "RFC 9110 6.6.2", "Trailer: X-Sum"),
    kept("date", "RFC 9110 6.6.1", "Date: Tue, 15 Nov 1994 08:12:31 GMT"),
    kept("content-encoding", "RFC 9110 8.4", "Content-Encoding: gzip"),
    Request("upgrade-came-to-nothing", "RFC 9110 7.8",
            head(LINE, "Connection: upgrade", "Upgrade: own/1") + head("GET /next HTTP/1.1"), (200, 200),
            (head(LINE, "Connection: upgrade", "Upgrade: own/1"), head("GET /next HTTP/1.1")), closes=False),
    Request("upgrade-came-to-nothing-then-garbage", "RFC 9110 7.8",
            head(LINE, "Connection: upgrade", "Upgrade: own") + b"GET /\n\n\n\n", (200, BAD),
            (head(LINE, "Connection: upgrade", "Upgrade: own"),)),
    Request("upgrade-came-to-nothing-then-bare-lf", "RFC 9110 7.8",
            head(LINE, "Connection: upgrade", "Upgrade: own") + b"GET / HTTP/1.1\nHost: x\n\n", (200, BAD),
            (head(LINE, "Connection: upgrade", "Upgrade: own"),)),
    served("upgrade-with-a-body-is-not-one", "RFC 9110 7.8",
           head("POST / HTTP/1.1", "Connection: upgrade", "Upgrade: own", "Content-Length: 2") + b"hi"
           + head("GET /next HTTP/1.1"),
           head("POST / HTTP/1.1", "Content-Length: 2") + b"hi", head("GET /next HTTP/1.1")),
    served("upgrade-twice-is-not-one", "RFC 9110 7.8",
           head(LINE, "Connection: upgrade", "Upgrade: own", "Upgrade: other"), head(LINE)),
]  # fmt: skip
