"""Writes the fuzzer's seeds, real Plans of a few requests, into tests/c/corpus: run it when the Plan's format changes.

usage: python tests/c/make_corpus.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pycontain.request import Mount, RunRequest, Ulimit
from pycontain.runtime.roots import Roots
from pycontain.runtime.running import plan_for

REQUESTS = {
    "plain": RunRequest(image="host", args=("true",), seccomp="unconfined"),
    "default_filter": RunRequest(image="host", args=("true",)),
    "privileged_host": RunRequest(image="host", args=("sh", "-c", ":"), privileged=True, network="host", pid="host"),
    "terminal": RunRequest(image="host", args=("sh",), terminal=True, seccomp="unconfined", hostname="box"),
    "limits": RunRequest(
        image="host", args=("true",), seccomp="unconfined", memory_bytes=1 << 26, cpus=0.5, pids_limit=10, read_only=True,
        user="1000:1000", cap_drop=("ALL",), no_new_privileges=True, ulimits=(Ulimit(name="nofile", soft=10, hard=20),),
        sysctls=(("net.ipv4.ip_forward", "1"),), workdir="/srv",
    ),
    "mounts": RunRequest(
        image="host", args=("true",), seccomp="unconfined",
        mounts=(Mount(type="bind", source="/usr", target="/mnt", read_only=True), Mount(type="tmpfs", target="/scratch")),
    ),
}  # fmt: skip


def main() -> None:
    corpus = Path(__file__).parent / "corpus"
    corpus.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        roots = Roots(data_root=scratch, run_root=scratch)
        for name, request in REQUESTS.items():
            # the length of the name must not change: it is data, so put a neutral one of equal length
            data = plan_for(request, roots).data
            (corpus / name).write_bytes(data.replace(scratch.encode(), (b"/" + b"d" * len(scratch))[: len(scratch)]))


if __name__ == "__main__":
    main()
