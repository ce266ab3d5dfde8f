"""Who uses an image: everyone who runs it holds a shared lock (flock) on the inode of its configuration's blob.

The kernel drops the lock with its holder, however that one dies; so nobody counts, and nothing is left to be mended. A
removal takes the lock exclusively, without waiting: it fails while anyone runs the image.
"""

from __future__ import annotations

import fcntl
import os

from ..errors import ImageNotFound
from .workspace import locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .rootfs import RootFS

__all__ = ["hold_image", "hold_rootfs", "hold_unrecorded", "try_claim"]


def hold_rootfs(data_root: str, image: str, rootfs: RootFS) -> int:
    """The descriptor whose life keeps what a container runs on from being removed; -1 when it is no image's. ``image``: as it was
    asked for. Raises: ImageNotFound: it is being removed."""
    if not rootfs.image_id:
        return -1
    if image.startswith("oci:"):
        return hold_unrecorded(data_root, rootfs.image_id, rootfs.lower)
    return hold_image(data_root, rootfs.image_id)


def hold_unrecorded(data_root: str, image_id: str, lower: tuple[str, ...]) -> int:
    """As :func:`hold_image`, for an image without a record (``oci:DIR``), on the layers ``lower``: a removal of another image
    with the same layers learns of it by this hold only, so it waits, and then the layers are looked at again."""
    with locked(data_root, "index", shared=True):
        if not all(map(os.path.isdir, lower)):
            raise _removed(image_id, data_root)
        return hold_image(data_root, image_id)


def hold_image(data_root: str, image_id: str) -> int:
    """The descriptor whose life keeps the image from being removed. Raises: ImageNotFound: it is being removed."""
    path = f"{data_root}/blobs/{image_id.replace(':', '/')}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _removed(image_id, data_root) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # a removal that was quicker has moved it away
        if os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False)):
            return fd
    except OSError:  # claimed, or gone
        pass
    os.close(fd)
    raise _removed(image_id, data_root)


def try_claim(path: str) -> int | None:
    """An exclusive hold of a blob that nobody uses: its descriptor; None when somebody does, -1 when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _removed(image_id: str, data_root: str) -> ImageNotFound:
    return ImageNotFound(
        f"no such image: {image_id} has just been removed from {data_root}: pull, load or import it again"
    )
