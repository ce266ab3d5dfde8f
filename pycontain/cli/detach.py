"""What ``run -d`` and ``create`` ask beside the request: what a container that stays has to do when nobody is there."""

from __future__ import annotations

from .. import parse
from ..errors import ContainerNotFound, InvalidArgument
from ..runtime.detached import Logging, Restart
from .arguments import converted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..request import RunRequest
    from ..runtime.roots import Roots
    from .arguments import Values

__all__ = ["check_attached", "create", "run_detached"]

_ONLY_DETACHED = ("restart", "log_driver", "log_opt", "stop_timeout")
_ONLY_ATTACHED = ("attach", "timeout", "explain", "time")


def check_attached(values: Values) -> None:
    """Raises: InvalidArgument: an option that means nothing to a container which goes with its command."""
    if values.detach_keys:
        raise InvalidArgument(
            "--detach-keys: a container in the foreground ends with its command and cannot be left: `pycontain run -dit ...`, then "
            "`pycontain attach --detach-keys`; or leave it out"
        )
    for name in _ONLY_DETACHED:
        if getattr(values, name):
            option = name.replace("_", "-")
            raise InvalidArgument(f"--{option} is for a container that stays: add -d, or leave it out")


def run_detached(request: RunRequest, values: Values, roots: Roots) -> str:
    """Made and started: its id. One that cannot be started stays, as with Docker, unless ``--rm``."""
    from ..engine import containers as engine

    container_id = create(request, values, roots, stdin_once=False)
    try:
        engine.start(roots, container_id)
    except BaseException:
        if values.rm:
            try:
                engine.remove(roots, container_id, force=True)
            except ContainerNotFound:
                pass  # by its monitor
        raise
    return container_id


def create(request: RunRequest, values: Values, roots: Roots, *, stdin_once: bool) -> str:
    """``stdin_once``: with -i, its standard input ends with the first who is attached to it."""
    for name in _ONLY_ATTACHED:
        if getattr(values, name):
            raise InvalidArgument(f"-d and --{name} contradict each other: leave out one of them")
    restart = converted("restart", _restart, values.restart) if values.restart else Restart()
    if values.rm and restart.policy != "no":
        raise InvalidArgument("--restart and --rm contradict each other: leave out one of them")
    from ..engine import containers as engine

    container_id = engine.create(
        request, roots, auto_remove=values.rm, restart=restart, logging=_logging(values), open_stdin=values.interactive,
        stdin_once=stdin_once and values.interactive,
        stop_timeout_s=float(converted("stop_timeout", lambda v: parse.integer(v, -1, 1 << 31), values.stop_timeout or "10")),
    )  # fmt: skip
    if values.cidfile:
        _write_id(values.cidfile, container_id, roots)
    return container_id


def _write_id(path: str, container_id: str, roots: Roots) -> None:
    from ..engine import containers as engine

    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(container_id)
    except OSError as error:
        engine.remove(roots, container_id)
        if isinstance(error, FileExistsError):
            raise InvalidArgument(f"--cidfile {path}: it exists: remove it, or name another file") from None
        raise InvalidArgument(f"--cidfile {path}: cannot write it: {error.strerror}") from None


def _restart(text: str) -> Restart:
    policy, colon, most = text.partition(":")
    if policy not in ("no", "on-failure", "always", "unless-stopped"):
        raise parse.invalid("policy", text, "there is no such policy", "no, on-failure[:N], always or unless-stopped")
    if colon and policy != "on-failure":
        raise parse.invalid("policy", text, "only on-failure has a number of restarts", "on-failure:3")
    return Restart(policy=policy, most=parse.integer(most, 0, 1 << 31) if colon else 0)


def _logging(values: Values) -> Logging:
    driver = values.log_driver or "json-file"
    if driver not in ("json-file", "none"):
        raise InvalidArgument(f"--log-driver: there is no driver {parse.quote(driver)} here: write json-file or none")
    fields: dict[str, Any] = {}
    for text in values.log_opt or ():
        key, equals, value = text.partition("=")
        if driver == "none" or not equals or key not in ("max-size", "max-file"):
            known = "the driver none has no options" if driver == "none" else "write max-size=SIZE or max-file=COUNT"
            raise InvalidArgument(f"--log-opt: unknown option {parse.quote(text)}: {known}")
        if key == "max-size":
            fields["max_size"] = 0 if value == "-1" else converted("log_opt", parse.size, value)
        else:
            fields["max_file"] = converted("log_opt", lambda v: parse.integer(v, 1, 1000), value)
    if fields.get("max_file", 1) > 1 and not fields.get("max_size"):
        raise InvalidArgument(
            "--log-opt: max-file needs a max-size: there is no second file before the first one is full"
        )
    return Logging(driver=driver, **fields)
