"""Which images the containers that stay were made of, whether they run or not: those images and their layers are kept.

Who makes a container holds its image until the configuration is written (detached_start.py), and who removes an image asks here
only when nobody holds it: so one of the two sees the other.
"""

from __future__ import annotations

from ..errors import ContainerNotFound, InvalidArgument
from . import detached
from .roots import Roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .detached import Detached

__all__ = ["ImageUsers"]


class ImageUsers:
    """Looks at each question which containers there are; reads each of them once."""

    def __init__(self, data_root: str) -> None:
        self._roots = Roots(data_root=data_root)
        self._known: dict[str, Detached | None] = {}

    def user_of(self, image_id: str) -> str:
        """The id of a container of this image; "": there is none."""
        return next((each.id for each in self._all() if each.image_id == image_id), "")

    def images(self) -> set[str]:
        return {each.image_id for each in self._all() if each.image_id}

    def layers(self) -> set[str]:
        """The names of the directories of their layers."""
        return {path.rpartition("/")[2] for each in self._all() if each.image_id for path in each.lower}

    def _all(self) -> list[Detached]:
        there = set(detached.ids(self._roots))
        for container_id in there - self._known.keys():
            try:
                self._known[container_id] = detached.load(self._roots, container_id)
            except (ContainerNotFound, InvalidArgument):
                self._known[container_id] = None  # being removed; or damaged, and then it can never be started
        return [each for name, each in self._known.items() if each is not None and name in there]
