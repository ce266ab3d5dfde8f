"""A stored layer that is not compressed, compressed: another blob of the same layer."""

from __future__ import annotations

import os
from io import FileIO
from typing import cast

from ..errors import InvalidArgument
from .blobs import open_blob, publish_blob
from .compress import write_layer
from .digest import Digest
from .documents import OCI_LAYER, Descriptor
from .workspace import workspace

__all__ = ["gzip_blob"]


def gzip_blob(data_root: str, descriptor: Descriptor, diff_id: Digest) -> Descriptor:
    """Store the layer with gzip; answers with the new blob's descriptor. The same layer gives the same blob."""
    with workspace(data_root) as (work, work_fd):
        fd = os.open("blob", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=work_fd)
        try:
            with open_blob(data_root, descriptor) as plain:
                written = write_layer(cast(FileIO, plain), fd, "gzip", None)
        finally:
            os.close(fd)
        if written.diff_id != diff_id:
            raise InvalidArgument(
                f"cannot compress layer {descriptor.digest}: it is {written.diff_id}, the configuration says {diff_id}: it is damaged"
            )
        publish_blob(data_root, f"{work}/blob", written.digest)
        return Descriptor(media_type=f"{OCI_LAYER}+gzip", digest=written.digest, size=written.size)
