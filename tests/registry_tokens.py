"""Tokens that Debian's ``docker-registry`` believes: signed by openssl with a certificate of the registry's own bundle.

Spec: Docker's registry token authentication; RFC 7515 (ES256: r and s, 32 bytes each, where openssl writes DER).
"""

from __future__ import annotations

import base64
import json
import subprocess
import time

from tests.registries import Certificates
from tests.registry_faults import Reply, Request

__all__ = ["access_of", "configuration", "signed_token", "token_reply"]

ISSUER = "tests"
SERVICE = "docker-registry"


def configuration(realm: str, certificates: Certificates) -> str:
    """Lines for the registry's configuration."""
    return f"auth: {{token: {{realm: '{realm}', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {certificates.ca}}}}}"


def access_of(request: Request) -> list[dict[str, object]]:
    """What a request for a token asks for, all of it."""
    scopes = [each.split(":") for scope in request.query.get("scope", []) for each in scope.split(" ")]
    return [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in scopes]


def token_reply(certificates: Certificates, access: list[dict[str, object]], *, lifetime_s: int = 300) -> Reply:
    token = signed_token(certificates, access, lifetime_s=lifetime_s)
    return Reply(body=json.dumps({"token": token, "expires_in": lifetime_s}).encode())


def signed_token(certificates: Certificates, access: list[dict[str, object]], *, lifetime_s: int) -> str:
    now = int(time.time())
    pem = certificates.certificate.read_text()
    der = "".join(line for line in pem.splitlines() if "-----" not in line)
    header = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
    claims = {
        "iss": ISSUER, "aud": SERVICE, "sub": "ann", "jti": "1", "iat": now - 10, "nbf": now - 10, "exp": now + lifetime_s,
        "access": access,
    }  # fmt: skip
    signed = ".".join(_encode(json.dumps(each).encode()) for each in (header, claims))
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(certificates.key)],
        input=signed.encode(),
        capture_output=True,
        check=True,
    )
    return f"{signed}.{_encode(_raw_signature(done.stdout))}"


def _raw_signature(der: bytes) -> bytes:
    """SEQUENCE { INTEGER r, INTEGER s } as 64 bytes."""
    at, parts = 2, []
    for _ in range(2):
        length = der[at + 1]
        number = int.from_bytes(der[at + 2 : at + 2 + length], "big")
        parts.append(number.to_bytes(32, "big"))
        at += 2 + length
    return b"".join(parts)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
