"""That the comparison finds what it is there to find: a runtime with one field changed behind the case's back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import bundles
from .bundles import Bundle
from .comparison import Case, Comparison
from .known import crun
from .runtimes import Crun

pytestmark = pytest.mark.kernel


class _Bent(Crun):
    """crun, which gets another document than the case's."""

    changes: dict[str, Any]

    def command(self, bundle: Bundle) -> list[str]:
        file = bundle.directory / "config.json"
        document = json.loads(file.read_text())
        for path, value in self.changes.items():
            bundles.change(document, path, value)
        file.write_text(json.dumps(document))
        return super().command(bundle)


@pytest.fixture
def bent(oci: Comparison, tmp_path: Path) -> Iterator[Comparison]:
    other = _Bent(tmp_path)
    yield Comparison(oci.directory, oci.probe, oci.busybox, {"runc": oci.runtimes["runc"], "crun": other})


_DEVICE = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3}
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "umask": ({"process.user.umask": 0o077}, "status Umask: runc '0022', crun '0077'"),
    "capability": (
        {"process.capabilities.bounding": ["CAP_KILL"]},
        "status CapBnd: runc '0000000020000420', crun '0000000000000020'",
    ),
    "option": (
        {"mounts[/dev/shm].options": ["nosuid", "noexec"]},
        "mount /dev/shm options: runc 'rw,nosuid,nodev,noexec,relatime'",
    ),
    "mount": ({"mounts[/dev/mqueue]": bundles.DELETE}, "mount /dev/mqueue: runc 'mqueue /', crun '(absent)'"),
    "mask": ({"linux.maskedPaths": []}, "mount /sys/firmware: runc 'tmpfs /', crun '(absent)'"),
    "limit": ({"process.rlimits": []}, "limit Max open files: runc '1024 1024'"),
    "environment": ({"process.env": ["PATH=/bin", "TERM=dumb"]}, "env TERM: runc 'xterm', crun 'dumb'"),
    "namespace": ({"linux.namespaces[+]": {"type": "cgroup"}}, "ns cgroup: runc 'host', crun 'new'"),
    "device": (
        {"linux.devices": [_DEVICE]},
        "dev x: runc '(absent)', crun 'c0666 0:0 1:3'",
    ),
    "program": ({"process.args": ["/bin/true"]}, "started: runc 'yes', crun 'no'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_field_is_found(bent: Comparison, name: str) -> None:
    changes, text = CHANGES[name]
    runtime = bent.runtimes["crun"]
    assert isinstance(runtime, _Bent)
    runtime.changes = changes
    with pytest.raises(pytest.fail.Exception) as failed:
        bent.peers(Case("bent"))
    assert text in str(failed.value)


def test_what_is_known_must_be_seen(oci: Comparison) -> None:
    with pytest.raises(pytest.fail.Exception, match="known, but not seen"):
        oci.peers(Case("not-seen", known=(crun("status Umask", "never"),)))


def test_what_is_expected_must_be_there(oci: Comparison) -> None:
    with pytest.raises(pytest.fail.Exception, match="status Umask: crun '0022', expected '0077'"):
        oci.peers(Case("not-there", expect={"status Umask": "0077"}))
