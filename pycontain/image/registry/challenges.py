"""``WWW-Authenticate``: the challenges of a server. Pure.

Spec: RFC 9110 section 11.6.1. Taken in addition, since registries send it: values that hold a URL without quotes.
"""

from __future__ import annotations

from ...record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Challenge", "parse_challenges"]

_MAX_HEADER = 16384
_MAX_CHALLENGES = 16
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TOKEN68 = frozenset("-._~+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_BLANK = " \t"


@record
class Challenge:
    """``scheme`` in lower case; ``parameters`` have names in lower case, the first of a name counts."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """A parameter's value, "" when it is not there."""
        return dict(reversed(self.parameters)).get(name, "")


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """The challenges of all ``WWW-Authenticate`` headers of an answer, in order.

    Raises: ValueError: not a list of challenges; its text does not repeat the header.
    """
    found: list[Challenge] = []
    for header in headers:
        if len(header) > _MAX_HEADER:
            raise ValueError(f"a challenge of {len(header)} characters")
        found += _Reader(header).challenges()
    if len(found) > _MAX_CHALLENGES:
        raise ValueError(f"{len(found)} challenges at once")
    return tuple(found)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def challenges(self) -> list[Challenge]:
        found: list[Challenge] = []
        while self._skip(_BLANK + ","):
            scheme = self._take(_TOKEN)
            if not scheme:
                raise ValueError("a challenge that does not begin with the name of its scheme")
            blank = self._skip_counting(_BLANK)
            if self._peek() not in ("", ",") and not blank:
                raise ValueError("a scheme that is followed by something else than a space")
            found.append(Challenge(scheme=scheme.lower(), parameters=tuple(self._parameters())))
        return found

    def _parameters(self) -> list[tuple[str, str]]:
        if self._token68():
            return []
        found: list[tuple[str, str]] = []
        while self._skip(_BLANK + ","):
            begin = self.at
            name = self._take(_TOKEN)
            self._skip(_BLANK)
            if not name:
                raise ValueError("a parameter without a name")
            if self._peek() != "=":
                self.at = begin  # the scheme of the next challenge
                break
            self.at += 1
            self._skip(_BLANK)
            found.append((name.lower(), self._value()))
            if self._skip(_BLANK) and self._peek() != ",":
                raise ValueError("parameters without a comma between them")
        return found

    def _token68(self) -> bool:
        """Passes over the other form of credentials (``Negotiate YII=``); no scheme of registries has it."""
        begin = self.at
        if self._take(_TOKEN68):
            self._skip("=")
            self._skip(_BLANK)
            if self._peek() in ("", ",") and "=" in self.text[begin : self.at]:
                return True
        self.at = begin
        return False

    def _value(self) -> str:
        if self._peek() != '"':
            begin = self.at
            while self._peek() not in ("", ",", '"', *_BLANK):
                self.at += 1
            if begin == self.at or self._peek() == '"':
                raise ValueError("a parameter without a value")
            return self.text[begin : self.at]
        self.at += 1
        made: list[str] = []
        while (char := self._peek()) != '"':
            if char == "\\":
                self.at += 1
                char = self._peek()
            if not char:
                raise ValueError("a quotation mark that is never closed")
            made.append(char)
            self.at += 1
        self.at += 1
        return "".join(made)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, chars: frozenset[str]) -> str:
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] in chars:
            self.at += 1
        return self.text[begin : self.at]

    def _skip(self, chars: str) -> bool:
        """Whether something is left after it."""
        self._skip_counting(chars)
        return self.at < len(self.text)

    def _skip_counting(self, chars: str) -> int:
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] in chars:
            self.at += 1
        return self.at - begin
