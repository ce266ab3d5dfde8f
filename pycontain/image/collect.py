"""Taking images away: names, then images without a name, then the blobs and layers that only they had.

What is to go is first moved into a workspace, under the lock ``index``, and deleted after the lock is released: so the lock
is short, and a kill -9 leaves a workspace, which the next one to make a workspace removes. Layers are counted by reading the
records of all other images; there is no counter that could be wrong.
"""

from __future__ import annotations

import os

from ..errors import Conflict
from ..record import record
from .blobs import blob_path
from .digest import Digest
from .documents import parse_config
from .layers import layer_path, size_path
from .records import (
    ImageRecord,
    drop_name,
    find_id,
    image_names,
    list_records,
    named_id,
    read_record,
    write_index,
)
from .usage import try_claim
from .workspace import locked, release, storing, try_lock, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .names import ImageName
    from .records import ImageInfo

__all__ = ["Removed", "prune", "remove_image", "sweep"]


@record
class Removed:
    """One thing that a removal did: ``action`` is "Untagged" or "Deleted"; ``what`` a name, an image id or a chain id."""

    action: str
    what: str


def remove_image(data_root: str, text: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
    """``docker rmi``: takes the name away; with the last one the image goes, and what only it had. ``prune`` False: it stays.

    By id all names go, when they are of one repository or with ``force``.
    Raises: ImageNotFound, InvalidArgument; Conflict: a container uses it, or it has names in several repositories.
    """
    with storing(f"remove {text}"), workspace(data_root) as (work, _), locked(data_root, "index"):
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
        removed: list[Removed] = []
        if len(going) == len(names) and (prune or not given):
            try:
                removed = _remove(data_root, work, read_record(data_root, image_id), going)
            except Conflict:
                if given and not force:
                    raise Conflict(
                        f'conflict: unable to remove repository reference "{text}" (must force) - a running container is '
                        f"using its referenced image {_short(image_id)}"
                    ) from None
                if not given:
                    raise
        for each in going:
            drop_name(data_root, each)
        write_index(data_root)
        return done + removed


def prune(data_root: str, keep: Callable[[ImageInfo], bool], *, all: bool = False) -> tuple[list[Removed], int]:
    """Removes images without a name, or with ``all`` every one that no container uses, unless ``keep`` says so, and what
    crashes have left. Answers with what was done and the bytes that it freed."""
    from .records import info_of

    done: list[Removed] = []
    freed = 0
    with storing("prune"), workspace(data_root) as (work, _):
        with locked(data_root, "index"):
            names = image_names(data_root)
            for each in list_records(data_root):
                own = names.get(each.id, [])
                if (own and not all) or keep(info_of(each, own)):
                    continue
                try:
                    removed = _remove(data_root, work, each, own)
                except Conflict:
                    continue
                done += [*(Removed(action="Untagged", what=name) for name in own), *removed]
            if done:
                write_index(data_root)
        sweep(data_root, work)
        freed = _bytes_below(work)
    return done, freed


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


def _remove(data_root: str, work: str, found: ImageRecord, names: Iterable[str]) -> list[Removed]:
    """Moves an image and what only it had into the workspace. The caller holds the lock ``index``.

    Raises: Conflict: it is in use; then nothing has changed.
    """
    claim = try_claim(blob_path(data_root, found.config.digest))
    if claim is None:
        raise Conflict(
            f"conflict: unable to delete {_short(found.id)} (cannot be forced) - image is being used by a running container: "
            "stop it first"
        )
    try:
        others = [each for each in list_records(data_root) if each.id != found.id]
        blobs = {each.digest for other in others for each in other.blobs}
        layers = {each.diff_id for other in others for each in other.layers}
        layers |= _held_layers(data_root, blobs | {found.config.digest})  # that one is held by our own claim
        for name in names:
            drop_name(data_root, name)
        # the record goes first: from here on nobody finds the image, and what is left of it is for a sweep
        _move(f"{data_root}/images/{found.id.removeprefix('sha256:')}", work)
        done = [Removed(action="Deleted", what=found.id)]
        for descriptor in found.blobs:
            if descriptor.digest not in blobs:
                _move(blob_path(data_root, descriptor.digest), work)
        chain = ""
        chains: list[tuple[Digest, str]] = []
        for layer in found.layers:
            chain = _chain(chain, str(layer.diff_id))
            chains.append((layer.diff_id, chain))
        for diff_id, name in reversed(chains):
            if diff_id not in layers:
                layers.add(diff_id)
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
        os.rename(path, f"{work}/{os.path.basename(path)}-{os.urandom(4).hex()}")
    except FileNotFoundError:
        return False
    return True


def _held_layers(data_root: str, referenced: set[Digest]) -> set[Digest]:
    """The layers of images without a record that are being run: of an OCI layout elsewhere (``oci:DIR``)."""
    held: set[Digest] = set()
    for digits in _blobs(data_root):
        if Digest("sha256", digits) in referenced:
            continue
        path = f"{data_root}/blobs/sha256/{digits}"
        if os.lstat(path).st_size > 4 << 20:
            continue  # no configuration is as big
        claim = try_claim(path)
        if claim is None:
            with open(path, "rb") as file:
                held.update(parse_config(file.read(), digits).diff_ids)
        elif claim >= 0:
            release(claim)
    return held


def sweep(data_root: str, work: str) -> None:
    """Moves into the workspace what no image has: left by crashes, by pulls that failed, or of an ``oci:DIR`` that ran once.

    Not while anyone is storing an image, whose blobs and layers belong to none yet.
    """
    with try_lock(data_root, "storing") as alone:
        if not alone:
            return
        with locked(data_root, "index"):
            records = list_records(data_root)
            blobs = {each.digest.encoded for one in records for each in one.blobs}
            layers = {each.diff_id.encoded for one in records for each in one.layers}
            layers |= {each.encoded for each in _held_layers(data_root, {Digest("sha256", each) for each in blobs})}
            for digits in _blobs(data_root):
                if digits in blobs:
                    continue
                claim = try_claim(f"{data_root}/blobs/sha256/{digits}")
                if claim is not None:
                    _move(f"{data_root}/blobs/sha256/{digits}", work)
                    if claim >= 0:
                        release(claim)
            for directory in ("layers", "sizes"):
                for entry in _entries(f"{data_root}/{directory}"):
                    if entry not in layers:
                        _move(f"{data_root}/{directory}/{entry}", work)
            for directory in ("blobs/sha256", "images", "names"):
                for entry in _entries(f"{data_root}/{directory}"):
                    if entry.startswith("."):  # of a writer that was killed: all of them hold one of our two locks
                        _move(f"{data_root}/{directory}/{entry}", work)


def _blobs(data_root: str) -> list[str]:
    return [each for each in _entries(f"{data_root}/blobs/sha256") if not each.startswith(".")]


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _bytes_below(path: str) -> int:
    """What the files below hold on disk; a hard link counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for above, _, files in os.walk(path):
        for name in files:
            info = os.lstat(f"{above}/{name}")
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_blocks * 512
    return total
