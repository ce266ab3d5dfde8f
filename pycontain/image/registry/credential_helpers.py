"""``docker-credential-NAME``: programs that keep passwords for us. Started without a shell; what they print is not repeated.

Spec: docker-credential-helpers: ``get``, ``store``, ``erase``; the argument on standard input, JSON for the answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from ...errors import InvalidArgument, RegistryError, errno_name
from ..documents import parse_json

__all__ = ["erase", "get", "program_name", "store"]

_MAX_ANSWER_BYTES = 1 << 20
_NOT_FOUND = b"credentials not found"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def program_name(helper: str) -> str:
    """Raises: InvalidArgument: a helper's name that would lead out of the directories of PATH."""
    if not helper or not _NAME.issuperset(helper):
        raise InvalidArgument(
            f"cannot use the credential helper {helper[:160]!r}: a name of letters, digits, '.', '_' and '-' is needed, "
            "for a program docker-credential-NAME"
        )
    return f"docker-credential-{helper}"


def get(helper: str, server: str, *, timeout_s: float) -> tuple[str, str] | None:
    """(user name, secret) for a registry; None: it has none. Raises: InvalidArgument, RegistryError."""
    code, answer = _call(helper, "get", server.encode(), timeout_s)
    if code != 0:
        if _NOT_FOUND in answer.lower():
            return None
        raise _failed(helper, "get", server, code)
    try:
        document = parse_json(answer, "it")
    except InvalidArgument:
        document = {}
    username, secret = document.get("Username"), document.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise RegistryError(
            f"cannot use the credential helper {program_name(helper)}: its answer for {server} is not a JSON object with "
            "Username and Secret"
        )
    return (username, secret) if secret else None


def store(helper: str, server: str, username: str, secret: str, *, timeout_s: float) -> None:
    """Raises: InvalidArgument, RegistryError."""
    import json

    document = json.dumps({"ServerURL": server, "Username": username, "Secret": secret})
    code, _ = _call(helper, "store", document.encode(), timeout_s)
    if code != 0:
        raise _failed(helper, "store", server, code)


def erase(helper: str, server: str, *, timeout_s: float) -> None:
    """Idempotent. Raises: InvalidArgument, RegistryError."""
    code, answer = _call(helper, "erase", server.encode(), timeout_s)
    if code != 0 and _NOT_FOUND not in answer.lower():
        raise _failed(helper, "erase", server, code)


def _call(helper: str, verb: str, argument: bytes, timeout_s: float) -> tuple[int, bytes]:
    name = program_name(helper)
    # a relative entry of PATH would run what lies in the current directory
    path = os.pathsep.join(
        each for each in os.environ.get("PATH", os.defpath).split(os.pathsep) if each.startswith("/")
    )
    program = shutil.which(name, path=path)
    if program is None:
        raise RegistryError(
            f"cannot ask the credential helper {name}: no such program in PATH: install it, or remove it from credsStore "
            "and credHelpers in config.json"
        )
    try:
        done = subprocess.run(
            [program, verb], input=argument, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RegistryError(f"the credential helper {name} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise RegistryError(
            f"cannot run the credential helper {program}: {error.strerror} ({errno_name(error.errno or 0)})"
        ) from None
    if len(done.stdout) > _MAX_ANSWER_BYTES:
        raise RegistryError(f"cannot use the credential helper {name}: it prints more than {_MAX_ANSWER_BYTES} bytes")
    return done.returncode, done.stdout


def _failed(helper: str, verb: str, server: str, code: int) -> RegistryError:
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return RegistryError(
        f"the credential helper {program_name(helper)} failed to {verb} what it has for {server} ({how}): "
        f"`echo {server} | {program_name(helper)} {verb if verb != 'store' else 'get'}` shows why"
    )
