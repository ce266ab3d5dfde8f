"""What the data root knows about its images: ``images/<id>`` for each image, ``names/<NAME>``, a link to it, for each name.

Small files, replaced by rename: a start follows one link, ``pycontain images`` reads these files and nothing else. They are
changed under the lock ``index`` only, and ``index.json``, for other tools, is written anew from them each time, so that a
crash between the two is mended by the next change. Readers take no lock.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ..errors import Conflict, ImageNotFound, InvalidArgument, PycontainError, errno_name
from ..record import record
from .digest import Digest, parse_digest
from .documents import OCI_INDEX, REF_NAME, Descriptor, descriptor_of, descriptor_to_json
from .names import ImageName, name_record_path, parse_reference
from .workspace import replace_file, replace_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ImageInfo",
    "ImageRecord",
    "LayerRecord",
    "begin_change",
    "drop_name",
    "find_id",
    "image_names",
    "list_images",
    "info_of",
    "is_changing",
    "list_records",
    "named_id",
    "read_record",
    "set_names",
    "write_index",
    "write_record",
]

_HEX = frozenset("0123456789abcdef")
_MAX_RECORD_BYTES = 4 << 20
# what reading a document that is none of ours raises
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, PycontainError)
# what a list shows of an image, in its entry of index.json
_ID, _CREATED, _SIZE, _DIGESTS, _LABELS = (
    f"dev.pycontain.image.{each}" for each in ("id", "created", "size", "digests", "labels")
)


@record
class LayerRecord:
    """``size`` in bytes: of its files, unpacked."""

    descriptor: Descriptor
    diff_id: Digest
    size: int


@record
class ImageRecord:
    """All that an image consists of, lowest layer first, and what a list of images shows."""

    id: str  # "sha256:..." of the configuration
    manifest: Descriptor
    config: Descriptor
    layers: tuple[LayerRecord, ...]
    created: str  # RFC 3339, as its maker wrote it; "" when not said
    labels: tuple[tuple[str, str], ...] = ()
    parent: str = ""  # the image that this one was committed from
    tagged: float = 0.0  # seconds since 1970 of the last name given; 0 never

    @property
    def size(self) -> int:
        return sum(each.size for each in self.layers)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.manifest, self.config, *(each.descriptor for each in self.layers))


@record
class ImageInfo:
    """One image, as a list shows it. ``size`` is in bytes: the files of all its layers, unpacked."""

    id: str  # "sha256:..." of the configuration
    names: tuple[str, ...]  # familiar, with the tag: "debian:12"
    digests: tuple[str, ...]  # familiar, by the manifest's digest in its registry: "debian@sha256:..."
    created: str  # RFC 3339, as its maker wrote it; "" when not said
    size: int
    labels: tuple[tuple[str, str], ...] = ()


# Reading


def read_record(data_root: str, image_id: str) -> ImageRecord:
    """The record of an image, by its whole id. Raises: ImageNotFound; InvalidArgument: it is damaged."""
    digits = image_id.removeprefix("sha256:")
    try:
        return _parse(_read(f"{data_root}/images/{digits}"), digits)
    except FileNotFoundError:
        raise ImageNotFound(f"no such image: {image_id} is not in {data_root}") from None
    except (OSError, *_MALFORMED) as error:
        raise _damaged(f"{data_root}/images/{digits}", error) from None


def list_records(data_root: str) -> list[ImageRecord]:
    """Every image, by id. Raises: InvalidArgument: a record is damaged."""
    found = []
    for digits in _ids(data_root):
        try:
            found.append(read_record(data_root, digits))
        except ImageNotFound:
            pass  # removed meanwhile
    return found


def image_names(data_root: str) -> dict[str, list[str]]:
    """The names of each image id, sorted: ``{"sha256:...": ["debian:12", "debian@sha256:..."]}``."""
    found: dict[str, list[str]] = {}
    try:
        entries = sorted(os.listdir(f"{data_root}/names"))
    except FileNotFoundError:
        return found
    for entry in entries:
        if entry.startswith("."):
            continue
        try:
            digits = os.readlink(f"{data_root}/names/{entry}").rpartition("/")[2]
        except FileNotFoundError:
            continue  # taken away meanwhile
        except OSError as error:
            raise _damaged(f"{data_root}/names/{entry}", error) from None
        found.setdefault(f"sha256:{digits}", []).append(entry.replace("%2F", "/"))
    return found


def list_images(data_root: str) -> list[ImageInfo]:
    """Every image, newest first; one without a name has no names. Raises: InvalidArgument: a record is damaged.

    From ``index.json`` alone when no change of the records was killed before it came to that: one file instead of thousands.
    """
    found = _from_index(data_root)
    if found is None:
        found = _from_records(data_root)
    found.sort(key=lambda info: info.created, reverse=True)
    return found


def _from_index(data_root: str) -> list[ImageInfo] | None:
    """None when it may not be what the records say. Its time is looked at, too, for a data root that was copied, or changed by
    hand; but times are too coarse for a kill in the tick of a clock in which it was written, and clocks are set back."""
    if os.path.lexists(_mark(data_root)):
        return None
    try:
        fd = os.open(f"{data_root}/index.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        changed = max(os.stat(f"{data_root}/{each}").st_mtime_ns for each in ("images", "names"))
        if info.st_mtime_ns < changed:
            return None
        with open(fd, "rb", closefd=False) as file:
            entries = [each["annotations"] for each in json.loads(file.read())["manifests"]]
        by_id: dict[str, list[str]] = {}
        for each in entries:
            by_id.setdefault(each[_ID], []).append(each.get(REF_NAME, ""))
        return [
            ImageInfo(
                id=each[_ID],
                names=tuple(filter(None, by_id.pop(each[_ID]))),
                digests=tuple(each[_DIGESTS].split()),
                created=_text(each[_CREATED]),
                size=int(each[_SIZE]),
                labels=_pairs(json.loads(each[_LABELS])) if each[_LABELS] else (),
            )
            for each in entries
            if each[_ID] in by_id
        ]
    except (OSError, *_MALFORMED):
        return None  # another tool's, or an older version's: the records have it
    finally:
        os.close(fd)


def _from_records(data_root: str) -> list[ImageInfo]:
    names = image_names(data_root)
    found = []
    for digits in _ids(data_root):
        path = f"{data_root}/images/{digits}"
        try:
            document = json.loads(_read(path))
            info = _info(f"sha256:{digits}", document, names.get(f"sha256:{digits}", ()))
        except FileNotFoundError:
            continue
        except (OSError, *_MALFORMED) as error:
            raise _damaged(path, error) from None
        found.append(info)
    return found


def info_of(found: ImageRecord, names: Iterable[str]) -> ImageInfo:
    tags, digests = _split(names)
    return ImageInfo(
        id=found.id, names=tags, digests=digests, created=found.created, size=found.size, labels=found.labels
    )


def find_id(data_root: str, text: str) -> str:
    """The image id for a name, an id, or the beginning of an id.

    Raises: ImageNotFound; Conflict: several images begin so; InvalidArgument: neither a name nor an id.
    """
    digits = text.removeprefix("sha256:")
    is_hex = _HEX.issuperset(digits)
    if is_hex and len(digits) == 64:
        if os.path.exists(f"{data_root}/images/{digits}"):
            return f"sha256:{digits}"
        raise ImageNotFound(f"no such image: {text} is not in {data_root}")
    if digits == text:
        name = parse_reference(text)
        found = named_id(data_root, name)
        if found:
            return found
    if is_hex and digits:
        matching = [each for each in _ids(data_root) if each.startswith(digits)]
        if len(matching) > 1:
            raise Conflict(
                f"{text} is the beginning of {len(matching)} image ids: write more of it: {', '.join(x[:16] for x in matching[:5])}"
            )
        if matching:
            return f"sha256:{matching[0]}"
    raise ImageNotFound(f"no such image: {text} is not in {data_root}")


def named_id(data_root: str, name: ImageName) -> str:
    """The id of the image of that name; "" when there is none. Raises: InvalidArgument: the name's link is damaged."""
    path = name_record_path(data_root, name)
    try:
        digits = os.readlink(path).rpartition("/")[2]
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise _damaged(path, error) from None
    if len(digits) != 64 or not _HEX.issuperset(digits):
        raise _damaged(path, ValueError("it is no link to an image"))
    return f"sha256:{digits}"


# Changing: the caller holds the lock "index"


def begin_change(data_root: str) -> None:
    """From here to the end of :func:`write_index`, and beyond a kill in between, ``index.json`` is not what the records say."""
    try:
        os.close(os.open(_mark(data_root), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError:
        pass  # a full disk: names can still be removed


def is_changing(data_root: str) -> bool:
    """Whether a change was killed before it had written ``index.json``."""
    return os.path.lexists(_mark(data_root))


def _mark(data_root: str) -> str:
    return f"{data_root}/.index-changing"


def write_record(data_root: str, found: ImageRecord) -> None:
    document: dict[str, Any] = {
        "manifest": descriptor_to_json(found.manifest),
        "config": descriptor_to_json(found.config),
        "layers": [
            {**descriptor_to_json(x.descriptor), "diffId": str(x.diff_id), "unpacked": x.size} for x in found.layers
        ],
        "created": found.created,
        "unpacked": found.size,
        "labels": dict(found.labels),
        "parent": found.parent,
        "tagged": found.tagged,
    }
    data = json.dumps(document, separators=(",", ":")).encode()
    begin_change(data_root)
    replace_file(f"{data_root}/images/{found.id.removeprefix('sha256:')}", data)


def set_names(data_root: str, names: Sequence[ImageName], image_id: str) -> None:
    """Give the image these names; an image that had one of them loses it, atomically."""
    begin_change(data_root)
    for name in names:
        replace_link(name_record_path(data_root, name), f"../images/{image_id.removeprefix('sha256:')}")


def drop_name(data_root: str, name: str) -> None:
    begin_change(data_root)
    try:
        os.unlink(f"{data_root}/names/{name.replace('/', '%2F')}")
    except FileNotFoundError:
        pass


def write_index(data_root: str) -> None:
    """``index.json`` anew: each image under each of its names, and once without one when it has none."""
    names = image_names(data_root)
    manifests: list[dict[str, Any]] = []
    for each in list_records(data_root):
        descriptor = descriptor_to_json(each.manifest)
        tags, digests = _split(names.get(each.id, ()))
        shown = {
            _ID: each.id,
            _CREATED: each.created,
            _SIZE: str(each.size),
            _DIGESTS: " ".join(digests),
            _LABELS: json.dumps(dict(each.labels)) if each.labels else "",
        }
        manifests += [{**descriptor, "annotations": {REF_NAME: tag, **shown}} for tag in tags] or [
            {**descriptor, "annotations": shown}
        ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    replace_file(f"{data_root}/index.json", json.dumps(index, separators=(",", ":")).encode())
    try:
        os.unlink(_mark(data_root))
    except FileNotFoundError:
        pass


def _ids(data_root: str) -> list[str]:
    try:
        return sorted(each for each in os.listdir(f"{data_root}/images") if len(each) == 64 and _HEX.issuperset(each))
    except FileNotFoundError:
        return []


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = os.read(fd, 1 << 16)
        while len(data) >= 1 << 16 and len(data) <= _MAX_RECORD_BYTES and (more := os.read(fd, 1 << 20)):
            data += more
        return data
    finally:
        os.close(fd)


def _split(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(x for x in names if "@" not in x), tuple(x for x in names if "@" in x)


def _info(image_id: str, document: dict[str, Any], names: Iterable[str]) -> ImageInfo:
    tags, digests = _split(names)
    return ImageInfo(
        id=image_id,
        names=tags,
        digests=digests,
        created=_text(document["created"]),
        size=_number(document["unpacked"]),
        labels=_pairs(document["labels"]),
    )


def _parse(data: bytes, digits: str) -> ImageRecord:
    document = json.loads(data)
    return ImageRecord(
        id=f"sha256:{digits}",
        manifest=descriptor_of(document["manifest"], "the manifest"),
        config=descriptor_of(document["config"], "the configuration"),
        layers=tuple(
            LayerRecord(
                descriptor=descriptor_of(each, "a layer"),
                diff_id=parse_digest(_text(each["diffId"])),
                size=_number(each["unpacked"]),
            )
            for each in document["layers"]
        ),
        created=_text(document["created"]),
        labels=_pairs(document["labels"]),
        parent=_text(document["parent"]),
        tagged=_number(document["tagged"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is needed")
    return value


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)) or not value >= 0:
        raise TypeError("a number is needed")
    return value


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(each)) for name, each in value.items())


def _damaged(path: str, error: Exception) -> InvalidArgument:
    why = str(error)
    if isinstance(error, OSError):
        why = f"{error.strerror} ({errno_name(error.errno or 0)})"
    elif isinstance(error, KeyError):
        why = f"it has no {error}"
    return InvalidArgument(
        f"cannot read the record {path}: it is damaged: {why}: move it away, then pull, load or import the image again"
    )
