"""Frozen, keyword-only, slotted records: dataclasses without what importing and making dataclasses costs.

Every internal value is one. ``@dataclass(frozen=True, kw_only=True, slots=True)`` generates and compiles code for each class
and its module imports ``inspect``: together more than half of a whole ``pycontain run`` (docs/adr/0006). Type checkers see
a dataclass; ``dataclasses.replace``, ``fields`` and ``asdict`` work, and pay for the import only then.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")

__all__ = ["factory", "record", "replaced"]


def replaced(value: T, **changes: Any) -> T:
    """A copy of a record with some fields changed: dataclasses.replace without its import."""
    kind: Any = type(value)
    made: T = kind(**{**{name: getattr(value, name) for name in kind._names}, **changes})
    return made


class _Factory:
    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def factory(*, default_factory: Callable[[], Any]) -> Any:
    """The default of a field that is made anew for each record: ``x: dict[str, int] = factory(default_factory=dict)``."""
    return _Factory(default_factory)


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


class _RecordType(type):
    _names: tuple[str, ...]
    _defaults: dict[str, Any]

    def __getattr__(cls, name: str) -> Any:
        if name != "__dataclass_fields__" or "_names" not in cls.__dict__:
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        import dataclasses

        specs: list[tuple[str, Any, Any]] = []
        for field in cls._names:
            default = cls._defaults.get(field, dataclasses.MISSING)
            if default is not dataclasses.MISSING:
                # by a factory, so that a default need not be hashable
                default = dataclasses.field(
                    default_factory=default.make if isinstance(default, _Factory) else _always(default)
                )
            specs.append((field, "object", dataclasses.field() if default is dataclasses.MISSING else default))
        fields = vars(dataclasses.make_dataclass(cls.__name__, specs, kw_only=True))["__dataclass_fields__"]
        type.__setattr__(cls, name, fields)  # instances look it up in the class itself
        return fields


class _Record(metaclass=_RecordType):
    __slots__ = ()
    _names: tuple[str, ...] = ()
    _defaults: dict[str, Any] = {}  # noqa: RUF012 - each record class has its own

    def __init__(self, **values: Any) -> None:
        put = object.__setattr__
        defaults = self._defaults
        for name in self._names:
            if name in values:
                put(self, name, values.pop(name))
            elif name in defaults:
                value = defaults[name]
                put(self, name, value.make() if type(value) is _Factory else value)
            else:
                raise TypeError(f"{type(self).__name__}() misses the argument {name!r}")
        if values:
            raise TypeError(f"{type(self).__name__}() has no argument {next(iter(values))!r}")
        check = getattr(self, "__post_init__", None)
        if check is not None:
            check()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._names)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: make another one to change {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self._names)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(zip(self._names, self._values(), strict=True)))


def _rebuild(cls: type[Any], values: dict[str, Any]) -> Any:
    return cls(**values)


def _make(cls: type[Any]) -> type[Any]:
    names = tuple(cls.__annotations__)
    body = {k: v for k, v in cls.__dict__.items() if k not in ("__dict__", "__weakref__")}
    body["_defaults"] = {n: body.pop(n) for n in names if n in body}
    body["_names"] = body["__slots__"] = names
    if len(names) > 1:  # one C call instead of a loop: records are compared and hashed on the way to every start
        getter = attrgetter(*names)
        body["_values"] = lambda self: getter(self)
    return _RecordType(cls.__name__, (_Record,), body)


if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(factory,))
    def record(cls: type[T]) -> type[T]: ...

else:
    record = _make
