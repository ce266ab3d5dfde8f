"""The keys that leave a container: read from an option, and found in what is typed."""

from __future__ import annotations

from .. import parse

__all__ = ["DEFAULT", "DetachKeys", "detach_keys"]

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # in the order of their codes, from 0


def detach_keys(text: str) -> bytes:
    """``ctrl-x,a``: what these keys send. Empty: the default. Raises: InvalidArgument."""
    return bytes([_code(key, text) for key in (text or DEFAULT).split(",")])


def _code(key: str, text: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    if key.startswith("ctrl-") and len(key) == 6 and key[5] in _CONTROL:
        return _CONTROL.index(key[5])
    if key == "DEL":
        return 0x7F
    why = f"there is no key {parse.quote(key)}" if key else "a key is missing"
    raise parse.invalid(
        "key sequence", text, why, "keys with commas between: a, ctrl-a to ctrl-z, ctrl-@ [ \\ ] ^ _, DEL"
    )


class DetachKeys:
    """Looks for one sequence in what comes piece by piece. A key that does not go on with it begins it anew with the next one, as
    with docker: twice ctrl-p is twice ctrl-p at once."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0  # so many keys of it have come, and were not passed on

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the sequence is complete; what follows that is nobody's."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._held]
            passed.append(byte)
            self._held = 0
        return bytes(passed), False
