"""Host, and the authority of a target."""

from table import Request, head, refused, served

LINE = "GET / HTTP/1.1"
OLD = head("GET / HTTP/1.1", host="BACKEND")


CASES: list[Request] = [
    refused("host-missing", "3.2", head(LINE, host=None)),
    refused("host-twice", "3.2", head(LINE, "Host: x")),
    refused("host-twice-different", "3.2", head(LINE, "Host: y")),
    refused("host-empty", "RFC 9110 4.2.1", head(LINE, host="")),
    refused("host-list", "3.2", head(LINE, host="x, y")),
    refused("host-space", "3.2", head(LINE, host="x y")),
    refused("host-with-user", "RFC 9110 4.2.4", head(LINE, host="a@x")),
    refused("host-with-path", "3.2", head(LINE, host="x/a")),
    refused("host-with-scheme", "3.2", head(LINE, host="http://x")),
    refused("host-percent", "3.2", head(LINE, host="x%2ey")),
    refused("host-high-byte", "3.2", head(LINE, host="x\xe4")),
    refused("host-port-too-large", "RFC 9110 4.2.1", head(LINE, host="x:65536")),
    refused("host-port-not-digits", "RFC 9110 7.2", head(LINE, host="x:8o")),
    refused("host-port-signed", "RFC 9110 7.2", head(LINE, host="x:+80")),
    refused("host-two-ports", "RFC 9110 7.2", head(LINE, host="x:80:80")),
    refused("host-only-port", "RFC 9110 4.2.1", head(LINE, host=":80")),
    refused("host-ipv6-open", "RFC 9110 7.2", head(LINE, host="[::1")),
    refused("host-ipv6-no-brackets", "RFC 9110 7.2", head(LINE, host="::1")),
    refused("host-ipv6-zone", "RFC 9110 7.2", head(LINE, host="[fe80::1%25eth0]")),
    refused("host-ipv6-trailing", "RFC 9110 7.2", head(LINE, host="[::1]x")),
    served("host-port", "RFC 9110 7.2", head(LINE, host="x:8080")),
    served("host-port-empty", "RFC 9110 7.2", head(LINE, host="x:")),
    served("host-ipv4", "RFC 9110 7.2", head(LINE, host="192.0.2.1:80")),
    served("host-ipv6", "RFC 9110 7.2", head(LINE, host="[2001:db8::1]")),
    served("host-ipv6-port", "RFC 9110 7.2", head(LINE, host="[2001:db8::1]:8080")),
    served("host-capitals", "RFC 9110 4.2.3", head(LINE, host="EXAMPLE.Com")),
    served("host-underscore", "RFC 9110 7.2", head(LINE, host="a_b.example")),
    served("absolute-overrides-host", "3.2.2", head("GET http://y:81/a?b HTTP/1.1"),
           head("GET /a?b HTTP/1.1", host="y:81")),
    served("absolute-https", "3.2.2", head("GET https://y/a HTTP/1.1"), head("GET /a HTTP/1.1", host="y")),
    served("absolute-capital-scheme", "3.2.2", head("GET HTTP://y/ HTTP/1.1"), head(host="y")),
    served("absolute-empty-path", "3.2.1", head("GET http://y HTTP/1.1"), head(host="y")),
    served("absolute-query-without-path", "3.2.1", head("GET http://y?a HTTP/1.1"),
           head("GET /?a HTTP/1.1", host="y")),
    served("absolute-normalised", "RFC 3986 6.2.2", head("GET http://y/%61/../b HTTP/1.1"),
           head("GET /b HTTP/1.1", host="y")),
    refused("absolute-without-host-field", "3.2", head("GET http://y/ HTTP/1.1", host=None)),
    refused("absolute-bad-host-field", "3.2", head("GET http://y/ HTTP/1.1", host="a b")),
    refused("absolute-user", "RFC 9110 4.2.4", head("GET http://a:b@y/ HTTP/1.1")),
    refused("absolute-empty-host", "RFC 9110 4.2.1", head("GET http:///a HTTP/1.1")),
    refused("absolute-fragment", "3.2.2", head("GET http://y/#a HTTP/1.1")),
    refused("absolute-other-scheme", "3.2.2", head("GET ftp://y/ HTTP/1.1")),
    refused("absolute-relative-scheme", "3.2.2", head("GET http:y/ HTTP/1.1")),
    refused("authority-form", "3.2.3", head("GET y:80 HTTP/1.1")),
]  # fmt: skip
