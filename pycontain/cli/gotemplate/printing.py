"""What Go's fmt prints: ``%v`` of every value, and Sprint, Sprintln, Sprintf."""

from __future__ import annotations

from typing import Any

from . import verbs
from .numbers import float_text
from .quoting import quoted
from .values import Duration, NilList, NilMap, NilPointer, NoValue, Row, Struct, go_type

__all__ = ["plain", "shown", "sprint", "sprintf", "sprintln"]

_MAX_DEPTH = 100
_MAX_WIDTH = 1_000_000


def shown(value: object) -> str:
    """A value as an action prints it: without one, ``<no value>``."""
    if type(value) is str:
        return value
    if value is None or isinstance(value, NoValue):
        return "<no value>"
    return plain(value)


def plain(value: Any, mode: str = "v", depth: int = 0) -> str:
    """``%v``; ``mode`` "+v": with the names of fields; "#v": as Go source."""
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, str):
        return quoted(value) if mode == "#v" else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (NoValue, NilPointer)):
        return f"({go_type(value)})(nil)" if mode == "#v" else "<nil>"
    if isinstance(value, Duration) and mode != "#v":
        from ...durations import duration_text

        return duration_text(int(value))
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, dict):
        return _map(value, mode, depth)
    if isinstance(value, (list, tuple)):
        texts = [plain(each, mode, depth + 1) for each in value]
        if mode != "#v":
            return f"[{' '.join(texts)}]"
        return f"{go_type(value)}(nil)" if isinstance(value, NilList) else f"{go_type(value)}{{{', '.join(texts)}}}"
    return str(value)


def _map(value: dict[str, Any], mode: str, depth: int) -> str:
    is_struct = isinstance(value, Struct)
    keys = list(value) if is_struct and not isinstance(value, Row) else sorted(value)
    texts = {key: plain(value[key], mode, depth + 1) for key in keys}
    if mode == "#v":
        if isinstance(value, NilMap):
            return f"{go_type(value)}(nil)"
        name = quoted if not is_struct else str
        return f"{go_type(value)}{{{', '.join([f'{name(key)}:{text}' for key, text in texts.items()])}}}"
    if not is_struct:
        return f"map[{' '.join([f'{key}:{text}' for key, text in texts.items()])}]"
    named = [f"{key}:{text}" for key, text in texts.items()]
    return f"{{{' '.join(named if mode == '+v' else texts.values())}}}"


def sprint(values: list[Any]) -> str:
    """Blanks only between two that are no texts."""
    parts: list[str] = []
    for at, value in enumerate(values):
        if at and type(value) is not str and type(values[at - 1]) is not str:
            parts.append(" ")
        parts.append(plain(value))
    return "".join(parts)


def sprintln(values: list[Any]) -> str:
    return " ".join(map(plain, values)) + "\n"


def sprintf(form: str, values: list[Any]) -> str:
    """``printf``: all verbs but those for pointers; what does not fit is said in the text, as Go says it."""
    return _Sprintf(form, values).run()


class _Sprintf:
    def __init__(self, form: str, values: list[Any]) -> None:
        self.form = form
        self.values = values
        self.at = 0
        self.argument = 0
        self.reordered = False
        self.good_index = True

    def run(self) -> str:
        parts: list[str] = []
        length = 0
        while self.at < len(self.form):
            percent = self.form.find("%", self.at)
            if percent < 0:
                parts.append(self.form[self.at :])
                break
            parts.append(self.form[self.at : percent])
            self.at = percent + 1
            parts.append(self._verb())
            length += len(parts[-1])
            if length > verbs.MAX_TEXT:
                raise ValueError("the text is too long")
        if not self.reordered and self.argument < len(self.values):
            extra = ", ".join(
                [
                    "<nil>" if _is_nil(each) else f"{go_type(each)}={plain(each)}"
                    for each in self.values[self.argument :]
                ]
            )
            parts.append(f"%!(EXTRA {extra})")
        return "".join(parts)

    def _take(self) -> str:
        char = self.form[self.at : self.at + 1]
        self.at += 1
        return char

    def _verb(self) -> str:
        flags = verbs.Flags()
        self.good_index = True
        prefix = ""
        while self.form[self.at : self.at + 1] in tuple("#0+- "):
            flags.set(self._take())
        self._index()
        width, bad = self._size()
        if bad:
            prefix += "%!(BADWIDTH)"
        if width is not None and width < 0:
            flags.minus, width = True, -width
        flags.width = width
        if self.form.startswith(".", self.at):
            self.at += 1
            self._index()
            precision, bad = self._size()
            if precision is not None and precision < 0:
                precision, bad = None, True
            elif precision is None and not bad:
                precision = 0
            flags.precision = precision
            if bad:
                prefix += "%!(BADPREC)"
        self._index()
        verb = self._take()
        if not verb:
            return prefix + "%!(NOVERB)"
        if verb == "%":
            return prefix + "%"
        if not self.good_index:
            return f"{prefix}%!{verb}(BADINDEX)"
        if self.argument >= len(self.values):
            return f"{prefix}%!{verb}(MISSING)"
        value = self.values[self.argument]
        self.argument += 1
        return prefix + verbs.formatted(verb, flags, value)

    def _index(self) -> None:
        """``[2]``: which argument comes next."""
        if not self.form.startswith("[", self.at):
            return
        self.reordered = True
        end = self.form.find("]", self.at)
        digits = self.form[self.at + 1 : end] if end > 0 else ""
        if end < 0:
            self.good_index = False
            self.at += 1
            return
        self.at = end + 1
        if digits.isascii() and digits.isdigit() and len(digits) < 7 and 0 < int(digits) <= len(self.values):
            self.argument = int(digits) - 1
        else:
            self.good_index = False

    def _size(self) -> tuple[int | None, bool]:
        """A width or a precision, from the format or from an argument (``*``); and whether it is a bad one."""
        if self.form.startswith("*", self.at):
            self.at += 1
            if self.argument >= len(self.values):
                return None, True
            value = self.values[self.argument]
            self.argument += 1
            if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MAX_WIDTH:
                return None, True
            return int(value), False
        begun = self.at
        while self.form[self.at : self.at + 1] in tuple("0123456789"):
            self.at += 1
        digits = self.form[begun : self.at]
        if not digits:
            return None, False
        if len(digits) > 7 or int(digits) > _MAX_WIDTH:
            return None, False
        return int(digits), False


def _is_nil(value: object) -> bool:
    return value is None or isinstance(value, NoValue)
