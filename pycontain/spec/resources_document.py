"""The section ``linux.resources`` of config.json. Spec: config-linux.md, "Control groups"."""

from __future__ import annotations

import re

from .node import BYTES, UINT32, UINT64, Node, Whole, complaint, quoted
from .runtime import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)

__all__ = ["MAJOR", "MINOR", "interface_name", "parse_resources"]

MAJOR = Whole(0, 0xFFF, "a device's major number")  # <linux/kdev_t.h>: 12 and 20 bits
MINOR = Whole(0, 0xFFFFF, "a device's minor number")

_ANY_MAJOR = Whole(-1, 0xFFF, "a device's major number")
_ANY_MINOR = Whole(-1, 0xFFFFF, "a device's minor number")
_SWAPPINESS = Whole(0, 100)
_MICROSECONDS = Whole(0, 2**64 - 1, "an integer of microseconds")
_QUOTA = Whole(-1, 2**63 - 1, "an integer of microseconds")
_IDLE = Whole(0, 1)
_PIDS = Whole(-1, 2**63 - 1, "a number of tasks")
_WEIGHT = Whole(0, 1000, "a weight")
_RATE = Whole(0, 2**64 - 1, "a rate per second")
_PAGE_SIZE = re.compile(r"[1-9][0-9]{0,15}[KMG]B")

# the only files of this prefix that limit or tell something; the others move or end processes, or are the runtime's own
_CGROUP_FILES = frozenset(("cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"))


def parse_resources(node: Node) -> Resources:
    return Resources(
        memory=_memory(node.child("memory")),
        cpu=_cpu(node.child("cpu")),
        pids_limit=node.child("pids").whole("limit", _PIDS),
        block_io=_block_io(node.child("blockIO")),
        devices=tuple(_device_rule(item) for item in node.items("devices")),
        hugepage_limits=_hugepages(node),
        network=_network(node.child("network")),
        rdma=tuple(_rdma(name, item) for name, item in node.entries("rdma")),
        unified=tuple(_unified(name, item) for name, item in node.entries("unified")),
    )


def _memory(node: Node) -> Memory:
    memory = Memory(
        limit=node.whole("limit", BYTES),
        reservation=node.whole("reservation", BYTES),
        swap=node.whole("swap", BYTES),
        kernel=node.whole("kernel", BYTES),
        kernel_tcp=node.whole("kernelTCP", BYTES),
        swappiness=node.whole("swappiness", _SWAPPINESS),
        disable_oom_killer=node.flag("disableOOMKiller"),
        use_hierarchy=node.flag("useHierarchy"),
        check_before_update=node.flag("checkBeforeUpdate"),
    )
    # memory and swap together cannot be less than memory, and without a limit of memory that is less than unlimited
    limit, swap = memory.limit or -1, memory.swap or -1
    if swap > 0 and not 0 < limit <= swap:
        least = f"at least the limit ({limit})" if limit > 0 else "with a limit beside it"
        raise node.child("swap").bad(f"memory and swap together, {least}")
    return memory


def _cpu(node: Node) -> CPU:
    def numbers(name: str, what: str) -> str | None:
        return node.child(name).as_numbers(what) if node.text(name) else None

    cpu = CPU(
        shares=node.whole("shares", UINT64),
        quota=node.whole("quota", _QUOTA),
        burst=node.whole("burst", _MICROSECONDS),
        period=node.whole("period", _MICROSECONDS),
        realtime_runtime=node.whole("realtimeRuntime", _QUOTA),
        realtime_period=node.whole("realtimePeriod", _MICROSECONDS),
        cpus=numbers("cpus", "a list of CPUs"),
        mems=numbers("mems", "a list of memory nodes"),
        idle=node.whole("idle", _IDLE),
    )
    quota = cpu.quota or -1
    if 0 < quota < (cpu.burst or 0):
        raise node.child("burst").bad(f"at most the quota ({quota})")
    return cpu


def _weight(node: Node, name: str) -> int | None:
    weight = node.whole(name, _WEIGHT)
    if weight and weight < 10:
        raise node.child(name).bad("a weight from 10 to 1000, or 0 for none")
    return weight


def _block_io(node: Node) -> BlockIO:
    def throttles(name: str) -> tuple[ThrottleDevice, ...]:
        return tuple(
            ThrottleDevice(
                major=item.child("major").as_whole(MAJOR),
                minor=item.child("minor").as_whole(MINOR),
                rate=item.child("rate").as_whole(_RATE),
            )
            for item in node.items(name)
        )

    return BlockIO(
        weight=_weight(node, "weight"),
        leaf_weight=_weight(node, "leafWeight"),
        weight_device=tuple(_weight_device(item) for item in node.items("weightDevice")),
        throttle_read_bps_device=throttles("throttleReadBpsDevice"),
        throttle_write_bps_device=throttles("throttleWriteBpsDevice"),
        throttle_read_iops_device=throttles("throttleReadIOPSDevice"),
        throttle_write_iops_device=throttles("throttleWriteIOPSDevice"),
    )


def _weight_device(node: Node) -> WeightDevice:
    made = WeightDevice(
        major=node.child("major").as_whole(MAJOR),
        minor=node.child("minor").as_whole(MINOR),
        weight=_weight(node, "weight"),
        leaf_weight=_weight(node, "leafWeight"),
    )
    if made.weight is None and made.leaf_weight is None:
        raise complaint(node.path, "weight, leafWeight or both", "neither")
    return made


def _device_rule(node: Node) -> DeviceRule:
    allow = node.child("allow").as_flag()
    type_ = node.child("type").one_of(("a", "b", "c"), "a type of device") if node.text("type") else "a"
    major, minor = node.whole("major", _ANY_MAJOR), node.whole("minor", _ANY_MINOR)
    access = node.text("access")
    if not set(access) <= set("rwm") or len(set(access)) < len(access):
        raise node.child("access").bad("letters of rwm, each once")
    if allow and not access:
        raise node.child("access").bad("letters of rwm: what is allowed")
    rule = DeviceRule(
        allow=allow,
        type=type_,
        # -1 is what Docker writes for "*"
        major=None if major == -1 else major,
        minor=None if minor == -1 else minor,
        access=access or "rwm",
    )
    # the kernel of cgroup v1 looks no further than the "a": the rule would be about every device and every access
    if rule.type == "a" and (rule.major is not None or rule.minor is not None or set(rule.access) != set("rwm")):
        raise complaint(node.path, "type b or c, or else all numbers and the access rwm", "a part of all devices")
    return rule


def _hugepages(node: Node) -> tuple[HugepageLimit, ...]:
    limits: dict[str, HugepageLimit] = {}
    for item in node.items("hugepageLimits"):
        place = item.child("pageSize")
        size = place.as_text("a size such as 2MB")
        if not _PAGE_SIZE.fullmatch(size):
            raise place.bad("a size such as 64KB, 2MB or 1GB")
        if size in limits:
            raise complaint(place.path, "each size once", f"{quoted(size)} again")
        limits[size] = HugepageLimit(page_size=size, limit=item.child("limit").as_whole(UINT64))
    return tuple(limits.values())


def interface_name(node: Node, text: str) -> str:
    """A name that the kernel takes for a network interface (dev_valid_name of net/core/dev.c)."""
    bad = text in ("", ".", "..") or any(c.isspace() or c in "/:" for c in text) or len(text.encode()) > 15
    if bad:
        raise complaint(node.path, "an interface's name: 1 to 15 bytes, no '/', ':' or whitespace", quoted(text))
    return text


def _network(node: Node) -> Network:
    priorities: dict[str, InterfacePriority] = {}
    for item in node.items("priorities"):
        place = item.child("name")
        name = interface_name(place, place.as_text("an interface's name"))
        if name in priorities:
            raise complaint(place.path, "each interface once", f"{quoted(name)} again")
        priorities[name] = InterfacePriority(name=name, priority=item.child("priority").as_whole(UINT32))
    return Network(class_id=node.whole("classID", UINT32), priorities=tuple(priorities.values()))


def _rdma(device: str, node: Node) -> Rdma:
    if any(c.isspace() or c in "=/" for c in device):
        # it is written as "DEVICE hca_handle=N"
        raise complaint(node.path, "a device's name without whitespace, '=' and '/'", quoted(device))
    made = Rdma(
        device=device, hca_handles=node.whole("hcaHandles", UINT32), hca_objects=node.whole("hcaObjects", UINT32)
    )
    if made.hca_handles is None and made.hca_objects is None:
        raise complaint(node.path, "hcaHandles, hcaObjects or both", "neither")
    return made


def _unified(file: str, node: Node) -> tuple[str, str]:
    value = node.as_text()
    controller, dot, rest = file.partition(".")
    plain = all(c.isalnum() or c in "._-" for c in file) and file.isascii()
    if not plain or not (controller and dot and rest):
        raise complaint(node.path, "a file of a cgroup, such as memory.high", quoted(file))
    if controller == "cgroup" and file not in _CGROUP_FILES:
        raise complaint(node.path, "a file that limits something", f"{quoted(file)}, which is the runtime's own")
    return file, value
