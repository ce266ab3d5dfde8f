"""``--volumes-from``: the binds and volumes of another container, which runs or stays, as mounts of one that is to be made."""

from __future__ import annotations

import os
import posixpath

from ..errors import InvalidArgument
from ..record import replaced
from ..request import RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import Mount
    from .roots import Roots

__all__ = ["inherit"]


def inherit(request: RunRequest, roots: Roots) -> RunRequest:
    """With their mounts, where the request has none of its own; of two containers with one target the later counts.

    Raises: ContainerNotFound; InvalidArgument: no such mode.
    """
    found: dict[str, Mount] = {}
    for text in request.volumes_from:
        name, colon, mode = text.partition(":")
        words = set(mode.split(",")) if colon else set()
        if not name or words - {"ro", "rw", "z", "Z"}:
            raise InvalidArgument(f"invalid --volumes-from {text[:100]!r}: write CONTAINER or CONTAINER:ro")
        for m in _mounts_of(roots, name):
            if m.type != "tmpfs":
                found[posixpath.normpath(m.target)] = replaced(
                    m, read_only=m.read_only or "ro" in words, inherited=True, create_source=False, copy=False
                )
    own = {posixpath.normpath(m.target) for m in request.mounts}
    return replaced(
        request, mounts=(*[m for target, m in found.items() if target not in own], *request.mounts)
    )  # fmt: skip


def _mounts_of(roots: Roots, name: str) -> tuple[Mount, ...]:
    from . import detached, foreground

    kept = detached.find(roots, name)
    mounts = foreground.find(roots, name).mounts if kept is None else kept.request.mounts
    return tuple([replaced(m, source=os.path.abspath(m.source)) if m.type == "bind" else m for m in mounts])
