"""Authentication of a route's clients: tokens (JWT) or API keys.

``secret`` is write-only and answered as ``MASK``; of an API key only the hash is ever kept.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from hotswap_proxy.model.base import Duration, Model, duration_ms, problem, told_as
from hotswap_proxy.model.urls import UrlRules, check_key_url

from .validation import HeaderName

MASK = "********"
"""What is answered instead of a secret. Sent back, it means the secret that is there."""

KEY_SOURCES = ("secret", "publicKey", "jwksUrl")


def _check_key_url(url: str, info: ValidationInfo) -> str:
    check_key_url(url, info.context if isinstance(info.context, UrlRules) else UrlRules())
    return url


def _check_skew(text: str) -> str:
    if duration_ms(text) > 600_000:
        raise problem("clock_skew", f"{text} is more than 10m")
    return text


def _check_refresh(text: str) -> str:
    if duration_ms(text) < 1000:
        raise problem("jwks_refresh", f"{text} is less than 1s")
    return text


Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "ES256"]
Text = Annotated[str, Field(min_length=1, max_length=512)]
Role = Annotated[str, Field(min_length=1, max_length=128)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=64)]
ClaimValue = Text | bool | int | float
Claim = Annotated[
    ClaimValue | Annotated[list[ClaimValue], Field(min_length=1, max_length=64)],
    told_as(
        "claim", "write text (1 to 512 characters), a number, true or false, or a list of 1 to 64 of these"
    ),
]
Audience = Annotated[
    Text | Annotated[list[Text], Field(min_length=1, max_length=64)],
    told_as("audience", "write text (1 to 512 characters), or a list of 1 to 64 texts"),
]
KeyUrl = Annotated[str, Field(max_length=1024), AfterValidator(_check_key_url)]


class Guard(Model):
    """What both kinds have in common."""

    roles: Roles | None = Field(None, description="any of them is enough; without one: 403")
    identity_header: HeaderName | None = Field(
        None, description="tells the backend who the client is; the client's own is removed"
    )


class NoAuth(Model):
    type: Literal["none"]


class JwtAuth(Guard):
    """A bearer token. Exactly one of ``secret``, ``publicKey`` and ``jwksUrl`` says how it is verified."""

    type: Literal["jwt"]
    algorithms: Annotated[list[Algorithm], Field(min_length=1, max_length=5)] | None = Field(
        None,
        description="HS256 with a secret; RS256 or ES256 as the public key is; both with jwksUrl",
    )
    secret: Annotated[str, Field(max_length=1024)] | None = Field(
        None, description="for HS256 (32 bytes and more), HS384 (48), HS512 (64); write-only"
    )
    public_key: Annotated[str, Field(max_length=16_384)] | None = Field(None, description="PEM")
    jwks_url: KeyUrl | None = Field(None, description="https, unless its host is in allowed_backend_hosts")
    jwks_refresh: Annotated[Duration, AfterValidator(_check_refresh)] = "5m"
    issuer: Text | None = None
    audience: Audience | None = Field(None, description="one of these must be among the token's")
    required_claims: Annotated[dict[Text, Claim], Field(min_length=1, max_length=64)] | None = Field(
        None, description="claim (or path) → value or values; without one: 403"
    )
    roles_claim: Text = Field("roles", description="name or path, as realm_access.roles")
    user_claim: Text = Field("sub", description="name or path of the claim that says who the user is")
    require_expiry: bool = Field(True, description="refuse tokens without exp")
    clock_skew: Annotated[Duration, AfterValidator(_check_skew)] = "30s"
    header: HeaderName = "Authorization"
    strip_credentials: bool = Field(False, description="do not pass the token on to the backend")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [self.secret, self.public_key, self.jwks_url]
        if sum(value is not None for value in given) != 1:
            raise problem("key_source", "give exactly one of secret, publicKey and jwksUrl")
        return self


Key = Annotated[str, Field(min_length=16, max_length=512, pattern=r"^[!-~]+$")]
KeyHash = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$"), AfterValidator(str.lower)]


class ApiKey(Model):
    name: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[!-~]([ -~]*[!-~])?$")]
    key: Key | None = Field(None, exclude=True, description="write-only: its SHA-256 is what is stored")
    key_hash: KeyHash | None = Field(None, description="SHA-256 of the key, 64 hexadecimal digits")
    roles: Roles | None = None

    @model_validator(mode="after")
    def _hash(self) -> Self:
        if (self.key is None) == (self.key_hash is None):
            raise problem("api_key", "give either key or keyHash")
        if self.key is not None:
            # A fast hash is enough: a key is not a word that somebody chose and could be guessed.
            object.__setattr__(self, "key_hash", sha256(self.key.encode()).hexdigest())
            object.__setattr__(self, "key", None)
        return self


class ApiKeyAuth(Guard):
    type: Literal["apiKey"]
    header: HeaderName = "X-API-Key"
    api_keys: list[ApiKey] = Field(min_length=1, max_length=10_000)
    strip_credentials: bool = Field(True, description="do not pass the key on to the backend")


Auth = Annotated[NoAuth | JwtAuth | ApiKeyAuth, Field(discriminator="type")]
