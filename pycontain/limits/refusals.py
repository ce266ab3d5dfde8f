"""How a limit is refused: the controller is missing, the setting does not exist here, the value is out of range."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts

__all__ = ["in_range", "missing", "no_setting"]


def missing(what: str, controller: str, facts: HostFacts, remedy: str) -> Unsupported:
    """The error for a limit on ``what`` without its controller: what this host offers, and what to do."""
    usable = sorted((n, c) for n, c in facts.controllers.items() if not c.obstacle)
    v2 = [n for n, c in usable if c.version == 2]
    v1 = [n for n, c in usable if c.version == 1]
    unified = f"{facts.unified}{facts.cgroup_base}" if facts.unified else ""
    offers = "; ".join(
        part
        for part in (
            f"cgroup v2 at {unified} offers: {' '.join(v2) or 'nothing'}" if unified else "",
            f"cgroup v1: {' '.join(v1)}" if v1 else "",
        )
        if part
    )
    there = facts.controllers.get(controller)
    why = (
        f"the {controller} controller cannot be used: {there.obstacle}"
        if there is not None and there.obstacle
        else f"cgroup v2 cannot be used: {facts.cgroup_obstacle}"
        if controller == "devices" and facts.unified and facts.cgroup_obstacle
        else f"this host has no {controller} controller"
    )
    if there is not None and there.obstacle and facts.in_user_namespace:  # it is there, but not for this user
        at = remedy.lower().rfind("leave out")
        without = f", or {remedy[at].lower()}{remedy[at + 1 :]}" if at >= 0 else ""
        remedy = f"Begin in a cgroup of your own (systemd-run --user --scope -p Delegate=yes pycontain ...){without}"
    return Unsupported(f"cannot limit {what}: {why} ({offers or 'no cgroups are mounted'}). {remedy}")


def no_setting(field: str, why: str) -> Unsupported:
    """The error for a field of linux.resources that nothing here can express."""
    return Unsupported(f"linux.resources.{field}: {why}")


def in_range(field: str, value: int | None, low: int, high: int, *, also: tuple[int, ...] = ()) -> None:
    """Raises InvalidArgument for a value of linux.resources.``field`` that no kernel takes."""
    if value is None or low <= value <= high or value in also:
        return
    others = "".join(f" or {n}" for n in also)
    raise InvalidArgument(f"linux.resources.{field}: expected {low} to {high}{others}, found {value}")
