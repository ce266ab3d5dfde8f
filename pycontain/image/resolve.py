"""From what the user wrote after ``pycontain run`` to a root filesystem. Light: this is on the way to every start."""

from __future__ import annotations

import os
import stat

from ..errors import ImageNotFound, InvalidArgument, errno_name
from .rootfs import DEFAULT_CONFIG, RootFS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .names import ImageName

__all__ = ["NotHere", "is_pullable", "resolve"]

_HEX = frozenset("0123456789abcdef")
_MEMO_ENTRIES = 256


class NotHere(ImageNotFound):
    """No image of that name in the store; a registry may have it."""


def is_pullable(image: str) -> bool:
    """Whether ``image`` is a name that a registry can be asked for, and not an id, a path or one of our own words."""
    if image == "host" or image.startswith(("/", "./", "../", "oci:", "sha256:")) or image in (".", ".."):
        return False
    return not (len(image) == 64 and _HEX.issuperset(image))


def resolve(
    image: str, *, data_root: str, in_user_namespace: bool = False, memo: dict[tuple[str, str], RootFS] | None = None
) -> RootFS:
    """The root filesystem of ``host``, ``/dir``, ``./dir``, ``../dir``, ``oci:DIR[:REF]``, a name or an image id.

    Layers of an OCI layout that are not unpacked yet are unpacked here. ``data_root`` is an absolute path. ``memo`` keeps
    answers by (image, id): what has an id never changes; whoever passes one must hold the image afterwards (usage.py).
    Raises: ImageNotFound, InvalidArgument, Unsupported.
    """
    if image == "host":
        from .host_root import host_root, host_shown

        return host_shown() if in_user_namespace else host_root(data_root=data_root)
    if image.startswith(("/", "./", "../")) or image in (".", ".."):
        return _directory(image)
    if image.startswith("oci:"):
        return _layout(image, data_root)
    digits = image.removeprefix("sha256:")
    if len(digits) == 64 and _HEX.issuperset(digits):
        return _image_id(image, digits, data_root, memo)
    return _named(image, data_root, memo)


def _directory(image: str) -> RootFS:
    if "\0" in image:
        raise InvalidArgument(f"cannot use {image!r} as a root filesystem: a path cannot have a NUL")
    try:
        info = os.stat(image)
        root = os.stat("/")
        path = image if image.startswith("/") and "/." not in image and "//" not in image else os.path.realpath(image)
    except OSError as error:
        raise ImageNotFound(
            f"cannot use {image} as a root filesystem: {error.strerror} ({errno_name(error.errno or 0)}): "
            "give a directory that holds one"
        ) from None
    if not stat.S_ISDIR(info.st_mode):
        raise InvalidArgument(
            f"cannot use {image} as a root filesystem: it is not a directory (ENOTDIR): "
            f"`pycontain import {image} NAME` makes an image of a tar file"
        )
    if (info.st_dev, info.st_ino) == (root.st_dev, root.st_ino):
        raise InvalidArgument(
            f"cannot use {image} as a root filesystem: it is this machine's own root, with its keys and passwords: "
            'use the image "host", which hides them'
        )
    return RootFS(image=image, lower=(path.rstrip("/"),), config=DEFAULT_CONFIG)


def _layout(image: str, data_root: str) -> RootFS:
    from .layout import resolve_layout

    rest = image[len("oci:") :]
    path, at, digest = rest.partition("@sha")
    if at:
        path, ref = path.removesuffix(":"), f"@sha{digest}"
    else:
        path, _, ref = rest.partition(":")
    if not path or "\0" in path:
        raise InvalidArgument(f"cannot read {image!r} as an image: the form is oci:DIR[:REF] or oci:DIR@sha256:DIGEST")
    return resolve_layout(path, ref, data_root=data_root, image=image)


def _named(image: str, data_root: str, memo: dict[tuple[str, str], RootFS] | None) -> RootFS:
    from .names import parse_reference
    from .records import find_id, named_id

    digits = ""
    if _HEX.issuperset(image):  # the beginning of an id, unless an image has that name
        try:
            digits = find_id(data_root, image)
        except ImageNotFound:
            pass
    name = parse_reference(image)
    image_id = digits or named_id(data_root, name)
    if not image_id:
        raise _unknown(image, name, data_root)
    return _image_id(image, image_id.removeprefix("sha256:"), data_root, memo)


def _image_id(image: str, digits: str, data_root: str, memo: dict[tuple[str, str], RootFS] | None) -> RootFS:
    """An image of the data root. Its documents were verified when they were written, and the data root is ours."""
    known = memo.get((image, digits)) if memo else None
    if known is not None:
        return known
    from .documents import parse_config
    from .layers import layer_path, stack_layers

    try:
        data = _read(f"{data_root}/blobs/sha256/{digits}")
    except OSError as error:
        raise ImageNotFound(
            f"cannot find image {image}: no such image in {data_root}: {error.strerror} "
            f"({errno_name(error.errno or 0)}): `pycontain pull`, `load` and `import` bring one"
        ) from None
    document = parse_config(data, f"image {image}")
    paths = [layer_path(data_root, each) for each in document.diff_ids]
    if not all(map(os.path.isdir, paths)):
        from .unsynced import restore

        restore(data_root, digits)
    if not paths:
        raise InvalidArgument(f"cannot use image {image}: it has no layers, so there is nothing to run")
    found = RootFS(
        image=image, lower=stack_layers(paths), config=document.config, image_id=f"sha256:{digits}",
        platform=f"{document.os}/{document.architecture}",
    )  # fmt: skip
    if memo is not None:
        if len(memo) >= _MEMO_ENTRIES:
            memo.clear()
        memo[(image, digits)] = found
    return found


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(fd, os.fstat(fd).st_size + 1)
    finally:
        os.close(fd)


def _unknown(image: str, name: ImageName, data_root: str) -> NotHere:
    import difflib

    from .names import stored_names

    known = stored_names(data_root)
    # "debian" is compared with "debian:latest" in its short form, so that the tag's length does not count.
    short = [each.removesuffix(":latest") for each in known]
    near = difflib.get_close_matches(str(name).removesuffix(":latest"), [*short, "host"], n=1)
    if os.path.isdir(image):
        near = [f"./{image}"]
    others = [each for each in short if each.partition(":")[0] == name.repository]
    return NotHere(
        f"cannot find image {image}: no such image: {name} is not in {data_root}: `pycontain pull {image}` fetches it, "
        f"`pycontain load` and `pycontain import` make one; or use a directory (./dir), oci:DIR[:REF] or host."
        + (f' Did you mean "{(near or others)[0]}"?' if near or others else "")
    )
