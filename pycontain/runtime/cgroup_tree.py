"""Making cgroups before a start: the levels above a container's own, and the controllers handed down through them.

cgroup v2 gives a controller to the children of a directory by a write into its cgroup.subtree_control, which a directory
with processes in it refuses (EBUSY), all but the very top. When only this process and its children are there, as in a
container with a cgroup namespace of its own, they step aside into a leaf, and back at the end.
"""

from __future__ import annotations

import os

from .. import limits
from ..errors import Conflict, PycontainError, SetupFailed, Unsupported, errno_name
from ..hierarchies import strangers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import Resources

__all__ = ["Claim", "claim", "hand_down", "make_owner", "read", "step_back", "write"]

_EBUSY = 16
_RT_RUNTIME = "cpu.rt_runtime_us"


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        return f.read().strip()


# --- controllers of v2 --------------------------------------------------------------------------------------------


def hand_down(directory: str, names: tuple[str, ...], needed: frozenset[str]) -> None:
    """Enables the controllers ``names`` for the cgroups below ``directory``, as far as they are to be had; one that is not
    takes no other with it. Raises Unsupported for one that is ``needed``."""
    file = f"{directory}/cgroup.subtree_control"
    offered = read(f"{directory}/cgroup.controllers").split()
    enabled = read(file).split()
    absent = [n for n in names if n in offered and n not in enabled]
    if not absent:
        return
    # asked first: cpu and pids would be granted all the same, and make a root of threads of it, below which nothing can live
    if _populated(directory) and not _step_aside(directory):
        for name in absent:
            if name in needed:
                raise _refused(directory, name, OSError(_EBUSY, ""))
        return
    try:
        write(file, " ".join("+" + n for n in absent))
        return
    except OSError:
        pass  # one of them: which?
    for name in absent:
        try:
            write(file, "+" + name)
        except OSError as e:
            if name in needed:
                raise _refused(directory, name, e) from None


def _populated(directory: str) -> bool:
    """Whether the rule against processes in inner cgroups applies: everywhere but at the very top, which has no type."""
    return os.path.exists(f"{directory}/cgroup.type") and bool(read(f"{directory}/cgroup.procs"))


def _refused(directory: str, name: str, e: OSError) -> Unsupported:
    number = e.errno or 0
    why = os.strerror(number)
    if number == _EBUSY:
        pids = read(f"{directory}/cgroup.procs").split()
        why = (
            f"processes are in it ({', '.join(pids[:5])}{', ...' if len(pids) > 5 else ''}), and cgroup v2 hands down only "
            "from an empty one. Move them into a cgroup below it"
        )
    return Unsupported(f"cannot hand down the {name} controller from {directory} ({errno_name(number)}): {why}")


def _leaf(directory: str) -> str:
    return f"{directory}{limits.CGROUP_BASE}-self-{os.getpid()}"


def _text(path: str) -> str:
    try:
        return read(path) + "\n"
    except OSError:
        return ""


def _step_aside(directory: str) -> bool:
    """Moves this process and its children into a leaf when there are no others in ``directory``."""
    procs = read(f"{directory}/cgroup.procs")
    if strangers(procs, os.getpid(), _text):
        return False
    try:
        os.makedirs(_leaf(directory), 0o755, exist_ok=True)
        for pid in procs.split():
            write(f"{_leaf(directory)}/cgroup.procs", pid)
    except OSError:
        return False
    return True


def step_back(directory: str) -> None:
    """Undoes what hand_down did in a directory where this process was alone; does nothing anywhere else."""
    if not os.path.isdir(_leaf(directory)):
        return
    try:
        file = f"{directory}/cgroup.subtree_control"
        for name in read(file).split():
            write(file, "-" + name)
        for pid in read(f"{_leaf(directory)}/cgroup.procs").split():
            write(f"{directory}/cgroup.procs", pid)
        os.rmdir(_leaf(directory))
    except OSError:
        pass  # others make use of it meanwhile: the leaf stays, with us in it


# --- an owner's own levels ----------------------------------------------------------------------------------------


def make_owner(
    group: limits.Cgroup, parent: str, facts: HostFacts, needed: frozenset[str] | None = None, *, alone: bool = False
) -> None:
    """Makes the cgroup ``parent`` of one owner in the hierarchy of ``group``, ready for its containers, or as that of its only
    one (``alone``: cgroup v2 has no processes where it hands down). ``needed``: the controllers without which it is of no use;
    None: those that something is written to. Raises OSError, Unsupported."""
    base = group.mount + group.base
    own = base + parent
    for attempt in range(16):
        try:
            os.makedirs(own, 0o755, exist_ok=True)
            break
        except FileNotFoundError:  # another owner has just removed the empty level between
            if attempt == 15:
                raise
    levels = (os.path.dirname(own), own)
    if group.version == 2:
        for level in (base, *levels[: 1 if alone else 2]):
            hand_down(level, group.controllers, _needed(group) if needed is None else needed)
        return
    _prepare_v1(group, levels, facts)


def _needed(group: limits.Cgroup) -> frozenset[str]:
    """The controllers of which something is asked, as opposed to those for the accounts alone."""
    prefixes = {file.partition(".")[0] for file, _ in group.writes}
    return frozenset(n for n in group.controllers if n in prefixes)


def _prepare_v1(group: limits.Cgroup, levels: tuple[str, ...], facts: HostFacts) -> None:
    """What a v1 controller demands of the levels above: a cpuset, and the real-time budget that the container gets."""
    if "cpuset" in group.controllers:
        for level in levels:
            for file, value in (("cpuset.cpus", facts.cpuset_cpus), ("cpuset.mems", facts.cpuset_mems)):
                if not read(f"{level}/{file}"):
                    write(f"{level}/{file}", value)
    asked = dict(group.writes).get(_RT_RUNTIME)
    if asked is not None and int(asked) > 0:
        for level in levels:
            had = int(read(f"{level}/{_RT_RUNTIME}"))
            write(f"{level}/{_RT_RUNTIME}", str(max(had, 0) + int(asked)))


# --- a path of the document's own ---------------------------------------------------------------------------------


class Claim:
    """The cgroups of one container whose document names their path: made as far as they were missing."""

    def __init__(self, groups: tuple[limits.Cgroup, ...]) -> None:
        self.groups = groups
        self.made: list[str] = []  # directories that were not there before, a parent before its child

    def release(self) -> None:
        """Kills what is left in them, and removes what was made; never a cgroup that was there before."""
        from .. import _native
        from .cgroups import Member, kill

        directories = [limits.path_of(g, "", "") for g in self.groups]
        old = [
            Member(controllers=g.controllers, version=g.version, directory=d)
            for g, d in zip(self.groups, directories, strict=True)
            if d not in self.made
        ]
        if old:
            kill(tuple(old))
        for directory in reversed(self.made):
            if directory in directories:
                _native.remove_cgroup(directory)
                continue
            try:
                os.rmdir(directory)
            except OSError:
                pass  # somebody else has a cgroup in it now
        self.made.clear()


def claim(resources: Resources, facts: HostFacts, cgroups_path: str, *, tolerated: int = 0) -> Claim:
    """Makes the cgroups that ``cgroups_path`` names, with all missing levels, for one start; then Claim.release.
    ``tolerated``: a process that may be in them (the holder of a systemd scope).

    Raises: InvalidArgument, Unsupported as limits.cgroups; Conflict when the cgroup holds processes or is frozen;
    SetupFailed when it cannot be made.
    """
    claimed = Claim(limits.cgroups(resources, facts, cgroups_path))
    try:
        for group in claimed.groups:
            try:
                _claim_one(group, claimed.made, facts, tolerated)
            except OSError as e:
                raise SetupFailed(
                    f"cannot make the cgroup {limits.path_of(group, '', '')}: {e.strerror} ({errno_name(e.errno or 0)}). "
                    "Give a linux.cgroupsPath below which this process may make cgroups",
                    step="cgroup", errno=e.errno or 0,
                ) from None  # fmt: skip
    except PycontainError:
        claimed.groups = tuple(g for g in claimed.groups if limits.path_of(g, "", "") in claimed.made)
        claimed.release()
        raise
    return claimed


def _claim_one(group: limits.Cgroup, made: list[str], facts: HostFacts, tolerated: int) -> None:
    leaf = limits.path_of(group, "", "")
    parts = group.path.strip("/").split("/")
    levels = [group.mount + "".join(f"/{p}" for p in parts[:n]) for n in range(1, len(parts) + 1)]
    parents = [group.mount, *levels[:-1]]
    for parent, level in zip(parents, levels, strict=True):
        # from the base on: above it nothing is ours to change, and all is handed down that there is
        if group.version == 2 and (parent + "/").startswith(f"{group.mount}{group.base}/"):
            hand_down(parent, group.controllers, _needed(group))
        try:
            os.mkdir(level, 0o755)
            made.append(level)
        except FileExistsError:
            if level == leaf:
                _refuse_used(group, leaf, tolerated)
    _refuse_frozen(group, leaf)
    if group.version == 1:
        fresh = tuple(level for level in levels[:-1] if level in made)
        _prepare_v1(group, fresh if "cpuset" in group.controllers else (), facts)


def _refuse_used(group: limits.Cgroup, directory: str, tolerated: int) -> None:
    """Raises Conflict for a cgroup that a new container may not be put into."""
    from .cgroups import Member, pids

    member = Member(controllers=group.controllers, version=group.version, directory=directory)
    inside = [p for p in pids((member,)) if p != tolerated or p == 0]
    if inside:
        some = ", ".join(str(p) for p in inside[:5])
        raise Conflict(
            f"the cgroup {directory} is in use: {len(inside)} processes are in it ({some}). "
            "Choose another linux.cgroupsPath, or end them"
        )
    if group.version == 2 and read(f"{directory}/cgroup.type") != "domain":
        raise Conflict(
            f"the cgroup {directory} is of the type {read(f'{directory}/cgroup.type')!r}: it takes threads, not containers"
        )


def _refuse_frozen(group: limits.Cgroup, directory: str) -> None:
    """Also a new one: it may lie below a frozen one."""
    from .cgroups import Member, is_frozen

    if is_frozen(Member(controllers=group.controllers, version=group.version, directory=directory)):
        raise Conflict(
            f"the cgroup {directory} is frozen: nothing would run in it. Thaw it, or choose another linux.cgroupsPath"
        )
