"""Removing what nothing uses: containers that have ended, volumes, images; with the room that it gives back."""

from __future__ import annotations

import os

from .. import journal
from ..errors import Conflict, ContainerNotFound, PycontainError
from ..record import record
from . import container_details, containers, images
from .volumes import prune_volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..image.collect import Removed
    from ..runtime.roots import Roots

    Labels = Sequence[tuple[str, str]]

__all__ = ["Keep", "Pruned", "prune_containers", "prune_everything"]


@record
class Keep:
    """``created_after``: seconds since 1970, what is younger stays; ``labels``: whether one with these labels stays."""

    created_after: float | None = None
    labels: Callable[[Labels], bool] = lambda _: False

    def __call__(self, created: float, labels: Labels) -> bool:
        return (self.created_after is not None and created > self.created_after) or self.labels(labels)


@record
class Pruned:
    containers: tuple[str, ...]
    volumes: tuple[str, ...]
    images: tuple[Removed, ...]
    freed: int  # bytes
    errors: tuple[PycontainError, ...]  # of containers that could not be removed


def prune_containers(roots: Roots, keep: Keep | None = None) -> tuple[list[str], int, list[PycontainError]]:
    """Removes all that do not run, unless ``keep`` says so: their ids, the bytes of their layers, and why others could not be."""
    removed, freed = [], 0
    errors: list[PycontainError] = []
    for each in containers.list_containers(roots, all=True, damaged=errors):
        if not each.stays or each.is_alive or (keep is not None and keep(each.created, each.labels)):
            continue
        try:
            size = container_details.sizes(roots, each).layer
            containers.remove(roots, each.id)
        except (Conflict, ContainerNotFound):
            continue  # started, or removed by another one meanwhile
        except PycontainError as error:
            errors.append(error)  # the others go all the same
            continue
        removed.append(each.id)
        freed += size
    journal.emit(roots.data_root, "container", "prune", "", {"reclaimed": str(freed)})
    return removed, freed, errors


def prune_everything(
    roots: Roots, keep: Keep, keep_image: Callable[[images.ImageInfo], bool], *, all_images: bool, volumes: bool
) -> Pruned:
    """In Docker's order: containers first, so that what only they used goes as well."""
    gone, freed, errors = prune_containers(roots, keep)
    names: list[str] = []
    if volumes:
        names, size = prune_volumes(roots, keep=lambda volume: keep.labels(volume.labels))
        freed += size
    removed: list[Removed] = []
    if os.path.isdir(roots.data_root):
        removed, size = images.prune_images(roots.data_root, all=all_images, keep=keep_image)
        freed += size
    return Pruned(
        containers=tuple(gone), volumes=tuple(names), images=tuple(removed), freed=freed, errors=tuple(errors)
    )
