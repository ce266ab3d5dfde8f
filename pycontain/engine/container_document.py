"""What ``container inspect`` shows: Docker's document of a container.

The fields are those of the Engine API 1.50 (Docker 28). A container in the foreground of a command has told only its record: what
that does not say (its limits, mounts, terminal) is here as it is when nothing was asked for, and its NetworkMode is empty.
GraphDriver has no MergedDir: the merged root is mounted in the container's own mount namespace only.
"""

from __future__ import annotations

from typing import Any

from .. import capabilities
from ..image.documents import healthcheck_to_json
from ..image.instants import rfc3339_utc
from ..runtime.generate import DEFAULT_SHM, MASKED_PATHS, READONLY_PATHS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..request import Mount, RunRequest
    from ..runtime.detached import Detached
    from ..runtime.mount_points import MountPoint
    from .container_details import ContainerDetails

__all__ = ["CONFIG_IF_SET", "HOST_CONFIG_IF_SET", "document_of"]

_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
_STOP_TIMEOUT_S = 10.0  # Docker's own, which it does not show


def document_of(details: ContainerDetails) -> dict[str, Any]:
    """The document, ready for JSON."""
    info, kept = details.info, details.kept
    document: dict[str, Any] = {
        "Id": info.id,
        "Created": rfc3339_utc(info.created),
        "Path": details.words[0] if details.words else "",
        "Args": list(details.words[1:]),
        "State": _state(details),
        "Image": info.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": details.log_path,
        "Name": f"/{info.name}",
        "RestartCount": info.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": kept.request.selinux_label if kept else "",
        "AppArmorProfile": (kept.request.apparmor or "") if kept else "",
        "ExecIDs": None,
        "HostConfig": _host_config(kept),
        "GraphDriver": {"Data": _directories(details), "Name": "overlay2"},
        **_sizes(details),
        "Mounts": [_mount_point(each) for each in info.mounts],
        "Config": _config(details),
        "NetworkSettings": dict(_NO_NETWORK),
    }
    return document


def _state(details: ContainerDetails) -> dict[str, Any]:
    info = details.info
    started = info.started_at if info.stays else rfc3339_utc(info.created)
    document = {
        "Status": info.state,
        "Running": info.is_alive,
        "Paused": info.state == "paused",
        "Restarting": info.state == "restarting",
        "OOMKilled": details.state.oom_killed if details.state else False,
        "Dead": info.state == "dead",
        "Pid": info.pid,
        "ExitCode": info.exit_code,
        "Error": info.error,
        "StartedAt": started or _NEVER,
        "FinishedAt": info.finished_at or _NEVER,
    }
    if info.health:
        results = details.health
        document["Health"] = {
            "Status": info.health,
            "FailingStreak": results[-1].failing_streak if results else 0,
            "Log": [{"Start": r.start, "End": r.end, "ExitCode": r.exit_code, "Output": r.output} for r in results],
        }
    return document


def _directories(details: ContainerDetails) -> dict[str, str]:
    lower = {"LowerDir": ":".join(details.lower)} if details.lower else {}
    return {**lower, "UpperDir": f"{details.layer}/upper", "WorkDir": f"{details.layer}/work"}


def _sizes(details: ContainerDetails) -> dict[str, int]:
    sizes = details.sizes
    return {"SizeRw": sizes.layer, "SizeRootFs": sizes.layer + sizes.image} if sizes else {}


def _mount_point(mount: MountPoint) -> dict[str, Any]:
    named = {"Name": mount.name} if mount.name else {}
    driver = {"Driver": "local"} if mount.kind == "volume" else {}
    return {
        "Type": mount.kind, **named, "Source": mount.source, "Destination": mount.target, **driver, "Mode": mount.mode,
        "RW": not mount.read_only, "Propagation": "rprivate" if mount.kind == "bind" else "",
    }  # fmt: skip


def _config(details: ContainerDetails) -> dict[str, Any]:
    config, kept = details.config, details.kept
    request = kept.request if kept else None
    attached = kept is None
    document: dict[str, Any] = {
        "Hostname": details.hostname,
        "Domainname": (request.domainname or "") if request else "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "ExposedPorts": {each: {} for each in config.exposed_ports},
        "Tty": request.terminal if request else False,
        "OpenStdin": kept.open_stdin if kept else False,
        "StdinOnce": kept.stdin_once if kept else False,
        "Env": list(config.env),
        "Cmd": list(config.cmd) or None,
        "Image": details.info.image,
        "Volumes": {each: {} for each in _volumes(details)} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "Healthcheck": healthcheck_to_json(config.healthcheck) if config.healthcheck else {},
        "OnBuild": None,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
    }
    if kept and kept.stop_timeout_s != _STOP_TIMEOUT_S:
        document["StopTimeout"] = int(kept.stop_timeout_s)
    return {name: value for name, value in document.items() if value or name not in CONFIG_IF_SET}


def _volumes(details: ContainerDetails) -> list[str]:
    """The image's, and the anonymous ones of ``-v``."""
    mounts = details.kept.request.mounts if details.kept else ()
    asked = [each.target for each in mounts if each.anonymous and each.create_source and not each.inherited]
    return list(dict.fromkeys([*details.config.volumes, *asked]))


# --- what was asked for -----------------------------------------------------------------------------------------------


def _host_config(kept: Detached | None) -> dict[str, Any]:
    unset = _unset()
    document = {name: value for name, value in unset.items() if name not in HOST_CONFIG_IF_SET}
    if kept is None:
        return document
    logging = kept.logging
    options = {"max-size": str(logging.max_size)} if logging.max_size else {}
    if logging.max_file > 1:
        options["max-file"] = str(logging.max_file)
    if logging.tag:
        options["tag"] = logging.tag
    document.update(
        LogConfig={"Type": logging.driver, "Config": options},
        RestartPolicy={"Name": kept.restart.policy, "MaximumRetryCount": kept.restart.most},
        AutoRemove=kept.auto_remove,
        **_asked(kept.request),
        **_limits(kept.request),
    )
    for name, value in _asked_if_set(kept.request).items():
        if value:
            document[name] = value
    return {name: document[name] for name in unset if name in document}


def _unset() -> dict[str, Any]:
    """The fields of Docker's HostConfig, in their order, as they are when they are not set."""
    return {
        "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "",
        "PortBindings": {}, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}, "AutoRemove": False, "VolumeDriver": "",
        "VolumesFrom": None, "ConsoleSize": [0, 0], "Annotations": None, "CapAdd": None, "CapDrop": None,
        "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": [], "GroupAdd": None,
        "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
        "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "StorageOpt": None, "Tmpfs": None,
        "UTSMode": "", "UsernsMode": "", "ShmSize": 0, "Sysctls": None, "Runtime": "pycontain", "Isolation": "",
        "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [],
        "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "",
        "CpusetMems": "", "Devices": [], "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0,
        "MemorySwap": 0, "MemorySwappiness": None, "OomKillDisable": None,
        "PidsLimit": None, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0,
        "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "Mounts": None, "MaskedPaths": [], "ReadonlyPaths": [],
        "Init": None,
    }  # fmt: skip


def _asked(request: RunRequest) -> dict[str, Any]:
    covered = request.masked_paths and not request.privileged
    return {
        "Binds": [_bind(each) for each in request.mounts if each.create_source and not each.anonymous] or None,
        "VolumesFrom": list(request.volumes_from) or None,
        "NetworkMode": request.network,
        "CapAdd": [capabilities.parse(each) for each in request.cap_add] or None,
        "CapDrop": [capabilities.parse(each) for each in request.cap_drop] or None,
        "CgroupnsMode": request.cgroupns,
        "ExtraHosts": [f"{host}:{address}" for host, address in request.add_host],
        "GroupAdd": list(request.group_add) or None,
        "IpcMode": request.ipc,
        "OomScoreAdj": request.oom_score_adj or 0,
        "PidMode": _unless_own(request.pid),
        "Privileged": request.privileged,
        "ReadonlyRootfs": request.read_only,
        "SecurityOpt": _security(request) or None,
        "UTSMode": _unless_own(request.uts),
        "UsernsMode": "" if request.userns == "host" else request.userns,
        "ShmSize": request.shm_size_bytes or DEFAULT_SHM,
        "MaskedPaths": list(MASKED_PATHS) if covered else [],
        "ReadonlyPaths": list(READONLY_PATHS) if covered else [],
    }


def _asked_if_set(request: RunRequest) -> dict[str, Any]:
    mounts = [each for each in request.mounts if each.type != "tmpfs" and not each.create_source and not each.inherited]
    return {
        "Annotations": dict(request.annotations),
        "Tmpfs": {each.target: _tmpfs(each) for each in request.mounts if each.type == "tmpfs"},
        "Sysctls": dict(request.sysctls),
        "Mounts": [_mount(each) for each in mounts],
        "Init": request.init,
    }


def _limits(request: RunRequest) -> dict[str, Any]:
    memory, swap = request.memory_bytes or 0, request.memory_swap_bytes
    rates = {
        "BlkioDeviceReadBps": request.device_read_bps, "BlkioDeviceWriteBps": request.device_write_bps,
        "BlkioDeviceReadIOps": request.device_read_iops, "BlkioDeviceWriteIOps": request.device_write_iops,
    }  # fmt: skip
    return {
        "CpuShares": request.cpu_shares or 0,
        "Memory": memory,
        "NanoCpus": round(request.cpus * 1e9) if request.cpus else 0,
        "BlkioWeight": request.blkio_weight or 0,
        **{name: [{"Path": each.path, "Rate": each.rate} for each in some] for name, some in rates.items()},
        "CpuPeriod": request.cpu_period_us or 0,
        "CpuQuota": request.cpu_quota_us or 0,
        "CpuRealtimePeriod": request.cpu_rt_period_us or 0,
        "CpuRealtimeRuntime": request.cpu_rt_runtime_us or 0,
        "CpusetCpus": request.cpuset_cpus or "",
        "CpusetMems": request.cpuset_mems or "",
        "Devices": [
            {"PathOnHost": each.source, "PathInContainer": each.target, "CgroupPermissions": each.access}
            for each in request.devices
        ],
        "MemoryReservation": request.memory_reservation_bytes or 0,
        "MemorySwap": 2 * memory if swap is None else swap,
        "PidsLimit": request.pids_limit,
        "Ulimits": [{"Name": each.name, "Hard": each.hard, "Soft": each.soft} for each in request.ulimits],
    }


def _unless_own(namespace: str) -> str:
    return "" if namespace == "private" else namespace


def _bind(mount: Mount) -> str:
    words = (*(("ro",) if mount.read_only else ()), *mount.options, *(() if mount.copy else ("nocopy",)))
    return f"{mount.source}:{mount.target}" + (f":{','.join(words)}" if words else "")


def _mount(mount: Mount) -> dict[str, Any]:
    document: dict[str, Any] = {"Type": mount.type}
    if not mount.anonymous:
        document["Source"] = mount.source
    document["Target"] = mount.target
    if mount.read_only:
        document["ReadOnly"] = True
    options = {**({} if mount.copy else {"NoCopy": True}), **({"Subpath": mount.subpath} if mount.subpath else {})}
    if options:
        document["VolumeOptions"] = options
    return document


def _tmpfs(mount: Mount) -> str:
    words = ["ro"] if mount.read_only else []
    if mount.size_bytes is not None:
        words.append(f"size={mount.size_bytes}")
    if mount.mode is not None:
        words.append(f"mode={mount.mode:o}")
    return ",".join([*words, *mount.options])


def _security(request: RunRequest) -> list[str]:
    found = ["no-new-privileges"] if request.no_new_privileges else []
    for name, value in (("seccomp", request.seccomp), ("apparmor", request.apparmor), ("label", request.selinux_label)):
        if value:
            found.append(f"{name}={value}")
    return found


HOST_CONFIG_IF_SET = frozenset(("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "Init"))
CONFIG_IF_SET = frozenset((
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell",
))  # fmt: skip
_NO_NETWORK: Mapping[str, Any] = {
    "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": {}, "HairpinMode": False, "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None, "EndpointID": "", "Gateway": "",
    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "",
    "Networks": {},
}  # fmt: skip
