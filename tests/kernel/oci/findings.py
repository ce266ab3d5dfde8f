"""What the probe printed, as a flat dict of field and value, without what differs from run to run by nature.

Left out or replaced, and nothing else:
- mount ids, device numbers and inode numbers: new with each mount and namespace. A namespace is "host" (that of the
  runtime), "new", or the word under which the case knows it;
- the names of this run (its id, its directory), by @id@ and @bundle@;
- pids: only their relations are compared (PID 1, session leader, ...);
- clocks, by their distance from the host's in whole tens of seconds.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter

from .bundles import Bundle
from .runtimes import Finished

__all__ = ["NAMESPACES", "namespaces_of", "read"]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_STATUS = (
    *(
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
    ),
    *("CapAmb", "SigBlk", "SigIgn", "Cpus_allowed_list", "Mems_allowed_list", "TracerPid", "Speculation_Store_Bypass"),
)
_PROPAGATION = ("shared", "master", "propagate_from", "unbindable")


def namespaces_of(pid: int) -> dict[str, str]:
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


def _ignored() -> int:
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1], 16) for line in f if line.startswith("SigIgn:")) & ~_PYTHONS


_PYTHONS = 1 << 12 | 1 << 24  # SIGPIPE and SIGXFSZ, which the interpreter ignores by itself and gives back to children
_IGNORED = _ignored()


def _status(text: str) -> dict[str, str]:
    lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    fields = {f"status {name}": " ".join(lines[name].split()) for name in _STATUS if name in lines}
    if "SigIgn" in lines:  # not what these tests were themselves started with: a runtime may hand it down, or not
        fields["status SigIgn"] = f"{int(lines['SigIgn'], 16) & ~_IGNORED:016x}"
    return fields


def _mounts(text: str) -> dict[str, str]:
    """Four fields for each mount point; a second mount on the same one is called "#2", in the kernel's order."""
    found: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        if not after:
            return {"mountinfo": text}  # without procfs: the error
        _, _, _, root, point, options, *tags = before.split(" ")
        fstype, source, superblock = after.split(" ", 2)
        seen[point] += 1
        name = f"mount {point}" + (f"#{seen[point]}" if seen[point] > 1 else "")
        # peer groups are numbered as they come; only their kind can be compared
        kinds = [tag.partition(":")[0] for tag in tags if tag.startswith(_PROPAGATION)]
        found[name] = f"{fstype} {root}"
        found[f"{name} source"] = source
        found[f"{name} options"] = options
        found[f"{name} super"] = superblock
        found[f"{name} propagation"] = "+".join(kinds) or "private"
        if "idmapped" in tags:
            found[f"{name} idmapped"] = "yes"
    return found


def _limits(text: str) -> dict[str, str]:
    rows = (re.match(r"(Max .*?)\s{2,}(\S+)\s+(\S+)", line) for line in text.splitlines())
    return {f"limit {row[1]}": f"{row[2]} {row[3]}" for row in rows if row}


def _named(prefix: str, text: str) -> dict[str, str]:
    """Lines of a name and a value."""
    return {f"{prefix} {name}": value for name, _, value in (line.partition(" ") for line in text.splitlines())}


def _fds(text: str) -> dict[str, str]:
    return {name: re.sub(r":\[\d+\]", "", value).strip() for name, value in _named("fd", text).items()}


def _cgroups(text: str) -> dict[str, str]:
    lines = (line.split(":", 2) for line in text.splitlines() if ":" in line)
    return {f"cgroup of {names or 'v2'}": path for _, names, path in lines}


def _environment(text: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in text.splitlines()]
    found = {f"env {name}": value for name, _, value in pairs}
    return {**found, "env twice": " ".join(n for n, count in Counter(p[0] for p in pairs).items() if count > 1)}


def _clock(seconds: str, clock: int) -> str:
    return str(round((int(seconds) - time.clock_gettime(clock)) / 10) * 10)


def _namespaces(said: dict[str, str], finished: Finished, known: dict[str, str]) -> dict[str, str]:
    found = {}
    for name in NAMESPACES:
        link = said.pop(f"ns.{name}")
        word = known.get(link, "new")
        found[f"ns {name}"] = "host" if link == finished.outside.get(f"host {name}") else word
    return found


def _flat(said: dict[str, str], finished: Finished, known: dict[str, str]) -> dict[str, str]:
    """``known``: words for namespaces that the case made."""
    fields = _namespaces(said, finished, known)
    fields |= _status(said.pop("proc.status")) | _mounts(said.pop("proc.mountinfo")) | _limits(said.pop("proc.limits"))
    fields |= _fds(said.pop("fds")) | _named("dev", said.pop("dev")) | _cgroups(said.pop("proc.cgroup"))
    fields |= _environment(said.pop("environ"))
    fields["clock boottime"] = _clock(said.pop("clock.boottime"), time.CLOCK_BOOTTIME)
    fields["clock monotonic"] = _clock(said.pop("clock.monotonic"), time.CLOCK_MONOTONIC)
    fields["pid is 1"] = str(said.pop("pid") == "1")
    said.pop("proc.autogroup")  # numbered by session
    fields |= {name: " ".join(value.split(" ")).strip() for name, value in said.items()}
    return fields


def read(finished: Finished, bundle: Bundle, known: dict[str, str]) -> dict[str, str]:
    """The fields. A run whose program did not start has only "started" and "said"."""
    if finished.stdout.startswith(b"{"):
        fields = {"started": "yes", "exit code": str(finished.exit_code)}
        fields |= _flat(json.loads(finished.stdout), finished, known)
        fields |= {n: v for n, v in finished.outside.items() if not n.startswith("host ")}
    else:
        said = (finished.stdout.decode(errors="replace") + finished.stderr).strip()[-500:]
        fields = {"started": "no", "said": f"exit code {finished.exit_code}: {said}"}
    places = {str(bundle.directory): "@bundle@", f"/{bundle.id}": "/@id@", bundle.id: "@id@"}
    for name, value in fields.items():
        for old, new in places.items():
            value = value.replace(old, new)
        fields[name] = value
    return fields
