"""Methods, Max-Forwards, Expect, versions of clients."""

from table import Request, head, refused, served

BODY = b"hello"
HOPS = [f"Via: 1.1 hotswap, 1.0 p{n}" for n in range(8)]


def post(*fields: str, line: str = "POST / HTTP/1.1", host: str | None = "x") -> bytes:
    return head(line, *fields, "Content-Length: 5", host=host) + BODY


CASES: list[Request] = [
    *[served(f"method-{name.lower()}", "RFC 9110 9", head(f"{name} / HTTP/1.1"))
      for name in ("HEAD", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "QUERY", "FROB!")],
    served("method-small-letters", "RFC 9110 9.1", head("get / HTTP/1.1")),
    served("method-source", "RFC 9110 9.1", head("SOURCE / HTTP/1.1")),
    served("method-pri", "RFC 9110 9.1", head("PRI / HTTP/1.1")),
    *[served(f"method-{name.lower()}-with-a-body", "RFC 9110 9.3", post(line=f"{name} / HTTP/1.1"))
      for name in ("GET", "DELETE", "OPTIONS", "PATCH", "FROB")],
    refused("method-connect", "RFC 9110 9.3.6", head("CONNECT x:443 HTTP/1.1", host="x:443"), 501),
    refused("method-connect-to-a-path", "RFC 9110 9.3.6", head("CONNECT / HTTP/1.1"), 501),
    refused("method-connect-and-data", "RFC 9110 9.3.6", head("CONNECT x:1 HTTP/1.1") + head(), 501),
    refused("method-not-a-token", "RFC 9110 9.1", head("GE,T / HTTP/1.1")),
    refused("method-high-byte", "RFC 9110 9.1", head("G\xe4T / HTTP/1.1")),
    Request("options-asterisk", "RFC 9110 9.3.7", head("OPTIONS * HTTP/1.1"), (204,), closes=False),
    Request("options-asterisk-absolute", "3.2.4", head("OPTIONS http://y HTTP/1.1"), (204,), closes=False),
    Request("options-asterisk-forwards", "RFC 9110 7.6.2",
            head("OPTIONS * HTTP/1.1", "Max-Forwards: 5"), (204,), closes=False),
    Request("options-last-hop", "RFC 9110 7.6.2", head("OPTIONS /a HTTP/1.1", "Max-Forwards: 0"), (204,),
            closes=False, contains=(b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE\r\n",)),
    Request("options-last-hop-with-a-body", "RFC 9110 7.6.2",
            post("Max-Forwards: 0", line="OPTIONS /a HTTP/1.1"), (204,), closes=True),
    Request("trace-last-hop", "RFC 9110 9.3.8", head("TRACE /a HTTP/1.1", "Max-Forwards: 0", "Cookie: secret"),
            (501,), closes=False),
    served("max-forwards-counted", "RFC 9110 7.6.2", head("TRACE /a HTTP/1.1", "Max-Forwards: 10"),
           head("TRACE /a HTTP/1.1", "Max-Forwards: 9")),
    served("max-forwards-of-get", "RFC 9110 7.6.2", head("GET / HTTP/1.1", "Max-Forwards: 0")),
    served("max-forwards-not-a-number", "RFC 9110 7.6.2", head("OPTIONS /a HTTP/1.1", "Max-Forwards: x")),
    refused("expect-unknown", "RFC 9110 10.1.1", post("Expect: 200-ok"), 417),
    refused("expect-list", "RFC 9110 10.1.1", post("Expect: 100-continue, x"), 417),
    served("expect-without-body", "RFC 9110 10.1.1", head("GET / HTTP/1.1", "Expect: 100-continue"), head()),
    served("expect-empty-body", "RFC 9110 10.1.1",
           head("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 0"),
           head("POST / HTTP/1.1", "Content-Length: 0")),
    served("expect-forwarded", "RFC 9110 10.1.1", post("Expect: 100-continue")),
    served("expect-capitals", "RFC 9110 10.1.1", post("Expect: 100-Continue")),
    Request("expect-in-1.0", "RFC 9110 10.1.1", post("Expect: 100-continue", line="POST / HTTP/1.0"), (200,),
            (head("POST / HTTP/1.1", "Content-Length: 5") + BODY,)),
    Request("expect-unknown-in-1.0", "RFC 9110 10.1.1", post("Expect: x", line="POST / HTTP/1.0"), (200,),
            (head("POST / HTTP/1.1", "Content-Length: 5") + BODY,)),
    Request("old-client", "2.3", head("GET / HTTP/1.0"), (200,),
            (head("GET / HTTP/1.1", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http",
                  "Via: 1.0 hotswap", "X-Forwarded-Host: x"),), own=True),
    Request("old-client-keeps", "9.3", head("GET / HTTP/1.0", "Connection: keep-alive"), (200,), (head(),),
            closes=False, contains=(b"Connection: keep-alive\r\n",)),
    Request("old-client-sends-more", "9.3", head("GET / HTTP/1.0") + head("GET /next HTTP/1.1"), (200,), (head(),)),
    Request("old-client-upgrade-ignored", "RFC 9110 7.8",
            head("GET / HTTP/1.0", "Connection: keep-alive, upgrade", "Upgrade: own") + head("GET /n HTTP/1.1"),
            (200, 200), (head(), head("GET /n HTTP/1.1")), closes=False),
    Request("loop-broken", "RFC 9110 7.6", head("GET / HTTP/1.1", *HOPS), (508,), closes=False),
    served("loop-not-yet", "RFC 9110 7.6", head("GET / HTTP/1.1", *HOPS[1:]),
           head("GET / HTTP/1.1", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", *HOPS[1:],
                "Via: 1.1 hotswap", "X-Forwarded-Host: x"), own=True),
]  # fmt: skip
