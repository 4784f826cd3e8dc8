"""The one loader: YAML means what JSON would mean, mistakes have a place, and nothing unfolds without measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotswap_proxy.documents import parse_json, parse_yaml, read
from hotswap_proxy.errors import ValidationFailed


def test_keys_are_text_as_it_is_written() -> None:
    assert parse_yaml(b"{1: a, 0x10: b, yes: c, ~: d, 1.50: e, 2024-01-31: f}") == {
        "1": "a",
        "0x10": "b",
        "yes": "c",
        "~": "d",
        "1.50": "e",
        "2024-01-31": "f",
    }


def test_a_bare_date_is_text() -> None:
    assert parse_yaml(b"[2024-01-31, 2024-01-31T10:00:00Z, 1, 1.5, true, ~]") == [
        "2024-01-31",
        "2024-01-31T10:00:00Z",
        1,
        1.5,
        True,
        None,
    ]


def test_merge_keys() -> None:
    text = b"""
a: &a {x: 1, y: 1}
b: &b {<<: *a, y: 2}
c: {<<: [*b, *a], z: 3}
d: *b
"""
    assert parse_yaml(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 2, "z": 3},
        "d": {"x": 1, "y": 2},
    }


LAUGHS = b"a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)
)
MERGED_LAUGHS = b"m0: &m0 {k: 1}\n" + b"".join(
    b"m%d: &m%d {<<: [%s]}\n" % (n, n, b", ".join([b"*m%d" % (n - 1)] * 2)) for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "unfold to more than 1000000 values"),
        (MERGED_LAUGHS, "unfold to more than 1000000 values"),
        (b"a: &a [*a]", "line 1 column 4: the value contains itself"),
        (b"{1: a, '1': b}", "line 1 column 8: the key '1' is given twice"),
        (b"? [a]\n: b", "line 1 column 3: a key must be text"),
        (b"a: .inf", "line 1 column 4: .inf is not a number that JSON has"),
        (b"a: !!binary aGk=", "could not determine a constructor"),
        (b"a: !!set {b}", "could not determine a constructor"),
        (b"a: !!timestamp 2024-01-31", "could not determine a constructor"),
        (b"a: 1\n---\nb: 2", "single document"),
        (b"a: \x00", "unacceptable character"),
        (b"\xff\xfe\xff", "UTF-16"),
        (b"[" * 100_000, "nested more than 200 deep"),
        (b"- " * 100_000, "nested more than 200 deep"),
        (b"a: !!int x", ""),
        (b"a: !!float x", ""),
        (b"a: *b", "undefined alias"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_what_is_no_document(text: bytes, message: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_yaml(text)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_nothing_is_nothing() -> None:
    assert parse_yaml(b"") is None
    assert parse_yaml(b"# only this") is None


def test_json_has_a_place_too() -> None:
    with pytest.raises(ValidationFailed, match="line 1 column 13"):
        parse_json(b'{"routes": [}')
    with pytest.raises(ValidationFailed):
        parse_json(b'{"a": NaN}')
    with pytest.raises(ValidationFailed):
        parse_json(b"[" * 100_000)


def test_standard_input_is_a_file_only_where_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationFailed, match="-: No such file"):
        read(Path("-"))
