"""Cases, and the comparison of what two runtimes made of one."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from . import bundles, findings
from .bundles import Bundle
from .known import EVERYWHERE, OURS_DIFFER, Known
from .runtimes import Runtime, hierarchies

__all__ = ["Case", "Comparison", "Fields", "with_known"]

Fields = dict[str, str]
ABSENT = "(absent)"
SAID = "said"  # of a run that did not start: for the reader, never compared


@dataclass(frozen=True)
class Case:
    """One feature of the specification in one document.

    ``changes``: of the base document, by path. ``asks``: what the probe shall do besides (probe.c, `answers`); each is a
    field. ``expect``: what the specification wants to be read back, whoever ran it. ``cgroup``: files of the
    container's cgroups, "memory/memory.limit_in_bytes". ``reads``: files of the bundle, after the run. ``surroundings``:
    what the runtime itself is started with: called in its process before it is executed. ``known``: where a peer differs from it, and why.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    expect: Fields = field(default_factory=dict)
    cgroup: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    prepare: Callable[[Bundle], None] | None = None
    known: tuple[Known, ...] = ()
    surroundings: Callable[[], object] | None = None

    def excused(self, runtime: str, name: str) -> bool:
        return any(k.covers(runtime, name) for k in (*self.known, *EVERYWHERE))


def with_known(cases: tuple[Case, ...], table: dict[str, tuple[Known, ...]]) -> tuple[Case, ...]:
    """The cases, each with what is known of the peers about it."""
    names = [case.name for case in cases]
    assert len(set(names)) == len(names) and table.keys() <= set(names), "a name twice, or of no case"
    return tuple(replace(case, known=table.get(case.name, ())) for case in cases)


def _differences(left: Fields, right: Fields) -> list[str]:
    if left["started"] != right["started"]:
        return ["started"]  # the one has nothing else to compare
    names = sorted((left.keys() | right.keys()) - {SAID})
    return [name for name in names if left.get(name) != right.get(name)]


@dataclass
class Comparison:
    """Runs cases by name, each once for each runtime. ``directory``: where the bundles are made."""

    directory: Path
    probe: Path
    busybox: str
    runtimes: dict[str, Runtime]
    versions: list[str] = field(default_factory=list)  # of peers that are not those of `known.py`
    _found: dict[tuple[str, str], Fields] = field(default_factory=dict)
    _names: dict[str, Case] = field(default_factory=dict)
    _count: int = 0

    def bundle(self, case: Case) -> Bundle:
        self._count += 1
        made = bundles.make(self.directory / f"pct-oci-{os.getpid()}-{self._count}", self.probe, self.busybox)
        if case.asks:
            made.document["process"]["args"] += list(case.asks)
        for path, value in case.changes.items():
            bundles.change(made.document, path, value)
        return made

    def fields(self, runtime: str, case: Case) -> Fields:
        """What ``runtime`` makes of the case."""
        assert self._names.setdefault(case.name, case) is case, f"two cases are called {case.name}"
        key = (runtime, case.name)
        if key not in self._found:
            bundle = self.bundle(case)
            try:
                self._found[key] = self._run(self.runtimes[runtime], bundle, case)
            finally:
                bundles.remove(bundle)
        return self._found[key]

    def _run(self, runtime: Runtime, bundle: Bundle, case: Case) -> Fields:
        if case.prepare:
            case.prepare(bundle)
        bundle.write()

        def look(pid: int, runtime_pid: int) -> Fields:
            found = {f"host {name}": link for name, link in findings.namespaces_of(runtime_pid).items()}
            return found | {f"cgroup {name}": _cgroup_file(pid, name) for name in case.cgroup}

        finished = runtime.run(bundle, look, case.surroundings)
        known = {bundle.words[word]: word for word in bundle.words if word.startswith("ns ")}
        fields = findings.read(finished, bundle, known)
        return fields | {f"file {name}": (bundle.directory / name).read_text() for name in case.reads}

    def peers(self, case: Case) -> None:
        """runc and crun agree with each other and with what is expected, but for what is known."""
        runc, crun = self.fields("runc", case), self.fields("crun", case)
        wrong = []
        for name in _differences(runc, crun):
            if not (case.excused("runc", name) or case.excused("crun", name)):
                wrong.append(f"{name}: runc {runc.get(name, ABSENT)!r}, crun {crun.get(name, ABSENT)!r}")
        for peer, found in (("runc", runc), ("crun", crun)):
            wrong += _unexpected(case, peer, found)
        wrong += [
            f"{k}: known, but not seen" for k in case.known if not k.sometimes and not self._seen(case, k, runc, crun)
        ]
        if wrong:
            _fail(f"{case.name}: runc and crun", wrong + _said(runc) + _said(crun) + self.versions)

    @staticmethod
    def _seen(case: Case, known: Known, runc: Fields, crun: Fields) -> bool:
        found = runc if known.runtime == "runc" else crun
        wanted = {"started": "yes", **case.expect}
        named = {*_differences(runc, crun), *(n for n, value in wanted.items() if found.get(n, ABSENT) != value)}
        return any(known.covers(known.runtime, name) for name in named)

    def ours(self, case: Case) -> None:
        """pycontain has what runc has; crun's where runc is known to lack it; where no peer runs, what is expected."""
        peers = {peer: self.fields(peer, case) for peer in ("runc", "crun")}
        ran = {peer: found for peer, found in peers.items() if found["started"] == "yes"}
        ours = self.fields("pycontain", case)
        wrong = _unexpected(case, "pycontain", ours, may_differ=True)
        names = {*ours, *(name for found in ran.values() for name in found)} - {*case.expect, "started", SAID}
        for name in sorted(names) if ran and ours["started"] == "yes" else ():
            good = [peer for peer in ran if not case.excused(peer, name)]
            if _may_differ(case, name):
                continue
            if not good and all(any(k.covers(peer, name) for k in EVERYWHERE) for peer in ran):
                continue  # the one peer that runs this document is never compared in this field
            if not good:
                wrong.append(f"{name}: no peer has it, and the case does not say what to expect")
            elif ours.get(name) != ran[good[0]].get(name):
                theirs = ran[good[0]].get(name, ABSENT)
                wrong.append(f"{name}: pycontain {ours.get(name, ABSENT)!r}, {good[0]} {theirs!r}")
        if wrong:
            _fail(f"{case.name}: pycontain", wrong + _said(ours))


def _fail(what: str, lines: list[str]) -> None:
    pytest.fail("\n  ".join([what, *lines]), pytrace=False)


def _may_differ(case: Case, name: str) -> bool:
    return any(fnmatch.fnmatchcase(case.name, c) and fnmatch.fnmatchcase(name, f) for c, f in OURS_DIFFER)


def _unexpected(case: Case, runtime: str, found: Fields, *, may_differ: bool = False) -> list[str]:
    wanted = {"started": "yes", **case.expect}
    if may_differ:  # where we differ on purpose, we refuse what the peers start
        wanted = {k: v for k, v in wanted.items() if k == "started" or not _may_differ(case, k)}
        if _may_differ(case, "started"):
            wanted = {"started": "no"}
    if found["started"] != wanted["started"]:  # and so it has no other field
        wanted = {"started": wanted["started"]}
    return [
        f"{name}: {runtime} {found.get(name, ABSENT)!r}, expected {value!r}"
        for name, value in wanted.items()
        if found.get(name, ABSENT) != value and not case.excused(runtime, name)
    ]


def _said(found: Fields) -> list[str]:
    return [f"it said: {found[SAID]}"] if SAID in found else []


def _cgroup_file(pid: int, name: str) -> str:
    """The content of "controller/file" in the cgroup of the process, on whichever hierarchy the controller is."""
    controller, _, file = name.partition("/")
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
        paths = {
            word: path for _, words, path in (line.rstrip().split(":", 2) for line in f) for word in words.split(",")
        }
    mounted = hierarchies()
    where = controller if controller in mounted else ""
    try:
        text = Path(f"{mounted[where]}{paths[where]}/{file}").read_text().strip()
        return "\n".join(sorted(text.splitlines())) if file == "devices.list" else text  # a set: in the order of making
    except OSError as e:
        return errno.errorcode[e.errno or 0]
