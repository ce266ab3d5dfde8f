"""Keyword options of the Python API -> RunRequest: one table instead of sixty parameters in five places.

Values may be given as Python has them (``memory=64 << 20``) or as Docker's flags do (``memory="64m"``).
"""

from __future__ import annotations

from . import parse
from .errors import InvalidArgument
from .request import Mount, RunRequest, Ulimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypedDict

    from .spec.runtime import Resources

    class RunOptions(TypedDict, total=False):
        """Everything that shapes a container. Units: sizes in bytes (or "64m"), times in seconds."""

        pull: str
        platform: str
        env: Mapping[str, str] | Iterable[str]
        workdir: str
        user: str | int
        group_add: Sequence[str | int]
        name: str
        hostname: str
        domainname: str
        apparmor: str
        selinux_label: str
        labels: Mapping[str, str]
        entrypoint: str | Sequence[str]
        stop_signal: str
        memory: int | str
        memory_swap: int | str
        memory_reservation: int | str
        cpus: float
        cpu_shares: int
        cpuset_cpus: str
        pids: int
        blkio_weight: int
        device_read_bps: Mapping[str, int | str]
        device_write_bps: Mapping[str, int | str]
        device_read_iops: Mapping[str, int]
        device_write_iops: Mapping[str, int]
        network: str
        pid: str
        ipc: str
        uts: str
        cgroupns: str
        userns: str
        read_only: bool
        mounts: Sequence[Mount | str]
        volumes_from: Sequence[str]
        tmpfs: Sequence[Mount | str] | Mapping[str, str]
        shm_size: int | str
        cap_add: Sequence[str]
        cap_drop: Sequence[str]
        privileged: bool
        no_new_privileges: bool
        seccomp: str
        devices: Sequence[str]
        ulimits: Mapping[str, int | tuple[int, int]] | Sequence[str]
        sysctls: Mapping[str, str]
        add_host: Mapping[str, str]
        oom_score_adj: int
        init: bool

    class ExecOptions(TypedDict, total=False):
        """Who one more program in a container is, where it differs from the container. ``tty``: a terminal of the container's own."""

        user: str | int
        env: Mapping[str, str]
        workdir: str
        privileged: bool
        tty: bool

    class UpdateOptions(TypedDict, total=False):
        """Limits that can be changed while a container runs; as in RunOptions."""

        memory: int | str
        memory_swap: int | str
        memory_reservation: int | str
        cpus: float
        cpu_shares: int
        cpuset_cpus: str
        pids: int
        blkio_weight: int


__all__ = ["bind", "request", "tmpfs", "update", "volume"]


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = True) -> Mount:
    """A bind mount of a directory or file of this host. ``source`` must exist."""
    return Mount(
        type="bind",
        source=str(source),
        target=target,
        read_only=read_only,
        options=() if recursive else ("bind", "rprivate"),
    )


def volume(name: str | None, target: str, *, read_only: bool = False, copy: bool = True, subpath: str = "") -> Mount:
    """A volume, made if it is missing; None: an anonymous one, which goes with the container.

    ``copy``: an empty volume begins as the image's directory ``target``. ``subpath``: only this directory of the volume.
    """
    return Mount(
        type="volume", source=name or "", target=target, read_only=read_only, anonymous=not name, copy=copy, subpath=subpath
    )  # fmt: skip


def tmpfs(target: str, *, size: int | str | None = None, mode: int | None = None) -> Mount:
    """A tmpfs of at most ``size`` bytes (None: half of the memory), nosuid, nodev and noexec."""
    return Mount(type="tmpfs", target=target, size_bytes=None if size is None else parse.size(size), mode=mode)


def _text(value: Any) -> str:
    return str(value)


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    if isinstance(values, (str, bytes)):
        raise InvalidArgument(f"expected a list of strings, found the single string {values!r}: write [{values!r}]")
    return tuple(str(v) for v in values)


def _pairs(values: Any) -> tuple[tuple[str, str], ...]:
    if hasattr(values, "items"):
        pairs = tuple((str(k), str(v)) for k, v in values.items())
    else:
        pairs = tuple((k, v) for k, _, v in (str(item).partition("=") for item in values))
    for name, _ in pairs:
        if not name or "=" in name:
            raise InvalidArgument(f"{name!r} is no name of a variable: it may not be empty or contain '='")
    return pairs


def _entrypoint(value: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(str(v) for v in value)


def _mounts(values: Iterable[Mount | str]) -> tuple[Mount, ...]:
    return tuple(v if isinstance(v, Mount) else parse.volume(v) for v in values)


def _tmpfs(values: Any) -> tuple[Mount, ...]:
    if hasattr(values, "items"):
        values = [f"{k}:{v}" if v else k for k, v in values.items()]
    return tuple(v if isinstance(v, Mount) else parse.tmpfs(v) for v in values)


def _ulimits(values: Any) -> tuple[Ulimit, ...]:
    if not hasattr(values, "items"):
        return tuple(v if isinstance(v, Ulimit) else parse.ulimit(v) for v in values)
    out = []
    for name, limit in values.items():
        soft, hard = limit if isinstance(limit, tuple) else (limit, limit)
        out.append(parse.ulimit(f"{name}={soft}:{hard}"))
    return tuple(out)


def _bps(values: Mapping[str, int | str]) -> tuple[Any, ...]:
    return tuple(parse.device_bps(f"{path}:{rate}") for path, rate in values.items())


def _iops(values: Mapping[str, int]) -> tuple[Any, ...]:
    return tuple(parse.device_iops(f"{path}:{rate}") for path, rate in values.items())


def _same(value: Any) -> Any:
    return value


# option -> (field of RunRequest, what makes its value)
_TABLE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "pull": ("pull", lambda v: parse.choice(v, ("missing", "always", "never"))),
    "platform": ("platform", _text),
    "env": ("env", _pairs),
    "workdir": ("workdir", _text),
    "user": ("user", _text),
    "group_add": ("group_add", _texts),
    "name": ("name", _text),
    "hostname": ("hostname", _text),
    "domainname": ("domainname", _text),
    "apparmor": ("apparmor", _text),
    "selinux_label": ("selinux_label", _text),
    "labels": ("labels", _pairs),
    "entrypoint": ("entrypoint", _entrypoint),
    "stop_signal": ("stop_signal", _text),
    "memory": ("memory_bytes", parse.size),
    "memory_swap": ("memory_swap_bytes", lambda v: -1 if v in (-1, "-1") else parse.size(v)),
    "memory_reservation": ("memory_reservation_bytes", parse.size),
    "cpus": ("cpus", float),
    "cpu_shares": ("cpu_shares", int),
    "cpuset_cpus": ("cpuset_cpus", _text),
    "pids": ("pids_limit", int),
    "blkio_weight": ("blkio_weight", int),
    "device_read_bps": ("device_read_bps", _bps),
    "device_write_bps": ("device_write_bps", _bps),
    "device_read_iops": ("device_read_iops", _iops),
    "device_write_iops": ("device_write_iops", _iops),
    "network": ("network", _text),
    "pid": ("pid", _text),
    "ipc": ("ipc", _text),
    "uts": ("uts", _text),
    "cgroupns": ("cgroupns", _text),
    "userns": ("userns", _text),
    "read_only": ("read_only", bool),
    "shm_size": ("shm_size_bytes", parse.size),
    "cap_add": ("cap_add", _texts),
    "cap_drop": ("cap_drop", _texts),
    "privileged": ("privileged", bool),
    "no_new_privileges": ("no_new_privileges", bool),
    "seccomp": ("seccomp", _text),
    "devices": ("devices", lambda values: tuple(parse.device(v) for v in values)),
    "ulimits": ("ulimits", _ulimits),
    "sysctls": ("sysctls", lambda v: tuple(parse.sysctl(f"{name}={value}") for name, value in _pairs(v))),
    "add_host": ("add_host", lambda v: tuple(parse.add_host(f"{name}:{address}") for name, address in _pairs(v))),
    "oom_score_adj": ("oom_score_adj", int),
    "init": ("init", bool),
    "volumes_from": ("volumes_from", _texts),
}
_JOINED = {"mounts": _mounts, "tmpfs": _tmpfs}  # both become RunRequest.mounts


def request(image: str, args: Sequence[str] | str, options: Mapping[str, Any]) -> RunRequest:
    """The RunRequest for ``image``, ``args`` and keyword options; an option of None is unset.

    Raises: InvalidArgument for a value that makes no sense; TypeError for an option that there is none of.
    """
    if isinstance(args, str):
        raise InvalidArgument(
            f"args must be a list of strings, not the string {args!r}: write [{args!r}], or ['sh', '-c', {args!r}] for a shell command"
        )
    if image.startswith("bundle:"):
        return _bundle(image, args, options)
    fields: dict[str, Any] = {}
    mounts: tuple[Mount, ...] = ()
    for name, value in options.items():
        if value is None:
            continue
        try:
            if name in _JOINED:
                mounts += _JOINED[name](value)
            else:
                field, convert = _TABLE[name]
                fields[field] = convert(value)
        except KeyError:
            import difflib

            near = difflib.get_close_matches(name, [*_TABLE, *_JOINED], 1)
            raise TypeError(f"no option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")) from None
        except InvalidArgument:
            raise
        except (TypeError, ValueError) as e:
            raise InvalidArgument(f"{name}={value!r}: {e}") from None
    words = tuple(a if isinstance(a, str) else _word(a) for a in args)
    return RunRequest(image=image, args=words, mounts=mounts, **fields)


_UPDATED = (
    "memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpuset_cpus", "pids", "blkio_weight",
)  # fmt: skip


def update(image: str, options: Mapping[str, Any]) -> Resources:
    """The new limits of a running container. Raises: InvalidArgument; TypeError for an option that cannot be changed."""
    from .spec.runtime import CPU, BlockIO, Memory, Resources

    for name in options:
        if name not in _UPDATED:
            raise TypeError(f"update() has no option {name!r}: it takes {', '.join(_UPDATED)}")
    r = request(image, (), options)
    parse.check(r)
    quota = round(r.cpus * 100000) if r.cpus else None
    return Resources(
        memory=Memory(limit=r.memory_bytes, reservation=r.memory_reservation_bytes, swap=r.memory_swap_bytes),
        cpu=CPU(shares=r.cpu_shares, quota=quota, period=100000 if quota else None, cpus=r.cpuset_cpus),
        pids_limit=r.pids_limit or None,
        block_io=BlockIO(weight=r.blkio_weight),
    )


def _bundle(image: str, args: Sequence[str], options: Mapping[str, Any]) -> RunRequest:
    from .runtime.bundle import request_of_bundle

    given = [name for name, value in options.items() if value is not None]
    if given or args:
        what = f"{given[0]}=" if given else f"args={list(args)!r}"
        raise InvalidArgument(
            f"{image}: {what} contradicts a bundle, whose config.json says everything: change it there"
        )
    return request_of_bundle(image)


def _word(value: Any) -> str:
    import os

    try:
        return os.fsdecode(value)  # bytes and paths, as subprocess takes them
    except TypeError:
        raise InvalidArgument(f"args must be strings, not {type(value).__name__}: {value!r}") from None
