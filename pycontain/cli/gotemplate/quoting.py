"""Go's quoted texts and characters, both ways (strconv.Quote, Unquote)."""

from __future__ import annotations

__all__ = ["ascii_quoted", "character_name", "quoted", "quoted_character", "unquoted", "unquoted_character"]

_SHORT = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\"}
_LONG = {short: char for char, short in _SHORT.items()}


def _escaped(char: str, quote: str, *, only_ascii: bool = False) -> str:
    if char == quote:
        return "\\" + char
    if char in _SHORT:
        return "\\" + _SHORT[char]
    number = ord(char)
    if is_printable(char) and (not only_ascii or number < 0x80):
        return char
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def is_printable(char: str) -> bool:
    """Go's unicode.IsPrint: of the blanks only the ASCII one."""
    return char.isprintable()


def quoted(text: str) -> str:
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_escaped(char, '"') for char in text]) + '"'


def ascii_quoted(text: str) -> str:
    return '"' + "".join([_escaped(char, '"', only_ascii=True) for char in text]) + '"'


def quoted_character(number: int, *, only_ascii: bool = False) -> str:
    char = chr(number) if 0 <= number < 0x110000 and not 0xD800 <= number < 0xE000 else "\N{REPLACEMENT CHARACTER}"
    return "'" + _escaped(char, "'", only_ascii=only_ascii) + "'"


def character_name(number: int, *, shown: bool) -> str:
    """``U+0041``, and with ``shown`` the character behind it: ``%U`` and ``%#U``."""
    name = f"U+{number:04X}"
    if shown and 0 <= number < 0x110000 and is_printable(chr(number)):
        return f"{name} '{chr(number)}'"
    return name


def unquoted(text: str) -> str | None:
    """The text of a literal with its quotes, ``"..."`` or ````...````; None where it is none."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "")
    body, parts, at = text[1:-1], [], 0
    while at < len(body):
        if body[at] != "\\":
            parts.append(body[at])
            at += 1
            continue
        raw = bytearray()
        while body.startswith("\\", at):
            found = _unescaped(body, at, '"')
            if found is None:
                return None
            value, at, is_byte = found
            if not is_byte:
                parts += [raw.decode("utf-8", "replace"), value]
                raw.clear()
                break
            raw.append(ord(value))
        parts.append(raw.decode("utf-8", "replace"))
    return "".join(parts)


def unquoted_character(text: str) -> int | str:
    """The number of ``'x'``, or what is wrong with it."""
    body = text[1:-1]
    if not body:
        return "invalid syntax"
    found = (body[0], 1, False) if body[0] != "\\" else _unescaped(body, 0, "'")
    if found is None:
        return "invalid syntax"
    return ord(found[0]) if found[1] == len(body) else f"malformed character constant: {text}"


def _unescaped(body: str, at: int, quote: str) -> tuple[str, int, bool] | None:
    """The character of an escape at ``at``, where it ends, and whether it is one byte (\\x.., \\...) of a text."""
    if at + 1 >= len(body):
        return None
    letter = body[at + 1]
    if letter in _LONG or letter == quote:
        return _LONG.get(letter, letter), at + 2, False
    if letter in "xuU":
        length, base, start = {"x": 2, "u": 4, "U": 8}[letter], 16, at + 2
    elif letter in "01234567":
        length, base, start = 3, 8, at + 1
    else:
        return None
    digits = body[start : start + length]
    allowed = "0123456789abcdefABCDEF" if base == 16 else "01234567"
    if len(digits) != length or any(digit not in allowed for digit in digits):
        return None
    number = int(digits, base)
    is_byte = letter not in "uU"
    if number > (0xFF if is_byte else 0x10FFFF) or 0xD800 <= number < 0xE000:
        return None
    return chr(number), start + length, is_byte and quote == '"'
