"""Containers by Docker's filters: those of ``ps --filter`` and of ``Engine.containers.list``."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from . import containers
from .filters import check, labels_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..errors import PycontainError
    from ..runtime.roots import Roots
    from .containers import ContainerInfo

__all__ = ["select"]

_FILTERS = ("ancestor", "before", "exited", "health", "id", "label", "name", "since", "status", "volume")
_STATES = ("created", "dead", "exited", "paused", "removing", "restarting", "running")
_HEALTH = ("healthy", "none", "starting", "unhealthy")


def select(
    roots: Roots,
    filters: Mapping[str, Sequence[str]],
    *,
    all: bool = False,
    damaged: list[PycontainError] | None = None,
) -> list[ContainerInfo]:
    """Those that run, or ``all``, which also who asks for a state means; the newest first. All kinds of filters must be met; of
    several values of one kind, one; of labels all. ``damaged``: as of :func:`pycontain.engine.containers.list_containers`.

    Raises: InvalidArgument: there is no such filter, or no such value of it; ContainerNotFound: of before and since.
    """
    check(filters, _FILTERS)
    for state in filters.get("status", ()):
        if state not in _STATES:
            raise InvalidArgument(f"invalid filter 'status={state[:40]}': write {', '.join(_STATES)}")
    for health in filters.get("health", ()):
        if health not in _HEALTH:
            raise InvalidArgument(
                f"Unrecognised filter value for health: {parse.quote(health[:40])}: write {', '.join(_HEALTH)}"
            )
    codes = [_code(each) for each in filters.get("exited", ())]
    found = containers.list_containers(roots, all=all or bool({"exited", "status"} & set(filters)), damaged=damaged)
    if codes:
        found = [each for each in found if each.state == "exited" and each.exit_code in codes]
    for name, newer in (("before", False), ("since", True)):
        for text in filters.get(name, ()):
            at = containers.find_container(roots, text).created
            found = [each for each in found if (each.created > at if newer else each.created < at)]
    if "ancestor" in filters:
        found = _of_images(roots, found, filters["ancestor"])
    return [each for each in found if _matches(each, filters)]


def _code(text: str) -> int:
    try:
        return parse.integer(text, -1, 255)
    except InvalidArgument as error:
        raise InvalidArgument(f"--filter: {error}") from None


def _matches(info: ContainerInfo, filters: Mapping[str, Sequence[str]]) -> bool:
    import re

    for name, values in filters.items():
        if name == "label" and not labels_match(values, info.labels):
            return False
        if name == "status" and info.state not in values:
            return False
        if name == "health" and (info.health or "none") not in values:
            return False
        if name == "id" and not any(info.id.startswith(value) for value in values):
            return False
        if name == "volume" and not any(_has_volume(value, info) for value in values):
            return False
        if name == "name":
            try:
                if not any(re.search(value.removeprefix("/"), info.name) for value in values):
                    return False
            except re.error as error:
                raise InvalidArgument(f"invalid filter 'name={values[0][:40]}': {error}") from None
    return True


def _has_volume(text: str, info: ContainerInfo) -> bool:
    """By the name of a volume, the source of a bind, or where it is mounted."""
    return any(text in (each.name or each.source, each.target) for each in info.mounts)


def _of_images(roots: Roots, found: list[ContainerInfo], wanted: Sequence[str]) -> list[ContainerInfo]:
    """Those of one of these images, or of one that was made from it; by the name they were asked for, where no image has it."""
    from .images import made_from

    ids: set[str] = set()
    names: set[str] = set()
    for text in wanted:
        known = made_from(roots.data_root, text)
        ids |= known
        if not known:
            names.add(text.removesuffix(":latest"))
    return [each for each in found if each.image_id in ids or each.image.removesuffix(":latest") in names]
