"""Everything at once: what takes how much room, and what this host and this data root are."""

from __future__ import annotations

import os

from ..errors import ContainerNotFound
from ..image.layers import layer_size
from ..image.records import ImageInfo, image_names, info_of, list_records
from ..record import record
from ..runtime import foreground
from ..runtime.image_users import ImageUsers
from .container_details import sizes
from .containers import ContainerInfo, list_containers
from .tree_size import bytes_below
from .volumes import list_volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image.records import ImageRecord
    from ..runtime.roots import Roots

__all__ = ["DiskUsage", "ImageUsage", "VolumeUsage", "disk_usage"]


@record
class ImageUsage:
    """In bytes: of the files of its layers, unpacked. ``shared``: of those that other images have as well; ``containers``: of it."""

    info: ImageInfo
    shared: int
    unique: int
    containers: int


@record
class VolumeUsage:
    """``links``: the containers that use it; ``size`` in bytes."""

    name: str
    links: int
    size: int


@record
class DiskUsage:
    """``layers``: bytes of all layers of all images, each counted once; ``unused_layers``: of those that no container's image has.

    ``containers``: with the bytes of their own layers.
    """

    layers: int
    unused_layers: int
    images: tuple[ImageUsage, ...]
    containers: tuple[tuple[ContainerInfo, int], ...]
    volumes: tuple[VolumeUsage, ...]


def disk_usage(roots: Roots) -> DiskUsage:
    """Raises: Unsupported: this user may not look at the files; InvalidArgument: a record is damaged."""
    containers = _containers(roots)
    users: dict[str, int] = {}
    for info, _ in containers:
        users[info.image_id] = users.get(info.image_id, 0) + 1
    records = list_records(roots.data_root)
    names = image_names(roots.data_root)
    bytes_of: dict[str, int] = {}
    images_of: dict[str, int] = {}
    used: set[str] = set()
    for each in records:
        for diff_id, size in _layers(each).items():
            bytes_of[diff_id] = size
            images_of[diff_id] = images_of.get(diff_id, 0) + 1
            if each.id in users:
                used.add(diff_id)
    for diff_id in _others(roots.data_root, bytes_of):  # of images without a record (oci:DIR)
        bytes_of[f"sha256:{diff_id}"] = _size(roots.data_root, diff_id)
    used |= {f"sha256:{digits}" for digits in _held(roots)}
    images = []
    for each in records:
        own = _layers(each)
        shared = sum([size for diff_id, size in own.items() if images_of[diff_id] > 1])
        images.append(
            ImageUsage(
                info=info_of(each, names.get(each.id, ())), shared=shared, unique=sum(own.values()) - shared,
                containers=users.get(each.id, 0),
            )
        )  # fmt: skip
    images.sort(key=lambda usage: usage.info.created, reverse=True)
    return DiskUsage(
        layers=sum(bytes_of.values()), unused_layers=sum([size for name, size in bytes_of.items() if name not in used]),
        images=tuple(images), containers=tuple(containers), volumes=tuple(_volumes(roots, [info for info, _ in containers])),
    )  # fmt: skip


def _layers(image: ImageRecord) -> dict[str, int]:
    return {str(each.diff_id): each.size for each in image.layers}


def _others(data_root: str, known: dict[str, int]) -> Iterator[str]:
    try:
        entries = os.listdir(f"{data_root}/layers")
    except FileNotFoundError:
        return
    digits = {each.rpartition(":")[2] for each in known}
    yield from (each for each in entries if each not in digits and not each.startswith("."))


def _held(roots: Roots) -> set[str]:
    """The layers that containers of either kind stand on, whether or not an image has them."""
    below = {path.rpartition("/")[2] for each in foreground.list_all(roots) if each.image_id for path in each.lower}
    return below | ImageUsers(roots.data_root).layers()


def _size(data_root: str, digits: str) -> int:
    from ..image.digest import Digest

    try:
        return layer_size(data_root, Digest("sha256", digits))
    except FileNotFoundError:
        return 0  # removed meanwhile


def _containers(roots: Roots) -> list[tuple[ContainerInfo, int]]:
    found = []
    for each in list_containers(roots, all=True):
        try:
            found.append((each, sizes(roots, each).layer))
        except ContainerNotFound:
            continue  # removed meanwhile
    return found


# --- volumes ------------------------------------------------------------------------------------------------------------


def _volumes(roots: Roots, containers: list[ContainerInfo]) -> Iterator[VolumeUsage]:
    for each in list_volumes(roots):
        try:
            size = bytes_below(each.mountpoint)
        except OSError:
            continue  # removed meanwhile
        links = sum([any(mount.name == each.name for mount in info.mounts) for info in containers])
        yield VolumeUsage(name=each.name, links=links, size=size)
