"""What the data root knows about its images: ``images/<id>`` for each image, ``names/<NAME>`` for each name of one.

Small files, replaced by rename: a start reads one of each, and ``pycontain images`` all of them, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from .rootfs import ImageConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .documents import Descriptor

__all__ = ["HistoryEntry", "ImageDetails", "ImageInfo", "LayerInfo"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """One image, as a list shows it. ``size`` is in bytes: the files of all its layers, unpacked."""

    id: str  # "sha256:..." of the configuration
    names: tuple[str, ...]  # familiar, with the tag: "debian:12"
    digests: tuple[str, ...]  # familiar, by the manifest's digest in its registry: "debian@sha256:..."
    created: str  # RFC 3339, as its maker wrote it; "" when not said
    size: int
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerInfo:
    """One layer: ``size`` in bytes of its files, ``path`` of the unpacked directory, ``descriptor`` of its blob."""

    diff_id: str
    size: int
    path: str
    descriptor: Descriptor


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEntry:
    """One step of how the image was made, oldest first. ``layer`` is None where it changed no file."""

    created: str
    created_by: str
    author: str = ""
    comment: str = ""
    layer: LayerInfo | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDetails:
    """Everything about one image. ``config`` is what runs; ``document`` the whole configuration as its maker wrote it."""

    info: ImageInfo
    config: ImageConfig
    document: dict[str, object]
    manifest: Descriptor
    layers: tuple[LayerInfo, ...]  # lowest first
    history: tuple[HistoryEntry, ...]
    architecture: str
    os: str
    variant: str = ""
    author: str = ""
    comment: str = ""
