"""The values of a template beyond Python's own: structs, typed nils, and the absence of a value; Go's names of all types."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .functions import Function

__all__ = [
    "NO_VALUE",
    "Byte",
    "Duration",
    "Empty",
    "Headers",
    "Int64",
    "NilList",
    "NilMap",
    "NilPointer",
    "NoValue",
    "Number",
    "Row",
    "Struct",
    "Time",
    "go_type",
    "has_length",
    "is_true",
    "size_of",
    "utf8",
]


class NoValue:
    """No value at all, as of a key that a map does not have: Go's invalid reflect.Value."""

    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE: Final = NoValue()


class Struct(dict[str, Any]):
    """A Go struct: a field that it does not have is an error; in JSON its fields keep their order.

    The keys are the names in JSON; ``aliases``: Go's names where they differ. ``optional`` fields are in the JSON only if set;
    ``methods``, which take arguments, never are.
    """

    def __init__(
        self, go_name: str, fields: dict[str, Any], *, aliases: dict[str, str] | None = None, optional: Container[str] = (),
        methods: dict[str, Function] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(fields)
        self.go_name = go_name
        self.aliases = aliases or {}
        self.optional = optional
        self.methods = methods or {}


class Row(Struct):
    """A line of a list: Docker gives its JSON in alphabetical order, and safe to be put into HTML."""


class Headers(dict[str, Any]):
    """The titles of a list's columns; ``methods``: what makes a title of an argument."""

    def __init__(self, titles: Mapping[str, str], methods: dict[str, Function]) -> None:
        super().__init__(titles)
        self.methods = methods


class Empty(Struct):
    """Go's ``struct {}``: what a set of ports or volumes has for values."""

    def __init__(self) -> None:
        super().__init__("struct {}", {})


class NilList(list[Any]):
    """A list that is not there: ``[]``, in JSON null."""


class NilMap(dict[str, Any]):
    """A map that is not there: ``map[]``, in JSON null."""


class NilPointer:
    """A struct that is not there: ``<nil>``, in JSON null."""

    def __init__(self, go_name: str) -> None:
        self.go_name = go_name


class Int64(int):
    """A number that Docker declares as int64; a number in a template is an ``int``."""


class Duration(Int64):
    """Nanoseconds, in JSON a number; printed they are ``1m30s``."""


class Byte(int):
    """One byte of a text, by ``index``: uint8."""


class Number(str):
    """A number as JSON wrote it (json.Number): it compares as a text."""


class Time(str):
    """A time of UTC in RFC 3339, as JSON has it; printed it is ``2024-03-10 12:34:56.5 +0000 UTC``."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self[:10]} {self[11:-1]} +0000 UTC"


_NAMES: dict[type, str] = {
    NoValue: "<nil>", bool: "bool", int: "int", Int64: "int64", Duration: "time.Duration", Byte: "uint8", float: "float64", str: "string",
    Number: "json.Number", Time: "time.Time", type(None): "interface {}",
}  # fmt: skip


def go_type(value: object) -> str:
    """Go's name of a value's type, for its error messages and ``%T``."""
    name = _NAMES.get(type(value))
    if name is not None:
        return name
    if isinstance(value, (Struct, NilPointer)):
        return value.go_name
    if isinstance(value, dict):
        texts = type(value) is not NilMap and all(type(each) is str for each in value.values())
        return "map[string]string" if texts else "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]string" if all(type(each) is str for each in value) else "[]interface {}"
    return type(value).__name__


def is_true(value: object) -> bool:
    """Not false, zero, nil or empty; a struct is always true."""
    if isinstance(value, Struct):
        return True
    return bool(value) and not isinstance(value, (NoValue, NilPointer))


def has_length(value: object) -> bool:
    return isinstance(value, (str, list, tuple, dict)) and not isinstance(value, Struct)


def size_of(value: Any) -> int:
    """What ``len`` says: of a text its bytes."""
    return len(value) if not isinstance(value, str) or value.isascii() else len(utf8(value))


def utf8(text: str) -> bytes:
    # surrogates: bytes of a name that are not UTF-8, and halves in somebody's JSON
    return text.encode("utf-8", "surrogatepass")
