"""Images, as ``docker`` knows them: list, find, tag, remove, pull, push, save, load, import, commit, export.

Every function takes the data root first. An image is asked for by name (``debian:12``, ``debian@sha256:...``), by id, or by the
beginning of an id. Errors: ImageNotFound, InvalidArgument, Conflict (in use, or an ambiguous beginning of an id).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import BinaryIO

from ..errors import Conflict, ImageNotFound, InvalidArgument
from ..image.collect import Removed
from ..image.details import ImageDetails, inspect_image
from ..image.names import parse_image_name, parse_reference
from ..image.progress import Progress, Report
from ..image.records import ImageInfo, find_id, image_names, info_of, list_images, list_records, read_record
from ..image.unsynced import restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event

    from ..runtime.foreground import Foreground

__all__ = [
    "ImageDetails",
    "ImageInfo",
    "Progress",
    "Removed",
    "commit",
    "export",
    "find_image",
    "inspect_image",
    "restore",
    "list_images",
    "load",
    "made_from",
    "manifest_document",
    "prune_images",
    "pull",
    "push",
    "remove_image",
    "save",
    "tag_image",
]


def find_image(data_root: str, text: str) -> ImageInfo:
    image_id = find_id(data_root, text)
    return info_of(read_record(data_root, image_id), image_names(data_root).get(image_id, ()))


def made_from(data_root: str, text: str) -> frozenset[str]:
    """The ids of an image and of all that were committed from it, and so on; none when there is no such image."""
    try:
        found = {find_id(data_root, text)}
    except (ImageNotFound, InvalidArgument, Conflict):
        return frozenset()
    parents = {each.id: each.parent for each in list_records(data_root)}
    grown = True
    while grown:
        more = {each for each, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return frozenset(found)


def tag_image(data_root: str, source: str, target: str) -> None:
    """Give the image another name; an image that had it loses it."""
    from ..image.publish import name_image

    name_image(data_root, source, parse_image_name(target))


def remove_image(data_root: str, text: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
    """``docker rmi``: takes the name away; with the last name, the image and what only it used.

    ``prune`` False: an image without a name stays.
    """
    from ..image import collect
    from ..runtime.image_users import ImageUsers

    return collect.remove_image(data_root, text, force=force, prune=prune, users=ImageUsers(data_root))


def prune_images(
    data_root: str, *, all: bool = False, keep: Callable[[ImageInfo], bool] = lambda _: False
) -> tuple[list[Removed], int]:
    """Removes images without a name (``all``: those that no container uses) unless ``keep`` says so; answers with the bytes freed."""
    from ..image import collect
    from ..runtime.image_users import ImageUsers

    return collect.prune(data_root, keep, all=all, users=ImageUsers(data_root))


def pull(
    data_root: str,
    text: str,
    *,
    platform: str = "",
    all_tags: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Event | None = None,
) -> ImageInfo:
    """``platform``: "linux/arm64/v8"; default this machine's. With ``all_tags``, the last one's image.

    Raises: ImageNotFound, RegistryError, InvalidArgument, Unsupported.
    """
    from ..image.remote import pull_names

    if all_tags and ("@" in text or ":" in text.rpartition("/")[2]):
        raise InvalidArgument(f"tag can't be used with --all-tags/-a: {text}: write the repository alone")
    done = pull_names(data_root, text, platform=platform, all_tags=all_tags, report=Report(progress, stop))
    return find_image(data_root, done[-1].image.id)


def push(
    data_root: str,
    text: str,
    *,
    all_tags: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Event | None = None,
) -> str:
    """Answers with the manifest's digest. Raises: ImageNotFound, RegistryError, InvalidArgument."""
    from ..image.push import push_image
    from ..image.remote import client

    report = Report(progress, stop)
    if all_tags and text.rpartition("/")[2].partition(":")[1]:
        raise InvalidArgument(f"tag can't be used with --all-tags/-a: write {text.rpartition(':')[0]}")
    name = parse_image_name(text)
    names = [name]
    if all_tags:
        every = [parse_image_name(x) for each in image_names(data_root).values() for x in each if "@" not in x]
        names = sorted((each for each in every if each.repository == name.repository), key=str)
    if not names:
        raise ImageNotFound(f"An image does not exist locally with the tag: {name.repository}")
    digest = ""
    with client()(name, push=True) as registry:
        report.line(f"The push refers to repository [{name.domain}/{name.path}]")
        for each in names:
            pushed, size = push_image(data_root, each, registry, report)
            digest = str(pushed)
            report.line(f"{each.tag}: digest: {digest} size: {size}")
    return digest


def save(data_root: str, names: Sequence[str], out: BinaryIO, *, format: str = "docker-archive") -> None:
    """``format``: "docker-archive" (the default of ``docker save``), "oci-archive"."""
    from ..image.archive_save import save_archive

    save_archive(data_root, names, out, format=format)


def load(
    data_root: str,
    source: BinaryIO,
    *,
    platform: str = "",
    progress: Callable[[Progress], None] | None = None,
    stop: Event | None = None,
) -> list[ImageInfo]:
    """The images of an archive, each with those of its names that the archive gives."""
    from ..image.archive_load import load_archive
    from ..image.pull import parse_platform

    wanted = parse_platform(platform) if platform else None
    return [
        info_of(each.image, each.names)
        for each in load_archive(data_root, source, Report(progress, stop), platform=wanted)
    ]


def commit(
    data_root: str, run_root: str, container: str, name: str = "", *, changes: Sequence[str] = (), author: str = "",
    message: str = "", pause: bool = True, compression: str = "gzip", level: int | None = None,
) -> str:  # fmt: skip
    """An image of what a container has written so far, whether it runs or not; answers with its id. ``pause``: nothing moves
    meanwhile.

    Raises: ContainerNotFound; InvalidArgument: its root is no image's; Conflict: a file was cut short meanwhile, or the
    container has ended.
    """
    from ..runtime.at_rest import as_at_rest, looked_into
    from ..runtime.container_events import emit_of
    from ..runtime.foreground import Foreground
    from ..runtime.roots import Roots

    roots = Roots(data_root=data_root, run_root=run_root)
    with looked_into(roots, container) as found:
        image_id = commit_found(
            data_root, found if isinstance(found, Foreground) else as_at_rest(roots, found), name, changes=changes,
            author=author, message=message, pause=pause, compression=compression, level=level,
        )  # fmt: skip
        emit_of(roots, found, "commit", comment=message, imageID=image_id, imageRef=name)
        return image_id


def commit_found(
    data_root: str, found: Foreground, name: str, *, changes: Sequence[str], author: str, message: str, pause: bool,
    compression: str, level: int | None,
) -> str:  # fmt: skip
    from ..image.commit import commit_changed
    from ..runtime.stillness import check_lives, held_still

    names = [parse_image_name(name)] if name else []
    runs = found.pid != 0
    with held_still(found) if pause and runs else nullcontext():
        return commit_changed(
            data_root, found.changed(), names, changes=changes, author=author, message=message,
            check=(lambda: check_lives(found, "commit")) if runs else (lambda: None), compression=compression, level=level,
        ).id  # fmt: skip


def export(data_root: str, run_root: str, container: str, out: BinaryIO) -> None:
    """All files of a container as a tar, whether it runs or not.

    Raises: ContainerNotFound; Conflict: a file was cut short meanwhile, or the container has ended.
    """
    from ..runtime.at_rest import as_at_rest, looked_into
    from ..runtime.container_events import emit_of
    from ..runtime.foreground import Foreground
    from ..runtime.roots import Roots

    roots = Roots(data_root=data_root, run_root=run_root)
    with looked_into(roots, container) as found:
        export_found(found if isinstance(found, Foreground) else as_at_rest(roots, found), out)
        emit_of(roots, found, "export")


def export_found(found: Foreground, out: BinaryIO) -> None:
    from ..image.export import export_tree
    from ..runtime.stillness import check_lives

    runs = found.pid != 0
    if runs:
        check_lives(found, "export")
    export_tree(found.upper, found.lower, out, uid_map=found.uid_map, gid_map=found.gid_map)
    if runs:
        check_lives(found, "export")


def manifest_document(data_root: str, text: str, *, insecure: bool = False) -> tuple[bytes, str]:
    """The manifest or index of a name in its registry, and its media type: for ``manifest inspect``."""
    from ..image.documents import INDEX_TYPES, MANIFEST_TYPES
    from ..image.registry.settings import load_settings
    from ..image.remote import client
    from ..record import replaced

    name = parse_reference(text)
    settings = load_settings()
    if insecure:
        settings = replaced(settings, insecure_hosts=settings.insecure_hosts | {name.domain})
    with client()(name, settings=settings) as registry:
        data, media_type, _ = registry.get_manifest(name.reference, (*MANIFEST_TYPES, *INDEX_TYPES))
    return data, media_type
