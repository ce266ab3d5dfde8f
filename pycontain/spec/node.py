"""A JSON document with the place of each value in it, so that every complaint can say where, in one line.

Strict where two readers could disagree: a key twice in an object, NaN, invalid UTF-8, half a surrogate pair, a NUL byte in a
string are errors wherever they stand. ``null`` counts as absent, as in Go.
"""

from __future__ import annotations

import json
import re
from math import isfinite

from .. import parse
from ..errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BYTES",
    "ID",
    "INT64",
    "MAX_BYTES",
    "MAX_DEPTH",
    "UINT32",
    "UINT64",
    "Node",
    "Whole",
    "complaint",
    "quoted",
    "read",
    "shown",
]

MAX_BYTES = 16 << 20
MAX_GROUPS = 100_000  # objects and arrays; a document of ours has some hundreds
MAX_DEPTH = 64  # a document of ours has about 10; the decoder's recursion has to end before the C stack does


class Whole:
    """A kind of integer: its bounds, and what to call it."""

    __slots__ = ("high", "low", "said")

    def __init__(self, low: int, high: int, said: str = "an integer") -> None:
        self.low = low
        self.high = high
        self.said = said


INT64 = Whole(-(2**63), 2**63 - 1)
UINT32 = Whole(0, 2**32 - 1)
UINT64 = Whole(0, 2**64 - 1)
BYTES = Whole(-1, 2**63 - 1, "an integer of bytes")
# 2**32 - 1 is (uid_t)-1: setresuid(2) and chown(2) take it for "leave it as it is", so a process would stay root
ID = Whole(0, 2**32 - 2, "a user or group id")


def quoted(text: str) -> str:
    """Text for a message: on one line, ASCII, and not endless."""
    whole = json.dumps(text[:200])
    return whole if len(whole) <= 100 else whole[:96] + '..."'


def shown(value: object) -> str:
    """What was found, for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {quoted(value)}" if value else "an empty string"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    if isinstance(value, float):
        return f"the number {value}" if isfinite(value) else "a number beyond all bounds"
    return str(value)


def complaint(path: str, expected: str, found: str) -> InvalidArgument:
    """The one shape of an error in a document."""
    return InvalidArgument(f"config.json: {path + ': ' if path else ''}expected {expected}, found {found}")


class Node:
    """A value and its place. Reading a member of an absent object gives absent, so optional objects need no case."""

    __slots__ = ("path", "value")

    def __init__(self, value: object, path: str) -> None:
        self.value = value
        self.path = path

    @property
    def given(self) -> bool:
        return self.value is not None

    def bad(self, expected: str, hint: str = "") -> InvalidArgument:
        return complaint(self.path, expected, shown(self.value) + hint)

    # --- the value itself ---------------------------------------------------------------------------------------------

    def as_text(self, expected: str = "a string") -> str:
        if not isinstance(self.value, str):
            raise self.bad(expected)
        if "\0" in self.value:
            raise self.bad(f"{expected} without a NUL byte")
        try:
            self.value.encode()
        except UnicodeEncodeError:
            raise self.bad(f"{expected} of whole characters, no half of a surrogate pair") from None
        return self.value

    def as_filled(self, expected: str = "a string with something in it") -> str:
        text = self.as_text(expected)
        if not text:
            raise self.bad(expected)
        return text

    def as_path(self, expected: str = "an absolute path") -> str:
        path = self.as_text(expected)
        if not path.startswith("/"):
            raise self.bad(expected)
        return path

    def as_whole(self, kind: Whole) -> int:
        # not isinstance: JSON's true is no number, though Python's is
        if type(self.value) is not int:
            raise self.bad(kind.said)
        if not kind.low <= self.value <= kind.high:
            raise self.bad(f"{kind.said} from {kind.low} to {kind.high}")
        return self.value

    def as_flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.bad("true or false")
        return self.value

    def as_list(self) -> list[Node]:
        if not isinstance(self.value, list):
            raise self.bad("an array")
        for index, value in enumerate(self.value):
            if value is None:
                raise complaint(f"{self.path}[{index}]", "a value", "null")
        return [Node(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def as_object(self, expected: str = "an object") -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.bad(expected)
        return self.value

    def one_of(self, choices: Iterable[str], what: str) -> str:
        text = self.as_text(what)
        if text not in choices:
            listed = sorted(choices)
            hint = parse.nearest(text[:64], listed)
            expected = f"{what}: {', '.join(listed)}" if len(listed) <= 8 and not hint else what
            raise self.bad(expected, hint)
        return text

    def as_numbers(self, what: str) -> str:
        """A list as the kernel writes it: "0-3,7"."""
        text = self.as_text(what)
        try:
            return parse.cpuset(text)
        except InvalidArgument:
            raise self.bad(f'{what}, such as "0-3,7"') from None

    # --- members ------------------------------------------------------------------------------------------------------

    def child(self, name: str) -> Node:
        members = self.as_object() if self.given else {}
        if name.isidentifier() and name.isascii() and len(name) <= 64:
            return Node(members.get(name), f"{self.path}.{name}" if self.path else name)
        return Node(members.get(name), f"{self.path}[{quoted(name)}]")

    def text(self, name: str) -> str:
        node = self.child(name)
        return node.as_text() if node.given else ""

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(item.as_text() for item in self.items(name))

    def whole(self, name: str, kind: Whole) -> int | None:
        node = self.child(name)
        return node.as_whole(kind) if node.given else None

    def flag(self, name: str) -> bool | None:
        node = self.child(name)
        return node.as_flag() if node.given else None

    def items(self, name: str) -> list[Node]:
        node = self.child(name)
        return node.as_list() if node.given else []

    def entries(self, name: str) -> list[tuple[str, Node]]:
        """The members of an object whose keys are data."""
        node = self.child(name)
        if not node.given:
            return []
        for key in node.as_object():
            Node(key, node.path).as_filled("keys with something in them")
        return [(key, node.child(key)) for key, value in node.as_object().items() if value is not None]


# --- bytes to values --------------------------------------------------------------------------------------------------


class _Twice(dict[str, object]):
    """An object with a key that stands in it more than once."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__()
        self.key = ""
        for key, value in pairs:
            if key in self:
                self.key = key
            self[key] = value


def _integer(digits: str) -> int | float:
    # int() takes a time that grows with the square of the digits, and refuses above some thousands
    return int(digits) if len(digits) <= 24 else float(digits)


def _constant(name: str) -> object:
    raise InvalidArgument(f"config.json: expected JSON, found {name}, which is no JSON number")


# also a string that does not end: then nothing is scanned twice
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_EMPTY = re.compile(rb"\[\]|\{\}")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def _check_nesting(text: bytes) -> None:
    """Refuse what would take the decoder's recursion too deep, or minutes: in time that grows with the length only."""
    rest = _STRING.sub(b"", text).translate(None, _NO_BRACKET)
    if rest.count(b"[") + rest.count(b"{") > MAX_GROUPS:
        raise InvalidArgument(f"config.json: expected at most {MAX_GROUPS} objects and arrays, found more")
    for _ in range(MAX_DEPTH):  # each time the innermost ones go
        rest = _EMPTY.sub(b"", rest)
    # brackets that do not match are left to the decoder, which stops at the first
    unclosed = len(rest) - len(rest.lstrip(b"[{"))
    if _EMPTY.search(rest) or unclosed > MAX_DEPTH:
        raise InvalidArgument(f"config.json: expected at most {MAX_DEPTH} nested objects and arrays, found more")


def _check_twice(root: Node) -> None:
    """The outermost, first object that has a key twice."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node.value, _Twice):
            raise complaint(node.path, "each key once", f"{quoted(node.value.key)} twice")
        if isinstance(node.value, dict):
            waiting.extend(node.child(name) for name in reversed(node.value))
        elif isinstance(node.value, list):
            waiting.extend(Node(v, f"{node.path}[{i}]") for i, v in reversed(list(enumerate(node.value))))


def read(source: bytes | str) -> Node:
    """The document's top, an object.

    Raises:
        InvalidArgument: not JSON, or JSON that two readers could read differently.
    """
    if len(source) > MAX_BYTES:
        raise InvalidArgument(f"config.json: expected at most {MAX_BYTES} bytes, found more")
    if isinstance(source, bytes):
        try:
            source = source.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"config.json: expected UTF-8, found an invalid byte at {error.start}") from None
    if not source.strip():
        raise complaint("", "a JSON object", "an empty document")
    _check_nesting(source.encode(errors="surrogatepass"))
    twice = False

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal twice
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        twice = True
        return _Twice(pairs)

    try:
        value = json.loads(source, object_pairs_hook=members, parse_int=_integer, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"config.json: line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    root = Node(value, "")
    root.as_object("a JSON object")
    if twice:
        _check_twice(root)
    return root
