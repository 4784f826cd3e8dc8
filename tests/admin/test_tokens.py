"""Tokens: which are accepted, which are not, and for how long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from hotswap_proxy.admin.tokens import AUDIENCE, ISSUER, Tokens
from hotswap_proxy.errors import StoreUnavailable, Unauthorized, ValidationFailed
from hotswap_proxy.settings import Settings
from hotswap_proxy.store.users import User

SECRET = "0123456789abcdef" * 3
USER = User("usr-1", "ann", "Viewer", True, 3, "", "")
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "usr-1",
    "epoch": 3,
    "exp": int(time.time()) + 3600,  # of the whole run of the tests
}


def tokens(lifetime: float = 60.0) -> Tokens:
    return Tokens(SECRET.encode(), lifetime)


def test_pyjwt_accepts_our_token() -> None:
    token, expires = tokens().issue(USER)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER)
    assert claims["sub"] == "usr-1" and claims["role"] == "Viewer" and claims["exp"] == expires.timestamp()


def test_we_accept_pyjwts_token() -> None:
    claims = tokens().verify(jwt.encode(CLAIMS, SECRET, "HS256"))
    assert (claims.user_id, claims.epoch) == ("usr-1", 3)


@pytest.mark.parametrize(
    ("claims", "key", "algorithm"),
    [
        (CLAIMS, "another-secret" * 4, "HS256"),
        (CLAIMS, SECRET, "HS384"),
        (CLAIMS, None, "none"),
        (CLAIMS | {"exp": int(time.time()) - 1}, SECRET, "HS256"),
        (CLAIMS | {"iss": "someone"}, SECRET, "HS256"),
        (CLAIMS | {"aud": "something"}, SECRET, "HS256"),
        ({key: value for key, value in CLAIMS.items() if key != "exp"}, SECRET, "HS256"),
        ({key: value for key, value in CLAIMS.items() if key != "epoch"}, SECRET, "HS256"),
    ],
)
def test_other_tokens_are_refused(claims: dict[str, Any], key: str | None, algorithm: str) -> None:
    with pytest.raises(Unauthorized):
        tokens().verify(jwt.encode(claims, key, algorithm))


def test_every_changed_byte_is_noticed() -> None:
    token, _ = tokens().issue(USER)
    for index in range(len(token)):
        other = "A" if token[index] != "A" else "B"
        with pytest.raises(Unauthorized):
            tokens().verify(token[:index] + other + token[index + 1 :])


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "é.é.é", "a" * 10_000, ".eyJ9."])
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(Unauthorized):
        tokens().verify(token)


def test_a_token_expires() -> None:
    now = [1_000_000.0]
    mine = Tokens(SECRET.encode(), 60, clock=lambda: now[0])
    token, _ = mine.issue(USER)
    now[0] += 59
    mine.verify(token)
    now[0] += 1
    with pytest.raises(Unauthorized):
        mine.verify(token)


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="HOTSWAP_JWT_SECRET"):
        Tokens.open(Settings(jwt_secret="short", data_dir=tmp_path))
    (tmp_path / "jwt.key").write_text("short")
    with pytest.raises(StoreUnavailable, match="damaged"):
        Tokens.open(Settings(data_dir=tmp_path))


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    token, _ = Tokens.open(Settings(data_dir=tmp_path / "new")).issue(USER)
    Tokens.open(Settings(data_dir=tmp_path / "new")).verify(token)
