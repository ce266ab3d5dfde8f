"""Hooks inside the container's namespaces, as ops. Pure.

createContainer hooks see the runtime's file systems, in the container's mount namespace: it is then a copy of the runtime's, with the
root mounted where the document says, until pivot_root. startContainer hooks are what the program is about to be.
Spec: opencontainers/runtime-spec config.md, "POSIX-platform Hooks".
"""

from __future__ import annotations

from .errors import Unsupported
from .ops import SYNC_CREATE_CONTAINER, SYNC_START_CONTAINER, Op
from .plan_bytes import NO_SLOT, C
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan_bytes import Builder
    from .spec.runtime import Hook, RuntimeSpec

__all__ = ["HooksInside", "give"]


@record
class HooksInside:
    """Their slots, all given: what each kind of hook reads, and what one that fails has said."""

    create: int = NO_SLOT
    start: int = NO_SLOT
    said: int = NO_SLOT

    def create_container(self, b: Builder, spec: RuntimeSpec) -> None:
        """Before pivot_root."""
        _add(b, spec.hooks.create_container, SYNC_CREATE_CONTAINER, self.create, self.said)

    def start_container(self, b: Builder, spec: RuntimeSpec) -> None:
        """Said before the last descriptors are closed; the stub runs them when all else is done."""
        _add(b, spec.hooks.start_container, SYNC_START_CONTAINER, self.start, self.said)


def give(b: Builder, spec: RuntimeSpec) -> HooksInside:
    """The slots, in the order of the fields; only those that are needed. Raises Unsupported."""
    hooks = spec.hooks
    if hooks.create_container and any(n.type == "mount" and n.path for n in spec.linux.namespaces):
        raise Unsupported(
            "hooks.createContainer: in a mount namespace that is joined by its path the hook's own file need not be there. "
            "Leave one of the two out"
        )
    names = (*(("create",) if hooks.create_container else ()), *(("start",) if hooks.start_container else ()), "said")
    return HooksInside(**dict(zip(names, b.give(len(names)), strict=True)))


def _add(b: Builder, hooks: tuple[Hook, ...], kind: int, state: int, said: int) -> None:
    if hooks:
        b.add(C, Op.SYNC, x=kind)  # the caller writes what they read
    for hook in hooks:
        args = hook.args or (hook.path,)
        number, timeout_ms = len(b.sections[C]), (hook.timeout or 0) * 1000
        words = (str(number), str(timeout_ms), str(len(args)), str(len(hook.env)), *args, *hook.env)
        b.add(C, Op.HOOK, s1=hook.path, s3=b.strings(words), n=len(words), x=kind, slot=state, slot2=said)
