"""``pycontain import FILE NAME``: a tar of a root filesystem becomes a named image of one layer.

The data root itself is the OCI image layout (``oci-layout``, ``index.json``, ``blobs/sha256/``) that other tools read
in place. ``names/NAME`` is what *we* read: one small file per name, replaced by rename, so there is no global lock and
no long document on the way to starting a container. A crash leaves unreferenced blobs or a workspace, not half a name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, BinaryIO

from ..errors import InvalidArgument, errno_name
from .changes import parse_changes
from .compression import compression_of
from .digest import Digest, new_hasher
from .documents import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME, config_to_json, parse_json
from .layers import HashingReader, layer_path, publish_layer, unpack_stream
from .layout import machine_platform
from .names import RESERVED, ImageName, name_record_path, parse_image_name
from .rootfs import ImageConfig
from .workspace import locked, make_data_dir, replace_file, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .unpack import LayerLimits

__all__ = ["import_tar"]


def import_tar(
    path_or_stream: str | BinaryIO,
    name: str,
    *,
    data_root: str,
    changes: Sequence[str] = (),
    limits: LayerLimits | None = None,
) -> str:
    """Import a tar (plain, gzip, zstd or xz; ``-`` is standard input) under ``name``; answers with the image id.

    An image of that name loses the name, atomically; its layer stays. ``changes`` are ``--change`` instructions.
    Raises: InvalidArgument: the name, a change, or the tar; Unsupported: the compression, or not allowed to write it.
    Spec: image-spec image-layout.md, manifest.md, config.md.
    """
    parsed = parse_image_name(name)
    if parsed.repository in RESERVED:
        raise InvalidArgument(f"cannot import under the name {name!r}: {parsed.repository!r} has a meaning of its own")
    config = parse_changes(changes)
    _make_layout(data_root)
    with _opened(path_or_stream) as stream, workspace(data_root) as (work, work_fd):
        layer, diff_id = _store_layer(stream, work, work_fd, data_root, limits)
    with locked(data_root, "index"):
        image_id, manifest = _store_documents(data_root, config, layer, diff_id)
        _write_index(data_root, parsed, manifest)
        record = {**manifest, "name": str(parsed), "imageId": str(image_id)}
        replace_file(name_record_path(data_root, parsed), json.dumps(record).encode())
    return str(image_id)


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


def _make_layout(data_root: str) -> None:
    for each in ("blobs/sha256", "names"):
        make_data_dir(f"{data_root}/{each}")
    if not os.path.exists(f"{data_root}/oci-layout"):
        replace_file(f"{data_root}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def _store_layer(
    stream: BinaryIO, work: str, work_fd: int, data_root: str, limits: LayerLimits | None
) -> tuple[dict[str, Any], Digest]:
    """One pass: the bytes go to a blob, through the hash, and unpacked into a layer directory."""
    blob_fd = os.open("blob", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=work_fd)
    try:
        raw = HashingReader(stream, "sha256", copy_to=blob_fd)
        diff_id, _ = unpack_stream(raw, work_fd, "sha256", limits=limits)
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
            publish_layer(data_root, f"{work}/layer", diff_id)
    blob_name = "plain" if compression == "xz" else "blob"
    _publish_blob(data_root, f"{work}/{blob_name}", digest)
    media_type = OCI_LAYER + (f"+{compression}" if compression in ("gzip", "zstd") else "")
    return {"mediaType": media_type, "digest": str(digest), "size": size}, diff_id


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


def _publish_blob(data_root: str, source: str, digest: Digest) -> None:
    """Give a blob its name, durably. The same blob may be there: a rename over it changes nothing."""
    directory = f"{data_root}/blobs/{digest.algorithm}"
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(source, f"{directory}/{digest.encoded}")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _store_documents(
    data_root: str, config: ImageConfig, layer: dict[str, Any], diff_id: Digest
) -> tuple[Digest, dict[str, Any]]:
    """Write configuration and manifest; answers with the image id and the manifest's descriptor."""
    from datetime import datetime, timezone

    created = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    platform = machine_platform()
    document: dict[str, Any] = {
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": config_to_json(config),
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
        "history": [{"created": created, "comment": "imported by pycontain"}],
    }
    if platform.variant:
        document["variant"] = platform.variant
    config_descriptor = _store_json(data_root, document, OCI_CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config_descriptor, "layers": [layer]}
    image_id = Digest("sha256", config_descriptor["digest"].partition(":")[2])
    return image_id, _store_json(data_root, manifest, OCI_MANIFEST)


def _store_json(data_root: str, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document, separators=(",", ":")).encode()
    hasher = new_hasher("sha256")
    hasher.update(data)
    digest = Digest("sha256", hasher.hexdigest())
    replace_file(f"{data_root}/blobs/sha256/{digest.encoded}", data)
    return {"mediaType": media_type, "digest": str(digest), "size": len(data)}


def _write_index(data_root: str, name: ImageName, manifest: dict[str, Any]) -> None:
    """Point the layout's index at the manifest under the name; the caller holds the lock ``index``."""
    path = f"{data_root}/index.json"
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    try:
        with open(path, "rb") as file:
            index = parse_json(file.read(), path)
    except FileNotFoundError:
        pass
    others = [each for each in index["manifests"] if (each.get("annotations") or {}).get(REF_NAME) != str(name)]
    index["manifests"] = [*others, {**manifest, "annotations": {REF_NAME: str(name)}}]
    replace_file(path, json.dumps(index, separators=(",", ":")).encode())
