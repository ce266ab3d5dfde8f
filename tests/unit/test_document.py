"""config.json as records: every field, what other tools print, a bundle's relative paths."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import InvalidArgument, NotFound
from pycontain.spec import runtime as records
from pycontain.spec.document import load_bundle, parse_config
from pycontain.spec.runtime import (
    CPU,
    BlockIO,
    Capabilities,
    CPUAffinity,
    DeviceNode,
    DeviceRule,
    Hook,
    Hooks,
    HugepageLimit,
    IDMapping,
    IntelRdt,
    InterfacePriority,
    IOPriority,
    Linux,
    Memory,
    MemoryPolicy,
    MountPoint,
    Namespace,
    NetDevice,
    Network,
    Personality,
    Process,
    Rdma,
    Resources,
    Rlimit,
    Root,
    RuntimeSpec,
    Scheduler,
    ThrottleDevice,
    TimeOffset,
    User,
    WeightDevice,
)
from tests.unit.documents import CORPUS, document, edited

FULL = document("valid-full-1.3")
MINIMAL = document("valid-minimal")


def parse(source: Any, bundle: str = "") -> RuntimeSpec:
    return parse_config(json.dumps(source), bundle=bundle)


def ids(container_id: int, host_id: int, size: int) -> IDMapping:
    return IDMapping(container_id=container_id, host_id=host_id, size=size)


PROCESS = Process(
    args=("/bin/server", "--port", "80"),
    env=("PATH=/usr/bin:/bin", "EMPTY="),
    cwd="/srv",
    terminal=True,
    console_size=(40, 132),
    user=User(uid=1000, gid=1001, additional_gids=(5, 6), umask=0o077),
    capabilities=Capabilities(
        bounding=frozenset(("CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT")),
        effective=frozenset(("CAP_CHOWN",)),
        inheritable=frozenset(("CAP_KILL",)),
        permitted=frozenset(("CAP_CHOWN", "CAP_KILL")),
        ambient=frozenset(("CAP_KILL",)),
    ),
    rlimits=(
        Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=4096),
        Rlimit(type="RLIMIT_CORE", soft=0, hard=2**64 - 1),
    ),
    no_new_privileges=True,
    oom_score_adj=-500,
    scheduler=Scheduler(
        policy="SCHED_DEADLINE",
        nice=-5,
        flags=("SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"),
        runtime=1000000,
        deadline=2000000,
        period=3000000,
    ),
    io_priority=IOPriority(class_="IOPRIO_CLASS_BE", priority=3),
    exec_cpu_affinity=CPUAffinity(initial="0", final="0-1,3"),
    apparmor_profile="server",
    selinux_label="system_u:system_r:container_t:s0:c1,c2",
)
MOUNTS = (
    MountPoint(destination="/proc", type="proc", source="proc", options=("nosuid", "noexec", "nodev")),
    MountPoint(
        destination="/data",
        type="bind",
        source="/bundle/volume",
        options=("rbind", "ro", "ridmap"),
        uid_mappings=(ids(0, 100000, 65536),),
        gid_mappings=(ids(1, 200000, 1000),),
    ),
)
HOOKS = Hooks(
    prestart=(Hook(path="/hooks/prestart"),),
    create_runtime=(Hook(path="/hooks/create", args=("create", "-v"), env=("A=b",), timeout=5),),
    create_container=(Hook(path="/hooks/inside"),),
    start_container=(Hook(path="/hooks/start"),),
    poststart=(Hook(path="/hooks/started"),),
    poststop=(Hook(path="/hooks/stopped"),),
)
RESOURCES = Resources(
    memory=Memory(
        limit=536870912,
        reservation=268435456,
        swap=1073741824,
        kernel=-1,
        kernel_tcp=-1,
        swappiness=60,
        disable_oom_killer=False,
        use_hierarchy=True,
        check_before_update=True,
    ),
    cpu=CPU(
        shares=1024,
        quota=50000,
        burst=10000,
        period=100000,
        realtime_runtime=950000,
        realtime_period=1000000,
        cpus="0-1",
        mems="0",
        idle=1,
    ),
    pids_limit=100,
    block_io=BlockIO(
        weight=500,
        leaf_weight=300,
        weight_device=(WeightDevice(major=8, minor=0, weight=100, leaf_weight=50),),
        throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1000),),
        throttle_write_bps_device=(ThrottleDevice(major=8, minor=0, rate=2000),),
        throttle_read_iops_device=(ThrottleDevice(major=8, minor=0, rate=30),),
        throttle_write_iops_device=(ThrottleDevice(major=8, minor=16, rate=40),),
    ),
    devices=(
        DeviceRule(allow=False),
        DeviceRule(allow=True, type="c", major=10, minor=229, access="rw"),
        DeviceRule(allow=True, type="b", access="m"),
    ),
    hugepage_limits=(HugepageLimit(page_size="2MB", limit=4194304),),
    network=Network(class_id=1048577, priorities=(InterfacePriority(name="eth0", priority=500),)),
    rdma=(Rdma(device="mlx5_1", hca_handles=3, hca_objects=10000),),
    unified=(("memory.high", "500000000"), ("io.max", "8:0 rbps=1000\n8:16 wiops=40")),
)
SECCOMP = {k: v for k, v in FULL["linux"]["seccomp"].items() if not k.startswith("listener")}
LINUX = Linux(
    namespaces=(
        Namespace(type="pid"),
        Namespace(type="network", path="/run/netns/web"),
        *(Namespace(type=kind) for kind in ("mount", "ipc", "uts", "user", "cgroup", "time")),
    ),
    uid_mappings=(ids(0, 100000, 1000), ids(1000, 300000, 64536)),
    gid_mappings=(ids(0, 100000, 65536),),
    time_offsets=(TimeOffset(clock="monotonic", secs=86400, nanosecs=5), TimeOffset(clock="boottime", secs=-7)),
    devices=(
        DeviceNode(path="/dev/fuse", type="c", major=10, minor=229, file_mode=0o660, uid=3, gid=4),
        DeviceNode(path="/dev/pipe", type="p"),
    ),
    net_devices=(NetDevice(host_name="eth0", name="inner"), NetDevice(host_name="eth1")),
    resources=RESOURCES,
    cgroups_path="/pycontain/web",
    rootfs_propagation="rslave",
    sysctl=(("net.core.somaxconn", "256"), ("kernel.msgmax", "65536"), ("kernel.domainname", "example.org")),
    masked_paths=("/proc/kcore", "/sys/firmware"),
    readonly_paths=("/proc/sys",),
    mount_label="system_u:object_r:container_file_t:s0:c1,c2",
    personality=Personality(domain="LINUX32"),
    memory_policy=MemoryPolicy(mode="MPOL_INTERLEAVE", nodes="0-1", flags=("MPOL_F_STATIC_NODES",)),
    intel_rdt=IntelRdt(
        clos_id="guests",
        schemata=("L3:0=7f0", "MB:0=20"),
        l3_cache_schema="L3:0=ffff0",
        mem_bw_schema="MB:0=20;1=70",
        enable_monitoring=True,
    ),
    seccomp_flags=1 << 1 | 1 << 5,
    seccomp_source=json.dumps(SECCOMP, separators=(",", ":")).encode(),
    seccomp_listener_path="/run/seccomp.sock",
    seccomp_listener_metadata="web",
)


def test_every_field_of_the_full_document() -> None:
    spec = parse(FULL, "/bundle")
    assert spec.process == PROCESS
    assert spec.mounts == MOUNTS
    assert spec.hooks == HOOKS
    assert spec.linux.resources == RESOURCES
    assert spec.linux == LINUX
    assert spec == RuntimeSpec(
        process=PROCESS,
        root=Root(path="/bundle/rootfs", readonly=True),
        linux=LINUX,
        hostname="web",
        domainname="example.org",
        mounts=MOUNTS,
        hooks=HOOKS,
        annotations=(("org.example.key", "value"), ("empty", "")),
        oci_version="1.3.0",
    )


# ours, not the specification's; and what the specification leaves empty for now
_NOT_IN_DOCUMENTS = {
    "Root.layers", "MountPoint.source_is_file", "MountPoint.source_strict", "Linux.seccomp", "RuntimeSpec.files", "RuntimeSpec.init",
    "Personality.flags",
}  # fmt: skip


def _touched(value: Any) -> set[str]:
    """The fields of records that do not have their default."""
    if isinstance(value, tuple):
        return {name for item in value for name in _touched(item)}
    if not hasattr(value, "_names"):
        return set()
    found = set()
    for field in value._names:
        inner = getattr(value, field)
        if field not in value._defaults or inner != value._defaults[field]:
            found.add(f"{type(value).__name__}.{field}")
        found |= _touched(inner)
    return found


def test_no_field_of_the_records_is_forgotten() -> None:
    every = {f"{name}.{field}" for name in records.__all__ for field in getattr(records, name)._names}
    read = {name for file in CORPUS.glob("valid-*.json") for name in _touched(parse_config(file.read_bytes()))}
    assert every - read == _NOT_IN_DOCUMENTS


def test_reading_twice_gives_the_same() -> None:
    assert parse(FULL) == parse(FULL)
    indented = json.dumps(FULL, indent=3, ensure_ascii=False).encode()
    assert parse_config(indented) == parse(FULL)


@pytest.mark.parametrize(("tool", "version"), [("runc", "1.0.2-dev"), ("crun", "1.0.0")])
def test_what_spec_commands_print(tool: str, version: str) -> None:
    spec = parse_config((CORPUS / f"valid-{tool}-spec.json").read_bytes(), bundle="/b")
    assert (spec.oci_version, spec.hostname, spec.root.path) == (version, tool, "/b/rootfs")
    assert [n.type for n in spec.linux.namespaces] == ["pid", "network", "ipc", "uts", "mount"]
    assert [m.type for m in spec.mounts] == ["proc", "tmpfs", "devpts", "tmpfs", "mqueue", "sysfs", "cgroup"]
    assert spec.linux.resources.devices == (DeviceRule(allow=False),)


def test_rootless_spec_of_runc() -> None:
    spec = parse_config((CORPUS / "valid-runc-spec-rootless.json").read_bytes())
    assert spec.linux.uid_mappings == (ids(0, 0, 1),)
    assert "user" in [n.type for n in spec.linux.namespaces]


def test_defaults_of_a_minimal_document() -> None:
    spec = parse(MINIMAL)
    assert spec == RuntimeSpec(process=Process(args=("true",)), root=Root(path="/"), linux=Linux(), oci_version="1.0.0")
    assert spec.process.user.umask == 0o022


def test_the_other_document() -> None:
    spec = parse(document("valid-joined-1.1"))
    assert [m.destination for m in spec.mounts] == ["/proc", "/proc/meminfo", "/mnt/a/c"]
    assert spec.mounts[2].options == ("bind", "ro")
    assert spec.linux.devices == (DeviceNode(path="/dev/tape", type="c", major=9, minor=0, file_mode=0o666),)
    assert spec.linux.intel_rdt == IntelRdt(clos_id="/", enable_monitoring=True)
    assert spec.linux.sysctl == (("fs.mqueue.msg_max", "20"), ("user.max_net_namespaces", "3"))


def test_null_and_what_is_unknown_count_as_absent() -> None:
    spec = parse(document("valid-foreign-members"))
    assert spec == RuntimeSpec(
        process=Process(args=("sh",)), root=Root(path="rootfs"), linux=Linux(), oci_version="1.9.0"
    )


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"ociVersion": "1.0.0-rc5+x.y-z"}, lambda s: s.oci_version == "1.0.0-rc5+x.y-z"),
        ({"ociVersion": "1.0.0-" + "a" * 122}, lambda s: len(s.oci_version) == 128),
        ({"process.terminal": False}, lambda s: s.process.console_size == (0, 0)),
        ({"mounts[1].options": ["bind", "rbind"]}, lambda s: s.mounts[1].options == ("rbind",)),
        ({"mounts[1].type": None}, lambda s: s.mounts[1].type == "bind"),
        ({"mounts[0].type": "tmpfs", "mounts[0].destination": "/process"}, lambda s: s.mounts[0].type == "tmpfs"),
        ({"mounts[0].options": ["bind"], "mounts[0].source": "/proc/"}, lambda s: s.mounts[0].type == "bind"),
        ({"mounts[1].source": "/srv"}, lambda s: s.mounts[1].source == "/srv"),
        ({"linux.resources.memory.limit": -1, "linux.resources.memory.swap": -1}, lambda s: s.linux.resources.memory.swap == -1),
        ({"linux.resources.memory.limit": None, "linux.resources.memory.swap": 0}, lambda s: s.linux.resources.memory.swap == 0),
        ({"linux.resources.cpu.quota": -1}, lambda s: s.linux.resources.cpu.quota == -1),
        ({"linux.resources.cpu.cpus": ""}, lambda s: s.linux.resources.cpu.cpus is None),
        ({"linux.resources.pids.limit": 0}, lambda s: s.linux.resources.pids_limit == 0),
        ({"linux.resources.blockIO.weight": 10}, lambda s: s.linux.resources.block_io.weight == 10),
        ({"linux.resources.cpu.burst": 50000}, lambda s: s.linux.resources.cpu.burst == 50000),
        ({"linux.resources.memory.swap": 536870912}, lambda s: s.linux.resources.memory.swap == 536870912),
        ({"process.rlimits[0].soft": 4096}, lambda s: s.process.rlimits[0].soft == 4096),
        ({"linux.resources.blockIO.weight": 0}, lambda s: s.linux.resources.block_io.weight == 0),
        ({"linux.devices[2]": FULL["linux"]["devices"][0]}, lambda s: len(s.linux.devices) == 2),
        ({"linux.devices[0].fileMode": None}, lambda s: s.linux.devices[0].file_mode == 0o666),
        ({"linux.netDevices.eth1.name": "veth%d"}, lambda s: s.linux.net_devices[1].name == "veth%d"),
        ({"linux.netDevices.eth1.name": "a" * 15}, lambda s: len(s.linux.net_devices[1].name) == 15),
        ({"linux.rootfsPropagation": ""}, lambda s: s.linux.rootfs_propagation == ""),
        ({"linux.memoryPolicy": {"mode": "MPOL_PREFERRED"}}, lambda s: s.linux.memory_policy.nodes == ""),
        ({"linux.personality.flags": []}, lambda s: s.linux.personality.flags == ()),
        ({"linux.uidMappings": [{"containerID": 0, "hostID": 0, "size": 2**32 - 1}]},
         lambda s: s.linux.uid_mappings[0].size == 2**32 - 1),
        ({"linux.namespaces[5].path": "/proc/1/ns/user", "process.user.uid": 2**32 - 2}, lambda s: s.process.user.uid == 2**32 - 2),
        ({"hostname": "h" * 64}, lambda s: len(s.hostname) == 64),
        ({"process.env[2]": "A=b=c\nd"}, lambda s: s.process.env[2] == "A=b=c\nd"),
        # without SCMP_ACT_NOTIFY the specification has the listener ignored
        ({"linux.seccomp.syscalls": [], "linux.seccomp.flags": []}, lambda s: s.linux.seccomp_listener_path == ""),
    ],
)  # fmt: skip
def test_valid_in_a_way_that_needs_thought(changes: dict[str, Any], read: Any) -> None:
    assert read(parse(edited(FULL, changes)))


def test_340_mappings_are_taken() -> None:
    many = [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(340)]
    spec = parse(edited(FULL, {"linux.uidMappings": many, "process.user.uid": 339}))
    assert len(spec.linux.uid_mappings) == 340


def test_warnings_instead_of_errors_where_the_specification_says_so() -> None:
    said: list[str] = []
    source = edited(
        FULL, {"process.capabilities.bounding": ["CAP_CHOWN", "CAP_FUTURE"], "mounts[0].destination": "proc"}
    )
    spec = parse_config(json.dumps(source), warn=said.append)
    assert spec.process.capabilities.bounding == {"CAP_CHOWN"}
    assert [line.split(": ")[1] for line in said] == ["process.capabilities.bounding[1]", "mounts[0].destination"]


def test_a_bundle_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FULL))
    monkeypatch.chdir(tmp_path.parent)
    spec = load_bundle(tmp_path.name)
    assert spec.root.path == f"{tmp_path}/rootfs"
    assert spec.mounts[1].source == f"{tmp_path}/volume"
    assert spec == parse(FULL, str(tmp_path))


def test_a_bundle_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"ENOENT.*a bundle is a directory with a config\.json"):
        load_bundle(str(tmp_path))
    with pytest.raises(NotFound, match="ENOTDIR"):
        load_bundle("/etc/passwd")
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        load_bundle(str(tmp_path))
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InvalidArgument, match="not a regular file"):
        load_bundle(str(tmp_path))
    (tmp_path / "config.json").rmdir()
    (tmp_path / "config.json").symlink_to("config.json")
    with pytest.raises(InvalidArgument, match="ELOOP"):
        load_bundle(str(tmp_path))


@pytest.mark.parametrize("directory", ["a\0b", "/a\0"])
def test_a_bundle_with_a_nul(directory: str) -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        load_bundle(directory)


def test_a_relative_bundle_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="absolute"):
        parse(FULL, "bundle")
