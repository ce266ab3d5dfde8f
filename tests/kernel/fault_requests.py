"""The requests whose Plans test_faults breaks at every op: together they have every op that this host can execute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bundles import bundle, deaf_agent, holder, notify, user_namespace

from pycontain import options
from pycontain.host import probe
from pycontain.request import RunRequest

__all__ = ["VARIANTS", "a_request", "bundles_made"]

VARIANTS = (
    "plain", "read_only", "terminal", "init", "no_new_privileges", "host_namespaces", "user_namespace", "stub",
    "bundle:hooks", "bundle:joins", "bundle:user",
)  # fmt: skip


BUNDLES: dict[str, str] = {}  # variant: image


@contextmanager
def bundles_made(base: str, busybox_root: str) -> Iterator[None]:
    """A bundle for each variant that is one, and what they need: an agent, namespaces to join."""
    with (
        deaf_agent(f"{base}/agent") as path,
        holder("--net", "--pid", "--fork", "--mount-proc") as pid,
        ExitStack() as stack,
    ):
        hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null"], "env": ["PATH=/bin:/usr/bin"]}
        rich = {
            "mounts[3]": {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755"]},
            "linux.maskedPaths": ["/proc/version"], "linux.readonlyPaths": ["/proc/sys"], "process.oomScoreAdj": 100,
            "process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}],
        }  # fmt: skip
        joins = {
            f"linux.namespaces[{i}]": {"type": t, "path": f"/proc/{pid}/ns/{n}"}
            for i, t, n in ((4, "network", "net"), (1, "pid", "pid"))
        }
        listener = {
            **notify(path, "mkdir"),
            **{
                f"hooks.{k}": [hook]
                for k in (
                    "prestart",
                    "createRuntime",
                    "createContainer",
                    "startContainer",
                    "poststart",
                    "poststop",
                )
            },
        }
        time_ = {
            "linux.namespaces[6]": {"type": "time"},
            "linux.timeOffsets": {"monotonic": {"secs": 9, "nanosecs": 0}},
        }
        for name, changes in (
            ("hooks", listener),
            ("joins", joins),
            ("user", {**user_namespace(), **time_, **listener}),
        ):
            BUNDLES[f"bundle:{name}"] = stack.enter_context(bundle(busybox_root, "exit 7", {**rich, **changes}))
        yield
    BUNDLES.clear()


def a_request(variant: str, sources: tuple[str, str]) -> RunRequest:
    """Something of everything that this host can do."""
    if variant in BUNDLES:
        return options.request(BUNDLES[variant], [], {})
    facts = probe()
    wanted: dict[str, object] = {
        "mounts": [options.bind(sources[0], "/mnt/a"), options.bind(sources[1], "/mnt/b", read_only=True)],
        "tmpfs": [options.tmpfs("/mnt/t", size="1m")],
        "devices": ["/dev/kmsg"],
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "hostname": "rich",
        "add_host": {"db": "10.0.0.1"},
        "ulimits": {"nofile": (128, 256)},
        "user": "1000:1000",
        "group_add": ["2000"],
        "workdir": "/work",
        "name": "rich",
        "oom_score_adj": 100,
        "shm_size": "1m",
    }
    limits: dict[str, dict[str, object]] = {
        "memory": {"memory": "64m", "memory_reservation": "32m"},
        "cpu": {"cpus": 0.5, "cpu_shares": 512},
        "cpuset": {"cpuset_cpus": "0"},
        "pids": {"pids": 64},
    }
    for controller, values in limits.items():
        if controller in facts.controllers:
            wanted.update(values)
    if {"io", "blkio"} & set(facts.controllers) and os.major(os.stat("/var/tmp").st_dev) != 0:
        wanted["device_write_bps"] = {"/var/tmp": "10m"}
        wanted["device_read_iops"] = {"/var/tmp": 1000}
    if variant == "host_namespaces":
        wanted.update(pid="host", ipc="host", network="host", cgroupns="host", uts="host")
        wanted.update(sysctls={}, hostname=None, shm_size=None)  # there is none of its own
    if variant == "user_namespace":
        wanted.update(userns="auto")
    made = options.request("host", ["/mnt/a/seven"] if variant == "stub" else ["sh", "-c", "exit 7"], wanted)
    field = {variant: True} if variant in ("read_only", "terminal", "init", "no_new_privileges") else {}
    return replace(made, **field)  # type: ignore[arg-type]  # all of them are flags
