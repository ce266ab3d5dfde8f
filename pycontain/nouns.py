"""``pycontain.Engine``: Docker's nouns, on the files of a data root and a run root. There is no daemon to be connected to."""

from __future__ import annotations

from typing import Any, Literal, overload

from . import options as _options
from .engine import containers as _containers
from .engine_container import EngineContainer, answered
from .errors import ContainerNotFound, InvalidArgument
from .record import replaced
from .runtime.roots import Roots, default_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from threading import Event
    from typing import IO, BinaryIO

    from typing_extensions import Unpack

    from .engine.events import Events
    from .engine.image import Image
    from .engine.images import Progress, Removed
    from .engine.volumes import Volume
    from .image.rootfs import Healthcheck
    from .options import RunOptions
    from .result import CompletedContainer

    class StayOptions(RunOptions, total=False):
        """How a container stays. ``restart``: "no", "on-failure[:N]", "always", "unless-stopped". ``remove``: it removes itself at
        its end. ``healthcheck``: a shell's command, a list of words, False for none, or a dict of "test", "interval", "timeout",
        "start_period", "start_interval" (seconds), "retries". ``log_driver``: "json-file", "journald" or "none"; ``log_opts``:
        {"max-size": "10m", "max-file": 3}. ``stop_timeout``: whole seconds of grace of a stop (10; negative: for ever).
        ``stdin_open``: its input stays open, for who attaches; ``tty``: a terminal.
        """

        restart: str
        remove: bool
        healthcheck: str | Sequence[str] | Mapping[str, Any] | Literal[False]
        log_driver: str
        log_opts: Mapping[str, str | int]
        stop_timeout: float
        stdin_open: bool
        tty: bool

    class WaitOptions(RunOptions, total=False):
        """What :func:`pycontain.run` takes beside RunOptions."""

        input: bytes | str | None
        stdin: int | IO[Any] | None
        stdout: int | IO[Any] | None
        stderr: int | IO[Any] | None
        text: bool
        encoding: str
        errors: str
        timeout: float | None
        check: bool
        remove: Literal[True]


__all__ = ["Containers", "Engine", "Images", "Volumes"]

_STAYS = ("restart", "remove", "healthcheck", "log_driver", "log_opts", "stop_timeout", "stdin_open", "tty")
_WAITS = ("input", "stdin", "stdout", "stderr", "text", "encoding", "errors", "timeout", "check")


class Engine:
    """``data_root``, ``run_root``: where it keeps things; default as for everything else (PYCONTAIN_DATA_ROOT, /var/lib/pycontain...).

    It holds nothing open, and may be used by several threads at once. Raises: InvalidArgument: a root that is not absolute.
    """

    def __init__(self, data_root: str | None = None, run_root: str | None = None) -> None:
        self._roots = default_roots(data_root, run_root)
        self.containers = Containers(self._roots)
        self.images = Images(self._roots)
        self.volumes = Volumes(self._roots)

    @property
    def data_root(self) -> str:
        return self._roots.data_root

    @property
    def run_root(self) -> str:
        return self._roots.run_root

    def events(
        self, *, since: datetime | float | None = None, until: datetime | float | None = None,
        filters: Mapping[str, str | int | Iterable[str | int]] | None = None,
    ) -> Events:  # fmt: skip
        """What happens to containers, images and volumes, as it happens: an iterator of :class:`pycontain.engine.events.Event`, to be
        closed, or a ``with`` block. ``since``, ``until``: an instant, or seconds since 1970; neither: from now on, for ever.
        ``filters``: of `pycontain events`. Raises: InvalidArgument: no such filter; Unsupported: another user's journal.
        """
        from .engine.events import events

        wanted = {name: texts(value) for name, value in (filters or {}).items()}
        return answered(
            "read events", lambda: events(self._roots, since=instant(since), until=instant(until), filters=wanted)
        )

    def __repr__(self) -> str:
        return f"<Engine {self.data_root}>"


class Containers:
    """``Engine.containers``. A container is asked for by name, by id, or by the beginning of an id."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    @overload
    def run(
        self, image: str | Image, args: Sequence[str] | None = None, *, detach: Literal[True], **options: Unpack[StayOptions]
    ) -> EngineContainer: ...  # fmt: skip
    @overload
    def run(
        self, image: str | Image, args: Sequence[str] | None = None, *, detach: Literal[False] = False,
        **options: Unpack[WaitOptions],
    ) -> CompletedContainer: ...  # fmt: skip
    def run(
        self, image: str | Image, args: Sequence[str] | None = None, *, detach: bool = False, **options: Any
    ) -> EngineContainer | CompletedContainer:
        """With ``detach`` a container that stays, whatever becomes of this process: its program has begun when this returns. One that
        cannot be started is removed. Without it :func:`pycontain.run`: its result, and nothing is left of the container.

        Options: :class:`StayOptions`; without ``detach``: :class:`WaitOptions`. Raises: as :func:`pycontain.run`; Conflict: the name is
        in use; InvalidArgument: an option that means nothing to a container of this kind.
        """
        if not detach:
            options = checked_waits(options)
            from .container import run

            return run(
                str(image), args or (), data_root=self._roots.data_root, run_root=self._roots.run_root, **options
            )
        made = self.create(image, args, **options)
        try:
            made.start()
        except BaseException:
            discard(made)
            raise
        return made

    def create(
        self, image: str | Image, args: Sequence[str] | None = None, **options: Unpack[StayOptions]
    ) -> EngineContainer:
        """A container that stays, not started. Raises: as :meth:`run`."""
        given: dict[str, Any] = dict(options)
        stay = {name: given.pop(name) for name in _STAYS if name in given}
        for name in _WAITS:
            if name in given:
                raise InvalidArgument(f"{name}: nobody waits for a container that stays: leave it out, or detach=True")
        request = replaced(
            _options.request(str(image), args or (), given), terminal=bool(stay.get("tty")),
            healthcheck=_healthcheck(stay.get("healthcheck")),
        )  # fmt: skip
        fields = _stay_fields(stay)
        container_id = answered("make a container", lambda: _containers.create(request, self._roots, **fields))
        return EngineContainer(self._roots, container_id)

    def get(self, name_or_id: str) -> EngineContainer:
        """Raises: ContainerNotFound; InvalidArgument: several ids begin so."""
        found = answered(
            f"look for container {name_or_id}", lambda: _containers.find_container(self._roots, name_or_id)
        )
        return EngineContainer(self._roots, found.id)

    def list(
        self, *, all: bool = False, filters: Mapping[str, str | int | Iterable[str | int]] | None = None
    ) -> list[EngineContainer]:
        """Those that run, or ``all``, the newest first; also those in the foreground of some process. ``filters``: of `pycontain ps`,
        a value or several: {"status": "exited", "label": ["tier=front", "x"]}. Raises: InvalidArgument: there is no such filter.
        """
        from .engine.container_filters import select

        wanted = {name: texts(value) for name, value in (filters or {}).items()}
        found = answered("list containers", lambda: select(self._roots, wanted, all=all))
        return [EngineContainer(self._roots, each.id) for each in found]

    def prune(self) -> builtins.list[str]:
        """Removes all that stay and do not run: their ids. Raises: what kept it from removing one, when all others are removed."""
        from .engine.pruning import prune_containers

        removed, _, errors = answered("prune containers", lambda: prune_containers(self._roots))
        if errors:
            raise errors[0]
        return removed


def checked_waits(options: dict[str, Any]) -> dict[str, Any]:
    """For pycontain.run, which always removes. Raises: InvalidArgument: an option that means nothing to what goes with its run."""
    for name in _STAYS:
        if name in options and not (name == "remove" and options[name]):
            raise InvalidArgument(f"{name} is for a container that stays: add detach=True, or leave it out")
    return {name: value for name, value in options.items() if name != "remove"}


def discard(made: EngineContainer) -> None:
    try:
        made.remove(force=True)
    except ContainerNotFound:
        pass  # by itself


def _stay_fields(given: dict[str, Any]) -> dict[str, Any]:
    """What engine.containers.create takes beside the request."""
    from .engine.policies import parse_log_driver, parse_logging, parse_restart

    restart = _named("restart", parse_restart, given.get("restart") or "no")
    remove = bool(given.get("remove"))
    if remove and restart.policy != "no":
        raise InvalidArgument("restart and remove contradict each other: leave out one of them")
    driver = _named("log_driver", parse_log_driver, given.get("log_driver") or "json-file")
    words = [f"{name}={value}" for name, value in (given.get("log_opts") or {}).items()]
    timeout = given.get("stop_timeout")
    return {
        "auto_remove": remove,
        "restart": restart,
        "logging": _named("log_opts", lambda each: parse_logging(driver, each), words),
        "open_stdin": bool(given.get("stdin_open")),
        "stop_timeout_s": 10.0 if timeout is None else float(timeout),
    }


def _healthcheck(value: Any) -> Healthcheck | None:
    from .engine.policies import parse_healthcheck

    return None if value is None else _named("healthcheck", parse_healthcheck, value)


def _named(option: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{option}: {error}") from None


def texts(value: str | int | Iterable[str | int]) -> list[str]:
    return [str(value)] if isinstance(value, (str, int)) else [str(each) for each in value]


def instant(at: datetime | float | None) -> float | None:
    """Seconds since 1970. Raises: InvalidArgument: a datetime without a zone."""
    if at is None or isinstance(at, (int, float)):
        return at
    if at.tzinfo is None:
        raise InvalidArgument(
            f"the time {at.isoformat()} has no zone: write datetime.now(timezone.utc), or at.astimezone()"
        )
    return at.timestamp()


class Images:
    """``Engine.images``: :class:`pycontain.Image` and :func:`pycontain.images` on this engine's data root."""

    def __init__(self, roots: Roots) -> None:
        self._data_root = roots.data_root

    def pull(
        self, name: str, *, platform: str = "", progress: Callable[[Progress], None] | None = None, stop: Event | None = None
    ) -> Image:  # fmt: skip
        """As :meth:`pycontain.Image.pull`."""
        from .engine.image import Image

        return answered(
            f"pull {name}",
            lambda: Image.pull(name, platform=platform, progress=progress, data_root=self._data_root, stop=stop),
        )

    def push(self, name: str, *, progress: Callable[[Progress], None] | None = None, stop: Event | None = None) -> str:
        """The image of that name, to the registry that the name says; the manifest's digest. As :meth:`pycontain.Image.push`."""
        return answered(f"push {name}", lambda: self.get(name).push(name, progress=progress, stop=stop))

    def get(self, name: str) -> Image:
        """By name, by id, or by the beginning of an id. Raises: ImageNotFound; Conflict: several ids begin so."""
        from .engine.image import Image

        return answered(f"look for image {name}", lambda: Image(name, data_root=self._data_root))

    def list(self) -> list[Image]:
        """Every stored image, the newest first."""
        from .engine.image import images

        return answered("list images", lambda: images(data_root=self._data_root))

    def load(
        self, source: str | os.PathLike[str] | BinaryIO, *, platform: str = "",
        progress: Callable[[Progress], None] | None = None, stop: Event | None = None,
    ) -> builtins.list[Image]:  # fmt: skip
        """As :meth:`pycontain.Image.load`."""
        from .engine.image import Image

        return answered(
            "load images",
            lambda: Image.load(source, platform=platform, progress=progress, data_root=self._data_root, stop=stop),
        )

    def save(
        self, names: str | Iterable[str], target: str | os.PathLike[str] | BinaryIO, *, format: str = "docker-archive"
    ) -> None:
        """One image or several, by name or id, as an archive: "docker-archive" (which is an OCI layout too) or "oci-archive"."""
        from .engine.image import save_images

        wanted = (names,) if isinstance(names, str) else tuple(map(str, names))
        answered("save images", lambda: save_images(self._data_root, wanted, target, format=format))

    def tag(self, name: str, new_name: str) -> Image:
        """One more name; another image that had it loses it."""
        return answered(f"tag {name}", lambda: self.get(name).tag(new_name))

    def remove(self, name: str, *, force: bool = False) -> builtins.list[Removed]:
        """Takes the name away; with the last one the image goes, and what only it had. Raises: Conflict: in use."""
        from .engine.images import remove_image

        return answered(f"remove image {name}", lambda: remove_image(self._data_root, name, force=force))

    def prune(self, *, all: bool = False) -> tuple[builtins.list[Removed], int]:
        """Removes images without a name, or ``all`` that no container uses: what was done, and how many bytes that freed."""
        from .engine.images import prune_images

        return answered("prune images", lambda: prune_images(self._data_root, all=all))


class Volumes:
    """``Engine.volumes``: records with ``name``, ``mountpoint``, ``labels``, ``options``, ``created`` (seconds since 1970)."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def create(
        self, name: str = "", *, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """The volume of that name, made unless it is there; "": an anonymous one. ``options``: type=none, o=bind, device=/DIRECTORY.

        Raises: InvalidArgument; Unsupported: other options.
        """
        from .engine.volumes import create_volume

        return answered("make a volume", lambda: create_volume(self._roots, name, labels=labels, options=options))

    def get(self, name: str) -> Volume:
        """Raises: VolumeNotFound."""
        from .engine.volumes import find_volume

        return answered(f"look for volume {name}", lambda: find_volume(self._roots, name))

    def list(self) -> list[Volume]:
        """By name."""
        from .engine.volumes import list_volumes

        return answered("list volumes", lambda: list_volumes(self._roots))

    def remove(self, name: str, *, force: bool = False) -> None:
        """With its files; ``force``: one that is damaged as well. Raises: VolumeNotFound; Conflict: containers use it."""
        from .engine.volumes import remove_volume

        answered(f"remove volume {name}", lambda: remove_volume(self._roots, name, force=force))

    def prune(self, *, all: bool = False) -> tuple[builtins.list[str], int]:
        """Removes those that no container uses, the anonymous ones or ``all``: their names, and how many bytes that freed."""
        from .engine.volumes import prune_volumes

        return answered("prune volumes", lambda: prune_volumes(self._roots, all=all))
