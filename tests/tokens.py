"""Issuers of tokens for tests: real keys, real signatures, and the documents that publish them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = "a secret of 32 bytes and some more of it"


@cache
def rsa_key(name: str = "") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key(name: str = "") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """Its public half."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    """Of the user ann, good for five minutes. A claim that is None is left out."""
    said = {"sub": "ann", "exp": int(time.time()) + 300} | claims
    headers = {"kid": kid} if kid else None
    return jwt.encode(
        {name: value for name, value in said.items() if value is not None}, key, algorithm, headers
    )


@dataclass(frozen=True)
class Issuer:
    """Signs with the key of its ``kid``; RSA if that begins with r, else EC."""

    kid: str

    @property
    def key(self) -> Any:
        return rsa_key(self.kid) if self.kid.startswith("r") else ec_key(self.kid)

    def token(self, **claims: Any) -> str:
        algorithm = "RS256" if self.kid.startswith("r") else "ES256"
        return token(self.key, algorithm, self.kid, **claims)

    def jwk(self) -> dict[str, Any]:
        public = self.key.public_key()
        text = RSAAlgorithm.to_jwk(public) if self.kid.startswith("r") else ECAlgorithm.to_jwk(public)
        return dict(json.loads(text)) | {"kid": self.kid, "use": "sig"}


def jwks(*kids: str) -> bytes:
    """The document that publishes these issuers' keys."""
    return json.dumps({"keys": [Issuer(kid).jwk() for kid in kids]}).encode()
