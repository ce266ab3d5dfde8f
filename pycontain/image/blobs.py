"""The content store: ``<data-root>/blobs/sha256/<hex>``, part of the OCI image layout that the data root is.

A blob of that name is whole and verified, always: it is written elsewhere, checked against its digest, synced, and renamed.
So what is asked of a blob later is only its size. Blobs are never changed, and removed only by :mod:`.collect`.
Spec: image-spec image-layout.md.
"""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO

from ..errors import InvalidArgument, errno_name
from .digest import Digest, new_hasher
from .documents import Descriptor
from .workspace import make_data_dir, replace_file

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "blob_path",
    "blobs_dir",
    "check_bytes",
    "has_blob",
    "is_damaged",
    "keep_bytes",
    "make_layout",
    "open_blob",
    "publish_blob",
    "put_bytes",
    "put_json",
    "read_blob",
    "sync_directory",
]

MAX_DOCUMENT_BYTES = 4 << 20  # what registries accept for a manifest
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def blobs_dir(data_root: str, algorithm: str = "sha256") -> str:
    return f"{data_root}/blobs/{algorithm}"


def blob_path(data_root: str, digest: Digest) -> str:
    """Where a blob is, or would be."""
    return f"{data_root}/blobs/{digest.algorithm}/{digest.encoded}"


def make_layout(data_root: str) -> None:
    """The directories of the store and its ``oci-layout`` file, when they are not there. Idempotent."""
    for each in ("blobs/sha256", "names", "images", "layers"):
        make_data_dir(f"{data_root}/{each}")
    if not os.path.exists(f"{data_root}/oci-layout"):
        replace_file(f"{data_root}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def has_blob(data_root: str, descriptor: Descriptor) -> bool:
    """Whether the blob is there; one of another size is not it."""
    try:
        return os.stat(blob_path(data_root, descriptor.digest), follow_symlinks=False).st_size == descriptor.size
    except FileNotFoundError:
        return False


def open_blob(data_root: str, descriptor: Descriptor) -> BinaryIO:
    """A blob as a stream. Raises: InvalidArgument: it is gone, or has another size."""
    path = blob_path(data_root, descriptor.digest)
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        raise InvalidArgument(
            f"cannot read {descriptor.digest} of {data_root}: {error.strerror} ({errno_name(error.errno or 0)}): "
            "pull, load or import the image again"
        ) from None
    size = os.fstat(fd).st_size
    if size != descriptor.size:
        os.close(fd)
        raise InvalidArgument(
            f"cannot use {descriptor.digest} of {data_root}: it has {size} bytes, {descriptor.size} expected: "
            "it is damaged; remove the image, and pull, load or import it again"
        )
    return open(fd, "rb", buffering=0)


def read_blob(data_root: str, descriptor: Descriptor) -> bytes:
    """A document's verified bytes. Raises: InvalidArgument: gone, damaged, or over 4 MiB."""
    if descriptor.size > MAX_DOCUMENT_BYTES:
        raise InvalidArgument(
            f"cannot read {descriptor.digest}: {descriptor.size} bytes, the limit for a document is {MAX_DOCUMENT_BYTES}"
        )
    with open_blob(data_root, descriptor) as blob:
        data = blob.read(descriptor.size + 1)
    check_bytes(data, descriptor)
    return data


def check_bytes(data: bytes, descriptor: Descriptor) -> None:
    """Raises InvalidArgument unless ``data`` has the descriptor's size and digest."""
    hasher = new_hasher(descriptor.digest.algorithm)
    hasher.update(data)
    if len(data) != descriptor.size or hasher.hexdigest() != descriptor.digest.encoded:
        raise InvalidArgument(
            f"cannot use {descriptor.digest}: the {len(data)} bytes that were found have the digest "
            f"{descriptor.digest.algorithm}:{hasher.hexdigest()}: they are damaged, or not what was asked for"
        )


def is_damaged(data_root: str, descriptor: Descriptor) -> bool:
    """Whether a blob that is there is not what its name says, which only reading all of it tells."""
    hasher = new_hasher(descriptor.digest.algorithm)
    with open_blob(data_root, descriptor) as blob:
        while data := blob.read(1 << 20):
            hasher.update(data)
    return hasher.hexdigest() != descriptor.digest.encoded


def publish_blob(data_root: str, source: str, digest: Digest, *, replace: bool = False) -> None:
    """Give a verified file on the data root's file system its name, durably. The same blob may be there already; ``replace``:
    it is damaged."""
    directory = blobs_dir(data_root, digest.algorithm)
    if digest.algorithm != "sha256":
        make_data_dir(directory)
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    target = f"{directory}/{digest.encoded}"
    try:
        # who uses an image holds a lock on its configuration's inode (usage.py): a good blob is not replaced
        if not replace and os.stat(target, follow_symlinks=False).st_size == size:
            os.unlink(source)
            return
    except FileNotFoundError:
        pass
    os.rename(source, target)
    sync_directory(directory)


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put_bytes(data_root: str, data: bytes, media_type: str) -> Descriptor:
    """Store a document; answers with its descriptor. Idempotent."""
    hasher = new_hasher("sha256")
    hasher.update(data)
    descriptor = Descriptor(media_type=media_type, digest=Digest("sha256", hasher.hexdigest()), size=len(data))
    keep_bytes(data_root, data, descriptor)
    return descriptor


def keep_bytes(data_root: str, data: bytes, descriptor: Descriptor) -> None:
    """Store a document whose digest the caller has verified. Idempotent. One that is there and damaged is replaced."""
    if not has_blob(data_root, descriptor) or is_damaged(data_root, descriptor):
        make_data_dir(blobs_dir(data_root, descriptor.digest.algorithm))
        replace_file(blob_path(data_root, descriptor.digest), data)


def put_json(data_root: str, document: dict[str, Any], media_type: str) -> Descriptor:
    """Store a document in JSON's shortest form."""
    return put_bytes(data_root, json.dumps(document, separators=(",", ":")).encode(), media_type)
