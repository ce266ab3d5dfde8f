"""linux.netDevices: devices of a network namespace that stands for the host's, moved into a container, and back when its start
fails. Each test's code is run in a process with a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

BEGINNING = '''
import json, os, subprocess, sys
sys.path[:0] = [{here!r}, {top!r}]
import pycontain
from bundles import bundle, ran, refused_bundle, user_namespace, holder
ROOT = {root!r}

def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

def links():
    return {{l["ifname"]: l for l in json.loads(ip("-j", "link"))}}

def addresses(name):
    return sorted(a["local"] + "/" + str(a["prefixlen"]) for l in json.loads(ip("-j", "addr", "show", name)) for a in l["addr_info"])

def moved(**devices):
    return {{f"linux.netDevices.{{k}}": ({{"name": v}} if v else {{}}) for k, v in devices.items()}}

LOOK = "ip -o link; ip -o addr"
ip("link", "add", "one", "type", "veth", "peer", "name", "other")
ip("link", "set", "one", "mtu", "1400", "up")
ip("link", "set", "other", "up")
ip("addr", "add", "10.7.0.1/24", "broadcast", "10.7.0.255", "dev", "one")
ip("addr", "add", "10.7.1.1", "peer", "10.7.1.2/32", "dev", "one")
ip("addr", "add", "10.7.2.1/24", "scope", "link", "dev", "one")
ip("addr", "add", "10.7.3.1/24", "valid_lft", "600", "preferred_lft", "600", "dev", "one")
ip("-6", "addr", "add", "fd00::1/64", "nodad", "dev", "one")
ALL = addresses("one")
KEPT = {{"10.7.0.1/24", "10.7.1.1 peer 10.7.1.2/32", "fd00::1/64"}}

def shown(text, name):
    """Addresses in the words of busybox's ip."""
    lines = [l.split() for l in text.splitlines() if f" {{name}} " in l and " inet" in l]
    return {{(l[3] if l[4] != "peer" else " ".join(l[3:6])): l for l in lines}}
'''


def apart(code: str, root: str) -> str:
    """What the code prints, run where the only devices are lo and a pair named one and other."""
    top = Path(__file__).parents[2]
    text = BEGINNING.format(here=str(Path(__file__).parent), top=str(top), root=root) + textwrap.dedent(code)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("users", ["{}", "user_namespace()"], ids=["root", "user namespace"])
@pytest.mark.parametrize(("name", "inside"), [("", "one"), ("eth0", "eth0"), ("net%d", "net0")])
def test_a_device_moves_with_what_is_its_own(name: str, inside: str, users: str, busybox_root: str) -> None:
    apart(
        f"""
        mac = links()["one"]["address"]
        text = ran(ROOT, LOOK, moved(one={name!r}) | {users})
        (line,) = [l for l in text.splitlines() if "mtu 1400" in l]
        assert " {inside}@" in line or " {inside}:" in line, text
        assert mac in line and "UP" in line.split("<")[1].split(">")[0].split(","), text
        found = shown(text, {inside!r})
        assert {{k for k in found if not k.startswith("fe80")}} == KEPT, text
        assert "10.7.0.255" in found["10.7.0.1/24"]
        """,
        busybox_root,
    )


def test_it_is_the_containers_alone_and_carries_its_packets(busybox_root: str) -> None:
    apart(
        """
        ip("addr", "add", "10.7.0.2/24", "dev", "other")
        with bundle(ROOT, "sleep 600", moved(one="eth0")) as image, pycontain.Container(image, stop_timeout=0.0) as c:
            assert "one" not in links() and "other" in links()
            ping = ["nsenter", f"--net=/proc/{c.pid}/ns/net", "--", "busybox", "ping", "-c", "1", "-w", "20", "10.7.0.2"]
            subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        """,
        busybox_root,
    )


def test_several_move_in_the_documents_order(busybox_root: str) -> None:
    apart(
        """
        ip("link", "add", "mac", "link", "other", "type", "macvlan")
        ip("link", "add", "two", "type", "veth", "peer", "name", "twin")
        text = ran(ROOT, LOOK, moved(one="a%d", two="a%d", mac="mac1"))
        for name in ("a0", "a1", "mac1"):
            assert f" {name}@" in text, text
        """,
        busybox_root,
    )


REFUSED: dict[str, tuple[str, str]] = {
    "missing": ("moved(none='')", "linux.netDevices.none: move it into the container: this host has no such network device (ENODEV)"),
    "name taken": ("moved(one='lo')", "the container's network namespace has a device lo already. Give it another name"),
    "cannot leave": ("moved(lo='lo1')", "this kind of device cannot leave its network namespace"),
    "the host's own": (
        "moved(one='x') | {'linux.namespaces[4]': {'type': 'network', 'path': '/proc/self/ns/net'}}",
        "the network namespace to join is the host's own (EBUSY)",
    ),
    "the second": ("moved(one='', none='')", "linux.netDevices.none"),
    "the second's name": ("moved(one='x', other='lo')", "linux.netDevices.other"),
    "the program": ("moved(one='x') | {'process.args': ['/no/such']}", "no such file in the image"),
    "a hook": ("moved(one='x') | {'hooks.createRuntime': [{'path': '/bin/false'}]}", "hooks.createRuntime[0]"),
    "a hook inside": ("moved(one='x') | {'hooks.startContainer': [{'path': '/bin/false'}]}", "hooks.startContainer[0]"),
    "a mount": (
        "moved(one='x') | {'linux.rootfsPropagation': 'shared', 'mounts[3]': {'destination': '/bin/sh/x', 'type': 'tmpfs'}}", "mount",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_start_that_fails_loses_none(what: str, busybox_root: str) -> None:
    """Back, or still there: with its name, its addresses, up, and on its bridge."""
    changes, words = REFUSED[what]
    apart(
        f"""
        ip("link", "add", "bridge", "type", "bridge")
        ip("link", "set", "one", "master", "bridge")
        before = links()["one"]
        said = refused_bundle(ROOT, {changes})
        assert {words!r} in said, said
        after = links()["one"]
        for key in ("mtu", "address", "master", "txqlen"):
            assert after[key] == before[key], (key, after)
        assert "UP" in after["flags"]
        kept = [a for a in addresses("one") if not a.startswith("fe80")]
        assert set(kept) >= {{"10.7.0.1/24", "10.7.1.1/32", "fd00::1/64"}}, kept
        """,
        busybox_root,
    )


def test_its_name_was_taken_meanwhile(busybox_root: str) -> None:
    """The device comes back as dev0."""
    apart(
        """
        hook = {"path": "/bin/sh", "args": ["sh", "-c", "ip link add one type ifb; exit 1"], "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]}
        refused_bundle(ROOT, moved(one="x") | {"hooks.createRuntime": [hook]})
        assert links()["dev0"]["mtu"] == 1400, links()
        """,
        busybox_root,
    )


def test_into_a_namespace_that_is_joined(busybox_root: str) -> None:
    apart(
        """
        with holder("--net") as pid:
            join = {"linux.namespaces[4]": {"type": "network", "path": f"/proc/{pid}/ns/net"}}
            assert " eth0@" in ran(ROOT, "ip -o link", moved(one="eth0") | join)
            ip("link", "add", "one", "type", "ifb")
            assert "has a device eth0 already" in refused_bundle(ROOT, moved(one="eth0") | join)
            there = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "link"], capture_output=True, text=True).stdout
            assert " eth0@" in there and "one" in links()
        """,
        busybox_root,
    )


def test_hooks_see_it_there(busybox_root: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    hook: dict[str, Any] = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"ip -o link >>{log}"],
        "env": ["PATH=/bin:/usr/bin:/sbin"],
    }
    apart(f'ran(ROOT, "true", moved(one="eth0") | {{"hooks.createContainer": [{hook!r}]}})', busybox_root)
    assert " eth0@" in log.read_text()
