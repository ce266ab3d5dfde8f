"""Docker's document of a container as its templates see it: with the types that it has in Go."""

from __future__ import annotations

from typing import Any

from ..engine.container_document import CONFIG_IF_SET, HOST_CONFIG_IF_SET
from .gotemplate import Duration, Empty, Int64, NilList, NilMap, NilPointer, Struct, Time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["as_typed"]

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
_MOUNT_POINT = {
    "Type": "", "Name": "", "Source": "", "Destination": "", "Driver": "", "Mode": "", "RW": False, "Propagation": "",
}  # fmt: skip
# Go's names of what the lists and structs of a HostConfig are
_WITHIN = {
    "LogConfig": "container.LogConfig", "RestartPolicy": "container.RestartPolicy", "Devices": "container.DeviceMapping",
    "Ulimits": "*container.Ulimit", "Mounts": "mount.Mount", "BlkioDeviceReadBps": "*blkiodev.ThrottleDevice",
    "BlkioDeviceWriteBps": "*blkiodev.ThrottleDevice", "BlkioDeviceReadIOps": "*blkiodev.ThrottleDevice",
    "BlkioDeviceWriteIOps": "*blkiodev.ThrottleDevice",
}  # fmt: skip


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
    return Struct("*container.HostConfig", fields, aliases=_HOST_CONFIG_IN_GO, optional=HOST_CONFIG_IF_SET)


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
    return Struct("*container.Config", fields, optional=CONFIG_IF_SET)
