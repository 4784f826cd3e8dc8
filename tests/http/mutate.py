"""Messages as they should be and as they should not: grown from a grammar, then damaged."""

from __future__ import annotations

import random
from pathlib import Path

from cases import answers, chunks, fields, framing, heads, hosts, methods, targets

CORPUS = Path(__file__).with_name("corpus")
REQUESTS = [
    case.send for file in (chunks, fields, framing, heads, hosts, methods, targets) for case in file.CASES
]
RESPONSES = [b"".join(case.sends) for case in answers.CASES]
PIECES = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"\x0b", b"\x85", b"\xa0",
    b"\x7f", b"\"", b"\\", b"#", b"?", b"%", b"%2e", b"..", b"//", b"1", b"f", b"-", b"+", b"HTTP/1.1", b"chunked",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"Connection: close\r\n", b"\r\n ", b"_",
]  # fmt: skip
METHODS = b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE QUERY M-SEARCH SOURCE FOO CONNECT PRI get".split()
TARGETS = [
    b"/",
    b"/a/b?c=d",
    b"/%41",
    b"/a/../b",
    b"//a",
    b"*",
    b"http://y/z",
    b"http://y",
    b"/?",
    b"/%zz",
    b"/..",
    b"x:1",
]
FIELDS = (
    b"Connection: close|Connection: keep-alive|Connection: X-A, te|TE: trailers|X-A: 1|Max-Forwards: 3|Max-Forwards: 0"
    b"|Expect: 100-continue|Accept: */*|Cookie: a=b|X-Forwarded-For: 1.2.3.4|Via: 1.0 y|Upgrade: own|Host: z"
    b"|Connection: upgrade|X-Request-ID: own|Content-Length: 0|Transfer-Encoding: gzip|Trailer: X|Keep-Alive: 5|A:"
    b"|Proxy-Connection: x|Content_Length: 9|Date: x|Upgrade: h2c|Set-Cookie: a|ETag: x"
).split(b"|")
STATUS = b"200 OK|204 N|304 N|100 C|103 E|101 S|404 N|500 X|200|200 |205 R|299 X|999 X|599 Y|20 O".split(b"|")


def corpus(kind: str) -> list[bytes]:
    """What fuzzing has found before, ``kind`` being request or response."""
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"{kind}-*.bin"))]


def _chunks(random: random.Random) -> bytes:
    out = b""
    for _ in range(random.randrange(4)):
        data = random.choice(
            [b"a", b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"x" * random.randrange(1, 40)]
        )
        out += b"%x%b\r\n%b\r\n" % (len(data), random.choice([b"", b"", b";a", b';a="b"']), data)
    return out + b"0\r\n" + random.choice([b"", b"", b"X-T: 1\r\n", b"Host: t\r\n"]) + b"\r\n"


def _message(random: random.Random, first: bytes, host: list[bytes]) -> bytes:
    lines = [*host, *random.choices(FIELDS, k=random.choice([0, 0, 1, 1, 2, 4]))]
    body = b""
    how = random.randrange(6)
    if how in (1, 2, 5):
        body = random.randbytes(random.randrange(20))
        lines.append(b"Content-Length: %d" % len(body))
    if how in (3, 4, 5):
        body = _chunks(random)
        lines.append(b"Transfer-Encoding: chunked")
    random.shuffle(lines)
    return b"\r\n".join([first, *lines, b"", b""]) + body


def request(random: random.Random) -> bytes:
    version = random.choice([b"1.1"] * 6 + [b"1.0", b"1.0", b"2.0", b"1.2"])
    first = b"%b %b HTTP/%b" % (random.choice(METHODS), random.choice(TARGETS), version)
    return _message(random, first, [b"Host: x"] if random.random() < 0.95 else [])


def response(random: random.Random) -> bytes:
    version = random.choice([b"1.1"] * 6 + [b"1.0"])
    return _message(random, b"HTTP/%b %b" % (version, random.choice(STATUS)), [])


def damage(random: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice([0, 1, 1, 1, 2, 2, 3, 6])):
        at = random.randrange(len(out) + 1)
        match random.randrange(6):
            case 0:
                out[at : at + 1] = random.choice(PIECES)
            case 1:
                out[at:at] = random.choice(PIECES)
            case 2:
                del out[at : at + random.randrange(1, 4)]
            case 3 if out:
                out[at % len(out)] = random.randrange(256)
            case 4:
                end = at + random.randrange(1, 30)
                out[at:at] = out[at:end]
            case _:
                lines = out.split(b"\r\n")
                one, two = random.randrange(len(lines)), random.randrange(len(lines))
                lines[one], lines[two] = lines[two], lines[one]
                out = bytearray(b"\r\n".join(lines))
    return bytes(out)


def requests(random: random.Random) -> bytes:
    """Some requests on one connection."""
    known = REQUESTS if random.random() < 0.4 else None
    parts = [random.choice(known) if known else request(random) for _ in range(random.choice([1, 1, 2, 3]))]
    return damage(random, b"".join(parts))[:20_000]


def responses(random: random.Random) -> bytes:
    """One answer, perhaps with interim ones before and bytes after it."""
    if random.random() < 0.4:
        return damage(random, random.choice(RESPONSES))[:20_000]
    parts = [b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n"] * random.choice([0, 0, 0, 1, 2])
    return damage(random, b"".join([*parts, response(random)]))
