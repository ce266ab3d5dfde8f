"""JSON as Go's encoding/json writes it: maps by their keys, structs in their order, and what HTML would misread as it is."""

from __future__ import annotations

import json

from .numbers import float_text
from .values import Byte, Int64, NilList, NilMap, NilPointer, NoValue, Number, Row, Struct, is_true

__all__ = ["json_text"]

_HTML = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
_MAX_DEPTH = 100


def json_text(value: object, *, depth: int = 0) -> str:
    """Raises: ValueError: what JSON cannot have: an infinite number, or more than 100 levels."""
    if depth > _MAX_DEPTH:
        raise ValueError("json: too many levels")
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return _quoted(value[:])
    if value is None or isinstance(value, (NoValue, NilList, NilMap, NilPointer)):
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Int64, Byte)):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        keys = _fields(value) if isinstance(value, Struct) and not isinstance(value, Row) else sorted(value)
        pairs = [f"{_quoted(key)}:{json_text(value[key], depth=depth + 1)}" for key in keys]
        text = f"{{{','.join(pairs)}}}"
        return text.translate(_HTML) if isinstance(value, Row) else text
    if isinstance(value, (list, tuple)):
        return f"[{','.join([json_text(each, depth=depth + 1) for each in value])}]"
    raise ValueError(f"json: unsupported type: {type(value).__name__}")


def _fields(value: Struct) -> list[str]:
    return [name for name, field in value.items() if name not in value.optional or is_true(field)]


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    # U+2028 and U+2029 end a line in JavaScript; a half surrogate is no character
    found = json.dumps(text, ensure_ascii=False)
    if not found.isascii():
        found = found.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        found = found.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if _halves(found) else found
    return found


def _halves(text: str) -> bool:
    return any("\ud800" <= char < "\ue000" for char in text)


def _float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"json: unsupported value: {float_text(value)}")
    size = abs(value)
    if value and (size < 1e-6 or size >= 1e21):
        text = float_text(value, "e")
        return text.replace("e-0", "e-")
    return float_text(value, "f")
