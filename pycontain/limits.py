"""Resources -> which cgroups are made in which hierarchy, and what is written there.

Each controller where it lives: v2, v1, or both on a hybrid host. Pure. A limit whose controller is missing is an error.
Spec: opencontainers/runtime-spec config-linux.md, "Control groups"; kernel Documentation/admin-guide/cgroup-{v1,v2}.
"""

from __future__ import annotations

import struct

from .errors import InvalidArgument, Unsupported
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .spec.runtime import BlockIO, DeviceRule, Resources

__all__ = ["Cgroup", "cgroups", "device_group_name", "device_program", "device_writes", "path_of"]

USAGE_CPU_V1, USAGE_CPU_V2, USAGE_MEMORY_V1, USAGE_MEMORY_V2, USAGE_IO_V1, USAGE_IO_V2 = range(6)


@record
class Cgroup:
    """One cgroup to be in. ``shared``: made beforehand, named ``name``, for it keeps nothing of a single container."""

    controllers: tuple[str, ...]
    version: int
    mount: str
    writes: tuple[tuple[str, str], ...] = ()
    usage: tuple[int, ...] = ()
    shared: bool = False
    name: str = ""
    device_program: bytes = b""


def path_of(group: Cgroup, parent: str, container_id: str) -> str:
    return f"{group.mount}{parent}/{group.name or container_id}"


def _missing(what: str, controller: str, facts: HostFacts, remedy: str) -> Unsupported:
    v2 = [n for n, c in sorted(facts.controllers.items()) if c.version == 2]
    v1 = [n for n, c in sorted(facts.controllers.items()) if c.version == 1]
    offers = "; ".join(
        part
        for part in (
            f"cgroup v2 at {facts.unified} offers: {' '.join(v2) or 'nothing'}" if facts.unified else "",
            f"cgroup v1: {' '.join(v1)}" if v1 else "",
        )
        if part
    )
    return Unsupported(
        f"cannot limit {what}: this host has no {controller} controller ({offers or 'no cgroups are mounted'}). {remedy}"
    )


def _number(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(r: Resources, facts: HostFacts, version: int) -> list[tuple[str, str]]:
    m = r.memory
    writes: list[tuple[str, str]] = []
    if version == 2:
        if m.limit is not None:
            writes.append(("memory.max", _number(m.limit)))
        if m.reservation is not None:
            writes.append(("memory.low", _number(m.reservation)))
        if m.swap is not None:
            only_swap = -1 if m.swap < 0 else m.swap - max(m.limit or 0, 0)
            if m.swap >= 0 and only_swap < 0:
                raise InvalidArgument(
                    f"linux.resources.memory.swap: memory and swap together ({m.swap}) must be at least the memory limit ({m.limit})"
                )
            writes.append(("memory.swap.max", _number(only_swap)))
        return writes
    if m.limit is not None:
        writes.append(("memory.limit_in_bytes", str(m.limit)))
    if m.reservation is not None:
        writes.append(("memory.soft_limit_in_bytes", str(m.reservation)))
    if m.swap is not None:
        if not facts.swap_accounting:
            raise Unsupported(
                "cannot limit swap: this kernel does not account it (no memory.memsw.limit_in_bytes). "
                "Boot with swapaccount=1, or leave out --memory-swap"
            )
        writes.append(("memory.memsw.limit_in_bytes", str(m.swap)))
    return writes


def _cpu_weight(shares: int) -> int:
    # the conversion that runc, crun and systemd agreed on: [2, 262144] -> [1, 10000]
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _cpu(r: Resources, version: int) -> list[tuple[str, str]]:
    c = r.cpu
    writes: list[tuple[str, str]] = []
    if c.shares is not None:
        writes.append(("cpu.weight", str(_cpu_weight(c.shares))) if version == 2 else ("cpu.shares", str(c.shares)))
    if c.quota is not None:
        period = c.period or 100000
        if version == 2:
            writes.append(("cpu.max", f"{_number(c.quota)} {period}"))
        else:
            writes += [("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(c.quota))]
    return writes


_THROTTLE = (
    ("throttle_read_bps_device", "read_bps", "rbps"),
    ("throttle_write_bps_device", "write_bps", "wbps"),
    ("throttle_read_iops_device", "read_iops", "riops"),
    ("throttle_write_iops_device", "write_iops", "wiops"),
)


def _block_io(b: BlockIO, facts: HostFacts, version: int) -> list[tuple[str, str]]:
    writes: list[tuple[str, str]] = []
    if b.weight is not None:
        if version == 2:
            # io.weight's own scale is 1 to 10000
            writes.append(("io.weight", f"default {1 + (b.weight - 10) * 9999 // 990}"))
        else:
            file = next((f for f in ("blkio.weight", "blkio.bfq.weight") if f in facts.memory_files), None)
            if file is None:
                raise Unsupported(
                    "cannot weigh block I/O: no I/O scheduler of this host has weights (blkio.weight and blkio.bfq.weight are "
                    "missing). Select the bfq scheduler, or leave out --blkio-weight"
                )
            writes.append((file, str(b.weight)))
    for field, v1, v2 in _THROTTLE:
        for d in getattr(b, field):
            if version == 2:
                writes.append(("io.max", f"{d.major}:{d.minor} {v2}={d.rate}"))
            else:
                writes.append((f"blkio.throttle.{v1}_device", f"{d.major}:{d.minor} {d.rate}"))
    return writes


def _wanted(r: Resources, facts: HostFacts) -> dict[str, list[tuple[str, str]]]:
    """Controller -> writes. Empty writes: only for the accounting. Raises Unsupported for a limit without controller."""
    have = facts.controllers
    io = "io" if "io" in have else "blkio"

    def version(name: str, what: str, remedy: str) -> int:
        where = have.get(name)
        if where is None:
            raise _missing(what, name, facts, remedy)
        return where.version

    wanted: dict[str, list[tuple[str, str]]] = {n: [] for n in ("cpuacct", "memory", io) if n in have}
    if r.memory.limit is not None or r.memory.reservation is not None or r.memory.swap is not None:
        wanted["memory"] = _memory(
            r, facts, version("memory", "memory", "Boot with cgroup_enable=memory, or leave out --memory")
        )
    if r.cpu.shares is not None or r.cpu.quota is not None:
        wanted["cpu"] = _cpu(
            r, version("cpu", "CPU", "Use a kernel with CONFIG_CFS_BANDWIDTH, or leave out --cpus and --cpu-shares")
        )
    elif have.get("cpu") is not None and have["cpu"].version == 2:
        wanted["cpu"] = []  # v2 accounts CPU time in every cgroup, with or without the controller
    if r.cpu.cpus is not None or r.cpu.mems is not None:
        version("cpuset", "the CPUs used", "Leave out --cpuset-cpus")
        wanted["cpuset"] = [
            ("cpuset.cpus", r.cpu.cpus or facts.cpuset_cpus),
            ("cpuset.mems", r.cpu.mems or facts.cpuset_mems),
        ]
    if r.pids_limit is not None:
        version("pids", "the number of processes", "Leave out --pids-limit")
        wanted["pids"] = [("pids.max", _number(r.pids_limit))]
    if r.block_io != type(r.block_io)():
        wanted[io] = _block_io(r.block_io, facts, version(io, "block I/O", "Leave out --blkio-weight and --device-*"))
    return wanted


_USAGE_V1 = {"cpuacct": (USAGE_CPU_V1,), "memory": (USAGE_MEMORY_V1,), "blkio": (USAGE_IO_V1,)}


def cgroups(r: Resources, facts: HostFacts) -> tuple[Cgroup, ...]:
    """Every cgroup that a container with these resources is in; controllers mounted together share one."""
    wanted = _wanted(r, facts)
    by_mount: dict[str, list[str]] = {}
    for name in wanted:
        by_mount.setdefault(facts.controllers[name].mount, []).append(name)
    if facts.pure_v2 or (facts.unified and r.devices and "devices" not in facts.controllers):
        # even without one wanted controller: a place for the device program, to count CPU time, to kill and to freeze
        by_mount.setdefault(facts.unified, [])
    devices = facts.controllers.get("devices")
    if devices is not None and r.devices and devices.mount in by_mount:  # mounted together with one that is limited
        wanted["devices"] = list(device_writes(r.devices))
        by_mount[devices.mount].append("devices")
        devices = None
    made = []
    for mount, names in sorted(by_mount.items()):
        version = 2 if mount == facts.unified else 1
        usage: tuple[int, ...] = (
            (USAGE_CPU_V2, USAGE_MEMORY_V2, USAGE_IO_V2)
            if version == 2
            else tuple(k for n in names for k in _USAGE_V1.get(n, ()))
        )
        program = (
            device_program(r.devices) if version == 2 and "devices" not in facts.controllers and r.devices else b""
        )
        made.append(
            Cgroup(
                controllers=tuple(sorted(names)), version=version, mount=mount, usage=usage,
                writes=tuple(w for n in sorted(names) for w in wanted[n]), device_program=program,
            )
        )  # fmt: skip
    if devices is not None and r.devices:
        name = device_group_name(r.devices)
        made.append(Cgroup(controllers=("devices",), version=1, mount=devices.mount, shared=True, name=name))
    elif r.devices and "devices" not in facts.controllers and not facts.unified:
        raise _missing(
            "devices", "devices", facts, "Mount cgroup v2 or the devices hierarchy, or run with --privileged"
        )
    return tuple(made)


# --- device rules ------------------------------------------------------------------------------------------------


def device_writes(rules: tuple[DeviceRule, ...]) -> tuple[tuple[str, str], ...]:
    """cgroup v1: (file, value) for each rule, in order."""

    def star(n: int | None) -> str:
        return "*" if n is None else str(n)

    out = []
    for rule in rules:
        file = "devices.allow" if rule.allow else "devices.deny"
        if rule.type == "a" and rule.major is None and rule.minor is None and set(rule.access) == set("rwm"):
            out.append((file, "a"))
            continue
        # the kernel ignores numbers and access after "a": say it for both kinds
        for kind in ("b", "c") if rule.type == "a" else (rule.type,):
            out.append((file, f"{kind} {star(rule.major)}:{star(rule.minor)} {rule.access}"))
    return tuple(out)


def device_group_name(rules: tuple[DeviceRule, ...]) -> str:
    """Equal rules, equal name: a device cgroup accounts nothing, so containers with the same rules share one."""
    from zlib import crc32

    text = ";".join(f"{f}={v}" for f, v in device_writes(rules)).encode()
    # 64 bits against accidents; only this process's own rules meet here, so nobody gains by a collision of his making
    return f"devices-{crc32(text):08x}{crc32(text[::-1]):08x}-{len(text)}"


_INSN = struct.Struct("<BBhi")
_LDXW, _AND, _RSH, _MOV, _MOVR, _JNE, _JEQ, _EXIT = 0x61, 0x54, 0x74, 0xB4, 0xBC, 0x56, 0x16, 0x95
_ACCESS = {"m": 1, "r": 2, "w": 4}
_BPF_DEV = {"b": 1, "c": 2}


def device_program(rules: tuple[DeviceRule, ...]) -> bytes:
    """cgroup v2: an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE), last matching rule first; no match denies.

    Context (struct bpf_cgroup_dev_ctx): access_type = access << 16 | type, major, minor, 4 bytes each.
    """

    def insn(op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
        return _INSN.pack(op, src << 4 | dst, off, imm)

    code = [
        insn(_LDXW, 2, 1, 0), insn(_MOVR, 3, 2), insn(_AND, 2, imm=0xFFFF), insn(_RSH, 3, imm=16),
        insn(_LDXW, 4, 1, 4), insn(_LDXW, 5, 1, 8),
    ]  # fmt: skip
    decided = False
    for rule in reversed(rules):
        tests: list[tuple[int, int]] = []  # (register, value): each skips this rule when it does not hold
        if rule.type in _BPF_DEV:
            tests.append((2, _BPF_DEV[rule.type]))
        if rule.major is not None:
            tests.append((4, rule.major))
        if rule.minor is not None:
            tests.append((5, rule.minor))
        body: list[bytes] = []
        wanted = sum(_ACCESS[a] for a in set(rule.access))
        if wanted != 7 and rule.allow:  # r6 = access & ~wanted: an allow must cover all that is asked
            body = [insn(_MOVR, 6, 3), insn(_AND, 6, imm=~wanted), insn(_JNE, 6, off=2, imm=0)]
        elif wanted != 7:  # r6 = access & wanted: a denial hits when it covers a part
            body = [insn(_MOVR, 6, 3), insn(_AND, 6, imm=wanted), insn(_JEQ, 6, off=2, imm=0)]
        body += [insn(_MOV, 0, imm=int(rule.allow)), insn(_EXIT)]
        total = len(tests) + len(body)
        code += [insn(_JNE, register, off=total - i - 1, imm=value) for i, (register, value) in enumerate(tests)]
        code += body
        if not tests and wanted == 7:  # matches everything: what follows could not be reached, and the verifier minds
            decided = True
            break
    if decided:
        return b"".join(code)
    code += [insn(_MOV, 0, imm=0), insn(_EXIT)]
    return b"".join(code)
