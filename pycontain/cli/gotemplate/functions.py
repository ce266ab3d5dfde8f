"""The functions of a template: Go's, and Docker's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import CallFailed
from .json_text import json_text
from .printing import plain, shown, sprint, sprintf, sprintln
from .values import (
    NO_VALUE,
    Byte,
    NilList,
    NilMap,
    NilPointer,
    NoValue,
    Struct,
    go_type,
    has_length,
    is_true,
    size_of,
    utf8,
)
from .verbs import MAX_TEXT

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "Function"]


class Function:
    """``parameters``: the kinds of its arguments, "any", "string" or "int"; ``rest``: of any more."""

    __slots__ = ("call", "parameters", "rest")

    def __init__(self, call: Callable[..., Any], *parameters: str, rest: str = "") -> None:
        self.call = call
        self.parameters = parameters
        self.rest = rest


def _is_nil(value: object) -> bool:
    return value is None or isinstance(value, (NoValue, NilPointer))


# --- values -----------------------------------------------------------------------------------------------------------


def _len(item: Any) -> int:
    if _is_nil(item):
        raise CallFailed("len of nil pointer" if not isinstance(item, NoValue) else "len of untyped nil")
    if not has_length(item):
        raise CallFailed(f"len of type {go_type(item)}")
    return size_of(item)


def _at(index: Any, size: int) -> int:
    if _is_nil(index):
        raise CallFailed("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise CallFailed(f"cannot index slice/array with type {go_type(index)}")
    if not 0 <= index <= size:
        raise CallFailed(f"index out of range: {int(index)}")
    return int(index)


def _index(item: Any, *indexes: Any) -> Any:
    if item is None or isinstance(item, NoValue):
        raise CallFailed("index of untyped nil")
    for each in indexes:
        if _is_nil(item):
            raise CallFailed("index of nil pointer")
        if isinstance(item, (list, tuple, str)):
            whole = utf8(item) if isinstance(item, str) else item
            at = _at(each, len(whole))
            if at == len(whole):
                raise CallFailed(f"index out of range: {at}")
            item = Byte(whole[at]) if isinstance(item, str) else whole[at]
        elif isinstance(item, dict) and not isinstance(item, Struct):
            if not isinstance(each, str):
                what = (
                    "value is nil; should be of type" if _is_nil(each) else f"value has type {go_type(each)}; should be"
                )
                raise CallFailed(f"{what} string")
            # Go gives the zero value of the map's type: of texts the empty one
            item = item.get(each, "" if go_type(item) == "map[string]string" and item else NO_VALUE)
        else:
            raise CallFailed(f"can't index item of type {go_type(item)}")
    return item


def _slice(item: Any, *indexes: Any) -> Any:
    if item is None or isinstance(item, NoValue):
        raise CallFailed("slice of untyped nil")
    if isinstance(item, NilPointer):
        raise CallFailed("slice of nil pointer")
    if len(indexes) > 3:
        raise CallFailed(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, (str, list, tuple)):
        raise CallFailed(f"can't slice item of type {go_type(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise CallFailed("cannot 3-index slice a string")
    whole = utf8(item) if isinstance(item, str) else item
    bounds = [0, len(whole), len(whole)]
    for at, each in enumerate(indexes):
        bounds[at] = _at(each, len(whole))
    for low, high in ((bounds[0], bounds[1]), (bounds[1], bounds[2])):
        if low > high:
            raise CallFailed(f"invalid slice index: {low} > {high}")
    part = whole[bounds[0] : bounds[1]]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


# --- comparison -------------------------------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else ""


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise CallFailed("missing argument for comparison")
    return any(_equal(first, each) for each in others)


def _equal(one: Any, other: Any) -> bool:
    kind = _kind(one)
    if kind != _kind(other):
        if _is_untyped_nil(one) or _is_untyped_nil(other):
            return _is_empty_nil(one) and _is_empty_nil(other)
        raise CallFailed(f"incompatible types for comparison: {go_type(one)} and {go_type(other)}")
    if kind:
        return bool(one == other)
    if _is_empty_nil(one) or _is_empty_nil(other):
        return _is_empty_nil(one) and _is_empty_nil(other)
    if not isinstance(other, Struct):
        raise CallFailed(f"non-comparable type {plain(other)}: {go_type(other)}")
    return bool(one == other)


def _is_untyped_nil(value: Any) -> bool:
    return value is None or isinstance(value, NoValue)


def _is_empty_nil(value: Any) -> bool:
    return value is None or isinstance(value, (NoValue, NilPointer, NilList, NilMap))


def _less(one: Any, other: Any) -> bool:
    for value in (one, other):
        if not _kind(value):
            raise CallFailed("invalid type for comparison")
    if _kind(one) != _kind(other):
        raise CallFailed(f"incompatible types for comparison: {go_type(one)} and {go_type(other)}")
    if _kind(one) == "bool":
        raise CallFailed("invalid type for comparison")
    return bool(one < other)


def _less_or_equal(one: Any, other: Any) -> bool:
    return _less(one, other) or _equal(one, other)


# --- texts ------------------------------------------------------------------------------------------------------------


def _text_of(values: list[Any]) -> str:
    if len(values) == 1 and type(values[0]) is str:
        return values[0]
    return sprint([shown(each) if each is None or isinstance(each, NoValue) else each for each in values])


_HTML = {0: "\ufffd", ord('"'): "&#34;", ord("'"): "&#39;", ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}


def _html(*values: Any) -> str:
    return _text_of(list(values)).translate(_HTML)


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*values: Any) -> str:
    return "".join(
        [_JS.get(char) or (char if char.isprintable() else f"\\u{ord(char):04X}") for char in _text_of(list(values))]
    )


def _urlquery(*values: Any) -> str:
    parts = []
    for byte in utf8(_text_of(list(values))):
        char = chr(byte)
        plain_char = byte < 0x80 and (char.isalnum() or char in "-_.~")
        parts.append(char if plain_char else "+" if char == " " else f"%{byte:02X}")
    return "".join(parts)


def _printf(form: str, *values: Any) -> str:
    return sprintf(form, list(values))


def _per_character(text: str, change: Callable[[str], str]) -> str:
    """Go changes character by character: no SS of a sharp s."""
    whole = change(text)
    if len(whole) == len(text) and text.isascii():
        return whole
    return "".join([changed if len(changed := change(char)) == 1 else char for char in text])


def _upper(text: str) -> str:
    return _per_character(text, str.upper)


def _lower(text: str) -> str:
    return _per_character(text, str.lower)


def _title(text: str) -> str:
    """The first letter of each word; a word begins after what is no letter, digit or underscore."""
    parts, before = [], " "
    for char in text:
        inside = before == "_" or before.isalnum() or (not before.isascii() and not before.isspace())
        upper = char.title()
        parts.append(char if inside or len(upper) != 1 else upper)
        before = char
    return "".join(parts)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(values: Any, separator: str) -> str:
    """Of a list or, in newer Dockers, of the values of a map."""
    if _is_nil(values):
        return ""
    if isinstance(values, Struct) or not isinstance(values, (list, tuple, dict)):
        raise CallFailed(f"expected slice, got {go_type(values)}")
    texts = [plain(each) for each in (values.values() if isinstance(values, dict) else values)]
    texts = sorted(texts) if isinstance(values, dict) else texts
    if sum(map(len, texts)) + len(separator) * len(texts) > MAX_TEXT:
        raise CallFailed("the text is too long")
    return separator.join(texts)


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return text
    for each in (before, after):
        if each < 0:
            raise CallFailed("strings: negative Repeat count")
    if before + after > MAX_TEXT:
        raise CallFailed("the text is too long")
    return " " * before + text + " " * after


def _truncate(text: str, length: int) -> str:
    raw = utf8(text)
    if length < 0:
        raise CallFailed(f"runtime error: slice bounds out of range [:{length}]")
    return text if len(raw) < length else raw[:length].decode("utf-8", "replace")


def _json(value: Any) -> str:
    try:
        return json_text(value)
    except ValueError as error:
        raise CallFailed(str(error)) from None


def _first(text: str, *_: Any) -> str:
    return text


FUNCTIONS: dict[str, Function] = {
    "and": Function(lambda *_: None, "any", rest="any"),  # and, or: execute.py, since not all arguments are evaluated
    "or": Function(lambda *_: None, "any", rest="any"),
    "not": Function(lambda value: not is_true(value), "any"),
    "len": Function(_len, "any"),
    "index": Function(_index, "any", rest="any"),
    "slice": Function(_slice, "any", rest="any"),
    "eq": Function(_eq, "any", rest="any"),
    "ne": Function(lambda one, other: not _equal(one, other), "any", "any"),
    "lt": Function(_less, "any", "any"),
    "le": Function(_less_or_equal, "any", "any"),
    "gt": Function(lambda one, other: not _less_or_equal(one, other), "any", "any"),
    "ge": Function(lambda one, other: not _less(one, other), "any", "any"),
    "print": Function(lambda *values: sprint(list(values)), rest="any"),
    "println": Function(lambda *values: sprintln(list(values)), rest="any"),
    "printf": Function(_printf, "string", rest="any"),
    "html": Function(_html, rest="any"),
    "js": Function(_js, rest="any"),
    "urlquery": Function(_urlquery, rest="any"),
    "json": Function(_json, "any"),
    "split": Function(_split, "string", "string"),
    "join": Function(_join, "any", "string"),
    "title": Function(_title, "string"),
    "lower": Function(_lower, "string"),
    "upper": Function(_upper, "string"),
    "pad": Function(_pad, "string", "int", "int"),
    "truncate": Function(_truncate, "string", "int"),
}

HEADER_FUNCTIONS: dict[str, Function] = {
    **FUNCTIONS,
    **{name: Function(_first, "string") for name in ("json", "title", "lower", "upper")},
    **{name: Function(_first, "string", "string") for name in ("split", "join")},
    "truncate": Function(_first, "string", "int"),
}
"""For the header of a table: what would change the name of a column does not."""
