"""``pycontain run``: the command line becomes a RunRequest, which is then explained or executed."""

from __future__ import annotations

import os

from .. import parse
from ..errors import InvalidArgument
from ..image.resolve import NotHere, is_pullable
from ..record import replaced
from ..request import RunRequest
from .arguments import Command, Values, converted, read
from .run_options import COMMAND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..request import Mount
    from ..runtime.roots import Roots

# what check_attached looks at, which most runs need not load
_ONLY_DETACHED = tuple(
    option.long[2:].replace("-", "_") for option in COMMAND.options if option.help.startswith("with -d: ")
)

__all__ = ["COMMAND", "LIMITS", "environment", "main", "request_of", "with_image"]


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    """The program's exit code. Raises PycontainError."""
    values, words = read(command, argv)
    request = request_of(values, words, os.environ)
    timeout_s = converted("timeout", parse.seconds, values.timeout) if values.timeout is not None else None
    if values.detach_keys:
        from .detach_keys import detach_keys

        converted("detach_keys", detach_keys, values.detach_keys)
    if values.detach:
        return _detach(request, values, roots)
    if any(getattr(values, name) for name in _ONLY_DETACHED):
        from .detach import check_attached

        check_attached(values)
    streams = _streams(values)
    _check_explain(values)
    if values.explain and not values.time:
        from ..explain import explain
        from .output import write

        write(_whole_line(explain(request, roots, fmt=values.format or "text")))
        return 0
    from . import supervise

    if values.explain:
        return supervise.explain_timed(request, roots, streams, fmt=values.format or "text")

    def execute(request: RunRequest) -> int:
        return supervise.execute(request, roots, streams, timeout_s=timeout_s, cidfile=values.cidfile)

    return with_image(request, values, roots, execute)


def _detach(request: RunRequest, values: Values, roots: Roots) -> int:
    from .detach import run_detached
    from .output import write

    def execute(request: RunRequest) -> int:
        write(run_detached(request, values, roots) + "\n")
        return 0

    return with_image(request, values, roots, execute)


def with_image(request: RunRequest, values: Values, roots: Roots, execute: Callable[[RunRequest], int]) -> int:
    """``execute`` with the image in the store, which is asked for when it is missing, or always."""
    if request.pull == "never" or not is_pullable(request.image):
        return execute(request)
    # Not by the start itself: whoever waits at a terminal sees how far the pull is, on standard error.
    stored = replaced(request, pull="never")
    missing: NotHere | None = None
    if request.pull == "missing":
        try:
            return execute(stored)
        except NotHere as error:
            missing = error
    from .pulling import pull_for_run

    pull_for_run(request, roots, missing, quiet=values.quiet)
    return execute(stored)


def _whole_line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _check_explain(values: Values) -> None:
    for name in ("time", "format"):
        if getattr(values, name) and not values.explain:
            raise InvalidArgument(f"--{name} belongs to --explain: write --explain --{name}, or leave it out")
    if values.format not in (None, "text", "json"):
        raise InvalidArgument(f"--format: there is no format {parse.quote(values.format)}: write text or json")
    if values.time and values.timeout is not None:
        raise InvalidArgument("--time and --timeout contradict each other: leave out one of them")


def _streams(values: Values) -> frozenset[str]:
    """Which of the caller's streams the program gets: of "stdin", "stdout", "stderr"."""
    chosen = {each.lower() for each in values.attach or ()}
    for each in chosen:
        converted("attach", lambda v: parse.choice(v, ("stdin", "stdout", "stderr")), each)
    streams = chosen or {"stdout", "stderr"}
    if values.interactive:
        streams.add("stdin")
    return frozenset(streams)


def _as_given(value: str) -> str:
    return value


def _unless_zero(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Docker's 0 is: unset."""
    return lambda value: convert(value) or None


def _number(low: int, high: int) -> Callable[[str], int]:
    return lambda value: parse.integer(value, low, high)


def _mode(*valid: str) -> Callable[[str], str]:
    return lambda value: parse.choice(value, valid, later="joining another container comes later")


def _userns(value: str) -> str:
    from ..idmap import userns

    userns(value)
    return value


def _id_mappings(value: str) -> Any:
    from ..idmap import mappings

    return mappings(value)


# (option, field of RunRequest, what makes its value)
_SINGLE: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("pull", "pull", lambda v: parse.choice(v, ("missing", "always", "never"))),
    ("workdir", "workdir", _as_given),
    ("user", "user", parse.user),
    ("name", "name", parse.name),
    ("hostname", "hostname", parse.hostname),
    ("domainname", "domainname", parse.hostname),
    ("network", "network", parse.network),
    ("pid", "pid", _mode("private", "host")),
    ("ipc", "ipc", _mode("private", "host", "none")),
    ("uts", "uts", _mode("private", "host")),
    ("cgroupns", "cgroupns", _mode("private", "host")),
    ("userns", "userns", _userns),
    ("shm_size", "shm_size_bytes", _unless_zero(parse.size)),
    ("memory", "memory_bytes", _unless_zero(parse.size)),
    ("memory_swap", "memory_swap_bytes", _unless_zero(parse.memory_swap)),
    ("memory_reservation", "memory_reservation_bytes", _unless_zero(parse.size)),
    ("cpus", "cpus", _unless_zero(parse.cpus)),
    ("cpu_shares", "cpu_shares", _unless_zero(_number(0, 262144))),
    ("cpu_period", "cpu_period_us", _unless_zero(_number(0, 1 << 40))),
    ("cpu_quota", "cpu_quota_us", _unless_zero(_number(-1, 1 << 44))),
    ("cpu_rt_period", "cpu_rt_period_us", _unless_zero(_number(0, 1 << 40))),
    ("cpu_rt_runtime", "cpu_rt_runtime_us", _unless_zero(_number(0, 1 << 40))),
    ("cpuset_cpus", "cpuset_cpus", parse.cpuset),
    ("cpuset_mems", "cpuset_mems", lambda v: parse.cpuset(v, "memory node")),
    ("pids_limit", "pids_limit", parse.pids_limit),
    ("blkio_weight", "blkio_weight", _unless_zero(_number(0, 1000))),
    ("oom_score_adj", "oom_score_adj", _number(-1000, 1000)),
)
# those of them that an update can change, by option
LIMITS: dict[str, tuple[str, Callable[[str], Any]]] = {
    option: (field, convert)
    for option, field, convert in _SINGLE
    if option in ("blkio_weight", "pids_limit") or option.startswith(("cpu", "memory"))
}
_REPEATED: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("group_add", "group_add", _as_given),
    ("add_host", "add_host", parse.add_host),
    ("annotation", "annotations", parse.label),
    ("cap_add", "cap_add", _as_given),
    ("cap_drop", "cap_drop", _as_given),
    ("device", "devices", parse.device),
    ("device_read_bps", "device_read_bps", parse.device_bps),
    ("device_write_bps", "device_write_bps", parse.device_bps),
    ("device_read_iops", "device_read_iops", parse.device_iops),
    ("device_write_iops", "device_write_iops", parse.device_iops),
    ("sysctl", "sysctls", parse.sysctl),
    ("volumes_from", "volumes_from", _as_given),
)
_FLAGS = (("tty", "terminal"), ("init", "init"), ("read_only", "read_only"), ("privileged", "privileged"))


def request_of(values: Values, words: list[str], environ: Mapping[str, str]) -> RunRequest:
    """The request of parsed options and the words after them; reads env and label files.

    Contradictions between values are the runtime's to find, for the Python API as well. Raises: InvalidArgument.
    """
    fields: dict[str, Any] = {field: getattr(values, option) for option, field in _FLAGS}
    for option, field, convert in _SINGLE:
        value = getattr(values, option)
        if value is not None:
            fields[field] = converted(option, convert, value)
    for option, field, convert in _REPEATED:
        given = getattr(values, option)
        if given:
            fields[field] = tuple([converted(option, convert, value) for value in given])
    if values.ulimit:  # the last of a name counts
        limits = [converted("ulimit", parse.ulimit, value) for value in values.ulimit]
        fields["ulimits"] = tuple({limit.name: limit for limit in limits}.values())
    for option, field in (("uidmap", "uid_mappings"), ("gidmap", "gid_mappings")):
        if getattr(values, option):
            fields[field] = converted(option, _id_mappings, ",".join(getattr(values, option)))
    if values.stop_signal is not None:
        converted("stop_signal", parse.signal_number, values.stop_signal)
        fields["stop_signal"] = values.stop_signal
    if values.entrypoint is not None:
        fields["entrypoint"] = (values.entrypoint,) if values.entrypoint else ()
    if values.security_opt:
        options = converted("security_opt", lambda v: parse.security_opts(values.security_opt), "")
        fields["no_new_privileges"] = options.no_new_privileges
        fields["seccomp"] = options.seccomp
        fields["masked_paths"] = options.masked_paths
        fields["apparmor"] = options.apparmor
        fields["selinux_label"] = options.label
    image, args = _image(values.rootfs, words)
    if image.startswith("bundle:"):
        return _bundle(image, values, args)
    fields["platform"] = values.platform if values.platform is not None else environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return RunRequest(
        image=image,
        args=args,
        env=environment(values, environ),
        labels=_labels(values),
        mounts=_mounts(values),
        **fields,
    )


def _bundle(image: str, values: Values, args: tuple[str, ...]) -> RunRequest:
    """Its document says everything: no option that would say it again, or otherwise."""
    from ..runtime.bundle import request_of_bundle

    ours = {"rm", "explain", "time", "format", "timeout", "cidfile", "interactive", "attach", "help"}
    given = [name for name, value in vars(values).items() if value and name not in ours]
    if given or args:
        what = f"--{given[0].replace('_', '-')}" if given else parse.quote(args[0])
        raise InvalidArgument(
            f"{image}: {what} contradicts a bundle, whose config.json says everything: change it there"
        )
    return request_of_bundle(image)


def _image(rootfs: str | None, words: list[str]) -> tuple[str, tuple[str, ...]]:
    if rootfs is not None:
        if not rootfs:
            raise InvalidArgument("--rootfs: the directory is empty: write --rootfs DIR")
        return os.path.abspath(rootfs), tuple(words)
    if not words:
        error = InvalidArgument(
            f"an image is missing: `{COMMAND.prog} {COMMAND.usage}`, such as `pycontain run host sh`"
        )
        error.exit_code = 1  # as with any other word too few
        raise error
    return words[0], tuple(words[1:])


def _file(option: str, path: str, read_lines: Callable[[str], Any]) -> Any:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"--{option} {path}: byte {error.start + 1} is not UTF-8: save the file as UTF-8"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        why = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"--{option} {path}: cannot read it: {why}; name a file of lines NAME=VALUE") from None
    try:
        return read_lines(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"--{option} {path}, {error}") from None


def environment(values: Values, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Docker's order: files first, then -e; the last of a name counts."""
    merged: dict[str, str] = {}
    for path in values.env_file or ():
        merged.update(_file("env-file", path, lambda text: parse.env_file(text, environ)))
    for item in values.env or ():
        merged.update(converted("env", lambda each: parse.env([each], environ), item))
    return tuple(merged.items())


def _labels(values: Values) -> tuple[tuple[str, str], ...]:
    merged: dict[str, str] = {}
    for path in values.label_file or ():
        merged.update(_file("label-file", path, parse.label_file))
    merged.update(converted("label", parse.label, item) for item in values.label or ())
    return tuple(merged.items())


def _mounts(values: Values) -> tuple[Mount, ...]:
    if not (values.volume or values.mount or values.tmpfs):
        return ()
    from .. import mounts

    found: list[Mount] = [converted("volume", mounts.volume, each) for each in values.volume or ()]
    found += [converted("mount", mounts.mount, each) for each in values.mount or ()]
    found += [converted("tmpfs", mounts.tmpfs, each) for each in values.tmpfs or ()]
    return tuple(found)
