"""``pycontain.Image`` and ``pycontain.images``: stored images as objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO

from ..runtime.roots import default_roots
from . import images as _images
from .images import ImageInfo, Progress, Removed

if TYPE_CHECKING:
    from datetime import datetime
    from threading import Event

    from ..image.details import HistoryEntry, ImageDetails
    from ..runtime.foreground import Foreground
    from ..runtime.roots import Roots
    from ..runtime.running import Running

__all__ = ["Image", "images"]

_Progress = Callable[[Progress], None]


class Image:
    """A stored image, as it was when this was made. Two are equal when they are the same image of the same data root.

    An image is asked for by name (``debian:12``, ``debian@sha256:...``), by id, or by the beginning of an id.
    """

    __slots__ = ("_data_root", "_info")

    def __init__(self, name: str, *, data_root: str | None = None) -> None:
        """Raises: ImageNotFound, InvalidArgument; Conflict: several ids begin so."""
        self._data_root = _root(data_root)
        self._info: ImageInfo = _images.find_image(self._data_root, name)

    @classmethod
    def _of(cls, info: ImageInfo, data_root: str) -> Image:
        made = object.__new__(cls)
        made._data_root, made._info = data_root, info
        return made

    @classmethod
    def pull(
        cls, name: str, *, platform: str = "", progress: _Progress | None = None, data_root: str | None = None,
        stop: Event | None = None,
    ) -> Image:  # fmt: skip
        """From the registry that the name says (default: Docker Hub); what is here already is not fetched again.

        ``platform``: "linux/arm64", default this machine's. ``progress`` is called, from several threads, with each step.
        Setting ``stop`` ends it. Raises: ImageNotFound, RegistryError, InvalidArgument, Unsupported.
        """
        root = _root(data_root)
        return cls._of(_images.pull(root, name, platform=platform, progress=progress, stop=stop), root)

    @classmethod
    def load(
        cls, source: str | os.PathLike[str] | BinaryIO, *, platform: str = "", progress: _Progress | None = None,
        data_root: str | None = None, stop: Event | None = None,
    ) -> list[Image]:  # fmt: skip
        """The images of a file that :meth:`save`, ``docker save``, ``podman save`` or ``skopeo`` wrote (plain or compressed).

        Raises: InvalidArgument, Unsupported.
        """
        root = _root(data_root)
        with _opened(source, "rb") as stream:
            found = _images.load(root, stream, platform=platform, progress=progress, stop=stop)
        return [cls._of(each, root) for each in found]

    @classmethod
    def import_tar(
        cls, source: str | os.PathLike[str] | BinaryIO, name: str = "", *, changes: Sequence[str] = (),
        message: str = "", data_root: str | None = None,
    ) -> Image:  # fmt: skip
        """An image of one layer from the tar of a root file system. Raises: InvalidArgument, Unsupported."""
        from ..image.importer import import_tar

        root = _root(data_root)
        with _opened(source, "rb") as stream:
            more: dict[str, Any] = {"message": message} if message else {}
            image_id = import_tar(stream, name, data_root=root, changes=changes, **more)
        return cls._of(_images.find_image(root, image_id), root)

    def push(self, name: str = "", *, progress: _Progress | None = None, stop: Event | None = None) -> str:
        """To the registry that ``name`` says (default: the image's only name). Answers with the manifest's digest.

        Raises: RegistryError, ImageNotFound: it has no such name; InvalidArgument: it has several, and none was chosen.
        """
        from ..errors import InvalidArgument

        if not name:
            if len(self.names) != 1:
                raise InvalidArgument(
                    f"cannot push image {self.id[:19]}: it has {len(self.names)} names: say which, or give it one by tag()"
                )
            name = self.names[0]
        return _images.push(self._data_root, name, progress=progress, stop=stop)

    def save(self, target: str | os.PathLike[str] | BinaryIO, *, format: str = "docker-archive") -> None:
        """Write it, under all its names, as an archive: "docker-archive" (which is an OCI layout too) or "oci-archive"."""
        with _opened(target, "wb") as out:
            _images.save(self._data_root, self.names or (self.id,), out, format=format)

    def tag(self, name: str) -> Image:
        """The image with one more name; another image that had it loses it. Raises: InvalidArgument, ImageNotFound."""
        _images.tag_image(self._data_root, self.id, name)
        return self.refreshed()

    def remove(self, *, force: bool = False) -> list[Removed]:
        """All names of it, then the image and what only it had. Raises: Conflict: in use, or several names without ``force``."""
        return _images.remove_image(self._data_root, self.id, force=force)

    def refreshed(self) -> Image:
        """As it is now. Raises: ImageNotFound."""
        return self._of(_images.find_image(self._data_root, self.id), self._data_root)

    def inspect(self) -> ImageDetails:
        """Everything that is known about it. Raises: ImageNotFound."""
        return _images.inspect_image(self._data_root, self.id)

    def history(self) -> tuple[HistoryEntry, ...]:
        """How it was made, oldest step first. Raises: ImageNotFound."""
        return self.inspect().history

    @property
    def id(self) -> str:
        """ "sha256:..." of its configuration."""
        return self._info.id

    @property
    def names(self) -> tuple[str, ...]:
        return self._info.names

    @property
    def digests(self) -> tuple[str, ...]:
        """Names by digest, "debian@sha256:...", of the registries that it came from or went to."""
        return self._info.digests

    @property
    def size(self) -> int:
        """Bytes of the files of all its layers; layers are shared with other images."""
        return self._info.size

    @property
    def labels(self) -> dict[str, str]:
        return dict(self._info.labels)

    @property
    def created(self) -> datetime | None:
        """With a time zone; None when its maker did not say, or not as RFC 3339 wants it."""
        from ..image.instants import parse_instant

        return parse_instant(self._info.created)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and (self.id, self._data_root) == (other.id, other._data_root)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Image {' '.join(self.names) or self.id[:19]}>"

    def __str__(self) -> str:
        """What :func:`pycontain.run` takes: the id."""
        return self.id


def images(*, data_root: str | None = None) -> list[Image]:
    """Every stored image, newest first. Raises: InvalidArgument: a record is damaged."""
    root = _root(data_root)
    return [Image._of(each, root) for each in _images.list_images(root)]


def save_images(
    data_root: str, names: Sequence[str], target: str | os.PathLike[str] | BinaryIO, *, format: str
) -> None:
    """:meth:`pycontain.Engine.images.save`."""
    with _opened(target, "wb") as out:
        _images.save(data_root, names, out, format=format)


def commit(
    running: Running, name: str, *, changes: Sequence[str], author: str, message: str, pause: bool, compression: str,
    level: int | None,
) -> Image:  # fmt: skip
    """:meth:`pycontain.Container.commit`."""
    root = running.data_root
    image_id = _images.commit_found(
        root, _found(running), name, changes=changes, author=author, message=message, pause=pause,
        compression=compression, level=level,
    )  # fmt: skip
    return Image._of(_images.find_image(root, image_id), root)


def export(running: Running, target: Any) -> None:
    """:meth:`pycontain.Container.export`."""
    with _opened(target, "wb") as out:
        _images.export_found(_found(running), out)


def commit_known(
    roots: Roots, container: str, name: str, *, changes: Sequence[str], author: str, message: str, pause: bool, compression: str,
    level: int | None,
) -> Image:  # fmt: skip
    """:meth:`pycontain.EngineContainer.commit`."""
    image_id = _images.commit(
        roots.data_root, roots.run_root, container, name, changes=changes, author=author, message=message, pause=pause,
        compression=compression, level=level,
    )  # fmt: skip
    return Image._of(_images.find_image(roots.data_root, image_id), roots.data_root)


def export_known(roots: Roots, container: str, target: Any) -> None:
    """:meth:`pycontain.EngineContainer.export`."""
    with _opened(target, "wb") as out:
        _images.export(roots.data_root, roots.run_root, container, out)


def _found(running: Running) -> Foreground:
    from ..errors import InvalidArgument
    from ..runtime.foreground import of_running

    if running.rootfs is None:
        raise InvalidArgument(
            f"container {running.name} is of a bundle: its root is a directory of yours: take it from there"
        )
    return of_running(running)


def _root(data_root: str | None) -> str:
    return default_roots(data_root, None).data_root


def _opened(file: Any, mode: str) -> AbstractContextManager[Any]:
    if hasattr(file, "read" if mode == "rb" else "write"):
        return nullcontext(file)
    from ..errors import InvalidArgument, errno_name

    try:
        opened: AbstractContextManager[Any] = open(file, mode)  # noqa: SIM115 - the caller's with closes it
        return opened
    except OSError as error:
        raise InvalidArgument(f"cannot open {file}: {error.strerror} ({errno_name(error.errno or 0)})") from None
