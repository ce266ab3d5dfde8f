"""Everything about one stored image: for ``image inspect``, ``history`` and ``image tree``."""

from __future__ import annotations

from typing import Any

from ..record import record
from .blobs import read_blob
from .documents import Descriptor, parse_config, parse_json
from .layers import layer_path
from .records import ImageInfo, find_id, image_names, info_of, read_record
from .rootfs import ImageConfig

__all__ = ["HistoryEntry", "ImageDetails", "LayerInfo", "inspect_image"]


@record
class LayerInfo:
    """One layer: ``size`` in bytes of its files, ``path`` of the unpacked directory, ``descriptor`` of its blob."""

    diff_id: str
    size: int
    path: str
    descriptor: Descriptor


@record
class HistoryEntry:
    """One step of how the image was made, oldest first. ``layer`` is None where it changed no file."""

    created: str
    created_by: str
    author: str = ""
    comment: str = ""
    layer: LayerInfo | None = None


@record
class ImageDetails:
    """Everything about one image. ``config`` is what runs; ``document`` the whole configuration as its maker wrote it."""

    info: ImageInfo
    config: ImageConfig
    document: dict[str, Any]
    manifest: Descriptor
    layers: tuple[LayerInfo, ...]  # lowest first
    history: tuple[HistoryEntry, ...]
    architecture: str
    os: str
    variant: str = ""
    author: str = ""
    comment: str = ""
    parent: str = ""
    tagged: float = 0.0  # seconds since 1970; 0 never


def inspect_image(data_root: str, text: str) -> ImageDetails:
    """Raises: ImageNotFound, Conflict, InvalidArgument."""
    found = read_record(data_root, find_id(data_root, text))
    data = read_blob(data_root, found.config)
    document = parse_json(data, found.id)
    parsed = parse_config(data, found.id)
    layers = tuple(
        LayerInfo(
            diff_id=str(each.diff_id),
            size=each.size,
            path=layer_path(data_root, each.diff_id),
            descriptor=each.descriptor,
        )
        for each in found.layers
    )
    history = _history(document, layers)
    return ImageDetails(
        info=info_of(found, image_names(data_root).get(found.id, ())),
        config=parsed.config,
        document=document,
        manifest=found.manifest,
        layers=layers,
        history=history,
        architecture=parsed.architecture,
        os=parsed.os,
        variant=_text(document, "variant"),
        author=_text(document, "author"),
        comment=_text(document, "comment") or (history[-1].comment if history else ""),
        parent=found.parent,
        tagged=found.tagged,
    )


def _history(document: dict[str, Any], layers: tuple[LayerInfo, ...]) -> tuple[HistoryEntry, ...]:
    """The entries of ``history``, each with its layer. Layers that no entry tells of come last.

    Spec: image-spec config.md, "history": as many entries without ``empty_layer`` as there are layers, in their order.
    """
    given = document.get("history")
    left = list(layers)
    entries = []
    for each in given if isinstance(given, list) else ():
        if not isinstance(each, dict):
            continue
        layer = left.pop(0) if left and each.get("empty_layer") is not True else None
        entries.append(
            HistoryEntry(
                created=_text(each, "created"),
                created_by=_text(each, "created_by"),
                author=_text(each, "author"),
                comment=_text(each, "comment"),
                layer=layer,
            )
        )
    entries += [HistoryEntry(created=_text(document, "created"), created_by="", layer=each) for each in left]
    return tuple(entries)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
