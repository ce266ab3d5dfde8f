"""From a request to its Plan, which is kept for its shape: the same request but for program, environment and id, the same Plan."""

from __future__ import annotations

import os
from operator import attrgetter

from .. import parse
from ..host import probe
from ..plan import plan
from ..plan_bytes import ID_TOKEN, SHORT_ID_TOKEN, Place, Plan
from ..request import RunRequest
from . import volumes
from .generate import generate
from .look import look
from .userns import IdRanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import Resources, RuntimeSpec
    from .look import Resolved
    from .roots import Roots
    from .session import Session
    from .userns import Mappings

__all__ = ["Shape", "generated", "plan_for", "prepare_spec", "shaped"]

_BIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin")
_INIT = os.path.join(_BIN, "pycontain-init")

# What a Plan's shape does not depend on: exchanged in the finished Plan, or not in it at all.
_PER_RUN = frozenset(
    (
        "args",
        "entrypoint",
        "env",
        "name",
        "labels",
        "annotations",
        "stop_signal",
        "mounts",
        "pull",
        "platform",
        "healthcheck",
    )
)
_shape_of = attrgetter(*(f for f in RunRequest.__dict__["__slots__"] if f not in _PER_RUN))


class Shape:
    """A Plan for ID_TOKEN, and what its session must have ready."""

    __slots__ = ("hosts", "plan", "resources")

    def __init__(self, made: Plan, resources: Resources, hosts: bool) -> None:
        self.plan = made
        self.resources = resources
        self.hosts = hosts


_shapes: dict[tuple[object, ...], Shape] = {}
_SHAPES_KEPT = 256


def prepare_spec(
    request: RunRequest,
    roots: Roots,
    facts: HostFacts,
    *,
    console_size: tuple[int, int] = (0, 0),
    container_id: str = ID_TOKEN,
) -> RuntimeSpec:
    """The RuntimeSpec of a request, looked up and checked. Raises InvalidArgument, ImageNotFound, Unsupported."""
    parse.check(request)
    found = look(request, data_root=roots.data_root, create=False)
    ids = IdRanges(roots.run_root, "nobody", facts)
    maps = ids.preview(request)
    directory = f"{roots.data_root}/ephemeral/OWNER/{container_id}"
    return generated(request, found, maps, roots, facts, console_size, container_id, directory)


def generated(
    request: RunRequest,
    found: Resolved,
    maps: Mappings,
    roots: Roots,
    facts: HostFacts,
    console_size: tuple[int, int],
    container_id: str,
    directory: str,
) -> RuntimeSpec:
    """The RuntimeSpec of a request that has been looked up. ``directory``: the container's own."""
    volumes_dir = ""
    if found.sources:  # without symbolic links: those who mount a volume follow none
        real = os.path.realpath(roots.data_root)
        volumes_dir = volumes.directory_of(f"{real}{directory.removeprefix(roots.data_root)}")
    short = SHORT_ID_TOKEN if container_id == ID_TOKEN else container_id[:12]
    return generate(
        request, found, facts, maps, short_id=short, console_size=console_size,
        cache_dir=f"{roots.data_root}/cache/seccomp", init_source=_INIT, volumes_dir=volumes_dir,
    )  # fmt: skip


def plan_for(
    request: RunRequest, roots: Roots, *, container_id: str = "0" * 64, facts: HostFacts | None = None
) -> Plan:
    """The Plan that :func:`start` would execute, for an owner that does not exist; nothing is made or started."""
    facts = facts or probe()
    spec = prepare_spec(request, roots, facts, container_id=container_id)
    place = Place(
        container_id=container_id,
        directory=f"{roots.data_root}/ephemeral/OWNER/{container_id}",
        cgroup_parent="/pycontain/OWNER",
    )
    return plan(spec, facts, place)


def shaped(
    request: RunRequest, found: Resolved, maps: Mappings, session: Session, console_size: tuple[int, int]
) -> Shape:
    """Of a request that has been looked up: made now, or the one that was made for another of its shape."""
    key = (_shape_of(request), tuple(request.mounts), found, maps, session.owner, session.roots, console_size)
    shape = _shapes.get(key)
    if shape is None:
        directory = f"{session.directory}/{ID_TOKEN}"
        spec = generated(request, found, maps, session.roots, session.facts, console_size, ID_TOKEN, directory)
        place = Place(container_id=ID_TOKEN, directory=directory, cgroup_parent=session.cgroup_parent)
        made = plan(spec, session.facts, place)
        if len(_shapes) >= _SHAPES_KEPT:
            _shapes.pop(next(iter(_shapes)))
        shape = _shapes[key] = Shape(made, spec.linux.resources, request.network == "none")
    return shape
