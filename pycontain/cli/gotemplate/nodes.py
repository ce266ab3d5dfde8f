"""The tree of a template. ``str()`` of a node is how Go's error messages show it."""

from __future__ import annotations

__all__ = [
    "Action",
    "Bool",
    "Break",
    "Chain",
    "Command",
    "Continue",
    "Dot",
    "Field",
    "If",
    "Name",
    "Nil",
    "Node",
    "Number",
    "Pipe",
    "Range",
    "String",
    "Text",
    "Variable",
    "With",
]


class Node:
    """``at``: the index in the template that an error names."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at


class Text(Node):
    __slots__ = ("text",)

    def __init__(self, at: int, text: str) -> None:
        super().__init__(at)
        self.text = text


class _Literal(Node):
    __slots__ = ("source",)

    def __init__(self, at: int, source: str) -> None:
        super().__init__(at)
        self.source = source

    def __str__(self) -> str:
        return self.source


class Dot(_Literal):
    __slots__ = ()


class Nil(_Literal):
    __slots__ = ()


class Name(_Literal):
    """The name of a function."""

    __slots__ = ()


class Bool(_Literal):
    __slots__ = ()


class String(_Literal):
    __slots__ = ("text",)

    def __init__(self, at: int, source: str, text: str) -> None:
        super().__init__(at, source)
        self.text = text


class Number(_Literal):
    """``value``: as it is where nothing says which type is wanted; ``whole`` where an int is, None if it is none."""

    __slots__ = ("value", "whole")

    def __init__(self, at: int, source: str, value: int | float | None, whole: int | None) -> None:
        super().__init__(at, source)
        self.value = value  # None: an integer that only a uint64 can hold
        self.whole = whole


class Field(Node):
    """``.A.B``."""

    __slots__ = ("names",)

    def __init__(self, at: int, names: list[str]) -> None:
        super().__init__(at)
        self.names = names

    def __str__(self) -> str:
        return "".join([f".{name}" for name in self.names])


class Variable(Node):
    """``$x.A.B``; ``names[0]`` is ``$x``."""

    __slots__ = ("names",)

    def __init__(self, at: int, names: list[str]) -> None:
        super().__init__(at)
        self.names = names

    def __str__(self) -> str:
        return ".".join(self.names)


class Chain(Node):
    """``(pipeline).A.B``."""

    __slots__ = ("names", "node")

    def __init__(self, at: int, node: Node, names: list[str]) -> None:
        super().__init__(at)
        self.node = node
        self.names = names

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return ".".join([inner, *self.names])


class Command(Node):
    __slots__ = ("args",)

    def __init__(self, at: int, args: list[Node]) -> None:
        super().__init__(at)
        self.args = args

    def __str__(self) -> str:
        return " ".join([f"({each})" if isinstance(each, Pipe) else str(each) for each in self.args])


class Pipe(Node):
    """``$x := command | command``. ``assigns``: with ``=`` instead."""

    __slots__ = ("assigns", "commands", "variables")

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.variables: list[str] = []
        self.assigns = False
        self.commands: list[Command] = []

    def __str__(self) -> str:
        head = f"{', '.join(self.variables)} {'=' if self.assigns else ':='} " if self.variables else ""
        return head + " | ".join(map(str, self.commands))


class Action(Node):
    __slots__ = ("pipe",)

    def __init__(self, at: int, pipe: Pipe) -> None:
        super().__init__(at)
        self.pipe = pipe


class Break(Node):
    __slots__ = ()


class Continue(Node):
    __slots__ = ()


class _Branch(Node):
    __slots__ = ("body", "otherwise", "pipe")

    def __init__(self, at: int, pipe: Pipe, body: list[Node], otherwise: list[Node]) -> None:
        super().__init__(at)
        self.pipe = pipe
        self.body = body
        self.otherwise = otherwise

    def __str__(self) -> str:
        return f"{{{{{type(self).__name__.lower()} {self.pipe}}}}}"


class If(_Branch):
    __slots__ = ()


class With(_Branch):
    __slots__ = ()


class Range(_Branch):
    __slots__ = ()
