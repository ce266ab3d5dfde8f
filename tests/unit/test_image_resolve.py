"""The forms of an image's name, and the image ``host``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycontain.errors import ImageNotFound, InvalidArgument
from pycontain.image import host_root as module
from pycontain.image.resolve import resolve


def test_directory_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root/sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "root")
    wanted = (f"{tmp_path}/root",)
    for image in (f"{tmp_path}/root", f"{tmp_path}/root/", "./", ".", "../root", "./sub/..", f"{tmp_path}//root/."):
        assert resolve(image, data_root="/nowhere").lower == wanted


@pytest.mark.parametrize(
    ("image", "kind", "phrase"),
    [
        ("/", InvalidArgument, 'use the image "host"'),
        ("//", InvalidArgument, 'use the image "host"'),
        ("/nowhere", ImageNotFound, "ENOENT"),
        ("/etc/passwd", InvalidArgument, "pycontain import /etc/passwd NAME"),
        ("./a\0b", InvalidArgument, "NUL"),
        ("oci:", InvalidArgument, "the form is oci:DIR"),
        ("oci:/nowhere", ImageNotFound, "OCI layout /nowhere: No such file"),
        ("sha256:" + "0" * 64, ImageNotFound, "no such image"),
        ("hots", ImageNotFound, 'Did you mean "host"'),
        ("Debian", InvalidArgument, "lowercase"),
        ("", InvalidArgument, "invalid reference format"),
    ],
)
def test_errors(image: str, kind: type[Exception], phrase: str) -> None:
    with pytest.raises(kind, match=phrase) as caught:
        resolve(image, data_root="/nowhere")
    assert "\n" not in str(caught.value)


def test_near_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "names").mkdir()
    (tmp_path / "names/debian:latest").touch()
    (tmp_path / "names/app:v2").touch()
    (tmp_path / "rootdir").mkdir()
    monkeypatch.chdir(tmp_path)
    for asked, meant in (("debain", "debian"), ("app", "app:v2"), ("rootdir", "./rootdir")):
        with pytest.raises(ImageNotFound, match=f'Did you mean "{meant}"'):
            resolve(asked, data_root=str(tmp_path))


def test_import_is_light() -> None:
    code = "import sys; import pycontain.image.resolve; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0]={sys.path}; {code}"],
                         capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(run.stdout.split())
    assert not loaded & {"tarfile", "pathlib", "json", "hashlib", "gzip", "difflib", "lzma"}


def test_host_hides_what_is_private() -> None:
    root = resolve("host", data_root="/var/lib/pycontain")
    hidden = {*dict(root.hidden_dirs), *root.hidden_files}
    for path in ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/root", "/home", "/tmp", "/run", "/etc/machine-id"):
        assert path in hidden or not os.path.lexists(path)
    modes = dict(root.hidden_dirs)
    assert (modes["/root"], modes["/tmp"], modes.get("/var/tmp", 0o1777)) == (0o700, 0o1777, 0o1777)
    assert root.lower == ("/",) and root.config.cmd == ("/bin/sh",)
    for path in hidden:
        assert os.path.lexists(path) and path not in ("/usr", "/etc", "/var", "/var/lib", "/etc/passwd")


def test_host_shows_no_file_of_etc_that_others_may_not_read() -> None:
    root = resolve("host", data_root="/var/lib/pycontain")
    hidden = {*dict(root.hidden_dirs), *root.hidden_files}
    for name in os.listdir("/etc"):
        info = os.lstat(f"/etc/{name}")
        assert info.st_mode & 0o004 or f"/etc/{name}" in hidden


def test_data_root_anywhere_is_hidden(tmp_path: Path) -> None:
    found: dict[str, int] = {}
    module._hide_data_root(str(tmp_path), found)
    assert found == {str(tmp_path): 0o700}
    found = {str(tmp_path.parent): 0o755}
    module._hide_data_root(str(tmp_path), found)
    assert str(tmp_path) not in found


@pytest.mark.parametrize(
    ("name", "pattern", "matches"),
    [
        ("ssh_host_rsa_key", "ssh_host_*_key", True),
        ("ssh_host_rsa_key.pub", "ssh_host_*_key", False),
        ("key", "*_key", False),
        ("a.key", "*.key", True),
        ("my-credentials.d", "*credentials*", True),
        ("private", "private", True),
        ("privat", "private", False),
    ],
)
def test_patterns(name: str, pattern: str, matches: bool) -> None:
    assert module._matches(name, pattern) is matches
