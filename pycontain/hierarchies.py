"""Where the cgroup controllers live, and where below them this process may make cgroups. Pure but for two questions.

On an ordinary host, as root, that is the top of every hierarchy. Nested in a container, or as an ordinary user, it is the
first directory on the way from the top to our own cgroup that can be written and, in cgroup v2, from which controllers
can be handed down: the very top, or a cgroup without processes ("no internal processes" rule). A systemd user session
leads to user@UID.service, a privileged container to its namespace's root.
Kernel: Documentation/admin-guide/cgroup-v2.rst, "Delegation", "No Internal Process Constraint".
"""

from __future__ import annotations

from .record import factory, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Controller", "Survey", "cgroup_controllers", "cgroup_directories", "strangers", "survey"]

# Controllers by their cgroup v1 names; what v2 calls differently keeps v2's name (io).
V1_CONTROLLERS = frozenset(
    (
        "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "rdma", "misc", "net_cls",
        "net_prio", "perf_event",
    )
)  # fmt: skip


@record
class Controller:
    """Where one cgroup controller lives: hierarchy version 1 or 2, the directory where it is mounted, and ``base``, the
    path below it where we may make cgroups. ``obstacle``: why it cannot be used all the same."""

    version: int
    mount: str
    base: str = ""
    obstacle: str = ""


@record
class Survey:
    """``controllers``: by v1 name, and ``io``. ``unified``: the cgroup v2 mount, or "". ``base``: the path below it where
    we may make cgroups; ``obstacle``: why we may not. ``own``: our own cgroup of v2, below its mount. ``options``: of v2's
    file system, for all of its mounts."""

    controllers: dict[str, Controller] = factory(default_factory=dict)
    unified: str = ""
    base: str = ""
    obstacle: str = ""
    own: str = ""
    options: str = ""


@record
class _Mount:
    version: int
    root: str  # which cgroup of the hierarchy is seen at ``point``
    point: str
    names: tuple[str, ...]
    read_only: bool
    options: str


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """One for each hierarchy, in the order of mountinfo."""
    seen: set[tuple[str, ...]] = set()
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if not right.startswith("cgroup"):
            continue
        fields, tail = left.split(" "), right.split(" ")
        if fields[3].startswith("/.."):
            continue  # mounted from another cgroup namespace: not ours to use
        if tail[0] == "cgroup2":
            names: tuple[str, ...] = ()
        elif tail[0] == "cgroup":
            names = tuple(n for n in tail[2].split(",") if n in V1_CONTROLLERS)
            if not names:
                continue  # a named hierarchy (systemd's)
        else:
            continue
        if names not in seen:
            seen.add(names)
            yield _Mount(
                version=1 if names else 2, root=_unescaped(fields[3]), point=_unescaped(fields[4]), names=names,
                read_only="ro" in fields[5].split(",") or "ro" in tail[2].split(","),
                options=",".join(n for n in tail[2].split(",") if n not in ("rw", "ro", "seclabel")),
            )  # fmt: skip


def cgroup_controllers(mountinfo: str, read: Callable[[str], str]) -> tuple[dict[str, Controller], str]:
    """Each controller where it lives, from the text of /proc/self/mountinfo: ({name: Controller}, cgroup v2 mount).

    A controller can be in v1 or in v2, never in both; hybrid hosts have some in each.
    """
    found: dict[str, Controller] = {}
    unified = ""
    for m in _mounts(mountinfo):
        names = m.names
        if m.version == 2:
            unified = m.point
            names = tuple(read(f"{unified}/cgroup.controllers").split())
        for name in names:
            found.setdefault(name, Controller(version=m.version, mount=m.point))
    return found, unified


def _own_paths(proc_cgroup: str) -> dict[str, str]:
    """Controller ("" is v2) -> the path of our own cgroup, from the text of /proc/self/cgroup."""
    found = {}
    for line in proc_cgroup.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            found[name] = path
    return found


def cgroup_directories(mountinfo: str, proc_cgroup: str) -> dict[tuple[str, ...], tuple[int, str, str]]:
    """Where a process is, from the text of its /proc/PID/cgroup: by controllers (() is v2's), 1 or 2, the path, the directory.
    Hierarchies in which its cgroup cannot be seen from here are left out."""
    own = _own_paths(proc_cgroup)
    found: dict[tuple[str, ...], tuple[int, str, str]] = {}
    for m in _mounts(mountinfo):
        path = own.get(m.names[0] if m.names else "")
        if path is not None and not path.startswith("/.."):
            found[m.names] = m.version, path, m.point + _levels(m.root, path)[-1]
    return found


def _levels(root: str, own: str) -> list[str]:
    """Paths below the mount from its top down to our own cgroup; only the top when ours is not to be seen there."""
    if root != "/":
        inside = own == root or own.startswith(root + "/")
        own = own[len(root) :] if inside else ""
    parts = [p for p in own.split("/") if p]
    if ".." in parts:
        parts = []
    return ["", *("/" + "/".join(parts[: i + 1]) for i in range(len(parts)))]


def survey(
    mountinfo: str, proc_cgroup: str, *, read: Callable[[str], str], writable: Callable[[str], bool], pid: int
) -> Survey:
    """All of it for this process. ``read`` gives the text of a file, "" when it cannot; ``pid`` is our own.

    A cgroup in which only we and our children are counts as free: what makes cgroups steps aside into a leaf first.
    """
    own = _own_paths(proc_cgroup)
    found: dict[str, Controller] = {}
    unified, base, obstacle, own_v2, options = "", "", "", "", ""
    for m in _mounts(mountinfo):
        levels = _levels(m.root, own.get(m.names[0] if m.names else "", ""))
        if m.version == 2:
            unified, own_v2, options = m.point, levels[-1], m.options
            base, obstacle, controllers = _unified(m, levels, read, writable, pid)
            for name, c in controllers.items():
                found.setdefault(name, c)
            continue
        place = next((level for level in levels if not m.read_only and writable(m.point + level)), None)
        blocked = "" if place is not None else _blocked(m, levels[-1])
        for name in m.names:
            found.setdefault(name, Controller(version=1, mount=m.point, base=place or "", obstacle=blocked))
    return Survey(
        controllers=found, unified=unified, base=base, obstacle=obstacle, own=own_v2, options=options
    )  # fmt: skip


def strangers(procs: str, pid: int, read: Callable[[str], str]) -> list[str]:
    """Of the processes that a cgroup.procs lists those that are neither ``pid`` nor its children (its guardian is one); all
    of them when ``pid`` is not in it itself."""
    listed = procs.split()
    if str(pid) not in listed:
        return listed
    return [p for p in listed if p != str(pid) and f"\nPPid:\t{pid}\n" not in read(f"/proc/{p}/status")]


def _blocked(m: _Mount, own: str) -> str:
    if m.read_only:
        return f"{m.point} is mounted read-only"
    return f"this user may write to no cgroup between {m.point} and {m.point}{own}"


def _unified(
    m: _Mount, levels: list[str], read: Callable[[str], str], writable: Callable[[str], bool], pid: int
) -> tuple[str, str, dict[str, Controller]]:
    """(base, why there is none, controllers) of cgroup v2."""
    all_names = read(f"{m.point}/cgroup.controllers").split()
    busy: str | None = None
    for level in levels:
        directory = m.point + level
        if m.read_only or not all(writable(directory + f) for f in ("", "/cgroup.procs", "/cgroup.subtree_control")):
            continue
        inner = bool(read(f"{directory}/cgroup.type"))  # all have it but the very top, which may hold processes
        if inner and strangers(read(f"{directory}/cgroup.procs"), pid, read):
            busy = level if busy is None else busy
            continue
        given = read(f"{directory}/cgroup.controllers").split()
        missing = f"it is not delegated to {directory} (systemd: Delegate=yes)"
        return level, "", {
            n: Controller(version=2, mount=m.point, base=level, obstacle="" if n in given else missing)
            for n in dict.fromkeys((*given, *all_names))
        }  # fmt: skip
    why = (
        f"processes other than this one are in {m.point}{busy} itself, so its controllers cannot be handed down; move "
        "them into a cgroup below it"
        if busy is not None
        else _blocked(m, levels[-1])
    )
    # a busy one still takes cgroups without controllers: to count CPU time, to freeze and kill, for device rules
    return busy or "", "" if busy is not None else why, {
        n: Controller(version=2, mount=m.point, base=busy or "", obstacle=why) for n in all_names
    }  # fmt: skip
