"""The instructions of ``pycontain import --change``, as ``docker import`` has them, in a Dockerfile's words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import InvalidArgument
from .rootfs import ImageConfig

__all__ = ["on_build", "parse_changes"]

_MAX_PORT = 65535


def parse_changes(changes: Sequence[str], config: ImageConfig | None = None) -> ImageConfig:
    """Apply ``CMD``, ``ENTRYPOINT``, ``ENV``, ``WORKDIR``, ``USER``, ``LABEL``, ``EXPOSE``, ``VOLUME``, ``STOPSIGNAL``, ``HEALTHCHECK``;
    ``ONBUILD`` is looked at, and is for :func:`on_build`.

    Raises: InvalidArgument: another instruction, or one without what it needs.
    """
    config = config or ImageConfig()
    for line in changes:
        words = line.strip().split(None, 1)
        name = words[0].upper() if words else ""
        apply = _INSTRUCTIONS.get(name)
        if apply is None:
            raise _bad(line, f"the instructions are {', '.join(_INSTRUCTIONS)}")
        rest = words[1].strip() if len(words) > 1 else ""
        if not rest or "\0" in rest or "\n" in rest:
            raise _bad(line, f"{name} needs a value, on one line")
        config = apply(config, rest, line)
    return config


def _cmd(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    return replace(config, cmd=_command(rest))


def _entrypoint(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    return replace(config, entrypoint=_command(rest))


def _command(rest: str) -> tuple[str, ...]:
    """The exec form (a JSON list of texts), or else the shell form, as Dockerfiles have it."""
    listed = _json_list(rest)
    return ("/bin/sh", "-c", rest) if listed is None else listed


def _json_list(rest: str) -> tuple[str, ...] | None:
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    return tuple(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _env(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    known = dict(each.split("=", 1) for each in config.env)
    known.update(_pairs(rest, line))
    return replace(config, env=tuple(f"{name}={value}" for name, value in known.items()))


def _label(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    return replace(config, labels=tuple({**dict(config.labels), **_pairs(rest, line)}.items()))


def _pairs(rest: str, line: str) -> dict[str, str]:
    """``a=1 b="two words"``, or the old form ``a value to the end of the line``."""
    first = rest.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise _bad(line, "the form is NAME=VALUE")
        return {first[0]: first[1]}
    pairs = {}
    for word in _words(rest, line):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise _bad(line, f"{word!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _words(rest: str, line: str) -> list[str]:
    """Split at blanks outside quotes; ``\\`` takes the next character as it is, but not inside single quotes."""
    words: list[str] = []
    word: list[str] = []
    quote, started, at = "", False, 0
    while at < len(rest):
        char = rest[at]
        if char == "\\" and quote != "'" and at + 1 < len(rest):
            at += 1
            # Inside double quotes a backslash stays, except before what it can quote.
            word.append(rest[at] if not quote or rest[at] in '"\\$' else "\\" + rest[at])
            started = True
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "'\"":
            quote, started = char, True
        elif char.isspace():
            if started:
                words.append("".join(word))
            word, started = [], False
        else:
            word.append(char)
            started = True
        at += 1
    if quote:
        raise _bad(line, f"a {quote} without its end")
    return [*words, "".join(word)] if started else words


def _workdir(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    base = config.working_dir or "/"
    path = rest if rest.startswith("/") else f"{base}/{rest}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return replace(config, working_dir="/" + "/".join(parts))


def _user(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    if len(rest.split()) != 1:
        raise _bad(line, "USER takes one word: USER[:GROUP]")
    return replace(config, user=rest)


def _expose(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    ports = list(config.exposed_ports)
    for word in rest.split():
        numbers, _, protocol = word.partition("/")
        first, dash, last = numbers.partition("-")
        protocol = (protocol or "tcp").lower()
        texts = (first, last if dash else first)
        if protocol not in ("tcp", "udp", "sctp") or not all(x.isascii() and x.isdigit() and len(x) < 6 for x in texts):
            raise _bad(line, f"{word!r} is not PORT[-PORT][/tcp|/udp|/sctp]")
        low, high = (int(each) for each in texts)
        if not 0 < low <= high <= _MAX_PORT:
            raise _bad(line, f"{word!r} is not a range of ports from 1 to {_MAX_PORT}")
        ports += (f"{port}/{protocol}" for port in range(low, high + 1))
    return replace(config, exposed_ports=tuple(dict.fromkeys(ports)))


def _volume(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    listed = _json_list(rest)
    paths = listed if listed is not None else tuple(_words(rest, line))
    if not paths or not all(paths):
        raise _bad(line, "VOLUME needs a path")
    return replace(config, volumes=tuple(dict.fromkeys((*config.volumes, *paths))))


def _stop_signal(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    import signal

    name = rest.upper()
    if name.isascii() and name.isdigit():
        known = len(name) < 3 and 1 <= int(name) <= signal.SIGRTMAX
    else:
        name = name if name.startswith("SIG") else f"SIG{name}"
        base = name.partition("+")[0].partition("-")[0]
        known = base in signal.Signals.__members__
    if not known:
        raise _bad(line, f"{rest!r} is no signal")
    return replace(config, stop_signal=rest)


def _healthcheck(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    from .health_instruction import health_instruction

    try:
        return replace(config, healthcheck=health_instruction(rest, _json_list))
    except InvalidArgument as error:
        raise _bad(line, str(error)) from None


def on_build(changes: Sequence[str]) -> list[str]:
    """The instructions of ``ONBUILD``, for the builds that begin with the image. The changes are those of :func:`parse_changes`."""
    pairs = (line.strip().split(None, 1) for line in changes)
    return [rest.strip() for name, rest in pairs if name.upper() == "ONBUILD"]


def _on_build(config: ImageConfig, rest: str, line: str) -> ImageConfig:
    name = rest.split()[0].upper()
    if name in ("ONBUILD", "FROM", "MAINTAINER"):
        raise _bad(line, f"{name} cannot be a trigger")
    return config


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str, str], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _bad(line: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot apply --change {line[:200]!r}: {why}")
