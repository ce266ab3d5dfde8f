"""From the store to a registry: layers that it lacks, configuration, manifest, name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Protocol

from ..errors import Conflict, ImageNotFound
from .blobs import open_blob, read_blob
from .digest import Digest
from .documents import OCI_LAYER, OCI_MANIFEST, Descriptor, as_oci_layer, descriptor_to_json, parse_json
from .fetch import Stop, Stopped, first_failures
from .image_events import emit_transfer
from .names import ImageName, parse_reference
from .records import find_id, image_names, named_id, read_record
from .usage import hold_image
from .workspace import release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .progress import Report
    from .records import ImageRecord

__all__ = ["Target", "push_image"]

_AT_ONCE = 3
_PLAIN = (OCI_LAYER, "application/vnd.docker.image.rootfs.diff.tar")


class Target(Protocol):
    """One repository of a registry, to be written to (:class:`.registry.client.Registry`)."""

    def has_blob(self, descriptor: Descriptor) -> bool: ...
    def mount_blob(self, digest: Digest, from_repository: str) -> bool: ...
    def upload_blob(
        self,
        open_stream: Callable[[], BinaryIO],
        descriptor: Descriptor,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> None: ...
    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest: ...
    def abandon(self) -> None: ...


def push_image(data_root: str, name: ImageName, target: Target, report: Report) -> tuple[Digest, int]:
    """Push the image of ``name``; answers with the manifest's digest and size. The name by that digest is kept here, too.

    Layers that are stored uncompressed go out with gzip, as registries expect them.
    Raises: ImageNotFound, RegistryError; InvalidArgument: a blob is damaged.
    """
    image_id = find_id(data_root, str(name))
    hold = hold_image(data_root, image_id)  # nobody removes it meanwhile
    try:
        found = read_record(data_root, image_id)
        found = _compressed(data_root, found, report)
        data = read_blob(data_root, found.manifest)
        _push_layers(data_root, found, name, target, report)
        _upload(data_root, found.config, target, lambda _: None)
        digest = target.put_manifest(name.reference, data, found.manifest.media_type)
    finally:
        release(hold)
    _remember(data_root, ImageName(repository=name.repository, tag="", digest=str(digest)), found)
    emit_transfer(data_root, "push", name, found.labels)
    return digest, len(data)


def _push_layers(data_root: str, found: ImageRecord, name: ImageName, target: Target, report: Report) -> None:
    origins = _origins(data_root, name, found)
    failed = Stop(report.stop)
    layers = list(dict.fromkeys(each.descriptor for each in found.layers))
    for each in layers:
        report.layer(each.digest.encoded, "Preparing")

    def one(layer: Descriptor) -> None:
        digits = layer.digest.encoded
        if target.has_blob(layer):
            report.layer(digits, "Layer already exists")
            return
        for origin in origins.get(layer.digest, ()):
            if target.mount_blob(layer.digest, origin):
                report.layer(digits, f"Mounted from {origin}")
                return
        report.layer(digits, "Pushing", 0, layer.size)

        def sent(size: int) -> None:
            if failed.is_set():
                raise Stopped("stopped")
            report.layer(digits, "Pushing", size, layer.size)

        _upload(data_root, layer, target, sent)
        report.layer(digits, "Pushed")

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="layer") as pool:
        running = [pool.submit(one, each) for each in layers]
        errors: list[BaseException] = []
        try:
            errors = first_failures(running, failed)
        finally:  # at the first error, or an interrupt, the others end
            if not all(each.done() for each in running):
                failed.set()
                target.abandon()
                pool.shutdown(wait=True, cancel_futures=True)
        if errors:
            raise min(errors, key=lambda error: isinstance(error, Stopped))


def _upload(data_root: str, descriptor: Descriptor, target: Target, progress: Callable[[int], None]) -> None:
    if not target.has_blob(descriptor):
        target.upload_blob(lambda: open_blob(data_root, descriptor), descriptor, progress=progress)


def _origins(data_root: str, name: ImageName, found: ImageRecord) -> dict[Digest, list[str]]:
    """For each layer, the repositories of the same registry that have it, by what our names by digest say."""
    wanted = {each.descriptor.digest for each in found.layers}
    origins: dict[Digest, list[str]] = {}
    for image_id, names in image_names(data_root).items():
        paths = {
            other.path
            for each in names
            if "@" in each and (other := parse_reference(each)).domain == name.domain and other.path != name.path
        }
        if not paths:
            continue
        try:
            layers = read_record(data_root, image_id).layers
        except ImageNotFound:
            continue  # another one, removed meanwhile
        for layer in layers:
            if layer.descriptor.digest in wanted:
                origins.setdefault(layer.descriptor.digest, []).extend(sorted(paths))
    return origins


def _compressed(data_root: str, found: ImageRecord, report: Report) -> ImageRecord:
    """The image with every plain layer compressed: the same layers, another manifest, stored in the place of the old one."""
    plain = [each for each in found.layers if each.descriptor.media_type in _PLAIN]
    if not plain:
        return found
    from .blobs import put_json
    from .publish import publish_image
    from .recompress import gzip_blob
    from .workspace import locked

    with locked(data_root, "storing", shared=True):
        made = {}
        for layer in plain:
            report.layer(layer.descriptor.digest.encoded, "Compressing")
            made[layer.descriptor.digest] = gzip_blob(data_root, layer.descriptor, layer.diff_id)
        document = parse_json(read_blob(data_root, found.manifest), str(found.manifest.digest))
        document["mediaType"] = OCI_MANIFEST
        document["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
        document["layers"] = [
            descriptor_to_json(as_oci_layer(made.get(each.descriptor.digest, each.descriptor))) for each in found.layers
        ]
        changed = publish_image(data_root, put_json(data_root, document, OCI_MANIFEST), ())
    if changed is None:
        raise Conflict(f"cannot push: the image {found.id} is being removed")
    return changed


def _remember(data_root: str, name: ImageName, found: ImageRecord) -> None:
    from .records import set_names, write_index
    from .workspace import locked

    with locked(data_root, "index"):
        if named_id(data_root, name) != found.id:
            read_record(data_root, found.id)  # removed meanwhile: then it gets no name
            set_names(data_root, [name], found.id)
            write_index(data_root)
