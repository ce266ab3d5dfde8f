"""Writes the fuzzer's seeds, real Plans of a few requests, into tests/c/corpus: run it when the Plan's format changes.

usage: python tests/c/make_corpus.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pycontain.host import probe
from pycontain.plan import plan
from pycontain.plan_bytes import Place
from pycontain.request import Mount, RunRequest, Ulimit
from pycontain.runtime.roots import Roots
from pycontain.runtime.shapes import plan_for
from pycontain.spec.runtime import (
    Hook,
    Hooks,
    IDMapping,
    IOPriority,
    Linux,
    MemoryPolicy,
    MountPoint,
    Namespace,
    Personality,
    Process,
    Root,
    RuntimeSpec,
    Scheduler,
    TimeOffset,
)

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
    "user_namespace": RunRequest(image="host", args=("true",), seccomp="unconfined", userns="0:300000:65536"),
    "mounts": RunRequest(
        image="host", args=("true",), seccomp="unconfined",
        mounts=(Mount(type="bind", source="/usr", target="/mnt", read_only=True), Mount(type="tmpfs", target="/scratch")),
    ),
}  # fmt: skip


_PLACE = Place(container_id="0" * 64, directory="/d/ephemeral/OWNER/" + "0" * 64, cgroup_parent="/pycontain/OWNER")


def _everything(joined: bool) -> RuntimeSpec:
    """A bundle's document with every op that none of the requests has."""
    ids = (IDMapping(container_id=0, host_id=300000, size=65536),)
    kinds = ("mount", "pid", "network", "ipc", "uts", "cgroup", "user", "time")
    namespaces = tuple(
        Namespace(type=k, path=f"/proc/7/ns/{k}" if joined and k in ("pid", "network", "user") else "") for k in kinds
    )
    own = not joined
    return RuntimeSpec(
        root=Root(path="/bundle/rootfs"),
        process=Process(
            args=("sh",), scheduler=Scheduler(policy="SCHED_BATCH", nice=5), oom_score_adj=5,
            io_priority=IOPriority(class_="IOPRIO_CLASS_BE", priority=4),
        ),
        mounts=(
            MountPoint(destination="/proc", type="proc"),
            MountPoint(destination="/etc", type="tmpfs", options=("tmpcopyup", "rro", "rslave")),
            MountPoint(destination="/v", type="bind", source="/srv", options=("rbind", "ridmap", "ro"), uid_mappings=ids, gid_mappings=ids),
            MountPoint(destination="/o", type="overlay", source="overlay", options=("lowerdir=/a:/b", "nosuid")),
        ),
        hooks=Hooks(
            create_runtime=(Hook(path="/bin/true"),), start_container=(Hook(path="/bin/true", args=("true", "1"), timeout=9),),
            create_container=() if joined else (Hook(path="/bin/true", env=("A=1",)),),
        ),
        linux=Linux(
            namespaces=namespaces, uid_mappings=ids if own else (), gid_mappings=ids if own else (),
            time_offsets=(TimeOffset(clock="monotonic", secs=1, nanosecs=2),), personality=Personality(domain="LINUX32"),
            memory_policy=MemoryPolicy(mode="MPOL_BIND", nodes="0"), rootfs_propagation="rslave",
            seccomp=bytes.fromhex("060000000000ff7f"), seccomp_listener_path="/run/agent",
        ),
    )  # fmt: skip


def main() -> None:
    corpus = Path(__file__).parent / "corpus"
    corpus.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        roots = Roots(data_root=scratch, run_root=scratch)
        for name, request in REQUESTS.items():
            # the length of the name must not change: it is data, so put a neutral one of equal length
            data = plan_for(request, roots).data
            (corpus / name).write_bytes(data.replace(scratch.encode(), (b"/" + b"d" * len(scratch))[: len(scratch)]))
        for name, joined in (("bundle", False), ("joins", True)):
            (corpus / name).write_bytes(plan(_everything(joined), probe(), _PLACE).data)


if __name__ == "__main__":
    main()
