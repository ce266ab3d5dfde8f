"""Go's number literals, and how Go writes a float."""

from __future__ import annotations

__all__ = ["float_text", "number_of"]

_INT64 = 1 << 63


def number_of(text: str) -> tuple[int | float | None, int | None] | str:
    """A literal's value where no type is asked for (None: it overflows an int), and its whole number or None; or what is wrong."""
    sign = -1 if text.startswith("-") else 1
    body = text.lstrip("+-") if text[:1] in ("+", "-") else text
    whole = _whole(body)
    if whole is not None and (whole < _INT64 or (sign < 0 and whole == _INT64)):
        return sign * whole, sign * whole
    if whole is not None and sign > 0 and whole < 2 * _INT64 and text[:1] != "+":
        return None, None  # a uint64
    number = _float(body)
    if number is None:
        return "illegal number syntax"
    if not any(char in text for char in ".eEpP"):
        return "integer overflow"
    value = sign * number
    return value, int(value) if value == value // 1 and -_INT64 <= value < _INT64 else None


def _whole(body: str) -> int | None:
    """``0x1F``, ``0b1``, ``0o7``, ``017``, ``1_000``; None for what is no whole number."""
    lower = body.lower()
    base, digits = 10, lower
    for prefix, of in (("0x", 16), ("0b", 2), ("0o", 8)):
        if lower.startswith(prefix):
            base, digits = of, lower[2:].removeprefix("_")
            break
    else:
        if len(lower) > 1 and lower[0] == "0":
            base, digits = 8, lower[1:].removeprefix("_")
    if len(digits) > 100 or not _underscored(digits):
        return None
    try:
        return int(digits.replace("_", ""), base)
    except ValueError:
        return None


def _underscored(digits: str) -> bool:
    return bool(digits) and digits[0] != "_" and digits[-1] != "_" and "__" not in digits and digits.isascii()


def _float(body: str) -> float | None:
    if len(body) > 400 or not body.isascii() or "n" in body.lower():  # no inf, no nan
        return None
    try:
        if body.lower().startswith("0x"):
            value = float.fromhex(body.replace("_", "")) if "p" in body.lower() else None
        elif "_" in body:
            return None  # strconv.ParseFloat takes them only with a base prefix
        else:
            value = float(body)
    except (ValueError, OverflowError):
        return None
    return None if value is None or value in (float("inf"), float("-inf")) else value


def float_text(value: float, verb: str = "g", precision: int = -1) -> str:
    """As ``%g``, ``%e`` or ``%f`` of Go write it; ``precision`` -1: as many digits as it takes to read it back."""
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    if precision >= 0:
        return f"{value:.{precision}{verb}}"
    shortest = repr(value)
    mantissa, e, power = shortest.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + (int(power) if e else 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        digits, point = "0", 1
    # the exponent form as strconv chooses it for the shortest text: below 1e-4, and from 1e6 on
    exponent = point - 1
    if verb == "f" or (verb == "g" and -4 <= exponent < 6):
        return sign + _plain(digits, point)
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def _plain(digits: str, point: int) -> str:
    if point <= 0:
        return "0." + "0" * -point + digits if digits != "0" else "0"
    if len(digits) <= point:
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"
