"""An ordinary user packs what his container has changed: overlayfs's marks are user.* attributes, ids his subordinate ones."""

from __future__ import annotations

import json
import subprocess

import pytest
from ordinary_user import OrdinaryUser

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("nothing_of_the_user_left")]

_PROGRAM = """
import glob, io, json, os, tarfile
import pycontain
from pycontain.image.diff import changes
from pycontain.image.pack import pack_layer, pack_merged

script = '''set -e
rm /etc/group; rm -r /var; mkdir /var; echo z > /var/z; echo new > /etc/new; chown 1000:1000 /etc/new; chmod 600 /etc/new
echo ready; exec sleep 1000'''
with pycontain.Container("small", ["sh", "-c", script], stdout=pycontain.PIPE, text=True) as c:
    assert c.stdout.readline() == "ready\\n"
    data = os.environ["HOME"] + "/.local/share/pycontain"
    (upper,), (image,) = glob.glob(data + "/ephemeral/*/*/upper"), glob.glob(data + "/layers/*")
    top, below = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (upper, image))
    layer = tarfile.open(fileobj=io.BytesIO(pack_layer(top).readall())).getmembers()
    merged = tarfile.open(fileobj=io.BytesIO(pack_merged([top, below]).readall())).getnames()
    found = changes(top, [below])
print(json.dumps({
    "layer": [m.name for m in layer], "owners": [m.uid for m in layer if m.name == "etc/new"], "changes": found,
    "merged": [n for n in merged if n.startswith(("var", "etc"))],
}))
"""


def test_marks_and_owners_of_a_rootless_container(user: OrdinaryUser, busybox_root: str) -> None:
    archive = user.directory / "root.tar"
    subprocess.run(["tar", "-C", busybox_root, "--numeric-owner", "-cf", str(archive), "."], check=True)
    imported = user.pycontain("import", str(archive), "small")
    assert imported.returncode == 0, imported.stderr
    done = user.python(_PROGRAM)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["layer"] == [
        ".", "etc", "etc/.wh.group", "etc/new", "var", "var/.wh..wh..opq", "var/z",
    ]  # fmt: skip
    assert found["owners"] == [1000]
    assert [" ".join(each) for each in found["changes"]] == [
        "C /etc", "D /etc/group", "A /etc/new", "C /var", "D /var/tmp", "A /var/z",
    ]  # fmt: skip
    assert found["merged"] == ["etc", "etc/new", "etc/passwd", "var", "var/z"]
