"""Images, as ``docker`` knows them: list, find, tag, remove, pull, push, save, load, import, commit, export.

Every function takes the data root first. An image is asked for by name (``debian:12``, ``debian@sha256:...``), by id, or by the
beginning of an id. Errors: ImageNotFound, InvalidArgument (among others an ambiguous beginning), Conflict (in use).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from ..image.records import ImageDetails, ImageInfo

__all__ = [
    "Progress",
    "Removed",
    "find_image",
    "inspect_image",
    "list_images",
    "prune_images",
    "pull",
    "push",
    "remove_image",
    "tag_image",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One step of a layer in a pull or push. ``layer`` is the digest's first 12 digits, or "" for a line about the whole.

    ``state``: Docker's words: "Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting",
    "Pull complete", "Already exists", "Preparing", "Pushing", "Pushed", "Layer already exists", "Mounted from x", or, with an empty
    ``layer``, a line to print as it is. ``current`` and ``total`` in bytes, 0 when not known.
    """

    layer: str
    state: str
    current: int = 0
    total: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """One thing that a removal did: ``action`` is "Untagged" or "Deleted", ``what`` a name, an image id or a layer's diff_id."""

    action: str
    what: str


def list_images(data_root: str) -> list[ImageInfo]:
    """Every image, newest first; one without a name has no names."""
    raise NotImplementedError


def find_image(data_root: str, text: str) -> ImageInfo:
    raise NotImplementedError


def inspect_image(data_root: str, text: str) -> ImageDetails:
    raise NotImplementedError


def tag_image(data_root: str, source: str, target: str) -> None:
    raise NotImplementedError


def remove_image(data_root: str, text: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
    """``docker rmi``: takes the name away; with the last name, the image and what only it used."""
    raise NotImplementedError


def prune_images(
    data_root: str, *, all: bool = False, keep: Callable[[ImageInfo], bool] = lambda _: False
) -> tuple[list[Removed], int]:
    """Removes images without a name (``all``: those that no container uses) unless ``keep`` says so; answers with the bytes freed."""
    raise NotImplementedError


def pull(
    data_root: str,
    text: str,
    *,
    platform: str = "",
    all_tags: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ImageInfo:
    """``platform``: "linux/arm64/v8"; default this machine's."""
    raise NotImplementedError


def push(
    data_root: str, text: str, *, all_tags: bool = False, progress: Callable[[Progress], None] | None = None
) -> str:
    """Answers with the manifest's digest."""
    raise NotImplementedError


def save(data_root: str, names: Sequence[str], out: BinaryIO, *, format: str = "docker-archive") -> None:
    """``format``: "docker-archive" (the default of ``docker save``), "oci-archive"."""
    raise NotImplementedError


def load(data_root: str, source: BinaryIO, *, progress: Callable[[Progress], None] | None = None) -> list[ImageInfo]:
    raise NotImplementedError


def commit(
    data_root: str, run_root: str, container: str, name: str = "", *, changes: Sequence[str] = (), author: str = "",
    message: str = "", pause: bool = True,
) -> str:  # fmt: skip
    """Answers with the new image's id."""
    raise NotImplementedError


def export(data_root: str, run_root: str, container: str, out: BinaryIO) -> None:
    raise NotImplementedError


def manifest_document(data_root: str, text: str, *, insecure: bool = False) -> tuple[bytes, str]:
    """The manifest or index of a name in its registry, and its media type: for ``manifest inspect``."""
    raise NotImplementedError
