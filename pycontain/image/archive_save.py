"""``save``: images as one tar file.

One archive serves both worlds: it is an OCI image layout, with ``manifest.json`` beside it for ``docker load`` and whatever else
reads Docker's format (Docker itself has written such since 25). Blobs go in as they are stored. The same images give the same
bytes.
Spec: image-spec image-layout.md; Docker's image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any, BinaryIO

from ..errors import InvalidArgument
from .blobs import open_blob
from .documents import IMAGE_NAME, OCI_INDEX, REF_NAME, Descriptor, descriptor_to_json
from .image_events import emit_image
from .names import parse_reference
from .records import find_id, image_names, read_record
from .usage import hold_image
from .workspace import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import ImageRecord

__all__ = ["FORMATS", "save_archive"]

FORMATS = ("docker-archive", "oci-archive")


def save_archive(data_root: str, wanted: Sequence[str], out: BinaryIO, *, format: str = "docker-archive") -> None:
    """Write the images to ``out``. A repository without a tag stands for all its tags, an id for an image without a name.

    ``format``: "docker-archive" (an OCI layout that ``docker load`` reads too) or "oci-archive" (the layout alone).
    Raises: ImageNotFound, Conflict; InvalidArgument: nothing wanted, another format, a damaged blob.
    """
    if format not in FORMATS:
        raise InvalidArgument(f"cannot save as {format!r}: the formats are {' and '.join(FORMATS)}")
    if not wanted:
        raise InvalidArgument("cannot save nothing: name an image")
    chosen = _chosen(data_root, wanted)
    holds = [hold_image(data_root, image_id) for image_id in chosen]
    try:
        images = [(read_record(data_root, image_id), names) for image_id, names in chosen.items()]
        _write(data_root, images, out, format)
        for found, _ in images:
            emit_image(data_root, "save", found.id, labels=found.labels)
    finally:
        for each in holds:
            release(each)


def _chosen(data_root: str, wanted: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the images, each with the tags that it is saved under."""
    known = image_names(data_root)
    chosen: dict[str, list[str]] = {}
    for text in wanted:
        every = _tags_of_repository(text, known)
        if every:
            for image_id, name in every:
                chosen.setdefault(image_id, []).append(name)
            continue
        image_id = find_id(data_root, text)
        names = chosen.setdefault(image_id, [])
        try:
            name = str(parse_reference(text))
        except InvalidArgument:
            continue  # an id
        if name in known.get(image_id, ()) and "@" not in name:
            names.append(name)
    return {image_id: sorted(set(names)) for image_id, names in chosen.items()}


def _tags_of_repository(text: str, known: dict[str, list[str]]) -> list[tuple[str, str]]:
    if ":" in text.rpartition("/")[2] or "@" in text:
        return []
    try:
        repository = parse_reference(text).repository
    except InvalidArgument:
        return []
    return [
        (image_id, name)
        for image_id, names in known.items()
        for name in names
        if "@" not in name and name.rpartition(":")[0] == repository
    ]


def _write(data_root: str, images: list[tuple[ImageRecord, list[str]]], out: BinaryIO, format: str) -> None:
    docker = format == "docker-archive"
    blobs: dict[str, Descriptor] = {}
    manifests: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for image, names in images:
        blobs.update({_member(each): each for each in image.blobs})
        manifests += [_in_index(image, name, docker) for name in names] or [descriptor_to_json(image.manifest)]
        entries.append(
            {
                "Config": _member(image.config),
                "RepoTags": names or None,
                "Layers": [_member(each.descriptor) for each in image.layers],
            }
        )
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for directory in ("blobs", "blobs/sha256"):
            archive.addfile(_info(directory, 0, tarfile.DIRTYPE))
        for path in sorted(blobs):
            with open_blob(data_root, blobs[path]) as blob:
                archive.addfile(_info(path, blobs[path].size), blob)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        _add(archive, "index.json", index)
        if docker:
            _add(archive, "manifest.json", entries)
        _add(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})


def _in_index(image: ImageRecord, name: str, docker: bool) -> dict[str, Any]:
    """Docker's own archives have the tag alone as ref.name; an OCI archive's readers ask for the name by it."""
    canonical = parse_reference(name).canonical
    reference = name.rpartition(":")[2] if docker else name
    return {**descriptor_to_json(image.manifest), "annotations": {IMAGE_NAME: canonical, REF_NAME: reference}}


def _member(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.encoded}"


def _info(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def _add(archive: tarfile.TarFile, name: str, document: object) -> None:
    data = json.dumps(document, separators=(",", ":")).encode()
    archive.addfile(_info(name, len(data)), io.BytesIO(data))
