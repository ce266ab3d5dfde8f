"""What ``container inspect`` shows: Docker's document of a container, and the same as its templates see it.

The fields are those of the Engine API 1.50 (Docker 28). A container in the foreground of a command has told only its record: what
that does not say (its limits, mounts, terminal) is here as it is when nothing was asked for, and its NetworkMode is empty.
GraphDriver has no MergedDir: the merged root is mounted in the container's own mount namespace only.
"""

from __future__ import annotations

from typing import Any

from .. import capabilities
from ..image.documents import healthcheck_to_json
from ..runtime.generate import DEFAULT_SHM, MASKED_PATHS, READONLY_PATHS
from .gotemplate import Duration, Empty, Int64, NilList, NilMap, NilPointer, Struct, Time
from .units import rfc3339_utc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..engine.container_details import ContainerDetails
    from ..request import Mount, RunRequest
    from ..runtime.detached import Detached
    from ..runtime.mount_points import MountPoint

__all__ = ["as_typed", "document_of"]

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
        "Volumes": {each: {} for each in config.volumes} or None,
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
    return {name: value for name, value in document.items() if value or name not in _CONFIG_IF_SET}


# --- what was asked for -----------------------------------------------------------------------------------------------


def _host_config(kept: Detached | None) -> dict[str, Any]:
    fields = {name: each() for name, each in _HOST_CONFIG.items() if name not in _HOST_CONFIG_IF_SET}
    document = {name: _untyped(value) for name, value in fields.items()}
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
    return {name: document[name] for name in _HOST_CONFIG if name in document}


def _asked(request: RunRequest) -> dict[str, Any]:
    covered = request.masked_paths and not request.privileged
    return {
        "Binds": [_bind(each) for each in request.mounts if each.create_source] or None,
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
    mounts = [each for each in request.mounts if each.type == "bind" and not each.create_source]
    return {
        "Annotations": dict(request.annotations),
        "Tmpfs": {each.target: _tmpfs(each) for each in request.mounts if each.type == "tmpfs"},
        "Sysctls": dict(request.sysctls),
        "Mounts": [
            {"Type": "bind", "Source": m.source, "Target": m.target, **({"ReadOnly": True} if m.read_only else {})}
            for m in mounts
        ],
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
    words = (*(("ro",) if mount.read_only else ()), *mount.options)
    return f"{mount.source}:{mount.target}" + (f":{','.join(words)}" if words else "")


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


# --- for templates ----------------------------------------------------------------------------------------------------


# the fields of Docker's types, in their order, and what they are when they are not set
_HOST_CONFIG: Mapping[str, Callable[[], Any]] = {
    "Binds": NilList, "ContainerIDFile": str, "LogConfig": lambda: {"Type": "", "Config": {}}, "NetworkMode": str,
    "PortBindings": dict, "RestartPolicy": lambda: {"Name": "", "MaximumRetryCount": 0}, "AutoRemove": bool, "VolumeDriver": str,
    "VolumesFrom": NilList, "ConsoleSize": lambda: [0, 0], "Annotations": NilMap, "CapAdd": NilList, "CapDrop": NilList,
    "CgroupnsMode": str, "Dns": list, "DnsOptions": list, "DnsSearch": list, "ExtraHosts": list, "GroupAdd": NilList,
    "IpcMode": str, "Cgroup": str, "Links": NilList, "OomScoreAdj": int, "PidMode": str, "Privileged": bool,
    "PublishAllPorts": bool, "ReadonlyRootfs": bool, "SecurityOpt": NilList, "StorageOpt": NilMap, "Tmpfs": NilMap,
    "UTSMode": str, "UsernsMode": str, "ShmSize": Int64, "Sysctls": NilMap, "Runtime": lambda: "pycontain", "Isolation": str,
    "CpuShares": Int64, "Memory": Int64, "NanoCpus": Int64, "CgroupParent": str, "BlkioWeight": int, "BlkioWeightDevice": list,
    "BlkioDeviceReadBps": list, "BlkioDeviceWriteBps": list, "BlkioDeviceReadIOps": list, "BlkioDeviceWriteIOps": list,
    "CpuPeriod": Int64, "CpuQuota": Int64, "CpuRealtimePeriod": Int64, "CpuRealtimeRuntime": Int64, "CpusetCpus": str,
    "CpusetMems": str, "Devices": list, "DeviceCgroupRules": NilList, "DeviceRequests": NilList, "MemoryReservation": Int64,
    "MemorySwap": Int64, "MemorySwappiness": lambda: NilPointer("*int64"), "OomKillDisable": lambda: NilPointer("*bool"),
    "PidsLimit": lambda: NilPointer("*int64"), "Ulimits": list, "CpuCount": Int64, "CpuPercent": Int64,
    "IOMaximumIOps": Int64, "IOMaximumBandwidth": Int64, "Mounts": NilList, "MaskedPaths": list, "ReadonlyPaths": list,
    "Init": lambda: NilPointer("*bool"),
}  # fmt: skip
_HOST_CONFIG_IF_SET = frozenset(("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "Init"))
_HOST_CONFIG_IN_GO = {
    "DNS": "Dns", "DNSOptions": "DnsOptions", "DNSSearch": "DnsSearch", "CPUShares": "CpuShares", "NanoCPUs": "NanoCpus",
    "CPUPeriod": "CpuPeriod", "CPUQuota": "CpuQuota", "CPURealtimePeriod": "CpuRealtimePeriod",
    "CPURealtimeRuntime": "CpuRealtimeRuntime", "CPUCount": "CpuCount", "CPUPercent": "CpuPercent",
}  # fmt: skip
_CONFIG: Mapping[str, Callable[[], Any]] = {
    "Hostname": str, "Domainname": str, "User": str, "AttachStdin": bool, "AttachStdout": bool, "AttachStderr": bool,
    "ExposedPorts": NilMap, "Tty": bool, "OpenStdin": bool, "StdinOnce": bool, "Env": list, "Cmd": NilList,
    "Healthcheck": lambda: NilPointer("*v1.HealthcheckConfig"), "ArgsEscaped": bool, "Image": str, "Volumes": NilMap,
    "WorkingDir": str, "Entrypoint": NilList, "NetworkDisabled": bool, "MacAddress": str, "OnBuild": NilList, "Labels": dict,
    "StopSignal": str, "StopTimeout": lambda: NilPointer("*int"), "Shell": NilList,
}  # fmt: skip
_HEALTHCHECK: Mapping[str, Callable[..., Any]] = {
    "Test": list, "Interval": Duration, "Timeout": Duration, "StartPeriod": Duration, "StartInterval": Duration, "Retries": int,
}  # fmt: skip
_CONFIG_IF_SET = frozenset((
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell",
))  # fmt: skip
_MOUNT_POINT = {
    "Type": "", "Name": "", "Source": "", "Destination": "", "Driver": "", "Mode": "", "RW": False, "Propagation": "",
}  # fmt: skip
_NO_NETWORK: Mapping[str, Any] = {
    "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": {}, "HairpinMode": False, "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None, "EndpointID": "", "Gateway": "",
    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "MacAddress": "",
    "Networks": {},
}  # fmt: skip
# Go's names of what the lists and structs of a HostConfig are
_WITHIN = {
    "LogConfig": "container.LogConfig", "RestartPolicy": "container.RestartPolicy", "Devices": "container.DeviceMapping",
    "Ulimits": "*container.Ulimit", "Mounts": "mount.Mount", "BlkioDeviceReadBps": "*blkiodev.ThrottleDevice",
    "BlkioDeviceWriteBps": "*blkiodev.ThrottleDevice", "BlkioDeviceReadIOps": "*blkiodev.ThrottleDevice",
    "BlkioDeviceWriteIOps": "*blkiodev.ThrottleDevice",
}  # fmt: skip


def _untyped(value: Any) -> Any:
    if isinstance(value, (NilList, NilMap, NilPointer)):
        return None
    return int(value) if type(value) is Int64 else value


def as_typed(document: dict[str, Any]) -> Struct:
    """The document as Docker's own types have it: ``.ID`` as well, no field beyond them, and every field there."""
    fields: dict[str, Any] = {}
    for name, value in document.items():
        if name == "Mounts" and "SizeRw" not in document:
            fields["SizeRw"] = fields["SizeRootFs"] = NilPointer("*int64")
        fields[name] = NilList() if value is None else value
    for name in ("SizeRw", "SizeRootFs"):
        if type(fields[name]) is int:
            fields[name] = Int64(fields[name])
    fields["State"] = Struct(
        "*container.State",
        {**document["State"], "Health": _typed_health(document["State"].get("Health"))},
        optional=("Health",),
    )
    fields["HostConfig"] = _typed_host_config(document["HostConfig"])
    fields["GraphDriver"] = Struct("storage.DriverData", document["GraphDriver"])
    fields["Mounts"] = [
        Struct("container.MountPoint", {**_MOUNT_POINT, **each}, optional=("Type", "Name", "Driver"))
        for each in document["Mounts"]
    ]
    fields["Config"] = _typed_config(document["Config"])
    network = {name: NilList() if value is None else value for name, value in document["NetworkSettings"].items()}
    fields["NetworkSettings"] = Struct("*container.NetworkSettings", network)
    return Struct("container.InspectResponse", fields, aliases={"ID": "Id"}, optional=("SizeRw", "SizeRootFs"))


def _typed_health(health: dict[str, Any] | None) -> Struct | NilPointer:
    if health is None:
        return NilPointer("*container.Health")
    log = [
        Struct("*container.HealthcheckResult", {**each, "Start": Time(each["Start"]), "End": Time(each["End"])})
        for each in health["Log"]
    ]
    return Struct("*container.Health", {**health, "Log": log})


def _typed_host_config(document: dict[str, Any]) -> Struct:
    fields = {}
    for name, unset in _HOST_CONFIG.items():
        empty = unset()
        value = document.get(name)
        if value is None:
            value = empty
        elif type(empty) is Int64 or (isinstance(empty, NilPointer) and empty.go_name == "*int64"):
            value = Int64(value)
        elif name in _WITHIN:
            value = (
                [Struct(_WITHIN[name], each) for each in value]
                if isinstance(value, list)
                else Struct(_WITHIN[name], value)
            )
        fields[name] = value
    return Struct("*container.HostConfig", fields, aliases=_HOST_CONFIG_IN_GO, optional=_HOST_CONFIG_IF_SET)


def _typed_config(document: dict[str, Any]) -> Struct:
    fields = {}
    for name, unset in _CONFIG.items():
        value = document.get(name)
        value = unset() if value is None else value
        if name == "Healthcheck" and isinstance(value, dict):
            times = {key: unit(value.get(key) or unit()) for key, unit in _HEALTHCHECK.items()}
            value = Struct("*v1.HealthcheckConfig", times, optional=_HEALTHCHECK)
        if name in ("Volumes", "ExposedPorts") and not isinstance(value, NilMap):
            value = dict.fromkeys(value, Empty())
        fields[name] = value
    return Struct("*container.Config", fields, optional=_CONFIG_IF_SET)
