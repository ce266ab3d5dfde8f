"""Tokens become the tree of a template."""

from __future__ import annotations

from . import nodes
from .errors import TemplateError
from .numbers import number_of
from .quoting import quoted, unquoted, unquoted_character
from .tokens import Token, tokens_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import NoReturn

__all__ = ["parse_nodes"]

_MAX_DEPTH = 60  # of parentheses and control structures: Python's own stack is behind this
_MAX_LENGTH = 100_000
_OPERANDS = frozenset(
    ("bool", "character", "complex", "dot", "field", "identifier", "number", "nil", "string", "variable", "lparen")
)
_CONTROLS = {"if": nodes.If, "with": nodes.With, "range": nodes.Range}


def parse_nodes(text: str, functions: Container[str]) -> list[nodes.Node]:
    """The tree of a template's text. Raises: TemplateError."""
    if len(text) > _MAX_LENGTH:
        raise TemplateError(f"template: :1: the template has {len(text)} characters, at most {_MAX_LENGTH} are allowed")
    return _Parser(text, functions).template()


class _End(nodes.Node):
    """``{{end}}``, or ``{{else}}`` with what follows it at once (``if``, ``with``)."""

    __slots__ = ("what",)

    def __init__(self, at: int, what: str) -> None:
        super().__init__(at)
        self.what = what

    def __str__(self) -> str:
        return f"{{{{{self.what}}}}}"


class _Parser:
    def __init__(self, text: str, functions: Container[str]) -> None:
        self.tokens = tokens_of(text)
        self.functions = functions
        self.next_at = 0
        self.furthest = 0
        self.variables = ["$"]
        self.range_depth = 0
        self.depth = 0
        self.action_line = 0

    # --- tokens

    def take(self) -> Token:
        token = self.tokens[min(self.next_at, len(self.tokens) - 1)]
        self.next_at += 1
        self.furthest = max(self.furthest, min(self.next_at, len(self.tokens)) - 1)
        return token

    def peek(self) -> Token:
        token = self.take()
        self.next_at -= 1
        return token

    def take_word(self) -> Token:
        """The next token that is no blank."""
        token = self.take()
        while token.kind == "space":
            token = self.take()
        return token

    def peek_word(self) -> Token:
        """Blanks before it are passed for good."""
        while self.peek().kind == "space":
            self.take()
        return self.peek()

    def fail(self, message: str) -> NoReturn:
        raise TemplateError(f"template: :{self.tokens[self.furthest].line}: {message}")

    def unexpected(self, token: Token, where: str) -> NoReturn:
        if token.kind != "error":
            self.fail(f"unexpected {token} in {where}")
        extra = ""
        if self.action_line not in (0, token.line):
            started = f"started at :{self.action_line}"
            extra = f" {started}" if token.text.endswith(" action") else f" in action {started}"
        self.fail(f"{token}{extra}")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("max expression depth exceeded")

    # --- structure

    def template(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        while self.peek().kind != "eof":
            node = self.text_or_action()
            if isinstance(node, _End):
                self.fail(f"unexpected {node}")
            found.append(node)
        return found

    def body(self) -> tuple[list[nodes.Node], _End]:
        found: list[nodes.Node] = []
        while self.peek_word().kind != "eof":
            node = self.text_or_action()
            if isinstance(node, _End):
                return found, node
            found.append(node)
        self.fail("unexpected EOF")

    def text_or_action(self) -> nodes.Node:
        token = self.take_word()
        if token.kind == "text":
            return nodes.Text(token.at, token.text)
        if token.kind != "left":
            self.unexpected(token, "input")
        self.action_line = token.line
        node = self.action()
        self.action_line = 0
        return node

    def action(self) -> nodes.Node:
        token = self.take_word()
        if token.kind in _CONTROLS:
            return self.control(token.kind)
        if token.kind == "end":
            self.expect_right("end")
            return _End(token.at, "end")
        if token.kind == "else":
            following = self.peek_word()
            if following.kind not in ("if", "with"):
                self.expect_right("else")
            return _End(token.at, "else")
        if token.kind in ("break", "continue"):
            self.expect_right(f"{{{{{token.kind}}}}}")
            if not self.range_depth:
                self.fail(f"{{{{{token.kind}}}}} outside {{{{range}}}}")
            return (nodes.Break if token.kind == "break" else nodes.Continue)(token.at)
        if token.kind in ("define", "template", "block"):
            self.fail(f"{{{{{token.kind}}}}} is not supported: write its text where it is used")
        self.next_at -= 1
        return nodes.Action(token.at, self.pipeline("command", "right"))

    def expect_right(self, where: str) -> None:
        token = self.take_word()
        if token.kind != "right":
            self.unexpected(token, where)

    def control(self, kind: str) -> nodes.Node:
        """``if``, ``with`` or ``range``, whose word is past."""
        self.enter()
        known = len(self.variables)
        pipe = self.pipeline(kind, "right")
        self.range_depth += kind == "range"
        body, end = self.body()
        self.range_depth -= kind == "range"
        otherwise: list[nodes.Node] = []
        if end.what == "else":
            if kind != "range" and self.peek().kind == kind:  # {{else if}}: its {{end}} is ours too
                self.take()
                otherwise = [self.control(kind)]
            else:
                otherwise, end = self.body()
                if end.what != "end":
                    self.fail(f"expected end; found {end}")
        del self.variables[known:]
        self.depth -= 1
        return _CONTROLS[kind](pipe.at, pipe, body, otherwise)

    # --- pipelines

    def pipeline(self, where: str, end: str) -> nodes.Pipe:
        pipe = nodes.Pipe(self.peek_word().at)
        self.declarations(pipe, where)
        while True:
            token = self.take_word()
            if token.kind == end:
                break
            if token.kind not in _OPERANDS:
                self.unexpected(token, where)
            self.next_at -= 1
            pipe.commands.append(self.command())
        if not pipe.commands:
            self.fail(f"missing value for {where}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], (nodes.Bool, nodes.Dot, nodes.Nil, nodes.Number, nodes.String)):
                self.fail(f"non executable command in pipeline stage {stage}")
        return pipe

    def declarations(self, pipe: nodes.Pipe, where: str) -> None:
        """``$x :=``, ``$x =``, of a range ``$i, $x :=``; any other variable is left for the command."""
        while self.peek_word().kind == "variable":
            begun = self.next_at
            variable = self.take()
            following = self.peek_word()
            if following.kind in ("assign", "declare"):
                self.take()
                pipe.assigns = following.kind == "assign"
            elif not (following.kind == "char" and following.text == ","):
                self.next_at = begun
                return
            else:
                self.take()
            pipe.variables.append(variable.text)
            self.variables.append(variable.text)
            if following.kind != "char":
                return
            if where != "range" or len(pipe.variables) > 1:
                self.fail(f"too many declarations in {where}")
            if self.peek_word().kind not in ("variable", "right", "rparen"):
                self.fail("range can only initialize variables")

    def command(self) -> nodes.Command:
        command = nodes.Command(self.peek_word().at, [])
        while True:
            self.peek_word()
            operand = self.operand()
            if operand is not None:
                command.args.append(operand)
            token = self.take()
            if token.kind == "space":
                continue
            if token.kind in ("right", "rparen"):
                self.next_at -= 1
            elif token.kind != "pipe":
                self.unexpected(token, "operand")
            break
        if not command.args:
            self.fail("empty command")
        return command

    def operand(self) -> nodes.Node | None:
        node = self.term()
        if node is None or self.peek().kind != "field":
            return node
        at, names = self.peek().at, []
        while self.peek().kind == "field":
            names.append(self.take().text[1:])
        if isinstance(node, (nodes.Field, nodes.Variable)):
            return type(node)(at, node.names + names)
        if isinstance(node, (nodes.Bool, nodes.String, nodes.Number, nodes.Nil, nodes.Dot)):
            self.fail(f"unexpected . after term {quoted(str(node))}")
        return nodes.Chain(at, node, names)

    def term(self) -> nodes.Node | None:
        token = self.take_word()
        at, text = token.at, token.text
        if token.kind == "field":
            return nodes.Field(at, [text[1:]])
        if token.kind == "identifier":
            if text not in self.functions:
                self.fail(f"function {quoted(text)} not defined")
            return nodes.Name(at, text)
        if token.kind == "variable":
            if text not in self.variables:
                self.fail(f"undefined variable {quoted(text)}")
            return nodes.Variable(at, [text])
        if token.kind == "lparen":
            self.enter()
            pipe = self.pipeline("parenthesized pipeline", "rparen")
            self.depth -= 1
            return pipe
        literal = {"dot": nodes.Dot, "nil": nodes.Nil, "bool": nodes.Bool}.get(token.kind)
        if literal is not None:
            return literal(at, text)
        if token.kind == "string":
            value = unquoted(text)
            if value is None:
                self.fail("invalid syntax")
            return nodes.String(at, text, value)
        if token.kind in ("number", "character", "complex"):
            return self.number(token)
        self.next_at -= 1
        return None

    def number(self, token: Token) -> nodes.Number:
        if token.kind == "character":
            char = unquoted_character(token.text)
            if isinstance(char, str):
                self.fail(char)
            return nodes.Number(token.at, token.text, char, char)
        if token.kind == "complex" or token.text.endswith("i"):
            self.fail(f"complex numbers are not supported: {quoted(token.text)}")
        found = number_of(token.text)
        if isinstance(found, str):
            self.fail(f"{found}: {quoted(token.text)}")
        return nodes.Number(token.at, token.text, *found)
