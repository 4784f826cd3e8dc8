"""Paths and queries: what is matched is what is forwarded."""

from table import Request, head, refused, served


def target(text: str) -> bytes:
    return head(f"GET {text} HTTP/1.1")


CASES: list[Request] = [
    served("path-plain", "3.2.1", target("/a/b;c=d/e.f~g?h=i&j=%20k")),
    served("path-sub-delims", "RFC 3986 3.3", target("/a!$&'()*+,;=:@b")),
    served("path-dot-name", "RFC 3986 5.2.4", target("/.well-known/x")),
    served("path-trailing-slash", "RFC 3986 5.2.4", target("/a/")),
    served("path-dots-resolved", "RFC 3986 5.2.4", target("/a/./b/../c"), target("/a/c")),
    served("path-last-dots", "RFC 3986 5.2.4", target("/a/b/.."), target("/a/")),
    served("path-unreserved-decoded", "RFC 3986 6.2.2.2", target("/%7Ea%2Db"), target("/~a-b")),
    served("path-encoded-dots-resolved", "RFC 3986 6.2.2.3", target("/a/%2e%2E/b"), target("/b")),
    served("path-hex-in-capitals", "RFC 3986 6.2.2.1", target("/a%c3%a4%2fb"), target("/a%C3%A4%2Fb")),
    served("path-twice-encoded-stays", "RFC 3986 2.4", target("/%252e%252e/a")),
    refused("path-above-root", "RFC 3986 5.2.4", target("/../a")),
    refused("path-above-root-encoded", "RFC 3986 5.2.4", target("/a/%2e%2e/../b")),
    refused("path-empty-segment", "RFC 3986 3.3", target("//a")),
    refused("path-empty-segment-within", "RFC 3986 3.3", target("/a//b")),
    refused("path-disguised-slash", "RFC 3986 2.4", target("/a/..%2fb")),
    refused("path-disguised-backslash", "RFC 3986 2.4", target("/a/..%5cb")),
    refused("path-disguised-parameter", "RFC 3986 3.3", target("/a/..;/b")),
    refused("path-backslash", "RFC 3986 3.3", target("/a\\b")),
    refused("path-encoded-nul", "RFC 3986 7.3", target("/a%00b")),
    refused("path-encoded-newline", "RFC 3986 7.3", target("/a%0d%0aX:y")),
    refused("path-bad-percent", "RFC 3986 2.1", target("/a%4")),
    refused("path-percent-not-hex", "RFC 3986 2.1", target("/a%zz")),
    refused("path-fragment", "3.2", target("/a#b")),
    refused("path-high-byte", "3.2", target("/\xe4")),
    refused("path-control", "3.2", target("/a\x01")),
    refused("path-nul", "3.2", target("/a\0b")),
    refused("path-relative", "3.2.1", target("a/b")),
    refused("path-only-query", "3.2.1", target("?a=b")),
    refused("path-asterisk-in-get", "3.2.4", target("*")),
    served("query-never-changed", "RFC 9110 7.7", target("/?a=%7e&b=../c&d=//e&f=%zz&g?h")),
    served("query-empty", "3.2.1", target("/a?")),
    refused("query-high-byte", "3.2", target("/?\xe4")),
    refused("query-fragment", "3.2", target("/?a#b")),
]
