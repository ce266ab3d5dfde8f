"""What the slots of a Plan take that its caller is to fill, after the three streams (plan_bytes.GIVEN)."""

from __future__ import annotations

from ..plan_mounts import layers_given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.rootfs import RootFS
    from .session import Session
    from .template import Template
    from .userns import Descriptor, Mappings

__all__ = ["Slots", "slots_for"]


class Slots:
    """``fds``, which stay open as long as this."""

    __slots__ = ("_held", "fds")

    def __init__(
        self, template: Template, translation: Descriptor, stub_fd: int, layers: tuple[Descriptor, ...] = ()
    ) -> None:
        self.fds = (template.mount_fd, template.top_fd, translation.fd, stub_fd, *(each.fd for each in layers))
        self._held = (template, translation, layers)


def slots_for(session: Session, rootfs: RootFS, maps: Mappings, *, hosts: bool) -> Slots:
    """For a container on this root file system with these id maps. ``hosts``: it gets an /etc/hosts.

    Raises: Unsupported, SetupFailed.
    """
    template = session.template(rootfs, hosts=hosts, maps=maps)
    translation = session.ids.translation(maps)
    mapped = layers_given(bool(maps[0]), session.facts)
    return Slots(
        template, translation, session.stub_fd, session.ids.layers(template, rootfs.lower, maps) if mapped else ()
    )
