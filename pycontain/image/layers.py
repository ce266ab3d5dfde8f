"""Unpacked layers: ``<data-root>/layers/<hex of the diff_id>/``, each an overlay lower directory.

A directory of that name is complete and verified, always: it is made in a workspace, checked against its diff_id, and
renamed. It is never changed afterwards, so any number of containers and images share it. What a power cut may have spoiled is
unpacked again (unsynced.py).
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from errno import EDQUOT, ENOSPC
from typing import BinaryIO

from ..errors import InvalidArgument, PycontainError, SetupFailed, errno_name
from .compression import PREFIX_BYTES, Inflater, compression_of, has_big_window, inflater
from .digest import Digest, new_hasher
from .users import is_opaque
from .workspace import locked, make_data_dir, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .documents import Descriptor
    from .unpack import LayerLimits, LayerStats, LayerWriter

__all__ = [
    "about",
    "HashingReader",
    "ensure_layer",
    "layer_path",
    "layer_size",
    "publish_layer",
    "size_path",
    "stack_layers",
    "unpack_stream",
]

_MOST_LAYERS = 490  # the kernel's OVL_MAX_STACK is 500, and a container has some of its own
_READ = 1 << 18
_PIECES_AHEAD = 4  # of a megabyte
_ONE_BIG_WINDOW = allocate_lock()  # memory is bounded whatever the layers are: one of those that want 128 MiB at a time
_LAYER_MODE = 0o755  # of the root directory, when the layer does not say


class HashingReader:
    """A binary reader that hashes and counts what passes, and writes it to the descriptor ``copy_to`` if given."""

    def __init__(self, stream: BinaryIO, algorithm: str, *, copy_to: int = -1) -> None:
        self._stream = stream
        self._hasher = new_hasher(algorithm)
        self._algorithm = algorithm
        self._copy_to = copy_to
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        self.size += len(data)
        view = memoryview(data)
        while self._copy_to >= 0 and len(view):
            view = view[os.write(self._copy_to, view) :]
        return data

    def drain(self) -> None:
        while self.read(1 << 18):
            pass

    @property
    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())


_looked_at: set[str] = (
    set()
)  # data roots; what was unpacked in an earlier boot does not become more while this process lives


def layer_path(data_root: str, diff_id: Digest) -> str:
    """Where an unpacked layer is, or would be. Raises: SetupFailed: one that a power cut may have spoiled cannot be removed."""
    if data_root not in _looked_at:
        if os.path.isdir(f"{data_root}/unsynced"):
            from .unsynced import remove_suspects

            remove_suspects(data_root)
        _looked_at.add(data_root)
    return f"{data_root}/layers/{diff_id.encoded}"


def size_path(data_root: str, diff_id: Digest) -> str:
    """The file that tells the size of an unpacked layer."""
    return f"{data_root}/sizes/{diff_id.encoded}"


def layer_size(data_root: str, diff_id: Digest) -> int:
    """The bytes of an unpacked layer's files."""
    path = layer_path(data_root, diff_id)
    try:
        with open(size_path(data_root, diff_id), encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return sum(
            os.lstat(f"{above}/{name}").st_size
            for above, _, files in os.walk(path)
            for name in files
            if not os.path.islink(f"{above}/{name}")
        )


def ensure_layer(
    data_root: str,
    diff_id: Digest,
    descriptor: Descriptor,
    open_blob: Callable[[Descriptor], BinaryIO],
    *,
    limits: LayerLimits | None = None,
) -> str:
    """The directory of a layer, unpacked now if it is not there yet. Idempotent; safe with many processes at once.

    Raises: InvalidArgument: the blob is not what its descriptor or the diff_id says, or is no acceptable tar.
    """
    target = layer_path(data_root, diff_id)
    if os.path.isdir(target):
        return target
    with locked(data_root, f"layer-{diff_id.encoded}"):
        if os.path.isdir(target):
            return target
        with workspace(data_root) as (work, work_fd), open_blob(descriptor) as blob:
            raw = HashingReader(blob, descriptor.digest.algorithm)
            name = f"the layer {descriptor.digest}"
            found, stats = unpack_stream(raw, work_fd, diff_id.algorithm, limits=limits, layer=name)
            if raw.size != descriptor.size or raw.digest != descriptor.digest:
                raise InvalidArgument(
                    f"cannot use layer {descriptor.digest}: the blob is {raw.digest} ({raw.size} bytes, "
                    f"{descriptor.size} expected): it is damaged; fetch it again"
                )
            if found != diff_id:
                raise InvalidArgument(
                    f"cannot use layer {descriptor.digest}: unpacked it is {found}, the configuration says {diff_id}"
                )
            publish_layer(data_root, f"{work}/layer", diff_id, stats.file_bytes)
    return target


def about(error: PycontainError, what: str) -> PycontainError:
    """An error of :func:`unpack_stream`, saying ``what`` it is about instead of "the layer"."""
    error.args = (str(error).replace("the layer", what, 1),)
    return error


def unpack_stream(
    raw: HashingReader,
    work_fd: int,
    algorithm: str,
    *,
    limits: LayerLimits | None = None,
    layer: str = "the layer",
) -> tuple[Digest, LayerStats]:
    """Decompress ``raw`` and unpack it to the directory "layer" in ``work_fd``; answers with the diff_id.

    ``layer`` is what an error calls it. ``raw`` is read to its end. Raises: as :class:`LayerWriter`; InvalidArgument: the
    compressed stream is damaged; SetupFailed: reading it failed.
    """
    prefix = _read(raw, PREFIX_BYTES, layer)
    while len(prefix) < PREFIX_BYTES and (more := _read(raw, PREFIX_BYTES - len(prefix), layer)):
        prefix += more  # a pipe may give a byte at a time
    if not has_big_window(prefix):
        return _unpack(raw, prefix, work_fd, algorithm, limits, layer)
    with _ONE_BIG_WINDOW:
        return _unpack(raw, prefix, work_fd, algorithm, limits, layer)


def _unpack(
    raw: HashingReader, prefix: bytes, work_fd: int, algorithm: str, limits: LayerLimits | None, layer: str
) -> tuple[Digest, LayerStats]:
    from .unpack import LayerWriter

    plain = inflater(compression_of(prefix), layer)
    os.mkdir("layer", 0o700, dir_fd=work_fd)
    layer_fd = os.open("layer", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work_fd)
    try:
        os.fchmod(layer_fd, _LAYER_MODE)  # nobody else gets here: the directories above are 0700
        with LayerWriter(layer_fd, limits=limits, layer=layer) as writer:
            digest = _push(raw, prefix, plain, writer, algorithm)
            return digest, writer.finish()
    finally:
        os.close(layer_fd)


def _push(raw: HashingReader, prefix: bytes, plain: Inflater, writer: LayerWriter, algorithm: str) -> Digest:
    """All of the stream through the inflater into the writer; the digest of the plain bytes."""
    from .behind import Behind

    hasher = new_hasher(algorithm)

    def write(piece: bytes) -> None:
        hasher.update(piece)
        writer.feed(piece)

    # Inflating is half of the work, and hashing and writing the other half: a thread each.
    with Behind(write, depth=_PIECES_AHEAD) as behind:
        data = prefix
        while data:
            for piece in plain.feed(data):
                behind.put(piece)
            data = _read(raw, _READ, plain.layer)
        plain.finish()
        behind.finish()
    return Digest(algorithm, hasher.hexdigest())


def _read(raw: HashingReader, size: int, layer: str) -> bytes:
    try:
        return raw.read(size)
    except OSError as error:  # the stream's, or that of the file to which it is copied
        hint = ": free space on the file system of the data root" if error.errno in (ENOSPC, EDQUOT) else ""
        raise SetupFailed(
            f"cannot unpack {layer}: reading it: {error.strerror or error} ({errno_name(error.errno or 0)}){hint}",
            step="unpack",
            errno=error.errno or 0,
        ) from error


def publish_layer(data_root: str, source: str, diff_id: Digest, size: int) -> None:
    """Give an unpacked and verified directory its name. The caller holds the lock of the layer.

    ``size``: the bytes of its files, which :func:`layer_size` tells from then on.
    """
    from .unsynced import mark

    make_data_dir(f"{data_root}/layers")
    fd = os.open(f"{data_root}/layers", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_data_dir(f"{data_root}/sizes")
        with open(size_path(data_root, diff_id), "w", encoding="ascii") as file:
            file.write(str(size))
        mark(data_root, diff_id)
        os.rename(source, layer_path(data_root, diff_id))
        os.fsync(fd)
    finally:
        os.close(fd)


def stack_layers(paths: list[str]) -> tuple[str, ...]:
    """Lower directories topmost first, from layers lowest first.

    A layer whose root is opaque removes all below it; overlayfs ignores the mark on a layer's root, so the stack is
    cut here. Of a layer that comes twice (the empty one often does) only the upper is kept: overlayfs refuses one
    directory twice, and whatever the lower one adds or hides, the upper one adds or hides again.
    """
    lower: list[str] = []
    for path in reversed(paths):
        if path not in lower:
            lower.append(path)
        if len(paths) > 1 and is_opaque(path):
            break
    if len(lower) > _MOST_LAYERS:
        raise InvalidArgument(
            f"cannot use an image of {len(lower)} different layers: overlayfs takes at most {_MOST_LAYERS}: make one of fewer"
        )
    return tuple(lower)
