"""What other processes may know of a container that runs in the foreground of one: a file in its own directory.

    <data root>/ephemeral/<owner>/<id>/{record,plan}

The Plan's bytes are what an exec goes by. Both go with the directory, however the container ends. The record is a Python literal:
json costs a start a millisecond.
"""

from __future__ import annotations

import os
import time

from ..errors import Conflict, ContainerNotFound, InvalidArgument
from ..healthcheck import merged
from ..image.rootfs import Healthcheck, ImageConfig
from ..record import record, replaced
from ..request import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..image.commit import Changed
    from ..request import RunRequest
    from .roots import Roots
    from .running import Running

__all__ = ["Foreground", "begun_at", "config_as_run", "find", "list_all", "of_running", "write"]

_FORMAT = 4
_STARTING_S = 1.0
_MAX_BYTES = 4 << 20


@record
class Foreground:
    """A container that runs. ``lower``: its image's layers, topmost first. ``members``: (controllers, version, directory).

    ``created``: seconds since 1970. ``pid``, ``begun``: its first process, and when that began (proc_pid_stat(5), starttime).
    """

    id: str
    name: str
    owner: str
    image: str
    image_id: str
    created: float
    directory: str
    lower: tuple[str, ...]
    config: ImageConfig
    args: tuple[str, ...]
    uid_map: tuple[tuple[int, int, int], ...]
    gid_map: tuple[tuple[int, int, int], ...]
    members: tuple[tuple[tuple[str, ...], int, str], ...]
    pid: int
    begun: int
    group_add: tuple[str, ...]
    plan: str  # the file of its start's Plan
    mounts: tuple[Mount, ...] = ()  # of one in the foreground; every volume with its name

    @property
    def upper(self) -> str:
        return f"{self.directory}/upper"

    @property
    def cgroup_name(self) -> str:
        """Its own cgroups, below its owner's; "": those themselves, of a container that stays."""
        return "" if self.owner.startswith(f"c{self.id}-") else self.id

    def changed(self) -> Changed:
        from ..image.commit import Changed

        return Changed(
            image=self.image, image_id=self.image_id, upper=self.upper, config=self.config, command=" ".join(self.args),
            uid_map=self.uid_map, gid_map=self.gid_map,
        )  # fmt: skip


def config_as_run(request: RunRequest, config: ImageConfig) -> ImageConfig:
    """The image's configuration with what the request changed, as Docker keeps it for a commit."""
    env = {name: value for name, _, value in (each.partition("=") for each in config.env)}
    env.update(request.env)
    overridden = request.entrypoint is not None
    return ImageConfig(
        entrypoint=request.entrypoint if request.entrypoint is not None else config.entrypoint,
        cmd=request.args if overridden else request.args or config.cmd,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        working_dir=request.workdir or config.working_dir,
        user=config.user if request.user is None else request.user,
        labels=tuple({**dict(config.labels), **dict(request.labels)}.items()),
        stop_signal=request.stop_signal or config.stop_signal,
        volumes=config.volumes,
        exposed_ports=config.exposed_ports,
        healthcheck=merged(request.healthcheck, config.healthcheck),
        shell=config.shell,
    )


def shown(args: tuple[str, ...]) -> str:
    """A program's words as Docker lists them: with quotes around each that has a space in it, but the first."""
    return " ".join([args[0], *(f"'{word}'" if " " in word else word for word in args[1:])]) if args else ""


def of_running(running: Running) -> Foreground:
    rootfs, (uid_map, gid_map) = running.rootfs, running.maps
    assert rootfs is not None  # a bundle's containers have none; who asks has looked
    members, begun = running.members(), begun_at(running.pid)
    if not begun:
        raise Conflict(f"container {running.name} has ended")
    return Foreground(
        id=running.id, name=running.name, owner=running.owner, image=running.request.image, image_id=rootfs.image_id,
        created=time.time(), directory=running.directory,
        lower=rootfs.lower, config=config_as_run(running.request, rootfs.config),
        args=running.args,
        uid_map=tuple((m.container_id, m.host_id, m.size) for m in uid_map),
        gid_map=tuple((m.container_id, m.host_id, m.size) for m in gid_map),
        members=tuple((m.controllers, m.version, m.directory) for m in members), pid=running.pid, begun=begun,
        group_add=running.request.group_add, plan=f"{running.directory}/plan",
        mounts=tuple([replaced(m, source=os.path.abspath(m.source)) if m.type == "bind" else m for m in running.mounts]),
    )  # fmt: skip


def begun_at(pid: int) -> int:
    """When the process began, in clock ticks; 0 when there is none. With it a number is that process's and no other's."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def _write_new(path: str, data: bytes) -> bool:
    """Whether all of it was written, to the new file ``path``."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        return os.write(fd, data) == len(data)
    finally:
        os.close(fd)


def write(running: Running) -> None:
    """Make the container known. One that has ended already is not; nor is one of a bundle."""
    if running.rootfs is None:
        return
    try:
        found = of_running(running)
        config = tuple(_plain(getattr(found.config, each)) for each in ImageConfig.__dict__["__slots__"])
        mounts = tuple([tuple([getattr(m, name) for name in _MOUNT_NAMES]) for m in found.mounts])
        parts = {"config": config, "mounts": mounts}
        values = tuple([parts[each] if each in parts else getattr(found, each) for each in _NAMES])
        path = f"{running.directory}/record"
        whole = _write_new(f"{running.directory}/plan", running.plan.data)
        if whole and _write_new(f"{path}.new", repr((_FORMAT, values)).encode()):
            os.rename(f"{path}.new", path)
    except (OSError, Conflict):
        # It has ended, and its directory with it; or the disk is full: then it runs all the same, and nobody else can commit it.
        pass


def _plain(value: Any) -> Any:
    """For a literal: a record inside as its values."""
    return (
        tuple(getattr(value, each) for each in Healthcheck.__dict__["__slots__"])
        if isinstance(value, Healthcheck)
        else value
    )


_NAMES = Foreground.__dict__["__slots__"]
_MOUNT_NAMES = Mount.__dict__["__slots__"]


def list_all(roots: Roots) -> list[Foreground]:
    """Every container that is known and runs, the newest first."""
    found = []
    base = f"{roots.data_root}/ephemeral"
    for owner in _entries(base):
        for each in _entries(f"{base}/{owner}"):
            path = f"{base}/{owner}/{each}/record"
            try:
                with open(path, "rb") as file:
                    found.append(_parsed(file.read(_MAX_BYTES), path, each[:12]))
            except OSError:
                pass  # it has ended, begins just now, or is no container's directory
    return sorted(found, key=lambda each: each.created, reverse=True)


def find(roots: Roots, text: str) -> Foreground:
    """By name, by id, or by the beginning of an id. Raises: ContainerNotFound, InvalidArgument: ambiguous."""
    try:
        directory = f"{roots.data_root}/ephemeral/{os.readlink(f'{roots.run_root}/names/{text}')}"
    except (OSError, ValueError):
        pass
    else:
        return _read(f"{directory}/record", text)
    matching = []
    base = f"{roots.data_root}/ephemeral"
    if text and "/" not in text and "." not in text:
        for owner in _entries(base):
            matching += [f"{base}/{owner}/{each}" for each in _entries(f"{base}/{owner}") if each.startswith(text)]
    known = [each for each in matching if os.path.exists(f"{each}/record")]
    if len(known) > 1:
        raise InvalidArgument(f"{text} is the beginning of {len(known)} container ids: write more of it")
    if not known:
        raise ContainerNotFound(f"No such container: {text}")
    return _read(f"{known[0]}/record", text)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str, text: str) -> Foreground:
    data = None
    deadline = time.monotonic() + _STARTING_S
    while data is None:
        try:
            with open(path, "rb") as file:
                data = file.read(_MAX_BYTES)
        except FileNotFoundError:
            # the program has begun, and who started it has not yet come to this file; or it is not foreground at all
            if time.monotonic() > deadline or not os.path.isdir(os.path.dirname(path)):
                raise ContainerNotFound(
                    f"No such container: {text}: it has just ended, or belongs to a Python program, whose own it is"
                ) from None
            time.sleep(0.01)
    return _parsed(data, path, text)


def _parsed(data: bytes, path: str, text: str) -> Foreground:
    from ast import literal_eval

    try:
        version, values = literal_eval(data.decode())
        if version == _FORMAT:
            return _of_values(values)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise InvalidArgument(
            f"cannot read the record {path}: it is damaged: end container {text}, and start it again"
        ) from None
    raise InvalidArgument(f"container {text} was started by another version of pycontain: use that one for it")


def _of_values(values: tuple[Any, ...]) -> Foreground:
    fields = dict(zip(_NAMES, values, strict=True))
    config = dict(zip(ImageConfig.__dict__["__slots__"], fields["config"], strict=True))
    if config["healthcheck"] is not None:
        config["healthcheck"] = Healthcheck(
            **dict(zip(Healthcheck.__dict__["__slots__"], config["healthcheck"], strict=True))
        )
    fields["config"] = ImageConfig(**config)
    fields["mounts"] = tuple([Mount(**dict(zip(_MOUNT_NAMES, each, strict=True))) for each in fields["mounts"]])
    return Foreground(**fields)
