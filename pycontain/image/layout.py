"""Read an OCI image layout: a directory with ``oci-layout``, ``index.json`` and ``blobs/<algorithm>/<hex>``.

Every byte used is checked against the size and digest of the descriptor that led to it. Nothing in the directory is
followed: each name is opened with O_NOFOLLOW on the fd of the directory above, and must be a regular file.
Spec: image-spec image-layout.md.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from ..errors import ImageNotFound, InvalidArgument, PycontainError, Unsupported, errno_name
from ..record import record
from .blobs import has_blob, keep_bytes
from .digest import Digest, new_hasher, parse_digest
from .documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    ImageDocument,
    Manifest,
    Platform,
    parse_config,
    parse_index,
    parse_json,
    parse_manifest,
)
from .layers import ensure_layer, layer_path, stack_layers
from .publish import check_image
from .rootfs import RootFS
from .workspace import locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .unpack import LayerLimits

__all__ = ["ImageInLayout", "Layout", "machine_platform", "resolve_layout"]

_MAX_DOCUMENT_BYTES = 4 << 20  # what registries accept for a manifest
_MAX_NESTING = 4
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a fifo must fail the type check below, not wait for a writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v7"),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
}


def machine_platform() -> Platform:
    """What this machine runs, in the words of image-spec (Go's GOARCH)."""
    machine = os.uname().machine
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


@record
class ImageInLayout:
    """One image's verified documents. ``image_id`` is the digest of the configuration."""

    manifest_descriptor: Descriptor
    manifest: Manifest
    document: ImageDocument

    @property
    def image_id(self) -> Digest:
        return self.manifest.config.digest


class Layout:
    """An open layout; use as a context manager. Raises InvalidArgument for a directory that is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, _DIR_FLAGS)
        except OSError as error:
            raise ImageNotFound(
                f"cannot open the OCI layout {path}: {error.strerror} ({errno_name(error.errno or 0)}): "
                "give the directory that holds oci-layout and index.json"
            ) from None
        try:
            version = parse_json(self._read_name("oci-layout"), f"{path}/oci-layout").get("imageLayoutVersion")
            if not isinstance(version, str) or not version.startswith("1."):
                raise Unsupported(f"cannot read the OCI layout {path}: its version is {version!r}, 1.x is known")
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Layout:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def index(self) -> tuple[Descriptor, ...]:
        """The descriptors of ``index.json``."""
        return parse_index(self._read_name("index.json"), OCI_INDEX, f"{self.path}/index.json")

    def find(self, ref: str = "", platform: Platform | None = None) -> ImageInLayout:
        """The image of a reference: a ``ref.name`` annotation, ``@<digest>`` of a manifest, or "" for the only one.

        Raises: ImageNotFound: no such reference; InvalidArgument: ambiguous or malformed; Unsupported: none for the
        platform (default: this machine's).
        """
        platform = platform or machine_platform()
        descriptor = self._by_digest(ref[1:]) if ref.startswith("@") else self._by_name(ref, platform)
        for _ in range(_MAX_NESTING):
            what = f"{self.path}: {descriptor.digest}"
            if descriptor.media_type in MANIFEST_TYPES:
                return self._image(descriptor, what)
            if descriptor.media_type not in INDEX_TYPES:
                raise InvalidArgument(f"cannot use {what}: {descriptor.media_type!r} is no image manifest or index")
            nested = parse_index(self.read(descriptor), descriptor.media_type, what)
            descriptor = select_platform(nested, platform, what)
        raise InvalidArgument(f"cannot use {self.path}: indexes are nested more than {_MAX_NESTING} deep")

    def read(self, descriptor: Descriptor) -> bytes:
        """A document's verified bytes. Raises: InvalidArgument: wrong size or digest, or over 4 MiB."""
        what = f"{self.path}: {descriptor.digest}"
        if descriptor.size > _MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"cannot read {what}: {descriptor.size} bytes, the limit is {_MAX_DOCUMENT_BYTES}")
        with self.open_blob(descriptor) as blob:
            data = blob.read(descriptor.size + 1)
        hasher = new_hasher(descriptor.digest.algorithm)
        hasher.update(data)
        if len(data) != descriptor.size or hasher.hexdigest() != descriptor.digest.encoded:
            raise InvalidArgument(f"cannot read {what}: the bytes have another digest: the blob is damaged")
        return data

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        """A blob as a stream; its size is checked here, its digest by who reads it to the end."""
        digest = descriptor.digest
        fds: list[int] = []
        try:
            for name in ("blobs", digest.algorithm):
                fds.append(os.open(name, _DIR_FLAGS | os.O_NOFOLLOW, dir_fd=fds[-1] if fds else self._fd))
            return self._open_regular(digest.encoded, fds[-1], str(digest), descriptor.size)
        except OSError as error:
            raise self._unreadable(str(digest), error) from None
        finally:
            for fd in fds:
                os.close(fd)

    def _image(self, descriptor: Descriptor, what: str) -> ImageInLayout:
        manifest = parse_manifest(self.read(descriptor), descriptor.media_type, what)
        document = parse_config(self.read(manifest.config), f"{self.path}: {manifest.config.digest}")
        check_image(manifest, document, what)
        return ImageInLayout(manifest_descriptor=descriptor, manifest=manifest, document=document)

    def _by_digest(self, text: str) -> Descriptor:
        digest = parse_digest(text)
        known = self.index()
        read: set[Digest] = set()  # an index can list others ten thousand times each
        for _ in range(_MAX_NESTING):
            inner: dict[Digest, Descriptor] = {}
            for each in known:
                if each.digest == digest:
                    return each
                if each.media_type in INDEX_TYPES and each.digest not in read:
                    inner[each.digest] = each
            read.update(inner)
            leaves = (parse_index(self.read(each), each.media_type, str(each.digest)) for each in inner.values())
            known = tuple({leaf.digest: leaf for many in leaves for leaf in many}.values())
        raise ImageNotFound(f"cannot find {digest} in {self.path}: no manifest of its index has that digest")

    def _by_name(self, ref: str, platform: Platform) -> Descriptor:
        known = self.index()
        matching = [each for each in known if each.ref_name == ref] if ref else list(known)
        if len({each.digest for each in matching}) > 1:
            if all(each.platform for each in matching) and len({each.ref_name for each in matching}) == 1:
                return select_platform(tuple(matching), platform, self.path)
            raise InvalidArgument(
                f"cannot choose an image of {self.path}: it has {len(matching)} {_of(ref)}: "
                f"write oci:{self.path}:REF or @DIGEST with one of: {_refs(matching)}"
            )
        if matching:
            return matching[0]
        raise ImageNotFound(
            f"cannot find {_of(ref) or 'an image'} in {self.path}: "
            + (f"its images are: {_refs(known)}{_near(ref, known)}" if known else "its index.json lists no manifest")
        )

    def _read_name(self, name: str) -> bytes:
        try:
            with self._open_regular(name, self._fd, name, None) as file:
                data = file.read(_MAX_DOCUMENT_BYTES + 1)
        except OSError as error:
            raise self._unreadable(name, error) from None
        if len(data) > _MAX_DOCUMENT_BYTES:
            raise InvalidArgument(f"cannot read {self.path}/{name}: more than {_MAX_DOCUMENT_BYTES} bytes")
        return data

    def _open_regular(self, name: str, dirfd: int, what: str, size: int | None) -> BinaryIO:
        fd = os.open(name, _FILE_FLAGS, dir_fd=dirfd)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise InvalidArgument(f"cannot read {what} of {self.path}: it is not a regular file")
            if size is not None and info.st_size != size:
                raise InvalidArgument(
                    f"cannot read {what} of {self.path}: {info.st_size} bytes, its descriptor says {size}"
                )
            return open(fd, "rb", buffering=0)
        except BaseException:
            os.close(fd)
            raise

    def _unreadable(self, what: str, error: OSError) -> PycontainError:
        hint = "a symbolic link is not followed" if errno_name(error.errno or 0) in ("ELOOP", "ENOTDIR") else (
            "the layout is incomplete, or not an OCI image layout"
        )  # fmt: skip
        kind = ImageNotFound if what == "oci-layout" else InvalidArgument
        return kind(f"cannot read {what} of {self.path}: {error.strerror} ({errno_name(error.errno or 0)}): {hint}")


def select_platform(known: tuple[Descriptor, ...], wanted: Platform, what: str) -> Descriptor:
    """The manifest for a platform: exact variant first, then one without, then any (image-index.md, "platform")."""
    usable = [each for each in known if each.media_type in (*MANIFEST_TYPES, *INDEX_TYPES)]
    if len(usable) == 1 and usable[0].platform is None:
        return usable[0]
    ranked: list[tuple[int, Descriptor]] = []
    for each in usable:
        found = each.platform
        if found is None or found.os != wanted.os or found.architecture != wanted.architecture:
            continue
        ranked.append((0 if found.variant == wanted.variant else 1 if not found.variant else 2, each))
    if ranked:
        return min(ranked, key=lambda pair: pair[0])[1]
    names = sorted({f"{x.platform.os}/{x.platform.architecture}" for x in usable if x.platform})
    raise Unsupported(
        f"cannot use {what}: no image for {wanted.os}/{wanted.architecture}; it has {', '.join(names) or 'none'}"
    )


def resolve_layout(path: str, ref: str, *, data_root: str, image: str, limits: LayerLimits | None = None) -> RootFS:
    """Unpack what is missing of an image's layers and answer with the root filesystem."""
    with Layout(path) as layout:
        found = layout.find(ref)
        paths = [layer_path(data_root, diff_id) for diff_id in found.document.diff_ids]
        if not has_blob(data_root, found.manifest.config) or not all(map(os.path.isdir, paths)):
            with locked(data_root, "storing", shared=True):
                for diff_id, layer in zip(found.document.diff_ids, found.manifest.layers, strict=True):
                    ensure_layer(data_root, diff_id, layer, layout.open_blob, limits=limits)
                # not an image of ours; but who runs it holds a lock on this blob, and so its layers (usage.py)
                keep_bytes(data_root, layout.read(found.manifest.config), found.manifest.config)
    if not paths:
        raise InvalidArgument(f"cannot use {image}: the image has no layers, so there is nothing to run")
    return RootFS(
        image=image, lower=stack_layers(paths), config=found.document.config, image_id=str(found.image_id),
        platform=f"{found.document.os}/{found.document.architecture}",
    )  # fmt: skip


def _of(ref: str) -> str:
    return f"{ref!r}" if ref else "images"


def _refs(known: tuple[Descriptor, ...] | list[Descriptor]) -> str:
    names = list(dict.fromkeys(each.ref_name or f"@{each.digest}" for each in known))
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _near(ref: str, known: tuple[Descriptor, ...]) -> str:
    import difflib

    near = difflib.get_close_matches(ref, [each.ref_name for each in known if each.ref_name], n=1)
    return f'. Did you mean "{near[0]}"?' if near else ""
