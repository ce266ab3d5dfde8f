"""A template's text becomes tokens. What is wrong with it is a token too: it counts only if the parser comes that far."""

from __future__ import annotations

from .quoting import character_name, quoted

__all__ = ["KEYWORDS", "Token", "tokens_of"]

KEYWORDS = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with", "dot")
)
_SPACES = " \t\r\n"
_DIGITS = "0123456789_"


class Token:
    """``kind``: a keyword, or what the constants of this module's functions name; ``at``: index of its first character."""

    __slots__ = ("at", "kind", "line", "text")

    def __init__(self, kind: str, at: int, text: str, line: int) -> None:
        self.kind = kind
        self.at = at
        self.text = text
        self.line = line

    def __str__(self) -> str:
        if self.kind == "eof":
            return "EOF"
        if self.kind == "error":
            return self.text
        if self.kind in KEYWORDS:
            return f"<{self.text}>"
        if len(self.text.encode("utf-8", "surrogatepass")) > 10:
            return f"{quoted(self.text[:10])}..."
        return quoted(self.text)


class _Wrong(Exception):
    """Ends the tokens; the message becomes the last one."""


def tokens_of(text: str) -> list[Token]:
    return _Lexer(text).run()


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.start = 0
        self.line = 1  # of self.start
        self.tokens: list[Token] = []

    def run(self) -> list[Token]:
        try:
            while self._text():
                self._action()
            self.tokens.append(Token("eof", self.at, "", self.line))
        except _Wrong as wrong:
            self.tokens.append(Token("error", self.start, str(wrong), self.line))
        return self.tokens

    def _emit(self, kind: str) -> None:
        self.tokens.append(Token(kind, self.start, self.text[self.start : self.at], self.line))
        self._skip()

    def _skip(self) -> None:
        self.line += self.text.count("\n", self.start, self.at)
        self.start = self.at

    def _text(self) -> bool:
        """Text up to the next action; False when there is none."""
        found = self.text.find("{{", self.at)
        end = len(self.text) if found < 0 else found
        trimmed = self.text[self.at : end]
        if found >= 0 and self._trims_left(found + 2):
            trimmed = trimmed.rstrip(_SPACES)
        self.at += len(trimmed)
        if trimmed:
            self._emit("text")
        self.at = end
        self._skip()
        return found >= 0

    def _trims_left(self, at: int) -> bool:
        return self.text.startswith("-", at) and self.text[at + 1 : at + 2] in tuple(_SPACES)

    def _trims_right(self, at: int) -> bool:
        return self.text[at : at + 1] in tuple(_SPACES) and self.text.startswith("-}}", at + 1)

    def _action(self) -> None:
        trims = self._trims_left(self.at + 2)
        comment = self.at + 2 + 2 * trims
        if self.text.startswith("/*", comment):
            self.at = comment
            self._skip()
            self._comment()
            return
        self.at += 2
        self._emit("left")
        self.at += 2 * trims
        self._skip()
        depth = 0
        while True:
            if self.text.startswith("}}", self.at) or self._trims_right(self.at):
                if depth:
                    raise _Wrong("unclosed left paren")
                self._close()
                return
            depth += self._inside(depth)

    def _comment(self) -> None:
        end = self.text.find("*/", self.at + 2)
        if end < 0:
            raise _Wrong("unclosed comment")
        self.at = end + 2
        if not self.text.startswith("}}", self.at) and not self._trims_right(self.at):
            raise _Wrong("comment ends before closing delimiter")
        self._skip()
        self._close(silent=True)

    def _close(self, *, silent: bool = False) -> None:
        trims = not self.text.startswith("}}", self.at)
        self.at += 2 * trims
        self._skip()
        self.at += 2
        if not silent:
            self._emit("right")
        if trims:
            rest = self.text[self.at :]
            self.at += len(rest) - len(rest.lstrip(_SPACES))
        self._skip()

    def _inside(self, depth: int) -> int:
        """One token of an action; how it changes the depth of parentheses."""
        char = self.text[self.at : self.at + 1]
        if not char:
            raise _Wrong("unclosed action")
        self.at += 1
        if char in _SPACES:
            self._space()
        elif char in "=|":
            self._emit("assign" if char == "=" else "pipe")
        elif char == ":":
            if not self.text.startswith("=", self.at):
                raise _Wrong("expected :=")
            self.at += 1
            self._emit("declare")
        elif char in "\"'`":
            self._quoted(char)
        elif char == "$" or (char == "." and self.text[self.at : self.at + 1] not in ("", *"0123456789")):
            self._name(char)
        elif char in ".+-" or (char.isascii() and char.isdigit()):
            self._number()
        elif _is_alphanumeric(char):
            self._word()
        elif char in "()":
            if char == ")" and depth == 0:
                raise _Wrong("unexpected right paren")
            self._emit("lparen" if char == "(" else "rparen")
            return 1 if char == "(" else -1
        elif char.isascii() and char.isprintable():
            self._emit("char")
        else:
            raise _Wrong(f"unrecognized character in action: {character_name(ord(char), shown=True)}")
        return 0

    def _space(self) -> None:
        while self.text[self.at : self.at + 1] in tuple(_SPACES):
            self.at += 1
        if self._trims_right(self.at - 1):
            self.at -= 1  # the last blank belongs to " -}}"
        if self.at > self.start:
            self._emit("space")

    def _quoted(self, quote: str) -> None:
        what = {'"': "quoted string", "'": "character constant", "`": "raw quoted string"}[quote]
        while True:
            char = self.text[self.at : self.at + 1]
            self.at += 1
            if char == "\\" and quote != "`":
                char = self.text[self.at : self.at + 1]
                self.at += 1
                if char and char != "\n":
                    continue
            if not char or (char == "\n" and quote != "`"):
                raise _Wrong(f"unterminated {what}")
            if char == quote:
                break
        self._emit({'"': "string", "'": "character", "`": "string"}[quote])

    def _name(self, char: str) -> None:
        """A field or a variable; alone, the dot or ``$``."""
        while _is_alphanumeric(self.text[self.at : self.at + 1]):
            self.at += 1
        self._check_end()
        self._emit("variable" if char == "$" else "field" if self.at > self.start + 1 else "dot")

    def _word(self) -> None:
        while _is_alphanumeric(self.text[self.at : self.at + 1]):
            self.at += 1
        self._check_end()
        word = self.text[self.start : self.at]
        if word in KEYWORDS and word != "dot":
            self._emit(word)
        else:
            self._emit("bool" if word in ("true", "false") else "identifier")

    def _check_end(self) -> None:
        after = self.text[self.at : self.at + 1]
        if after and after not in _SPACES + ".,|:()" and not self.text.startswith("}}", self.at):
            raise _Wrong(f"bad character {character_name(ord(after), shown=True)}")

    def _number(self) -> None:
        self.at -= 1
        self._scan_number()
        if self.text[self.at : self.at + 1] in ("+", "-"):
            self._scan_number()
            if self.text[self.at - 1] != "i":
                raise _Wrong(f"bad number syntax: {quoted(self.text[self.start : self.at])}")
            self._emit("complex")
        else:
            self._emit("number")

    def _scan_number(self) -> None:
        self._accept("+-")
        digits = _DIGITS
        if self._accept("0"):
            if self._accept("xX"):
                digits = _DIGITS + "abcdefABCDEF"
            elif self._accept("oO"):
                digits = "01234567_"
            elif self._accept("bB"):
                digits = "01_"
        self._accept_run(digits)
        if self._accept("."):
            self._accept_run(digits)
        if (digits == _DIGITS and self._accept("eE")) or (len(digits) > len(_DIGITS) and self._accept("pP")):
            self._accept("+-")
            self._accept_run(_DIGITS)
        self._accept("i")
        if _is_alphanumeric(self.text[self.at : self.at + 1]):
            self.at += 1
            raise _Wrong(f"bad number syntax: {quoted(self.text[self.start : self.at])}")

    def _accept(self, allowed: str) -> bool:
        found = self.text[self.at : self.at + 1]
        if found and found in allowed:
            self.at += 1
            return True
        return False

    def _accept_run(self, allowed: str) -> None:
        while self._accept(allowed):
            pass


def _is_alphanumeric(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()
