"""``load``: images out of a tar file that ``docker save``, ``podman save``, ``skopeo`` or ``save`` has written.

The archive, from a stranger like any layer, is first unpacked by the layers' own unpacker into a workspace; of what is there
then only regular files are opened, and every byte is checked against a digest before it is stored.
Spec: image-spec image-layout.md; Docker's image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any, BinaryIO, cast

from .. import _native
from ..errors import InvalidArgument, PycontainError, errno_name
from ..record import record
from .blobs import MAX_DOCUMENT_BYTES
from .compression import PREFIX_BYTES, compression_of
from .digest import Digest, new_hasher
from .documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    descriptor_to_json,
    parse_config,
)
from .image_events import emit_image
from .layers import HashingReader, about, unpack_stream
from .layout import Layout, machine_platform
from .names import ImageName, parse_image_name
from .publish import check_names
from .pull import store_image
from .workspace import storing, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .documents import Platform
    from .progress import Report
    from .records import ImageRecord
    from .unpack import LayerLimits

__all__ = ["Loaded", "load_archive"]

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAX_IMAGES = 10_000
_MAX_LAYERS = 4096


@record
class Loaded:
    """``names`` are those that the archive gives the image."""

    image: ImageRecord
    names: tuple[str, ...]


def load_archive(
    data_root: str,
    stream: BinaryIO,
    report: Report,
    *,
    platform: Platform | None = None,
    limits: LayerLimits | None = None,
) -> list[Loaded]:
    """Store every image of an archive (plain, gzip, zstd or xz) under the names that it gives them.

    Of an image for several platforms only this one's (``platform``) is stored. An error leaves the images before it.
    Raises: InvalidArgument: no such archive, or damaged; Unsupported: for another platform.
    """
    with storing("load"), workspace(data_root) as (work, work_fd):
        raw = HashingReader(stream, "sha256")
        try:
            unpack_stream(raw, work_fd, "sha256", limits=limits)
        except PycontainError as error:
            raise about(error, "the archive") from error
        if raw.size == 0:
            raise InvalidArgument(
                "cannot load: the input is empty; give an archive that `docker save` or `pycontain save` wrote"
            )
        archive = f"{work}/layer"
        root = os.open(archive, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            loaded: list[Loaded] = []
            if os.path.lexists(f"{archive}/oci-layout"):
                loaded = _load_layout(data_root, archive, report, platform or machine_platform(), limits)
            elif os.path.lexists(f"{archive}/manifest.json"):
                loaded = _DockerArchive(root).load(data_root, report, limits)
        finally:
            os.close(root)
    for each in loaded:
        emit_image(data_root, "load", each.image.id, labels=each.image.labels)
    if loaded:
        return loaded
    raise InvalidArgument(
        "cannot load: the archive has neither oci-layout nor manifest.json: it is no image; "
        "`pycontain import` makes an image of the tar of a root file system"
    )


# OCI archives


def _load_layout(
    data_root: str, path: str, report: Report, platform: Platform, limits: LayerLimits | None
) -> list[Loaded]:
    loaded: list[Loaded] = []
    with Layout(path) as layout:
        names = _names_in_index(layout)
        for digest in dict.fromkeys(each.digest for each in layout.index() if _is_image(each)):
            found = layout.find(f"@{digest}", platform)
            given = names.get(digest, [])
            check_names(given)
            stored = store_image(
                data_root,
                layout.read(found.manifest_descriptor),
                found.manifest_descriptor,
                layout,
                report,
                names=given,
                what=str(given[0] if given else digest),
                limits=limits,
            )
            loaded.append(Loaded(image=stored, names=tuple(map(str, given))))
    if not loaded:
        raise InvalidArgument("cannot load: the archive's index.json lists no image")
    return loaded


def _is_image(descriptor: Descriptor) -> bool:
    """Not an attestation, which BuildKit lists as an image for the platform unknown/unknown."""
    unknown = descriptor.platform is not None and descriptor.platform.os == "unknown"
    return descriptor.media_type in (*MANIFEST_TYPES, *INDEX_TYPES) and not unknown


def _names_in_index(layout: Layout) -> dict[Digest, list[ImageName]]:
    """The names that the index gives: containerd's annotation has them whole; ``ref.name`` is a name or just a tag."""
    names: dict[Digest, list[ImageName]] = {}
    for each in layout.index():
        text = each.image_name or (each.ref_name if ":" in each.ref_name else "")
        if text:
            names.setdefault(each.digest, []).append(parse_image_name(text))
    return names


# Docker archives


class _DockerArchive:
    """An unpacked ``docker save``: ``manifest.json`` names a configuration and layers by their paths in the archive."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._paths: dict[Digest, str] = {}
        self._known: dict[str, Descriptor] = {}

    def load(self, data_root: str, report: Report, limits: LayerLimits | None) -> list[Loaded]:
        entries = self._manifest()
        loaded = []
        for position, entry in enumerate(entries):
            what = f"image {position} of the archive's manifest.json"
            names = _repo_tags(entry, what)
            manifest, data = self._as_oci(entry, what)
            stored = store_image(data_root, data, manifest, self, report, names=names, what=what, limits=limits)
            loaded.append(Loaded(image=stored, names=tuple(map(str, names))))
        return loaded

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        return self._open(self._paths[descriptor.digest])

    def _manifest(self) -> list[dict[str, Any]]:
        data = self._read("manifest.json")
        try:
            entries = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"cannot load: the archive's manifest.json is no JSON: {error}") from None
        if (
            not isinstance(entries, list)
            or not all(isinstance(each, dict) for each in entries)
            or not 0 < len(entries) <= _MAX_IMAGES
        ):
            raise InvalidArgument("cannot load: the archive's manifest.json is no list of images")
        return entries

    def _as_oci(self, entry: dict[str, Any], what: str) -> tuple[Descriptor, bytes]:
        """The OCI manifest of an image: its descriptor and bytes."""
        config_path, layers = entry.get("Config"), entry.get("Layers") or []
        if (
            not isinstance(config_path, str)
            or not isinstance(layers, list)
            or not all(isinstance(x, str) for x in layers)
        ):
            raise InvalidArgument(f"cannot load {what}: Config is no path, or Layers are none")
        config = self._read(config_path)
        document = parse_config(config, f"{what}: {config_path[:200]}")
        if len(layers) != len(document.diff_ids) or len(layers) > _MAX_LAYERS:
            raise InvalidArgument(f"cannot load {what}: {len(layers)} layers and {len(document.diff_ids)} diff_ids")
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor_to_json(self._descriptor(config_path, OCI_CONFIG)),
            "layers": [descriptor_to_json(self._descriptor(path, "")) for path in layers],
        }
        data = json.dumps(manifest, separators=(",", ":")).encode()
        hasher = new_hasher("sha256")
        hasher.update(data)
        return Descriptor(media_type=OCI_MANIFEST, digest=Digest("sha256", hasher.hexdigest()), size=len(data)), data

    def _descriptor(self, path: str, media_type: str) -> Descriptor:
        """Of a file of the archive, as it is there; ``media_type`` "": a layer's, by its first bytes."""
        known = self._known.get(path)
        if known is not None:
            return known
        with self._open(path) as file:
            prefix = file.read(PREFIX_BYTES)
            file.seek(0)
            reader = HashingReader(file, "sha256")
            reader.drain()
        if not media_type:
            compression = compression_of(prefix)
            if compression not in ("", "gzip", "zstd"):
                raise InvalidArgument(
                    f"cannot load: the layer {path[:200]!r} is compressed by {compression}; gzip and zstd are known"
                )
            media_type = OCI_LAYER + (f"+{compression}" if compression else "")
        self._paths[reader.digest] = path
        self._known[path] = Descriptor(media_type=media_type, digest=reader.digest, size=reader.size)
        return self._known[path]

    def _read(self, path: str) -> bytes:
        with self._open(path) as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"cannot load: {path[:200]!r} has more than {MAX_DOCUMENT_BYTES} bytes")
        return data

    def _open(self, path: str) -> BinaryIO:
        """A regular file of the archive. Links are followed inside it: Docker wrote the second copy of a layer as one."""
        resolve = _native.RESOLVE_IN_ROOT | _native.RESOLVE_NO_MAGICLINKS
        try:
            if not path or "\0" in path:
                raise InvalidArgument(f"cannot load: {path[:200]!r} is no path of the archive")
            # asked before the open: opening a device can do things, and root may have unpacked one
            looked = _native.openat2(self._root, os.fsencode(path), os.O_PATH | os.O_CLOEXEC, 0, resolve)
            try:
                if not stat.S_ISREG(os.fstat(looked).st_mode):
                    raise InvalidArgument(f"cannot load: {path[:200]!r} of the archive is not a regular file")
            finally:
                os.close(looked)
            fd = _native.openat2(self._root, os.fsencode(path), _FLAGS, 0, resolve)
        except (OSError, UnicodeEncodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a name"
            name = errno_name(error.errno or 0) if isinstance(error, OSError) else "EINVAL"
            raise InvalidArgument(
                f"cannot load: {path[:200]!r} of the archive: {why} ({name}): it is incomplete"
            ) from None
        return cast(BinaryIO, open(fd, "rb"))


def _repo_tags(entry: dict[str, Any], what: str) -> list[ImageName]:
    tags = entry.get("RepoTags") or []
    if not isinstance(tags, list) or not all(isinstance(each, str) for each in tags):
        raise InvalidArgument(f"cannot load {what}: RepoTags is no list of names")
    try:
        names = [parse_image_name(each) for each in tags]
    except PycontainError as error:
        raise InvalidArgument(f"cannot load {what}: {error}") from None
    check_names(names)
    return names
