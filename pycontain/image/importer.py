"""``pycontain import FILE NAME``: a tar of a root filesystem becomes a named image of one layer.

A crash leaves unreferenced blobs or a workspace, never half an image or half a name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, BinaryIO

from ..errors import Conflict, InvalidArgument, errno_name
from .blobs import make_layout, publish_blob, put_json
from .changes import on_build, parse_changes
from .compression import compression_of
from .digest import Digest
from .documents import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Platform, config_to_json, descriptor_to_json
from .image_events import emit_image
from .layers import HashingReader, layer_path, publish_layer, unpack_stream
from .layout import machine_platform
from .names import ImageName, parse_image_name
from .publish import check_names, publish_image
from .rootfs import ImageConfig
from .workspace import locked, storing, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .records import ImageRecord
    from .unpack import LayerLimits

__all__ = ["import_tar"]


def import_tar(
    path_or_stream: str | BinaryIO,
    name: str,
    *,
    data_root: str,
    changes: Sequence[str] = (),
    message: str = "imported by pycontain",
    platform: Platform | None = None,
    limits: LayerLimits | None = None,
) -> str:
    """Import a tar (plain, gzip, zstd or xz; ``-`` is standard input) under ``name`` ("": none); answers with the image id.

    An image of that name loses the name, atomically; its layer stays. ``changes`` are ``--change`` instructions.
    Raises: InvalidArgument: the name, a change, or the tar; Unsupported: the compression, or not allowed to write it.
    Spec: image-spec image-layout.md, manifest.md, config.md.
    """
    names = [parse_image_name(name)] if name else []
    check_names(names)
    config = parse_changes(changes)
    with storing("import"), _opened(path_or_stream) as stream:
        make_layout(data_root)
        found = _store(
            data_root, stream, names, config, message, platform or machine_platform(), limits, on_build(changes)
        )  # fmt: skip
    if found is None:
        raise Conflict("cannot import: what was stored has been taken away at once by another removal: try again")
    emit_image(data_root, "import", found.id, labels=found.labels)
    return found.id


def _store(
    data_root: str, stream: BinaryIO, names: Sequence[ImageName], config: ImageConfig, message: str, platform: Platform,
    limits: LayerLimits | None, triggers: list[str],
) -> ImageRecord | None:  # fmt: skip
    with locked(data_root, "storing", shared=True):
        with workspace(data_root) as (work, work_fd):
            layer, diff_id = _store_layer(stream, work, work_fd, data_root, limits)
        manifest = _store_documents(data_root, config, layer, diff_id, message, platform, triggers)
        return publish_image(data_root, manifest, names)


def _opened(source: str | BinaryIO) -> Any:
    if not isinstance(source, str):
        return nullcontext(source)
    if source == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(source, "rb", buffering=0)
    except OSError as error:
        hint = "a directory needs no import, name it with / or ./ in front" if os.path.isdir(source) else (
            "give a tar file, or - for standard input"
        )  # fmt: skip
        raise InvalidArgument(
            f"cannot import {source}: {error.strerror} ({errno_name(error.errno or 0)}): {hint}"
        ) from None


def _store_layer(
    stream: BinaryIO, work: str, work_fd: int, data_root: str, limits: LayerLimits | None
) -> tuple[Descriptor, Digest]:
    """One pass: the bytes go to a blob, through the hash, and unpacked into a layer directory."""
    blob_fd = os.open("blob", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=work_fd)
    try:
        raw = HashingReader(stream, "sha256", copy_to=blob_fd)
        diff_id, stats = unpack_stream(raw, work_fd, "sha256", limits=limits)
        if raw.size == 0:
            raise InvalidArgument("cannot import: the input is empty; give a tar of a root filesystem")
        compression = compression_of(os.pread(blob_fd, 6, 0))
        digest, size = raw.digest, raw.size
        if compression == "xz":  # no OCI layer type has xz
            digest, size = _plain_blob(blob_fd, work_fd)
    finally:
        os.close(blob_fd)
    with locked(data_root, f"layer-{diff_id.encoded}"):
        if not os.path.isdir(layer_path(data_root, diff_id)):
            publish_layer(data_root, f"{work}/layer", diff_id, stats.file_bytes)
    blob_name = "plain" if compression == "xz" else "blob"
    publish_blob(data_root, f"{work}/{blob_name}", digest)
    media_type = OCI_LAYER + (f"+{compression}" if compression in ("gzip", "zstd") else "")
    return Descriptor(media_type=media_type, digest=digest, size=size), diff_id


def _plain_blob(blob_fd: int, work_fd: int) -> tuple[Digest, int]:
    from .compression import decompressed

    os.lseek(blob_fd, 0, os.SEEK_SET)
    plain_fd = os.open("plain", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=work_fd)
    try:
        with open(blob_fd, "rb", closefd=False) as blob:
            plain = HashingReader(decompressed(blob, "xz"), "sha256", copy_to=plain_fd)
            plain.drain()
        return plain.digest, plain.size
    finally:
        os.close(plain_fd)


def _store_documents(
    data_root: str,
    config: ImageConfig,
    layer: Descriptor,
    diff_id: Digest,
    message: str,
    platform: Platform,
    triggers: list[str],
) -> Descriptor:
    """Write configuration and manifest; answers with the manifest's descriptor."""
    from datetime import datetime, timezone

    created = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    document: dict[str, Any] = {
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {**config_to_json(config), **({"OnBuild": triggers} if triggers else {})},
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
        "history": [{"created": created, "comment": message}],
    }
    if platform.variant:
        document["variant"] = platform.variant
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor_to_json(put_json(data_root, document, OCI_CONFIG)),
        "layers": [descriptor_to_json(layer)],
    }
    return put_json(data_root, manifest, OCI_MANIFEST)
