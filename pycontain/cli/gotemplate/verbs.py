"""One verb of a Go format, with its flags, and one value."""

from __future__ import annotations

from typing import Any

from .numbers import float_text
from .quoting import ascii_quoted, character_name, quoted, quoted_character
from .values import Empty, NilPointer, NoValue, Number, Struct, go_type, utf8

__all__ = ["MAX_TEXT", "Flags", "formatted"]

MAX_TEXT = 16 << 20
"""Characters that a function may make: what doubles a text does not end otherwise."""


class Flags:
    __slots__ = ("minus", "plus", "precision", "sharp", "space", "width", "zero")

    def __init__(self) -> None:
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.width: int | None = None
        self.precision: int | None = None

    def set(self, flag: str) -> None:
        if flag == "-":
            self.minus, self.zero = True, False
        elif flag == "0":
            self.zero = not self.minus
        else:
            setattr(self, {"+": "plus", "#": "sharp", " ": "space"}[flag], True)

    def padded(self, text: str, *, zero: bool = False) -> str:
        if self.width is None or len(text) >= self.width:
            return text
        if self.minus:
            return text.ljust(self.width)
        if not zero:
            return text.rjust(self.width)
        sign = text[:1] if text[:1] in ("+", "-", " ") else ""
        return sign + text[len(sign) :].rjust(self.width - len(sign), "0")


def formatted(verb: str, flags: Flags, value: Any, depth: int = 0) -> str:
    """Raises: ValueError: the text becomes too long."""
    from .printing import plain

    if value is None or isinstance(value, NoValue):
        if verb in "vT" or depth:
            return flags.padded("<nil>")
        return f"%!{verb}(<nil>)"
    if verb == "T":
        return flags.padded(go_type(value))
    if verb == "v" and (flags.sharp or flags.plus) and not isinstance(value, (int, float, str)):
        return plain(value, "#v" if flags.sharp else "+v")
    if isinstance(value, (dict, list, tuple, NilPointer)) and depth < 100:
        return _compound(verb, flags, value, depth)
    text = _scalar(verb, flags, value)
    return f"%!{verb}({go_type(value)}={_scalar('v', flags, value)})" if text is None else text


def _compound(verb: str, flags: Flags, value: Any, depth: int) -> str:
    if isinstance(value, NilPointer):
        return flags.padded("<nil>") if verb == "v" else f"%!{verb}({value.go_name}=<nil>)"
    if isinstance(value, dict):
        if isinstance(value, Struct):
            texts = [formatted(verb, flags, each, depth + 1) for each in value.values()]
            return "{}" if isinstance(value, Empty) else f"{{{_joined(texts)}}}"
        texts = [
            f"{formatted(verb, flags, key, depth + 1)}:{formatted(verb, flags, value[key], depth + 1)}"
            for key in sorted(value)
        ]
        return f"map[{_joined(texts)}]"
    return f"[{_joined([formatted(verb, flags, each, depth + 1) for each in value])}]"


def _joined(texts: list[str]) -> str:
    if sum(map(len, texts)) > MAX_TEXT:
        raise ValueError("the text is too long")
    return " ".join(texts)


def _scalar(verb: str, flags: Flags, value: Any) -> str | None:
    if isinstance(value, bool):
        return flags.padded("true" if value else "false") if verb in "tv" else None
    if isinstance(value, int):
        return _integer(verb, flags, int(value))
    if isinstance(value, float):
        return _float(verb, flags, value)
    return _text(verb, flags, str(value), is_number=isinstance(value, Number))


def _integer(verb: str, flags: Flags, value: int) -> str | None:
    if verb in "vd":
        digits = str(abs(value))
    elif verb in "boOxX":
        digits = format(abs(value), {"O": "o"}.get(verb, verb))
    elif verb == "c":
        return flags.padded(_character(value))
    elif verb == "q":
        return flags.padded(quoted_character(value, only_ascii=flags.plus))
    elif verb == "U":
        return (
            flags.padded(character_name(value, shown=flags.sharp))
            if value >= 0
            else flags.padded(f"U+{value & (1 << 64) - 1:X}")
        )
    else:
        return None
    sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
    prefix = {"b": "0b", "x": "0x", "X": "0X"}.get(verb, "") if flags.sharp else "0o" if verb == "O" else ""
    if flags.precision is not None:
        if flags.precision == 0 and value == 0:
            return flags.padded("")
        digits = digits.rjust(flags.precision, "0")
    elif flags.zero and flags.width is not None:
        digits = digits.rjust(flags.width - len(sign), "0")
    if flags.sharp and verb == "o" and not digits.startswith("0"):
        prefix = "0"
    return flags.padded(sign + prefix + digits)


def _character(value: int) -> str:
    return chr(value) if 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000 else "\N{REPLACEMENT CHARACTER}"


def _float(verb: str, flags: Flags, value: float) -> str | None:
    if verb not in "vgGeEfF":
        return None
    kind = {"v": "g", "F": "f"}.get(verb, verb).lower()
    precision = flags.precision if flags.precision is not None else 6 if kind in "ef" else -1
    text = float_text(value, kind, min(precision, 1000))
    if verb in "GE":
        text = text.upper() if "Inf" not in text and "NaN" not in text else text
    if text.startswith("+"):  # +Inf
        text = text if flags.plus else text[1:] if not text.startswith("+Inf") else text
    elif not text.startswith("-"):
        text = ("+" if flags.plus else " " if flags.space else "") + text
    return flags.padded(text, zero=flags.zero and "Inf" not in text and "NaN" not in text)


def _text(verb: str, flags: Flags, value: str, *, is_number: bool) -> str | None:
    cut = value if flags.precision is None else value[: flags.precision]
    if verb == "v":
        return flags.padded(quoted(cut) if flags.sharp else cut, zero=flags.zero)
    if verb == "s":
        return flags.padded(cut, zero=flags.zero)
    if verb == "q":
        if flags.sharp and "`" not in cut and all(char.isprintable() or char == "\t" for char in cut):
            return flags.padded(f"`{cut}`", zero=flags.zero)
        return flags.padded(ascii_quoted(cut) if flags.plus else quoted(cut), zero=flags.zero)
    if verb in "xX":
        raw = utf8(value) if flags.precision is None else utf8(value)[: flags.precision]
        if len(raw) * 5 > MAX_TEXT:
            raise ValueError("the text is too long")
        prefix = ("0x" if verb == "x" else "0X") if flags.sharp else ""
        pairs = [f"{byte:02{verb}}" for byte in raw]
        text = " ".join([prefix + pair for pair in pairs]) if flags.space else (prefix if raw else "") + "".join(pairs)
        return flags.padded(text, zero=flags.zero)
    return None
