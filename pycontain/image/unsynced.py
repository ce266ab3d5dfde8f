"""Layers whose files may not be on the disk yet.

    <data root>/unsynced/<boot id>/<hex of the diff_id>     an empty file

Waiting for the disk is a third of the time of a pull, and a layer is worth no wait: its blob is on the disk, and it can be
unpacked again. So a layer gets a mark before it gets its name. Marks of another boot are of layers that a power cut may have
spoiled: they are removed, and unpacked again when an image wants them. Marks of this boot are taken away by a later store, when
the kernel has long written what they stand for, after a sync that then costs little.
"""

from __future__ import annotations

import os
import time

from .. import _native
from .blobs import open_blob
from .layers import ensure_layer, layer_path
from .records import read_record
from .workspace import locked, make_data_dir, removal_name, removal_space, storing, try_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .digest import Digest

__all__ = ["mark", "remove_suspects", "restore", "settle"]

_AGE_S = 60.0  # the kernel writes what has been dirty for 30 seconds (vm.dirty_expire_centisecs)


def _boot_id() -> str:
    """ "" where /proc does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def mark(data_root: str, diff_id: Digest) -> None:
    """Durably; or, where boots cannot be told apart, all that is in the layer is synced now. The caller holds the layer's lock."""
    boot = _boot_id()
    directory = f"{data_root}/unsynced/{boot}"
    make_data_dir(directory)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if boot:
            os.close(os.open(diff_id.encoded, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=fd))
            os.utime(diff_id.encoded, dir_fd=fd)  # it may be there, of one that has been removed
            os.fsync(fd)
        else:
            _native.syncfs(fd)
    finally:
        os.close(fd)


def settle(data_root: str) -> None:
    """Take away the marks of layers that have been on their way to the disk for a while. Raises: OSError: it cannot be written."""
    boot = _boot_id()
    if not boot:
        return
    directory = f"{data_root}/unsynced/{boot}"
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        old = [name for name in os.listdir(fd) if _age(name, fd) > _AGE_S]
        if old:
            _native.syncfs(fd)
        for name in old:
            with try_lock(data_root, f"layer-{name}") as alone:
                if alone and _age(name, fd) > _AGE_S:  # not marked anew since the sync
                    _unlink(name, fd)
    finally:
        os.close(fd)


def _age(name: str, fd: int) -> float:
    try:
        return time.time() - os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0  # by another one, meanwhile


def _unlink(name: str, fd: int) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass  # by another one, meanwhile


def remove_suspects(data_root: str) -> None:
    """Remove the layers that another boot has left marked. Raises: SetupFailed."""
    parent = f"{data_root}/unsynced"
    here = _boot_id()
    if not here:
        return  # those of this boot may be in use
    with storing("remove layers that a power cut may have spoiled"):
        for boot in os.listdir(parent):
            if boot == here:
                continue
            try:
                fd = os.open(f"{parent}/{boot}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # another process was faster
            try:
                for name in os.listdir(fd):
                    _remove_suspect(data_root, name, fd)
            finally:
                os.close(fd)
            try:
                os.rmdir(f"{parent}/{boot}")
            except FileNotFoundError:
                pass


def _remove_suspect(data_root: str, name: str, fd: int) -> None:
    with locked(data_root, f"layer-{name}"), removal_space(data_root) as work:
        try:
            os.stat(name, dir_fd=fd, follow_symlinks=False)
            os.rename(f"{data_root}/layers/{name}", f"{work}/{removal_name(name)}")
        except FileNotFoundError:
            pass  # another process was faster, or the image has been removed since
        _unlink(name, fd)


def restore(data_root: str, image_id: str) -> None:
    """Unpack the layers of a stored image that are missing. Raises: ImageNotFound; as :func:`ensure_layer`."""
    with storing("unpack the layers of an image again"), locked(data_root, "storing", shared=True):
        for each in read_record(data_root, image_id).layers:
            if not os.path.isdir(layer_path(data_root, each.diff_id)):
                ensure_layer(data_root, each.diff_id, each.descriptor, lambda blob: open_blob(data_root, blob))
