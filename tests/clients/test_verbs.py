"""The same commands for docker and for pycontain, one after the other: what they print and how they end is the same.

Ids, instants, process ids and the widths of columns are made equal first. Of what goes wrong the exit codes are compared, and that
both say why: our words name what to do.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.engines import Docker

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SCRIPT = (Path(__file__).parent / "verbs.txt").read_text(encoding="utf-8")


DIFFERENT = {
    "exec web nosuch": "127 since Docker 23, and the reason on standard error",
    "exec web /etc": "the reason on standard error",
    "volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}}' vol": "null since Docker 24",
}


class Engine:
    """``run``: one command's exit code, standard output and standard error."""

    def __init__(self, program: list[str], environment: dict[str, str]) -> None:
        self._program, self._environment = program, environment

    def __call__(self, line: str) -> tuple[int, str, str]:
        words = shlex.split(line)
        done = subprocess.run(
            [*self._program, *words], input=b"given\n", capture_output=True, env=self._environment, timeout=60, check=False
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()


def image(busybox: str) -> bytes:
    """The tar of a root with busybox."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "etc", "tmp", "root"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(info)
        tar.add(busybox, "bin/busybox")
        for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
            if applet != "busybox":
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
        for name, data in (("passwd", b"root:x:0:0:root:/root:/bin/sh\n"), ("group", b"root:x:0:\n")):
            info = tarfile.TarInfo(f"etc/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox is not installed (tests/peers/install.sh)"
    archive = image(busybox)
    place = tmp_path_factory.mktemp("verbs")
    ours = [sys.executable, "-m", "pycontain", "--data-root", f"{place}/data", "--run-root", f"{place}/run"]
    subprocess.run([*ours, "import", "-", "bb"], input=archive, check=True, capture_output=True)
    with Docker() as docker:
        docker("import", "-", "bb", input=archive)
        try:
            yield (
                Engine(["/usr/bin/docker"], docker.environment()),
                Engine(ours, dict(os.environ)),
            )
        finally:
            for program, environment in (
                (["/usr/bin/docker"], docker.environment()),
                (ours, dict(os.environ)),
            ):
                listed = subprocess.run(
                    [*program, "ps", "-aq"], env=environment, capture_output=True, text=True, check=False
                )
                subprocess.run(
                    [*program, "rm", "-f", *listed.stdout.split()], env=environment, capture_output=True, check=False
                )


def evened(text: str, line: str) -> str:
    text = re.sub("(?:WARNING: )?IPv4 forwarding is disabled. Networking will not work.\n", "", text)  # this daemon's
    if line.startswith("diff "):  # Docker's order is none
        text = "".join(sorted(text.splitlines(keepends=True)))
    for pattern, by in (
        (r"\b[0-9a-f]{64}\b", "<id>"),
        (r"\b[0-9a-f]{12}\b", "<short>"),
        (r"(?:Less than a second|About a minute|About an hour|\d+ (?:second|minute)s?)", "<time>"),
        (r"\b\d\d:\d\d(?::\d\d)?\b", "<clock>"),
        (r"\b\d{2,}\b", "<n>"),
        (r" \d +<clock>", " <c> <clock>"),
        (r"(?m)[ \t]+$", ""),
        (r" {2,}", "  "),
        (r"(?m)^(<id>\n)+", "<ids>\n"),
        (r"Total reclaimed space: .*", "Total reclaimed space: <size>"),
    ):
        text = re.sub(pattern, by, text)
    return text


def test_every_verb(engines: tuple[Engine, Engine]) -> None:
    docker, ours = engines
    differ = []
    for line in SCRIPT.strip().splitlines():
        theirs, mine = docker(line), ours(line)
        for each in (theirs, mine):
            assert each[0] == 0 or each[2] or each[1], f"{line}: ends with {each[0]} without a word"
        wanted, found = (
            (each[0], evened(each[1], line), each[0] != 0 or bool(evened(each[2], line))) for each in (theirs, mine)
        )
        if wanted != found and line not in DIFFERENT:
            differ.append(
                f"$ {line}\n  docker {wanted}\n         {theirs[2].strip()[:200]}\n  ours   {found}\n         {mine[2].strip()[:300]}"
            )
    assert not differ, "\n".join(["what differs:", *differ])
