"""OCI image documents as typed records: descriptor, index, manifest, configuration. Bytes in, records out, no I/O.

The standard library's json, because ``pycontain run`` reads two of these and msgspec takes longer to import than they
take to parse. Spec: image-spec descriptor.md, image-index.md, manifest.md, config.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import InvalidArgument
from ..record import record
from .digest import Digest, parse_digest
from .rootfs import Healthcheck, ImageConfig

__all__ = [
    "CONFIG_TYPES",
    "IMAGE_NAME",
    "INDEX_TYPES",
    "LAYER_TYPES",
    "MANIFEST_TYPES",
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_MANIFEST",
    "REF_NAME",
    "Descriptor",
    "ImageDocument",
    "Manifest",
    "Platform",
    "as_oci_layer",
    "config_to_json",
    "descriptor_of",
    "descriptor_to_json",
    "healthcheck_to_json",
    "parse_config",
    "parse_index",
    "parse_json",
    "parse_manifest",
]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX_TYPES = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFEST_TYPES = (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
CONFIG_TYPES = (OCI_CONFIG, "application/vnd.docker.container.image.v1+json")
LAYER_TYPES = frozenset(
    (
        *(OCI_LAYER + suffix for suffix in ("", "+gzip", "+zstd")),
        *(f"application/vnd.oci.image.layer.nondistributable.v1.tar{suffix}" for suffix in ("", "+gzip", "+zstd")),
        "application/vnd.docker.image.rootfs.diff.tar",
        *(f"application/vnd.docker.image.rootfs.diff.tar.{suffix}" for suffix in ("gzip", "zstd")),
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    )
)
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"  # the whole name, in archives of Docker and containerd


@record
class Platform:
    architecture: str
    os: str
    variant: str = ""


@record
class Descriptor:
    """``size`` in bytes."""

    media_type: str
    digest: Digest
    size: int
    ref_name: str = ""
    image_name: str = ""
    platform: Platform | None = None
    urls: tuple[str, ...] = ()  # of a layer that a registry may not have


@record
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@record
class ImageDocument:
    """The image configuration; ``diff_ids`` are the digests of the uncompressed layers, lowest first."""

    config: ImageConfig
    diff_ids: tuple[Digest, ...]
    architecture: str
    os: str


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. A key given twice is refused: readers differ on which one counts (compare CVE-2021-41190).

    So is what only Python's reader takes (NaN), and half of a surrogate pair, which no file name, terminal or UTF-8 can have.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key is given twice")
        return result

    def none(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        # decoded here: json would take UTF-16 and UTF-32, too, which no other reader of images does
        document = json.loads(data.decode(), object_pairs_hook=once, parse_constant=none)
        if b"\\u" in data:
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"cannot read {what}: half of a surrogate pair in a text") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"cannot read {what}: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"cannot read {what}: a JSON object is needed")
    return document


def parse_index(data: bytes, media_type: str, what: str) -> tuple[Descriptor, ...]:
    """Raises: InvalidArgument. Spec: image-spec image-index.md."""
    document = parse_json(data, what)
    _check_type(document, media_type, ("layers", "config", "fsLayers"), what)
    return tuple(descriptor_of(each, what) for each in _list(document, "manifests", what, required=True))


def parse_manifest(data: bytes, media_type: str, what: str) -> Manifest:
    """Raises: InvalidArgument. Spec: image-spec manifest.md."""
    document = parse_json(data, what)
    _check_type(document, media_type, ("manifests", "fsLayers"), what)
    manifest = Manifest(
        config=descriptor_of(_get(document, "config", dict, what), what),
        layers=tuple(descriptor_of(each, what) for each in _list(document, "layers", what, required=True)),
    )
    if manifest.config.media_type not in CONFIG_TYPES:
        raise InvalidArgument(
            f"cannot use {what}: its config is {manifest.config.media_type!r}: an artifact, not a container image"
        )
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise InvalidArgument(f"cannot use {what}: a layer of the unknown media type {layer.media_type!r}")
    return manifest


def parse_config(data: bytes, what: str) -> ImageDocument:
    """Raises: InvalidArgument. Spec: image-spec config.md, "Properties"."""
    document = parse_json(data, what)
    if "layers" in document or "manifests" in document:
        raise InvalidArgument(f"cannot use {what}: a configuration cannot have layers or manifests")
    rootfs = _get(document, "rootfs", dict, what)
    if rootfs.get("type") != "layers":
        raise InvalidArgument(f"cannot use {what}: rootfs.type is not 'layers'")
    config = document.get("config") or {}
    if not isinstance(config, dict):
        raise InvalidArgument(f"cannot read {what}: config is not an object")
    return ImageDocument(
        config=ImageConfig(
            entrypoint=_strings(config, "Entrypoint", what),
            cmd=_strings(config, "Cmd", what),
            env=_strings(config, "Env", what),
            working_dir=_text(config, "WorkingDir", what),
            user=_text(config, "User", what),
            labels=_labels(config, what),
            stop_signal=_text(config, "StopSignal", what),
            volumes=_keys(config, "Volumes", what),
            exposed_ports=_keys(config, "ExposedPorts", what),
            healthcheck=_healthcheck(config, what),
            shell=_strings(config, "Shell", what),
        ),
        diff_ids=tuple(parse_digest(each) for each in _strings(rootfs, "diff_ids", what)),
        architecture=_text(document, "architecture", what),
        os=_text(document, "os", what),
    )


def config_to_json(config: ImageConfig) -> dict[str, Any]:
    """The ``config`` object of an image configuration; empty fields are left out."""
    fields: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Volumes": {volume: {} for volume in config.volumes},
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "Healthcheck": healthcheck_to_json(config.healthcheck) if config.healthcheck else {},
        "Shell": list(config.shell),
    }
    return {name: value for name, value in fields.items() if value}


# of Docker's image specification, which the OCI one leaves room for; times in nanoseconds
_HEALTHCHECK = (
    ("Interval", "interval_ns"), ("Timeout", "timeout_ns"), ("StartPeriod", "start_period_ns"),
    ("StartInterval", "start_interval_ns"), ("Retries", "retries"),
)  # fmt: skip


def healthcheck_to_json(health: Healthcheck) -> dict[str, Any]:
    fields: dict[str, Any] = {"Test": list(health.test)}
    fields.update({name: getattr(health, field) for name, field in _HEALTHCHECK})
    return {name: value for name, value in fields.items() if value}


def _healthcheck(config: dict[str, Any], what: str) -> Healthcheck | None:
    value = config.get("Healthcheck")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidArgument(f"cannot read {what}: 'Healthcheck' is not an object")
    numbers = {field: value.get(name) or 0 for name, field in _HEALTHCHECK}
    if not all(type(each) is int and -(2**63) <= each < 2**63 for each in numbers.values()):
        raise InvalidArgument(f"cannot read {what}: a time or number of 'Healthcheck' is no whole number of 64 bits")
    return Healthcheck(test=_strings(value, "Test", what), **numbers)


def _check_type(document: dict[str, Any], expected: str, foreign: tuple[str, ...], what: str) -> None:
    """One document must not read as an index to one program and as a manifest to another (CVE-2021-41190)."""
    if document.get("schemaVersion") != 2:
        raise InvalidArgument(f"cannot use {what}: schemaVersion is {document.get('schemaVersion')!r}, 2 is needed")
    stated = document.get("mediaType", expected)
    if stated != expected:
        raise InvalidArgument(f"cannot use {what}: it says it is {stated!r}, its descriptor says {expected!r}")
    for key in foreign:
        if key in document:
            raise InvalidArgument(f"cannot use {what}: ambiguous: a {expected.split('.')[-2]} document with {key!r}")


def descriptor_of(value: object, what: str) -> Descriptor:
    """Raises: InvalidArgument. Spec: image-spec descriptor.md, "Properties"."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"cannot read {what}: a descriptor is not an object")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise InvalidArgument(f"cannot read {what}: a descriptor's size is {size!r}")
    annotations = value.get("annotations") or {}
    ref_name, image_name = (
        (annotations.get(REF_NAME, ""), annotations.get(IMAGE_NAME, "")) if isinstance(annotations, dict) else ("", "")
    )
    platform = value.get("platform")
    return Descriptor(
        media_type=_get(value, "mediaType", str, what),
        digest=parse_digest(_get(value, "digest", str, what)),
        size=size,
        ref_name=ref_name if isinstance(ref_name, str) else "",
        image_name=image_name if isinstance(image_name, str) else "",
        platform=_platform(platform, what) if isinstance(platform, dict) else None,
        urls=_strings(value, "urls", what) if "urls" in value else (),
    )


def descriptor_to_json(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


def as_oci_layer(descriptor: Descriptor) -> Descriptor:
    """The same layer by OCI's name for its media type: an OCI manifest has no other (image-spec manifest.md, "layers")."""
    docker = "application/vnd.docker.image.rootfs.diff.tar"
    if not descriptor.media_type.startswith(docker):
        return descriptor
    suffix = descriptor.media_type[len(docker) :].replace(".", "+")
    return Descriptor(media_type=OCI_LAYER + suffix, digest=descriptor.digest, size=descriptor.size)


def _platform(value: dict[str, Any], what: str) -> Platform:
    return Platform(
        architecture=_text(value, "architecture", what),
        os=_text(value, "os", what),
        variant=_text(value, "variant", what),
    )


def _get(document: dict[str, Any], key: str, kind: Callable[..., Any], what: str) -> Any:
    value = document.get(key)
    if type(value) is not kind:
        raise InvalidArgument(f"cannot read {what}: {key!r} is missing or of the wrong type")
    return value


def _list(document: dict[str, Any], key: str, what: str, *, required: bool = False) -> list[Any]:
    value = document.get(key)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise InvalidArgument(f"cannot read {what}: {key!r} is missing or not a list")
    return value


def _text(document: dict[str, Any], key: str, what: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise InvalidArgument(f"cannot read {what}: {key!r} is not a text without NUL")
    return value


def _strings(document: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    values = _list(document, key, what)
    if not all(isinstance(each, str) and "\0" not in each for each in values):
        raise InvalidArgument(f"cannot read {what}: {key!r} is not a list of texts without NUL")
    return tuple(values)


def _keys(document: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    value = document.get(key) or {}
    if not isinstance(value, dict) or any("\0" in each for each in value):
        raise InvalidArgument(f"cannot read {what}: {key!r} is not an object")
    return tuple(value)


def _labels(config: dict[str, Any], what: str) -> tuple[tuple[str, str], ...]:
    labels = config.get("Labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise InvalidArgument(f"cannot read {what}: 'Labels' is not an object of texts")
    return tuple(labels.items())
