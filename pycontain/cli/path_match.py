"""Go's ``path.Match``: the patterns of ``docker images --filter reference=``. ``fnmatch`` would let ``*`` match a slash."""

from __future__ import annotations

from ..errors import InvalidArgument

__all__ = ["path_match"]


def path_match(pattern: str, name: str) -> bool:
    """``*`` any characters but "/", ``?`` one such, ``[a-z]`` and ``[^a-z]`` a set, also of "/", ``\\`` takes the next as it is.

    Raises: InvalidArgument: a set or an escape without its end, if the match gets that far, as in Go.
    """
    if not set(pattern) & set("*?[\\"):
        return pattern == name
    at, begun, star, star_name = 0, 0, -1, 0
    while True:
        if at < len(pattern) and pattern[at] == "*":
            star, star_name = at, begun
            at += 1
            continue
        if at < len(pattern):
            taken, matched = _one(pattern, at, name[begun : begun + 1])
            if matched and begun < len(name):
                at, begun = at + taken, begun + 1
                continue
        elif begun == len(name):
            return True
        # back to the last star, which takes one more character
        if star < 0 or star_name >= len(name) or name[star_name] == "/":
            _check(pattern, at)
            return False
        star_name += 1
        at, begun = star + 1, star_name


def _one(pattern: str, at: int, char: str) -> tuple[int, bool]:
    """How long the element at ``at`` is, and whether it matches ``char``."""
    what = pattern[at]
    if what == "?":
        return 1, char not in ("/", "")
    if what == "[":
        return _set(pattern, at, char)
    if what == "\\":
        if at + 1 == len(pattern):
            raise _bad(pattern)
        return 2, pattern[at + 1] == char
    return 1, what == char


def _set(pattern: str, start: int, char: str) -> tuple[int, bool]:
    at = start + 1
    negated = pattern.startswith("^", at)
    at += negated
    matched, ranges = False, 0
    while not (pattern.startswith("]", at) and ranges):
        low, at = _character(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _character(pattern, at + 1)
        matched = matched or (char != "" and low <= char <= high)
        ranges += 1
    return at + 1 - start, matched != negated and char != ""


def _character(pattern: str, at: int) -> tuple[str, int]:
    """One character of a set; what is taken is never the pattern's last, since "]" must follow."""
    if at >= len(pattern) or pattern[at] in "-]":
        raise _bad(pattern)
    if pattern[at] == "\\":
        at += 1
    if at + 1 >= len(pattern):
        raise _bad(pattern)
    return pattern[at], at + 1


def _check(pattern: str, at: int) -> None:
    """The rest must be well-formed even when it does not match (Go since 1.16)."""
    while at < len(pattern):
        at += 1 if pattern[at] == "*" else _one(pattern, at, "")[0]


def _bad(pattern: str) -> InvalidArgument:
    return InvalidArgument(
        f"syntax error in pattern {pattern[:100]!r}: a '[' needs its ']', and a '\\' what it escapes"
    )
