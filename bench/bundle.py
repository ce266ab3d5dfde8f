"""The OCI bundle the runtimes get: what `runc spec` writes, plus a seccomp profile, so that all isolate alike."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

# The profile podman ships; Docker's own has the same shape and nearly the same lists.
SECCOMP_PROFILES = (Path("/usr/share/containers/seccomp.json"), Path("/etc/containers/seccomp.json"))
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
# Docker's default set.
CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
    "CAP_AUDIT_WRITE",
]
MASKED = [
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
MOUNTS: list[tuple[str, str, str, list[str]]] = [
    ("/proc", "proc", "proc", []),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
]


def find_seccomp_profile() -> Path | None:
    return next((path for path in SECCOMP_PROFILES if path.exists()), None)


def oci_seccomp(profile: Path, capabilities: list[str]) -> dict[str, Any]:
    """Docker's profile format (rules that depend on capabilities and architecture) as OCI's (plain rules)."""
    document = json.loads(profile.read_text())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    rules = []
    for rule in document["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if "caps" in includes and not set(includes["caps"]) <= set(capabilities):
            continue
        if set(excludes.get("caps", ())) & set(capabilities):
            continue
        if "arches" in includes and machine not in includes["arches"]:
            continue
        if machine in excludes.get("arches", ()):
            continue
        kept = {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}
        rules.append(kept)
    architectures = [
        name
        for entry in document.get("archMap", ())
        if entry["architecture"] == f"SCMP_ARCH_{platform.machine().upper()}"
        for name in (entry["architecture"], *entry["subArchitectures"])
    ]
    result = {"defaultAction": document["defaultAction"], "architectures": architectures, "syscalls": rules}
    if document.get("defaultErrnoRet"):
        result["defaultErrnoRet"] = document["defaultErrnoRet"]
    return result


def oci_config(*, rootfs: Path, argv: list[str], seccomp: Path | None) -> dict[str, Any]:
    """A config.json for one program in rootfs. No cgroupsPath: the runtime then makes one by container id."""
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in NAMESPACES],
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
    }
    if seccomp is not None:
        linux["seccomp"] = oci_seccomp(seccomp, CAPABILITIES)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": argv,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "bench",
        "mounts": [
            {"destination": to, "type": kind, "source": source, "options": options}
            for to, kind, source, options in MOUNTS
        ],
        "linux": linux,
    }


def write_bundle(directory: Path, config: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return directory
