"""From a name to an image in the store: manifest, platform, configuration, layers, names."""

from __future__ import annotations

from typing import Protocol

from ..errors import Conflict, InvalidArgument, Unsupported
from ..record import record
from .blobs import check_bytes, keep_bytes, make_layout
from .digest import Digest
from .documents import (
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Platform,
    parse_config,
    parse_index,
    parse_manifest,
)
from .fetch import Source, fetch_layers
from .layout import machine_platform, select_platform
from .names import ImageName
from .publish import check_image, check_names, publish_image
from .records import named_id
from .workspace import locked, storing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .progress import Report
    from .records import ImageRecord
    from .unpack import LayerLimits

__all__ = ["Pulled", "Remote", "parse_platform", "pull_image", "store_image"]

_MAX_NESTING = 4
_ATTEMPTS = 4  # to store what removals of other images take away meanwhile
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"


class Remote(Source, Protocol):
    """One repository of a registry (:class:`.registry.client.Registry`)."""

    def get_manifest(self, reference: str, accept: Sequence[str]) -> tuple[bytes, str, Digest]:
        """A manifest's or index's bytes, media type and digest; verified when ``reference`` is a digest."""


@record
class Pulled:
    """``digest`` is what the name stood for in the registry: of the index, if it was one."""

    image: ImageRecord
    digest: Digest
    is_new: bool


def parse_platform(text: str) -> Platform:
    """``os/architecture[/variant]`` or ``architecture``, as ``--platform`` has it. Raises: InvalidArgument."""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(
            f"cannot read {text[:80]!r} as a platform: write os/architecture[/variant], as in linux/arm64"
        )
    if len(parts) == 1:
        parts = ["linux", *parts] if parts[0] != "linux" else ["linux", machine_platform().architecture]
    names = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}
    return Platform(os=parts[0], architecture=names.get(parts[1], parts[1]), variant=parts[2] if parts[2:] else "")


def pull_image(
    data_root: str,
    name: ImageName,
    remote: Remote,
    report: Report,
    *,
    platform: Platform | None = None,
    limits: LayerLimits | None = None,
) -> Pulled:
    """Have the image of ``name`` in the store, under that name and under its digest in the registry.

    Raises: ImageNotFound, RegistryError; InvalidArgument: what the registry has is no image, or damaged; Unsupported: not for
    this platform; Conflict: what was stored has been removed again at once, several times.
    """
    check_names([name])
    wanted = platform or machine_platform()
    data, media_type, digest = remote.get_manifest(name.reference, (*MANIFEST_TYPES, *INDEX_TYPES))
    report.line(f"{name.reference}: Pulling from {name.path}")
    top = Descriptor(media_type=media_type, digest=digest, size=len(data))
    names = [ImageName(repository=name.repository, tag="", digest=str(digest))]
    if not name.digest:
        names.insert(0, name)
    manifest = top
    for _ in range(_MAX_NESTING):
        check_bytes(data, manifest)
        if manifest.media_type not in INDEX_TYPES:
            break
        manifest = select_platform(parse_index(data, manifest.media_type, str(name)), wanted, str(name))
        data, media_type, _ = remote.get_manifest(str(manifest.digest), (manifest.media_type,))
        if media_type != manifest.media_type:
            raise InvalidArgument(
                f"cannot pull {name}: {manifest.digest} is {media_type!r}, its index says {manifest.media_type!r}"
            )
    if manifest.media_type.startswith(_SCHEMA_1):
        raise Unsupported(
            f"cannot pull {name}: the registry has it in Docker's schema 1, which nobody writes any more: push it again"
        )
    if manifest.media_type not in MANIFEST_TYPES:
        raise InvalidArgument(f"cannot pull {name}: {manifest.media_type!r} is no image manifest or index")
    before = named_id(data_root, names[0])
    found = store_image(
        data_root, data, manifest, remote, report, names=names, platform=platform, what=str(name), limits=limits
    )
    return Pulled(image=found, digest=digest, is_new=before != found.id)


def store_image(
    data_root: str,
    data: bytes,
    manifest: Descriptor,
    source: Source,
    report: Report,
    *,
    names: Sequence[ImageName],
    platform: Platform | None = None,
    what: str,
    limits: LayerLimits | None = None,
) -> ImageRecord:
    """Store a manifest (``data``, verified) and all that it names, from ``source``, and publish the image.

    Raises: as :func:`pull_image`.
    """
    parsed = parse_manifest(data, manifest.media_type, what)
    with source.open_blob(_bounded(parsed.config, what)) as stream:
        config = b""
        while len(config) <= parsed.config.size and (more := stream.read(parsed.config.size + 1 - len(config))):
            config += more
    check_bytes(config, parsed.config)
    document = parse_config(config, what)
    check_image(parsed, document, what)
    if platform is not None and (document.os, document.architecture) != (platform.os, platform.architecture):
        raise Unsupported(
            f"cannot use {what}: it is an image for {document.os}/{document.architecture}, and {platform.os}/"
            f"{platform.architecture} was asked for"
        )
    layers = list(zip(parsed.layers, document.diff_ids, strict=True))
    with storing(f"store {what}"):
        make_layout(data_root)
        for _ in range(_ATTEMPTS):
            with locked(data_root, "storing", shared=True):
                fetch_layers(data_root, layers, source, report, limits=limits)
                keep_bytes(data_root, config, parsed.config)
                keep_bytes(data_root, data, manifest)
                found = publish_image(data_root, manifest, names)
            if found is not None:
                return found
    raise Conflict(
        f"cannot store {what}: its layers are being removed as fast as they come: try again when nobody removes images"
    )


def _bounded(config: Descriptor, what: str) -> Descriptor:
    from .blobs import MAX_DOCUMENT_BYTES

    if config.size > MAX_DOCUMENT_BYTES or config.media_type not in CONFIG_TYPES:
        raise InvalidArgument(
            f"cannot use {what}: its configuration has {config.size} bytes of {config.media_type!r}; "
            f"at most {MAX_DOCUMENT_BYTES} are read"
        )
    return config
