"""Where the body of a request ends: one answer, or a refusal."""

from table import BAD, Request, head, refused, served

NEXT = head("GET /next HTTP/1.1")
POST = "POST / HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"
EMPTY = b"0\r\n\r\n"


def length(value: str, body: bytes = b"hello") -> bytes:
    return head(POST, f"Content-Length: {value}") + body


def coded(value: str, body: bytes = b"5\r\nhello\r\n0\r\n\r\n") -> bytes:
    return head(POST, f"Transfer-Encoding: {value}") + body


CHUNKS = head(POST, CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n"

CASES: list[Request] = [
    served("length-plain", "6.2", length("5")),
    served("length-zero", "6.2", length("0", b"")),
    served("length-zero-then-next", "6.2", length("0", b"") + NEXT, length("0", b""), NEXT),
    served("length-then-next", "6.2", length("5") + NEXT, length("5"), NEXT),
    served("length-leading-zeros", "RFC 9110 8.6", length("005"), length("5")),
    served("length-blanks-around", "5.1", head(POST, "Content-Length: \t5 ") + b"hello", length("5")),
    Request("length-blanks-around-then-empty-lines", "2.2",
            head(POST, "Content-Length: \t5 ") + b"hello\r\n\r\n" + NEXT, (200, BAD), (length("5"),)),
    served("length-small-letters", "RFC 9110 5.1", head(POST, "content-length: 5") + b"hello"),
    refused("length-twice-same", "6.3", head(POST, "Content-Length: 5", "Content-Length: 5") + b"hello"),
    refused("length-twice-different", "6.3", head(POST, "Content-Length: 5", "Content-Length: 6") + b"hello!"),
    refused("length-list-same", "6.3", length("5, 5")),
    refused("length-list-different", "6.3", length("5, 6")),
    refused("length-empty", "6.3", length("", b"")),
    refused("length-plus", "6.3", length("+5")),
    refused("length-minus", "6.3", length("-5")),
    refused("length-hexadecimal", "6.3", length("0x5")),
    refused("length-decimal-point", "6.3", length("5.0")),
    refused("length-exponent", "6.3", length("5e0")),
    refused("length-underscore", "6.3", length("1_0", b"0123456789")),
    refused("length-inner-blank", "6.3", length("1 0", b"0123456789")),
    refused("length-letters", "6.3", length("five")),
    refused("length-quoted", "6.3", length('"5"')),
    refused("length-high-digit", "6.3", length("\xb2")),
    refused("length-over-63-bits", "6.3", length("9223372036854775808")),
    refused("length-over-64-bits", "6.3", length("18446744073709551621")),
    refused("length-of-forty-digits", "6.3", length("1" * 40)),
    Request("length-over-the-routes-limit", "RFC 9110 15.5.14",
            head("POST /small/a HTTP/1.1", "Content-Length: 11") + b"hello world", (413,)),
    refused("both-length-first", "6.1", head(POST, "Content-Length: 5", CHUNKED) + EMPTY + NEXT),
    refused("both-coding-first", "6.1", head(POST, CHUNKED, "Content-Length: 5") + EMPTY + NEXT),
    refused("both-length-zero", "6.1", head(POST, CHUNKED, "Content-Length: 0") + EMPTY),
    refused("both-bad-coding", "6.1", head(POST, "Transfer-Encoding: x", "Content-Length: 5") + b"hello"),
    served("coding-chunked", "7.1", CHUNKS),
    served("coding-chunked-then-next", "7.1", CHUNKS + NEXT, CHUNKS, NEXT),
    served("coding-capitals", "7", coded("CHUNKED"), CHUNKS),
    served("coding-field-small-letters", "RFC 9110 5.1", head(POST, "transfer-encoding:chunked")
           + b"5\r\nhello\r\n0\r\n\r\n", CHUNKS),
    refused("coding-twice", "6.1", head(POST, CHUNKED, CHUNKED) + EMPTY),
    refused("coding-twice-in-a-list", "6.1", coded("chunked, chunked")),
    refused("coding-not-final", "6.3", coded("chunked, gzip")),
    refused("coding-not-final-identity", "6.3", coded("chunked, identity")),
    refused("coding-unknown-alone", "6.3", coded("gzip")),
    refused("coding-identity", "6.3", head(POST, "Transfer-Encoding: identity") + NEXT),
    refused("coding-gzip-chunked", "6.1", coded("gzip, chunked"), 501),
    refused("coding-gzip-chunked-two-lines", "6.1", head(POST, "Transfer-Encoding: gzip", CHUNKED) + EMPTY, 501),
    refused("coding-unknown-chunked", "6.1", coded("xchunked, chunked"), 501),
    refused("coding-look-alike", "6.3", coded("xchunked")),
    refused("coding-parameter", "7", coded("chunked;q=1")),
    refused("coding-quoted", "7", coded('"chunked"')),
    refused("coding-empty", "7", coded("")),
    refused("coding-empty-element", "7", coded("chunked,")),
    refused("coding-leading-comma", "7", coded(",chunked")),
    refused("coding-space-inside", "7", coded("chun ked")),
    refused("coding-vertical-tab", "7", coded("\x0bchunked")),
    refused("coding-nul", "7", coded("chunked\0")),
    refused("coding-space-before-colon", "5.1", head(POST, "Transfer-Encoding : chunked") + EMPTY + NEXT),
    refused("coding-folded", "5.2", head(POST, "Transfer-Encoding:", " chunked") + EMPTY + NEXT),
    refused("coding-in-1.0", "6.1", head("POST / HTTP/1.0", CHUNKED) + EMPTY),
    refused("coding-in-1.0-with-length", "6.1", head("POST / HTTP/1.0", CHUNKED, "Content-Length: 5") + EMPTY),
    served("underscore-length-is-dropped", "11.2", head(POST, "Content_Length: 5") + NEXT, head(POST), NEXT),
    served("underscore-coding-is-dropped", "11.2", head(POST, "Transfer_Encoding: chunked") + NEXT,
           head(POST), NEXT),
    Request("no-framing-no-body", "6.3", head(POST) + b"hello\r\n\r\n", (200, BAD), (head(POST),)),
    Request("body-longer-than-announced", "6.3", length("3") + b"\r\n\r\n", (200, BAD), (length("3", b"hel"),)),
    Request("close-ends-the-pipeline", "9.6", head("GET / HTTP/1.1", "Connection: close") + NEXT, (200,), (head(),)),
]  # fmt: skip
