"""Taking images away: names, then images without a name, then the blobs and layers that only they had.

What is to go is first moved into a workspace, under the lock ``index``, and deleted after the lock is released: so the lock
is short, and a kill -9 leaves a workspace, which the next one to make a workspace removes. Layers are counted by reading the
records of all other images; there is no counter that could be wrong.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC

from ..errors import Conflict
from ..journal import emit
from ..record import record
from .blobs import MAX_DOCUMENT_BYTES, blob_path
from .digest import ALGORITHMS, Digest
from .documents import parse_config
from .image_events import emit_removed
from .layers import layer_path, size_path
from .records import (
    ImageRecord,
    begin_change,
    drop_name,
    find_id,
    image_names,
    is_changing,
    list_records,
    named_id,
    read_record,
    write_index,
)
from .usage import try_claim
from .workspace import is_removed, locked, release, removal_name, removal_space, storing, try_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from typing import Protocol

    from .names import ImageName
    from .records import ImageInfo

    class Users(Protocol):
        """Containers that do not run, whose images and layers are to stay (runtime/image_users.py)."""

        def user_of(self, image_id: str) -> str: ...
        def images(self) -> set[str]: ...
        def layers(self) -> set[str]: ...


__all__ = ["InUse", "Removed", "prune", "remove_image", "sweep"]


class InUse(Conflict):
    """An image that is not removed, for a container uses it: which, and whether it runs."""

    def __init__(self, image_id: str, user: str) -> None:
        self.user = user[:12]
        self.is_running = not user
        who = f"stopped container {self.user}" if user else "a running container: stop it first"
        super().__init__(
            f"conflict: unable to delete {_short(image_id)} ({'must' if user else 'cannot'} be forced) - image is being used by {who}"
        )


@record
class Removed:
    """One thing that a removal did: ``action`` is "Untagged" or "Deleted"; ``what`` a name, an image id or a chain id."""

    action: str
    what: str


def remove_image(
    data_root: str, text: str, *, force: bool = False, prune: bool = True, users: Users | None = None
) -> list[Removed]:
    """``docker rmi``: takes the name away; with the last one the image goes, and what only it had. ``prune`` False: it stays.

    By id all names go, when they are of one repository or with ``force``. With ``force`` the image of a container that does not run
    loses its names, and stays for it.
    Raises: ImageNotFound, InvalidArgument; Conflict: a container uses it, or it has names in several repositories.
    """
    with _removing(data_root, f"remove {text}") as work, locked(data_root, "index"):
        image_id = find_id(data_root, text)
        names = image_names(data_root).get(image_id, [])
        given = _as_name(data_root, text, image_id)
        if not given and not force and not _is_single(names):
            raise Conflict(
                f"conflict: unable to delete {_short(image_id)} (must be forced) - image is referenced in multiple "
                f"repositories: {', '.join(names)}: remove it by name, or with --force"
            )
        going = _names_that_go(given, names) if given else names
        done = [Removed(action="Untagged", what=each) for each in going]
        labels: Iterable[tuple[str, str]] = ()
        if len(going) == len(names) and (prune or not given):
            found = read_record(data_root, image_id)
            labels = found.labels
            try:
                done += _remove(data_root, work, found, going, _References(data_root, users))
            except InUse as error:
                if given and not force:
                    who = "a running container" if error.is_running else f"container {error.user}"
                    raise Conflict(
                        f'conflict: unable to remove repository reference "{text}" (must force) - {who} is '
                        f"using its referenced image {_short(image_id)}"
                    ) from None
                if not given and (error.is_running or not force or not names):
                    raise
        for each in going:
            drop_name(data_root, each)
        _write_index(data_root)
    emit_removed(data_root, image_id, done, labels)
    return done


def prune(
    data_root: str, keep: Callable[[ImageInfo], bool], *, all: bool = False, users: Users | None = None
) -> tuple[list[Removed], int]:
    """Removes images without a name, or with ``all`` every one that no container uses, unless ``keep`` says so, and what
    crashes have left. Answers with what was done and the bytes that it freed."""
    from .records import info_of

    done: list[Removed] = []
    gone: list[tuple[ImageRecord, list[Removed]]] = []
    freed = 0
    with _removing(data_root, "prune") as work:
        with locked(data_root, "index"):
            names = image_names(data_root)
            references = _References(data_root, users)
            for each in references.records:
                own = names.get(each.id, [])
                if (own and not all) or keep(info_of(each, own)):
                    continue
                try:
                    removed = _remove(data_root, work, each, own, references)
                except Conflict:
                    continue
                gone.append((each, [*(Removed(action="Untagged", what=name) for name in own), *removed]))
                done += gone[-1][1]
            if done or is_changing(data_root):
                _write_index(data_root)
        sweep(data_root, work, users)
        freed = _bytes_below(work)
    for image, removed in gone:
        emit_removed(data_root, image.id, removed, image.labels)
    emit(data_root, "image", "prune", "", {"reclaimed": str(freed)})
    return done, freed


@contextmanager
def _removing(data_root: str, what: str) -> Iterator[str]:
    """Where to move what is removed; at the end it is deleted, and then there is room for ``index.json`` on a disk that was full."""
    with storing(what):
        with removal_space(data_root) as work:
            yield work
        if is_changing(data_root):
            with locked(data_root, "index"):
                write_index(data_root)


def _write_index(data_root: str) -> None:
    try:
        write_index(data_root)
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT) or not is_changing(data_root):
            raise


def _as_name(data_root: str, text: str, image_id: str) -> str:
    """The name that ``text`` is, "" when it is an id or the beginning of one."""
    from ..errors import PycontainError
    from .names import parse_reference

    if text.startswith("sha256:"):
        return ""
    try:
        name: ImageName = parse_reference(text)
    except PycontainError:
        return ""
    return str(name) if named_id(data_root, name) == image_id else ""


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def _names_that_go(given: str, names: list[str]) -> list[str]:
    """With the last tag of a repository go the names by digest that a pull has left for it."""
    own = [each for each in names if _repository(each) == _repository(given) and each != given]
    if "@" in given or any("@" not in each for each in own):
        return [given]
    return [given, *own]


def _is_single(names: list[str]) -> bool:
    """Whether the names are one tag, or none, and digests of one repository (moby: isSingleReference)."""
    return len({_repository(each) for each in names}) <= 1 and sum("@" not in each for each in names) <= 1


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


class _References:
    """What all images have, counted by reading their records: once for all that one command removes. The caller holds the lock
    ``index``, also for a hold of an image without a record (usage.py)."""

    def __init__(self, data_root: str, users: Users | None = None) -> None:
        self.users = users
        self.records = list_records(data_root)
        self._blobs: dict[Digest, int] = {}
        self._layers: dict[Digest, int] = {}
        for each in self.records:
            self._count(each, 1)
        self._held = _held_layers(data_root, self._blobs)
        self._of_users = (users.images(), users.layers()) if users is not None else (set(), set())

    def drop(self, image: ImageRecord) -> None:
        """It is being removed."""
        self._count(image, -1)

    def has_blob(self, digest: Digest) -> bool:
        return self._blobs.get(digest, 0) > 0 or str(digest) in self._of_users[0]

    def has_layer(self, diff_id: Digest) -> bool:
        return self._layers.get(diff_id, 0) > 0 or diff_id in self._held or diff_id.encoded in self._of_users[1]

    def _count(self, image: ImageRecord, by: int) -> None:
        for digest in {each.digest for each in image.blobs}:
            self._blobs[digest] = self._blobs.get(digest, 0) + by
        for diff_id in {each.diff_id for each in image.layers}:
            self._layers[diff_id] = self._layers.get(diff_id, 0) + by


def _remove(
    data_root: str, work: str, found: ImageRecord, names: Iterable[str], references: _References
) -> list[Removed]:
    """Moves an image and what only it had into the workspace. The caller holds the lock ``index``.

    Raises: Conflict: it is in use; then nothing has changed.
    """
    claim = try_claim(blob_path(data_root, found.config.digest))
    if claim is None:
        raise InUse(found.id, "")
    try:
        user = references.users.user_of(found.id) if references.users is not None else ""
        if user:
            raise InUse(found.id, user)
        references.drop(found)
        for name in names:
            drop_name(data_root, name)
        begin_change(data_root)
        # the record goes first: from here on nobody finds the image, and what is left of it is for a sweep
        _move(f"{data_root}/images/{found.id.removeprefix('sha256:')}", work)
        done = [Removed(action="Deleted", what=found.id)]
        for descriptor in found.blobs:
            if not references.has_blob(descriptor.digest):
                _move(blob_path(data_root, descriptor.digest), work)
        chain = ""
        chains: list[tuple[Digest, str]] = []
        for layer in found.layers:
            chain = _chain(chain, str(layer.diff_id))
            chains.append((layer.diff_id, chain))
        for diff_id, name in reversed(chains):
            if not references.has_layer(diff_id):
                if _move(layer_path(data_root, diff_id), work):
                    done.append(Removed(action="Deleted", what=name))
                _move(size_path(data_root, diff_id), work)
        return done
    finally:
        if claim >= 0:
            release(claim)


def _chain(below: str, diff_id: str) -> str:
    """Spec: image-spec config.md, "Layer ChainID"."""
    if not below:
        return diff_id
    from .digest import new_hasher

    hasher = new_hasher("sha256")
    hasher.update(f"{below} {diff_id}".encode())
    return f"sha256:{hasher.hexdigest()}"


def _move(path: str, work: str) -> bool:
    try:
        os.rename(path, f"{work}/{removal_name(os.path.basename(path))}")
    except FileNotFoundError:
        return False
    return True


def _held_layers(data_root: str, referenced: Container[Digest]) -> set[Digest]:
    """The layers of images without a record that are being run: of an OCI layout elsewhere (``oci:DIR``)."""
    held: set[Digest] = set()
    for digest in _blobs(data_root):
        if digest in referenced:
            continue
        path = blob_path(data_root, digest)
        if os.lstat(path).st_size > MAX_DOCUMENT_BYTES:
            continue  # no configuration is as big
        claim = try_claim(path)
        if claim is None:
            with open(path, "rb") as file:
                held.update(parse_config(file.read(), str(digest)).diff_ids)
        elif claim >= 0:
            release(claim)
    return held


def sweep(data_root: str, work: str, users: Users | None = None) -> None:
    """Moves into the workspace what no image has: left by crashes, by pulls that failed, or of an ``oci:DIR`` that ran once.

    Not while anyone is storing an image, whose blobs and layers belong to none yet.
    """
    with try_lock(data_root, "storing") as alone:
        if not alone:
            return
        with locked(data_root, "index"):
            references = _References(data_root, users)
            for digest in _blobs(data_root):
                if references.has_blob(digest):
                    continue
                claim = try_claim(blob_path(data_root, digest))
                if claim is not None:
                    _move(blob_path(data_root, digest), work)
                    if claim >= 0:
                        release(claim)
            for directory in ("layers", "sizes"):
                for entry in _entries(f"{data_root}/{directory}"):
                    if not any(references.has_layer(Digest(each, entry)) for each in ALGORITHMS):
                        _move(f"{data_root}/{directory}/{entry}", work)
            for directory in (*(f"blobs/{each}" for each in ALGORITHMS), "images", "names"):
                for entry in _entries(f"{data_root}/{directory}"):
                    if entry.startswith("."):  # of a writer that was killed: all of them hold one of our two locks
                        _move(f"{data_root}/{directory}/{entry}", work)


def _blobs(data_root: str) -> list[Digest]:
    return [
        Digest(algorithm, each)
        for algorithm in ALGORITHMS
        for each in _entries(f"{data_root}/blobs/{algorithm}")
        if not each.startswith(".")
    ]


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _bytes_below(path: str) -> int:
    """What the files below hold on disk; a hard link counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for above, directories, files in os.walk(path):
        if above == path:  # on a full disk it is where others work, too
            directories[:] = filter(is_removed, directories)
            files = list(filter(is_removed, files))
        for name in files:
            info = os.lstat(f"{above}/{name}")
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_blocks * 512
    return total
