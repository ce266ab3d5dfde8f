"""The last step of every pull, load, import, commit and build: what is stored becomes an image, with its names.

Until then nothing refers to the blobs and layers, and a removal of another image may take them away. So they are looked at
again here, under the lock that removals hold too; the caller gets back what is missing, stores that, and comes again.
"""

from __future__ import annotations

import os
import time

from ..errors import ImageNotFound, InvalidArgument, Unsupported
from ..record import replaced
from .blobs import has_blob, read_blob
from .documents import Descriptor, ImageDocument, Manifest, parse_config, parse_json, parse_manifest
from .image_events import emit_image
from .layers import layer_path, layer_size
from .names import RESERVED, ImageName
from .records import ImageRecord, LayerRecord, find_id, named_id, read_record, set_names, write_index, write_record
from .unsynced import settle
from .workspace import locked, storing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_image", "check_names", "name_image", "publish_image"]


def check_names(names: Sequence[ImageName]) -> None:
    """Raises InvalidArgument for a name that ``run`` would read as something else."""
    for name in names:
        if name.repository in RESERVED:
            raise InvalidArgument(f"cannot give an image the name {name}: {name.repository!r} has a meaning of its own")


def check_image(manifest: Manifest, document: ImageDocument, what: str) -> None:
    """Raises: InvalidArgument: manifest and configuration contradict each other; Unsupported: not for Linux; an id that is no
    sha256, as those of images are everywhere."""
    if manifest.config.digest.algorithm != "sha256":
        raise Unsupported(
            f"cannot use {what}: its configuration is named by {manifest.config.digest.algorithm}; image ids are sha256"
        )
    if len(document.diff_ids) != len(manifest.layers):
        raise InvalidArgument(f"cannot use {what}: {len(manifest.layers)} layers and {len(document.diff_ids)} diff_ids")
    if document.os != "linux":
        raise Unsupported(f"cannot use {what}: it is an image for {document.os or 'no'} os; linux is needed")


def publish_image(
    data_root: str, manifest: Descriptor, names: Sequence[ImageName], *, parent: str = ""
) -> ImageRecord | None:
    """Make the stored manifest an image and give it the names; None when something of it is missing.

    Idempotent: an image that is there already only gets the names.
    Raises: InvalidArgument, Unsupported: the documents.
    """
    check_names(names)
    settle(data_root)
    with locked(data_root, "index"):
        if not has_blob(data_root, manifest):
            return None
        parsed = parse_manifest(read_blob(data_root, manifest), manifest.media_type, str(manifest.digest))
        if not has_blob(data_root, parsed.config):
            return None
        data = read_blob(data_root, parsed.config)
        document = parse_config(data, str(parsed.config.digest))
        check_image(parsed, document, str(manifest.digest))
        if not all(has_blob(data_root, each) for each in parsed.layers):
            return None
        if not all(os.path.isdir(layer_path(data_root, each)) for each in document.diff_ids):
            return None
        known = _known(data_root, str(parsed.config.digest))
        unchanged = known is not None and known.manifest == manifest and not parent
        if unchanged and all(named_id(data_root, name) == str(parsed.config.digest) for name in names):
            return known
        found = ImageRecord(
            id=str(parsed.config.digest),
            manifest=manifest,
            config=parsed.config,
            layers=tuple(
                LayerRecord(descriptor=layer, diff_id=diff_id, size=layer_size(data_root, diff_id))
                for layer, diff_id in zip(parsed.layers, document.diff_ids, strict=True)
            ),
            created=_created(data, str(parsed.config.digest)),
            labels=document.config.labels,
            parent=parent or (known.parent if known else ""),
            tagged=time.time() if names else known.tagged if known else 0.0,
        )
        write_record(data_root, found)
        set_names(data_root, names, found.id)
        write_index(data_root)
        return found


def name_image(data_root: str, source: str, name: ImageName) -> None:
    """Give a stored image one more name; an image that had it loses it. Raises: ImageNotFound, Conflict, InvalidArgument."""
    check_names([name])
    with storing(f"tag {source}"), locked(data_root, "index"):
        found = read_record(data_root, find_id(data_root, source))
        write_record(data_root, replaced(found, tagged=time.time()))
        set_names(data_root, [name], found.id)
        write_index(data_root)
    emit_image(data_root, "tag", found.id, str(name), found.labels)


def _created(config: bytes, what: str) -> str:
    created = parse_json(config, what).get("created")
    return created if isinstance(created, str) else ""


def _known(data_root: str, image_id: str) -> ImageRecord | None:
    try:
        return read_record(data_root, image_id)
    except ImageNotFound:
        return None
