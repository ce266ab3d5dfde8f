"""What ``run -d`` and ``create`` ask beside the request: what a container that stays has to do when nobody is there."""

from __future__ import annotations

from .. import parse
from ..errors import ContainerNotFound, InvalidArgument
from ..record import replaced
from ..runtime.detached import Restart
from .arguments import converted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import RunRequest
    from ..runtime.detached import Logging
    from ..runtime.roots import Roots
    from .arguments import Values

__all__ = ["check_attached", "create", "run_detached"]

ONLY_DETACHED = (
    "restart", "log_driver", "log_opt", "stop_timeout", "health_cmd", "health_interval", "health_retries", "health_start_interval",
    "health_start_period", "health_timeout",
)  # fmt: skip
_ONLY_ATTACHED = ("attach", "timeout", "explain", "time")


def check_attached(values: Values) -> None:
    """Raises: InvalidArgument: an option that means nothing to a container which goes with its command."""
    if values.detach_keys:
        raise InvalidArgument(
            "--detach-keys: a container in the foreground ends with its command and cannot be left: `pycontain run -dit ...`, then "
            "`pycontain attach --detach-keys`; or leave it out"
        )
    for name in ONLY_DETACHED:
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
    from ..engine import containers as engine
    from ..engine.policies import parse_restart

    restart = converted("restart", parse_restart, values.restart) if values.restart else Restart()
    if values.rm and restart.policy != "no":
        raise InvalidArgument("--restart and --rm contradict each other: leave out one of them")

    if values.no_healthcheck or any(getattr(values, name) for name in ONLY_DETACHED if name.startswith("health_")):
        from .health_options import healthcheck_of

        request = replaced(request, healthcheck=healthcheck_of(values))
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


def _logging(values: Values) -> Logging:
    from ..engine.policies import parse_log_driver, parse_logging

    driver = converted("log_driver", parse_log_driver, values.log_driver or "json-file")
    logging: Logging = converted("log_opt", lambda _: parse_logging(driver, values.log_opt or ()), "")
    return logging
