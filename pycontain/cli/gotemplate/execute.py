"""A template applied to its data."""

from __future__ import annotations

from typing import Any

from . import nodes
from .errors import CallFailed, TemplateError
from .functions import FUNCTIONS, HEADER_FUNCTIONS, Function
from .parser import parse_nodes
from .printing import plain, shown
from .quoting import quoted
from .values import NO_VALUE, Headers, NilPointer, NoValue, Struct, go_type, is_true
from .verbs import MAX_TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Template", "parse"]

_MAX_STEPS = 1_000_000
_NOTHING = object()  # no value from a former stage of the pipeline


def parse(text: str) -> Template:
    """Raises: TemplateError."""
    return Template(text)


class Template:
    def __init__(self, text: str) -> None:
        self.text = text
        self.root = parse_nodes(text, FUNCTIONS)

    def execute(self, data: Any, *, missing_is_error: bool = False, header: bool = False) -> str:
        """The text. ``missing_is_error``: so is a key that a map does not have; ``header``: the columns' names are the data.

        Raises: TemplateError.
        """
        run = _Run(self.text, missing_is_error, HEADER_FUNCTIONS if header else FUNCTIONS)
        run.variables.append(("$", data))
        try:
            run.walk_all(data, self.root)
        except TemplateError:
            if not header:
                raise
            # Docker writes what there is of a header and goes on: {{json .}} has no name
        except RecursionError:
            raise TemplateError("template: :1: the data have too many levels") from None
        return "".join(run.out)


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Run:
    def __init__(self, text: str, missing_is_error: bool, functions: dict[str, Function]) -> None:
        self.text = text
        self.missing_is_error = missing_is_error
        self.functions = functions
        self.out: list[str] = []
        self.variables: list[tuple[str, Any]] = []
        self.node: nodes.Node | None = None
        self.steps = 0

    def fail(self, message: str) -> NoReturn:
        where = ""
        if self.node is not None:
            before = self.text[: self.node.at]
            line = before.rpartition("\n")[2].encode("utf-8", "surrogatepass")
            where = f'{before.count(chr(10)) + 1}:{len(line)}: executing "" at <{self.node}>: '
        raise TemplateError(f"template: :{where}{message}")

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > _MAX_STEPS:
            self.fail("this template has more to do than is allowed")

    def write(self, text: str) -> None:
        self.spend(1 + len(text) // 64)
        self.out.append(text)

    # --- structure

    def walk_all(self, dot: Any, body: list[nodes.Node]) -> None:
        for node in body:
            self.walk(dot, node)

    def walk(self, dot: Any, node: nodes.Node) -> None:
        self.node = node
        if isinstance(node, nodes.Text):
            self.write(node.text)
        elif isinstance(node, nodes.Action):
            value = self.pipeline(dot, node.pipe)
            if not node.pipe.variables:
                self.write(shown(value))
        elif isinstance(node, (nodes.If, nodes.With)):
            self.branch(dot, node)
        elif isinstance(node, nodes.Range):
            self.range(dot, node)
        else:
            raise _Break if isinstance(node, nodes.Break) else _Continue

    def branch(self, dot: Any, node: nodes.If | nodes.With) -> None:
        known = len(self.variables)
        value = self.pipeline(dot, node.pipe)
        if is_true(value):
            self.walk_all(value if isinstance(node, nodes.With) else dot, node.body)
        else:
            self.walk_all(dot, node.otherwise)
        del self.variables[known:]

    def range(self, dot: Any, node: nodes.Range) -> None:
        known = len(self.variables)
        value = self.pipeline(dot, node.pipe)
        inner = len(self.variables)
        any_item = False
        try:
            for key, item in self.items(value, node):
                any_item = True
                self.spend(1)
                self.declare(node.pipe, key, item, inner)
                try:
                    self.walk_all(item, node.body)
                except _Continue:
                    pass
                del self.variables[inner:]
        except _Break:
            pass
        if not any_item:
            self.walk_all(dot, node.otherwise)
        del self.variables[known:]

    def items(self, value: Any, node: nodes.Range) -> Any:
        """Pairs of index and element."""
        if isinstance(value, (list, tuple)):
            return enumerate(value)
        if isinstance(value, dict) and not isinstance(value, Struct):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, int) and not isinstance(value, bool):
            if len(node.pipe.variables) > 1:
                self.fail(f"can't use {int(value)} to iterate over more than one variable")
            return ((NO_VALUE, number) for number in range(int(value)))
        if isinstance(value, NoValue) or value is None:
            return ()
        self.fail(f"range can't iterate over {plain(value)}")

    def declare(self, pipe: nodes.Pipe, key: Any, item: Any, top: int) -> None:
        names = pipe.variables
        if not names:
            return
        values = [item] if len(names) == 1 else [key, item]
        if pipe.assigns:
            for name, value in zip(names, values, strict=True):
                self.assign(name, value)
        else:
            self.variables[top - len(names) : top] = list(zip(names, values, strict=True))

    def assign(self, name: str, value: Any) -> None:
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = name, value
                return
        self.fail(f"undefined variable: {name}")

    def variable(self, name: str) -> Any:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        self.fail(f"undefined variable: {name}")

    # --- pipelines

    def pipeline(self, dot: Any, pipe: nodes.Pipe) -> Any:
        self.node = pipe
        value: Any = _NOTHING
        for command in pipe.commands:
            value = self.command(dot, command, value)
            if value is None:
                value = NO_VALUE  # an interface that holds nothing
        for name in pipe.variables:
            if pipe.assigns:
                self.assign(name, value)
            else:
                self.variables.append((name, value))
        return value

    def command(self, dot: Any, command: nodes.Command, final: Any) -> Any:
        self.spend(1)
        first = command.args[0]
        if isinstance(first, nodes.Name):
            self.node = first
            return self.call(dot, first.source, command, command.args[1:], final)
        if isinstance(first, (nodes.Field, nodes.Chain, nodes.Variable)):
            return self.fields(dot, first, command.args[1:], final)
        has_arguments = len(command.args) > 1 or final is not _NOTHING
        if isinstance(first, nodes.Pipe):
            self.no_arguments(first, has_arguments)
            return self.pipeline(dot, first)
        self.node = first
        self.no_arguments(first, has_arguments)
        if isinstance(first, nodes.Nil):
            self.fail("nil is not a command")
        return self.literal(dot, first)

    def no_arguments(self, node: nodes.Node, has_arguments: bool) -> None:
        if has_arguments:
            self.fail(f"can't give argument to non-function {node}")

    def literal(self, dot: Any, node: nodes.Node) -> Any:
        if isinstance(node, nodes.Dot):
            return dot
        if isinstance(node, nodes.String):
            return node.text
        if isinstance(node, nodes.Bool):
            return node.source == "true"
        assert isinstance(node, nodes.Number)
        self.node = node
        if node.value is None:
            self.fail(f"{node} overflows int")
        return node.value

    # --- fields

    def fields(
        self, dot: Any, node: nodes.Field | nodes.Chain | nodes.Variable, args: list[nodes.Node], final: Any
    ) -> Any:
        """The arguments, and what the former stage of the pipeline gives, are the last name's, which is a method then."""
        self.node = node
        has_arguments = bool(args) or final is not _NOTHING
        names = node.names
        if isinstance(node, nodes.Variable):
            receiver = self.variable(names[0])
            names = names[1:]
            if not names:
                self.no_arguments(node, has_arguments)
                return receiver
        elif isinstance(node, nodes.Chain):
            if isinstance(node.node, nodes.Nil):
                self.fail(f"indirection through explicit nil in {node}")
            receiver = self.argument(dot, node.node, "any")
        else:
            receiver = dot
        kind = ""
        for at, name in enumerate(names):
            is_last = at == len(names) - 1
            method = receiver.methods.get(name) if isinstance(receiver, (Struct, Headers)) else None
            if method is None:
                receiver, kind = self.field(receiver, kind, name, has_arguments and is_last)
            else:
                given = (args, final) if is_last else ([], _NOTHING)
                receiver, kind = self.invoke(dot, name, method, node, *given), ""
                self.node = node
        return receiver

    def field(self, receiver: Any, kind: str, name: str, has_arguments: bool) -> tuple[Any, str]:
        """The field of a struct or the entry of a map, and the type that it has there if that is not its own."""
        if isinstance(receiver, NoValue):
            if self.missing_is_error:
                self.fail(f"nil data; no entry for key {quoted(name)}")
            return NO_VALUE, ""
        kind = kind or go_type(receiver)
        if isinstance(receiver, Struct):
            key = receiver.aliases.get(name, name)
            if key in receiver:
                if has_arguments:
                    self.fail(f"{name} has arguments but cannot be invoked as function")
                return receiver[key], ""
        elif isinstance(receiver, dict):
            if has_arguments:
                self.fail(f"{name} is not a method but has arguments")
            if name in receiver:
                return receiver[name], "" if kind == "map[string]string" else "interface {}"
            if self.missing_is_error:
                self.fail(f"map has no entry for key {quoted(name)}")
            return NO_VALUE, ""
        elif receiver is None or isinstance(receiver, NilPointer):
            self.fail(f"nil pointer evaluating {kind}.{name}")
        self.fail(f"can't evaluate field {name} in type {kind}{_nearest(receiver, name)}")

    # --- functions

    def call(self, dot: Any, name: str, node: nodes.Node, args: list[nodes.Node], final: Any) -> Any:
        return self.invoke(dot, name, self.functions[name], node, args, final)

    def invoke(
        self, dot: Any, name: str, function: Function, node: nodes.Node, args: list[nodes.Node], final: Any
    ) -> Any:
        kinds = function.parameters
        given = len(args) + (final is not _NOTHING)
        if function.rest:
            if given < len(kinds):
                self.fail(f"wrong number of args for {name}: want at least {len(kinds)} got {len(args)}")
        elif given != len(kinds):
            self.fail(f"wrong number of args for {name}: want {len(kinds)} got {given}")
        if name in ("and", "or"):
            return self.short_circuit(dot, name, args, final)
        values = []
        for at, arg in enumerate(args):
            values.append(self.argument(dot, arg, kinds[at] if at < len(kinds) else function.rest))
        if final is not _NOTHING:
            values.append(self.validated(final, kinds[given - 1] if given <= len(kinds) else function.rest))
        try:
            result = function.call(*values)
        except (CallFailed, ValueError) as error:
            self.node = node
            self.fail(f"error calling {name}: {error}")
        if isinstance(result, str):
            if len(result) > MAX_TEXT:
                self.fail(f"error calling {name}: the text is too long")
            self.spend(len(result) // 64)
        return result

    def short_circuit(self, dot: Any, name: str, args: list[nodes.Node], final: Any) -> Any:
        value: Any = NO_VALUE
        for arg in args:
            value = self.argument(dot, arg, "any")
            if is_true(value) == (name == "or"):
                return value
        return value if final is _NOTHING else final

    def argument(self, dot: Any, node: nodes.Node, kind: str) -> Any:
        self.node = node
        if isinstance(node, (nodes.Field, nodes.Chain, nodes.Variable)):
            return self.validated(self.fields(dot, node, [], _NOTHING), kind)
        if isinstance(node, nodes.Pipe):
            return self.validated(self.pipeline(dot, node), kind)
        if isinstance(node, nodes.Name):
            return self.validated(self.call(dot, node.source, node, [], _NOTHING), kind)
        if isinstance(node, nodes.Dot):
            return self.validated(dot, kind)
        if isinstance(node, nodes.Nil):
            if kind == "any":
                return NO_VALUE
            self.fail(f"cannot assign nil to {kind}")
        if kind == "int":
            if isinstance(node, nodes.Number) and node.whole is not None:
                return node.whole
            self.fail(f"expected integer; found {node}")
        if kind == "string" and not isinstance(node, nodes.String):
            self.fail(f"expected string; found {node}")
        return self.literal(dot, node)

    def validated(self, value: Any, kind: str) -> Any:
        if kind == "any":
            return value
        if isinstance(value, NoValue):
            self.fail(f"invalid value; expected {kind}")
        fits = type(value) is str if kind == "string" else type(value) is int
        if not fits:
            self.fail(f"wrong type for value; expected {kind}; got {go_type(value)}")
        return value


def _nearest(receiver: Any, name: str) -> str:
    """What to write instead: Docker does not say it."""
    if not isinstance(receiver, Struct):
        return ""
    from ...parse import nearest

    return nearest(name, receiver, f"the fields are {', '.join(sorted(receiver))}")
