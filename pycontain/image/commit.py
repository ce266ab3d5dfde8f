"""``commit``: what a container has written becomes one more layer, and its settings an image's configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from ..errors import Conflict, InvalidArgument
from ..record import record
from .blobs import make_layout, open_blob, publish_blob, put_json, read_blob
from .changes import on_build, parse_changes
from .compress import write_layer
from .digest import Digest
from .documents import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    as_oci_layer,
    config_to_json,
    descriptor_to_json,
    parse_json,
)
from .layers import ensure_layer
from .names import ImageName
from .pack import pack_layer, source_date_epoch
from .publish import check_names, publish_image
from .records import ImageRecord, find_id, read_record
from .rootfs import ImageConfig
from .usage import hold_image
from .workspace import locked, release, storing, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pack import IdMap

__all__ = ["ENGINE_PATHS", "Changed", "commit_changed"]

ENGINE_PATHS = ("dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf")
"""What a container gets of its own, on top of its image, and Docker mounts: no part of what it changed."""


@record
class Changed:
    """A container, as far as an image can be made of it. ``upper``: its upper directory."""

    image: str  # as it was asked for
    image_id: str
    upper: str
    config: ImageConfig  # as it ran
    command: str  # for the history
    uid_map: IdMap = ()
    gid_map: IdMap = ()


def commit_changed(
    data_root: str,
    changed: Changed,
    names: Sequence[ImageName],
    *,
    changes: Sequence[str] = (),
    author: str = "",
    message: str = "",
    compression: str = "gzip",
    level: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> ImageRecord:
    """Make an image of a container. ``check`` is called when all its files were read.

    ``changes`` are ``--change`` instructions. With $SOURCE_DATE_EPOCH, the same bytes each time.

    Raises: InvalidArgument: of ``host`` or a directory, which no image's layers are; a change; ImageNotFound: its image is gone;
    Conflict: a file was cut short while it was read: pause the container; it has ended; what ``check`` raises.
    Spec: image-spec layer.md, config.md.
    """
    if not changed.image_id:
        raise InvalidArgument(
            f"cannot commit a container of {changed.image}: it runs on no image's layers, to which one could be added: "
            "`pycontain export` writes all of its files as a tar, of which `pycontain import` makes an image"
        )
    check_names(names)
    config = parse_changes(changes, changed.config)
    hold = hold_image(data_root, changed.image_id)
    try:
        base = read_record(data_root, find_id(data_root, changed.image_id))
        with storing("commit"), locked(data_root, "storing", shared=True):
            make_layout(data_root)
            layer, diff_id = _store_layer(data_root, changed, compression, level, check)
            manifest = _store_documents(
                data_root, base, config, changed, layer, diff_id, author, message, on_build(changes)
            )  # fmt: skip
            found = publish_image(data_root, manifest, names, parent=base.id)
    finally:
        release(hold)
    if found is None:
        raise Conflict("cannot commit: what was stored has been taken away at once by a removal: try again")
    return found


def _store_layer(
    data_root: str, changed: Changed, compression: str, level: int | None, check: Callable[[], None]
) -> tuple[Descriptor, Digest]:
    try:
        upper_fd = os.open(changed.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Conflict("cannot commit: the container has just ended, and its files with it") from None
    try:
        with workspace(data_root) as (work, work_fd):
            blob_fd = os.open("blob", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=work_fd)
            try:
                with pack_layer(
                    upper_fd, mtime_max=source_date_epoch(), uid_map=changed.uid_map, gid_map=changed.gid_map,
                    exclude=ENGINE_PATHS,
                ) as packed:  # fmt: skip
                    written = write_layer(packed, blob_fd, compression, level)
                check()
            finally:
                os.close(blob_fd)
            publish_blob(data_root, f"{work}/blob", written.digest)
    finally:
        os.close(upper_fd)
    media_type = OCI_LAYER + (f"+{compression}" if compression else "")
    layer = Descriptor(media_type=media_type, digest=written.digest, size=written.size)
    ensure_layer(data_root, written.diff_id, layer, lambda each: open_blob(data_root, each))
    return layer, written.diff_id


def _store_documents(
    data_root: str, base: ImageRecord, config: ImageConfig, changed: Changed, layer: Descriptor, diff_id: Digest,
    author: str, message: str, triggers: list[str],
) -> Descriptor:  # fmt: skip
    epoch = source_date_epoch()
    now = datetime.now(timezone.utc) if epoch is None else datetime.fromtimestamp(epoch, timezone.utc)
    created = now.isoformat().replace("+00:00", "Z")
    document = parse_json(read_blob(data_root, base.config), base.id)
    step: dict[str, Any] = {"created": created, "created_by": changed.command, "author": author, "comment": message}
    history = document.get("history")
    kept = {k: v for k, v in (document.get("config") or {}).items() if k not in _OF_CONFIG}
    if triggers:
        before = kept.get("OnBuild")
        kept["OnBuild"] = [*(before if isinstance(before, list) else ()), *triggers]
    document.update(
        created=created,
        config={**kept, **config_to_json(config)},
        rootfs={"type": "layers", "diff_ids": [*(str(each.diff_id) for each in base.layers), str(diff_id)]},
        history=[*(history if isinstance(history, list) else ()), {k: v for k, v in step.items() if v}],
    )
    if author:
        document["author"] = author
    for name in ("container", "container_config", "docker_version"):  # of the engine that made the base
        document.pop(name, None)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor_to_json(put_json(data_root, document, OCI_CONFIG)),
        "layers": [descriptor_to_json(as_oci_layer(each)) for each in (*(x.descriptor for x in base.layers), layer)],
    }
    return put_json(data_root, manifest, OCI_MANIFEST)


_OF_CONFIG = frozenset(
    (
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "Healthcheck",
        "Shell",
    )
)
