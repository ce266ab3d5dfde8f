"""The commands of volumes, their other forms (subpaths, directories of the host), and their Python API."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from staying import PYCONTAIN, command
from volume_images import base, names, output

import pycontain
from pycontain.engine import containers, volumes
from pycontain.errors import ContainerNotFound
from pycontain.runtime import session
from pycontain.runtime.roots import Roots, default_roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


def test_a_subpath_is_a_directory_of_the_volume() -> None:
    base()
    output("-v", "vol:/data", "base:1", "/bin/mkdir", "-p", "/data/a/b")
    form = "type=volume,src=vol,dst=/mnt,volume-subpath="
    output("--mount", f"{form}a", "base:1", "/bin/touch", "/mnt/b/x")
    assert output("--mount", f"{form}a/b,readonly", "base:1", "/bin/ls", "/mnt") == "x\n"
    wrong = command("run", "--mount", f"{form}nosuch", "base:1", "/bin/true", code=125).stderr
    assert "/_data/nosuch on /mnt: No such file or directory (ENOENT)" in wrong and wrong.count("\n") == 1
    assert "it is no directory" in command("run", "--mount", f"{form}kept", "base:1", "/bin/true", code=125).stderr


def test_a_volume_that_is_a_directory_of_the_host(tmp_path: Path) -> None:
    base()
    (tmp_path / "file").write_text("of the host\n")
    command("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "dev")
    assert output("-v", "dev:/data", "base:1", "/bin/ls", "/data") == "file\n"
    output("-v", "dev:/data", "base:1", "/bin/touch", "/data/x")
    assert command("volume", "prune", "-af").stdout == "Total reclaimed space: 0B\n"  # as Docker: not one with options
    command("volume", "rm", "dev")
    assert sorted(os.listdir(tmp_path)) == ["file", "x"]


def test_the_python_api(roots: Roots) -> None:
    base()
    made = volumes.create_volume(roots, "vol", labels={"tier": "db"})
    assert (
        volumes.create_volume(default_roots(), "vol", labels={"other": "x"}) == made
    )  # one that is there stays as it is
    mounts = [pycontain.volume("vol", "/data", copy=False), pycontain.volume(None, "/anon")]
    r = pycontain.run("base:1", ["/bin/ls", "/data", "/anon"], mounts=mounts, text=True)
    assert r.stdout == "/anon:\n\n/data:\n" and [each.name for each in volumes.list_volumes(roots)] == ["vol"]
    mounts = [pycontain.volume("vol", "/data", read_only=True)]
    assert pycontain.run("base:1", ["/bin/touch", "/data/x"], mounts=mounts).exit_code == 1
    made_id = containers.create(pycontain.options.request("base:1", ["/bin/true"], {"mounts": ["vol:/data"]}), roots)
    with pytest.raises(ContainerNotFound):
        containers.remove(roots, "nosuch", volumes=True)
    containers.remove(roots, made_id, volumes=True)
    session.close_all()
    assert volumes.prune_volumes(roots) == ([], 0)
    assert volumes.prune_volumes(roots, all=True) == (["vol"], sum(map(len, ("kept\n", "inner\n", "/etc/passwd"))))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("volume", "create", "x"), "create x: volume name is too short"),
        (("volume", "create", "../x"), "includes invalid characters for a local volume name"),
        (
            ("volume", "create", "-d", "nfs", "vol"),
            "create vol: there is no volume driver 'nfs' here: write --driver local",
        ),
        (("volume", "create", "-o", "type=nfs", "vol"), "volumes of type 'nfs' are not supported"),
        (("volume", "create", "-o", "type=tmpfs", "vol"), "write --tmpfs TARGET"),
        (("volume", "create", "-o", "size=5", "vol"), "invalid option: 'size'"),
        (("volume", "create", "-o", "o=bind", "vol"), "missing device in volume options"),
        (("volume", "create", "-o", "o=sync", "-o", "device=/x", "vol"), "o=sync cannot be a volume"),
        (("volume", "inspect", "nosuch"), "Error: No such volume: nosuch"),
        (("volume", "inspect", "../containers"), "Error: No such volume: ../containers"),
        (("volume", "rm", "../containers"), "get ../containers: no such volume"),
        (("volume", "ls", "-f", "size=5"), "invalid filter 'size'"),
        (("volume", "ls", "-f", "name=["), "invalid filter 'name=['"),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], wrong: str) -> None:
    done = command(*words, code=1)
    assert wrong in done.stderr and done.stderr.count("\n") == 1
    assert names() == []


def test_lists_and_documents(roots: Roots) -> None:
    assert command("volume", "ls").stdout == "DRIVER    VOLUME NAME\n"
    command("volume", "create", "--label", "tier=db", "--label", "x", "beta")
    command("volume", "create", "alpha")
    (random,) = command("volume", "create").stdout.split()
    assert len(random) == 64
    assert command("volume", "ls").stdout.splitlines()[1:] == sorted(
        [f"local     {random}", "local     alpha", "local     beta"]
    )
    assert command("volume", "ls", "-q", "-f", "label=tier=db").stdout == "beta\n"
    assert command("volume", "list", "-q", "-f", "name=^al", "-f", "driver=local").stdout == "alpha\n"
    assert "can't evaluate field Nmae" in command("volume", "ls", "--format", "{{.Nmae}}", code=1).stderr
    row = json.loads(command("volume", "ls", "-f", "name=beta", "--format", "json").stdout)
    place = f"{os.path.realpath(roots.data_root)}/volumes/beta/_data"
    assert row == {
        "Availability": "N/A", "Driver": "local", "Group": "N/A", "Labels": "tier=db,x=", "Links": "N/A", "Mountpoint": place,
        "Name": "beta", "Scope": "local", "Size": "N/A", "Status": "N/A",
    }  # fmt: skip
    assert command("volume", "ls", "--format", 'table {{.Name}}\t{{.Label "tier"}}').stdout.startswith("VOLUME NAME")
    (document,) = json.loads(command("inspect", "beta").stdout)
    assert list(document) == ["CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"]
    assert (document["Labels"], document["Options"], document["Scope"]) == ({"tier": "db", "x": ""}, None, "local")
    assert (
        command("volume", "inspect", "-f", "{{.Name}} {{.Labels}} {{.Options}}", "alpha").stdout
        == "alpha map[] map[]\n"
    )
    assert command("inspect", "--type", "volume", "nosuch", code=1).stderr == "Error: No such volume: nosuch\n"
    done = command("volume", "prune", "-f", "--filter", "label!=tier")
    assert done.stdout.split("\n")[1] == random and names() == ["alpha", "beta"]
    assert command("volume", "prune", "-af", "--filter", "label=tier").stdout.split("\n")[1] == "beta"
    assert command("volume", "prune", input="n\n").stdout.startswith(
        "WARNING! This will remove anonymous local volumes"
    )


def test_a_damaged_volume_is_named_and_goes_by_force(roots: Roots) -> None:
    command("volume", "create", "vol")
    place = Path(roots.data_root, "volumes/vol/volume")
    for content in (b"", b"{", b"[]", b'{"format": 9}', b"\xff" * 9):
        place.write_bytes(content)
        for words in (("volume", "inspect", "vol"), ("volume", "ls"), ("run", "-v", "vol:/mnt", "host", "true")):
            done = subprocess.run([*PYCONTAIN, *words], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode and "is damaged" in done.stderr and "`pycontain volume rm -f vol`" in done.stderr
    command("volume", "rm", "vol", code=1)
    assert command("volume", "rm", "-f", "vol", "nosuch").stdout == "vol\nnosuch\n"
    assert names() == []
