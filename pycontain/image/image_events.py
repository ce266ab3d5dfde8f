"""The events of images, with Docker's ids and attributes: what is said of a registry is said of a name, all else of the image."""

from __future__ import annotations

from .. import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .collect import Removed
    from .names import ImageName

__all__ = ["emit_image", "emit_removed", "emit_transfer"]


def emit_image(
    data_root: str, action: str, image_id: str, name: str = "", labels: Iterable[tuple[str, str]] = ()
) -> None:
    journal.emit(data_root, "image", action, image_id, {**dict(labels), "name": name or image_id})


def emit_transfer(data_root: str, action: str, name: ImageName, labels: Iterable[tuple[str, str]] = ()) -> None:
    """A "pull" or a "push"."""
    journal.emit(data_root, "image", action, str(name), {**dict(labels), "name": name.repository})


def emit_removed(data_root: str, image_id: str, done: Iterable[Removed], labels: Iterable[tuple[str, str]]) -> None:
    for each in done:
        if each.action == "Untagged":
            emit_image(data_root, "untag", image_id, labels=labels)
        elif each.what == image_id:
            emit_image(data_root, "delete", image_id, labels=labels)
