"""`hooks`: their order, what they get on stdin, and where they run, as seen in a file that they write."""

from __future__ import annotations

from typing import Any

import pytest

from .bundles import Bundle
from .comparison import Case, Comparison, with_known
from .known import Known, crun
from .runtimes import OURS

pytestmark = pytest.mark.kernel

_NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def _hook(name: str, script: str = "") -> dict[str, Any]:
    """Writes a line: its name, the status that it was told, whether it is where the root is, its environment."""
    log = "/log/log" if name == "startContainer" else "@bundle@/src/log/log"
    shell = "/bin/sh"
    told = r"""sed -n 's/.*"status": *"\([a-z]*\)".*/\1/p'""" if name != "startContainer" else "true"
    script = script.replace("LOG", log)
    line = f'told=$({told}); test -e /probe && inside=inside || inside=outside; {script} echo "{name} $told $inside $MARK" >> {log}'
    return {"path": shell, "args": ["sh", "-c", line], "env": [f"MARK={name}", "PATH=/usr/bin:/bin"]}


def _log(bundle: Bundle) -> None:
    bundle.source("log")
    bundle.source("log/log", "")


def _open_log(bundle: Bundle) -> None:
    _log(bundle)
    (bundle.directory / "src/log/log").chmod(0o666)


def _hooks(*names: str, **scripts: str) -> dict[str, Any]:
    """With /log of the container bound to the file's directory."""
    bound = {"destination": "/log", "type": "bind", "source": "@bundle@/src/log", "options": ["bind"]}
    return {"mounts[+]": bound, **{f"hooks.{name}": [_hook(name, scripts.get(name, ""))] for name in names}}


_READS = ("src/log/log",)
_FAILED = {"started": "no"}


def _told(name: str) -> dict[str, str]:
    """The status that each hook is told in the specification; one inside is not asked."""
    status = {"poststart": "running", "poststop": "stopped", "startContainer": ""}.get(name, "creating")
    where = "inside" if name == "startContainer" else "outside"
    return {"file src/log/log": f"{name} {status} {where} {name}\n"}


def _fails(name: str) -> Case:
    return Case(
        f"{name}-fails", _hooks(name, "poststop", **{name: "exit 3;"}), prepare=_log, reads=_READS, expect=_FAILED
    )


HOOKS = (
    # without poststart: it runs beside the program, sooner or later than startContainer
    Case("order", _hooks(*_NAMES[:4], "poststop"), prepare=_log, reads=_READS),
    *(Case(name, _hooks(name), prepare=_log, reads=_READS, expect=_told(name)) for name in _NAMES),
    *(_fails(name) for name in _NAMES[:4]),
    Case(
        "two",
        {**_hooks(), "hooks.createRuntime": [_hook("createRuntime"), _hook("createRuntime")]},
        prepare=_log,
        reads=_READS,
    ),
    *(
        Case(
            f"{name}-as",
            _hooks(
                name, **{name: "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status >>LOG; pwd | sed s:/.*/::  >>LOG;"}
            ),
            prepare=_log,
            reads=_READS,
        )
        for name in ("createContainer", "startContainer")
    ),
    *(
        Case(
            f"{name}-user",
            {
                **_hooks(name, **{name: "id -u >>LOG;"}),
                "process.user": {"uid": 1000, "gid": 1000},
                "process.noNewPrivileges": True,
            },
            prepare=_open_log,
            reads=_READS,
        )
        for name in ("createContainer", "startContainer")
    ),
    Case("missing", {"hooks.createRuntime": [{"path": "/no/such"}]}, expect=_FAILED),
    Case("missing-createContainer", {"hooks.createContainer": [{"path": "/no/such"}]}, expect=_FAILED),
    Case("missing-startContainer", {"hooks.startContainer": [{"path": "/no/such"}]}, expect=_FAILED),
    Case("relative", {"hooks.createRuntime": [{"path": "bin/sh"}]}, expect=_FAILED),
    Case(
        "timeout",
        {"hooks.createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "20"], "timeout": 1}]},
        expect=_FAILED,
    ),
)

_CREATED = (crun("file src/log/log", "calls the status created before it is"),)
_NO_POSTSTOP = (crun("file src/log/log", "does not run poststop after a hook has failed"),)

KNOWN: dict[str, tuple[Known, ...]] = {
    "order": _CREATED,
    "prestart": _CREATED,
    "createRuntime": _CREATED,
    "createContainer": _CREATED,
    "createContainer-as": _CREATED,  # and calls them in the bundle's directory, not in the root
    "createContainer-user": _CREATED,
    "two": _CREATED,
    "poststart": (Known("runc", "file src/log/log", "tells created, in a race with the program", sometimes=True),),
    "prestart-fails": _NO_POSTSTOP,
    "createRuntime-fails": _NO_POSTSTOP,
    "createContainer-fails": _NO_POSTSTOP,
}

CASES = with_known(HOOKS, KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
