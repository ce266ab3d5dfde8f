"""Wrong config.json documents: each is refused by the place, with what was expected and what was found, in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontain.errors import InvalidArgument
from pycontain.spec.document import parse_config
from tests.unit.documents import DELETED, document, edited

FULL = document("valid-full-1.3")


def refusal(source: bytes | str | object) -> str:
    """The message without its first word, which is always the document's name."""
    text = source if isinstance(source, (bytes, str)) else json.dumps(source)
    with pytest.raises(InvalidArgument) as caught:
        parse_config(text)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    assert message.startswith("config.json: ")
    return message.removeprefix("config.json: ")


# (place, value there, phrase); the complaint begins with the place
AT_PLACE: tuple[tuple[str, Any, str], ...] = (
    # the document
    ("ociVersion", DELETED, "expected a semantic version such as 1.2.0, found nothing"),
    ("ociVersion", 1.0, "found the number 1.0"),
    ("ociVersion", "1.0", "a semantic version"),
    ("ociVersion", "1.0.0.0", "a semantic version"),
    ("ociVersion", "1.00.0", "a semantic version"),
    ("ociVersion", "1.0.0-", "a semantic version"),
    ("ociVersion", "1.0.0-01", "a semantic version"),
    ("ociVersion", "1.0.0+a..b", "a semantic version"),
    ("ociVersion", "v1.0.0", "a semantic version"),
    ("ociVersion", "1.0.\u0661", "a semantic version"),
    ("ociVersion", "1.0.0-" + "a" * 123, "a semantic version"),
    ("ociVersion", "2.0.0", "expected a version 1.x of the specification"),
    ("ociVersion", "0.2.0", "expected a version 1.x of the specification"),
    ("hostname", "h" * 65, "a name of at most 64 bytes"),
    ("hostname", "\u00fc" * 33, "a name of at most 64 bytes"),
    ("domainname", ["a"], "expected a string, found an array"),
    ("annotations", [], "expected an object, found an empty array"),
    ("annotations", {"": "x"}, "keys with something in them, found an empty string"),
    ("annotations.count", 5, "expected a string, found 5"),
    ("root", DELETED, "an object with the path of the root filesystem, found nothing"),
    ("root", "rootfs", 'found the string "rootfs"'),
    ("root.path", DELETED, "the path of the root filesystem, found nothing"),
    ("root.path", "", "found an empty string"),
    ("root.path", "a\0b", "without a NUL byte"),
    ("root.readonly", "true", 'expected true or false, found the string "true"'),
    # process
    ("process", DELETED, "an object that says what to run, found nothing"),
    ("process.terminal", 1, "expected true or false, found 1"),
    ("process.consoleSize.height", 65536, "a number of characters from 0 to 65535, found 65536"),
    ("process.consoleSize.width", DELETED, "a number of characters, found nothing"),
    ("process.cwd", DELETED, "expected an absolute path, found nothing"),
    ("process.cwd", "srv", 'expected an absolute path, found the string "srv"'),
    ("process.cwd", "", "expected an absolute path, found an empty string"),
    ("process.args", DELETED, "an array that begins with a program, found nothing"),
    ("process.args", [], "an array that begins with a program, found an empty array"),
    ("process.args", "sh -c true", 'expected an array, found the string "sh -c true"'),
    ("process.args[0]", "", "the name of a program, found an empty string"),
    ("process.args[1]", 80, "expected a string, found 80"),
    ("process.args[1]", None, "expected a value, found null"),
    ("process.args[2]", "a\0", "without a NUL byte"),
    ("process.args[2]", "\ud800", "no half of a surrogate pair"),
    ("process.env[1]", "PATH", 'expected NAME=VALUE, found the string "PATH"'),
    ("process.env[0]", "=x", "expected NAME=VALUE"),
    ("process.env[0]", "A=\0", "without a NUL byte"),
    ("process.user.uid", DELETED, "a user or group id, found nothing"),
    ("process.user.gid", DELETED, "a user or group id, found nothing"),
    ("process.user.uid", True, "expected a user or group id, found true"),
    ("process.user.uid", 0.0, "found the number 0.0"),
    ("process.user.uid", -1, "a user or group id from 0 to 4294967294, found -1"),
    ("process.user.uid", 2**32 - 1, "a user or group id from 0 to 4294967294"),
    ("process.user.gid", 2**32, "a user or group id from 0 to 4294967294"),
    ("process.user.gid", "root", 'found the string "root"'),
    ("process.user.umask", 0o1000, "a umask in decimal from 0 to 511"),
    ("process.user.additionalGids[1]", 2**32 - 1, "from 0 to 4294967294"),
    ("process.user.uid", 65536, "an id that linux.uidMappings maps, found 65536"),
    ("process.user.gid", 65536, "an id that linux.gidMappings maps, found 65536"),
    ("process.user.additionalGids[1]", 65536, "an id that linux.gidMappings maps"),
    ("process.capabilities", ["CAP_KILL"], "expected an object, found an array"),
    ("process.capabilities.bounding[1]", "CAP_CHWON", "did you mean CAP_CHOWN?"),
    ("process.capabilities.bounding[0]", "chown", "a capability, such as CAP_CHOWN"),
    ("process.capabilities.ambient[0]", "ALL", "a capability"),
    ("process.capabilities.permitted[0]", 0, "expected a capability, found 0"),
    ("process.capabilities.effective", ["CAP_SYS_CHROOT"], "that are in permitted too, found CAP_SYS_CHROOT"),
    ("process.rlimits[0].type", "RLIMIT_NOFILES", "did you mean RLIMIT_NOFILE?"),
    ("process.rlimits[0].type", "nofile", "a limit of getrlimit(2)"),
    ("process.rlimits[1].type", "RLIMIT_NOFILE", "each limit once, found RLIMIT_NOFILE again"),
    ("process.rlimits[0].soft", 5000, "at most the hard limit (4096), found 5000"),
    ("process.rlimits[0].hard", DELETED, "an integer, found nothing"),
    ("process.rlimits[0].hard", 2**64, "from 0 to 18446744073709551615, found 18446744073709551616"),
    ("process.rlimits[0].soft", -1, "an integer from 0 to"),
    ("process.oomScoreAdj", -1001, "from -1000 to 1000, found -1001"),
    ("process.oomScoreAdj", 1001, "from -1000 to 1000, found 1001"),
    ("process.scheduler.policy", DELETED, "a scheduling policy"),
    ("process.scheduler.policy", "SCHED_FIF0", "did you mean SCHED_FIFO?"),
    ("process.scheduler.nice", 20, "a nice value from -20 to 19"),
    ("process.scheduler.priority", 100, "a static priority from 0 to 99"),
    ("process.scheduler.priority", 5, "no priority for SCHED_DEADLINE, found 5"),
    ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": 5}, "0 < runtime <= deadline <= period"),
    ("process.scheduler.flags[0]", "RESET_ON_FORK", "did you mean SCHED_FLAG_RESET_ON_FORK?"),
    ("process.scheduler.period", 2**64, "an integer of nanoseconds from 0 to 18446744073709551615"),
    ("process.scheduler.runtime", -1, "an integer of nanoseconds from 0"),
    ("process.ioPriority.class", "IOPRIO_CLASS_NONE", "an I/O scheduling class"),
    ("process.ioPriority.priority", DELETED, "a priority, found nothing"),
    ("process.ioPriority.priority", 8, "a priority from 0 to 7"),
    ("process.execCPUAffinity.initial", "0-", 'a list of CPUs, such as "0-3,7"'),
    ("process.execCPUAffinity.final", "3-1", "a list of CPUs"),
    # mounts
    ("mounts", {"destination": "/a"}, "expected an array, found an object"),
    ("mounts[0]", "/proc", "expected an object"),
    ("mounts[0].destination", DELETED, "a path in the container, found nothing"),
    ("mounts[1].destination", "/", "below the container's root"),
    ("mounts[1].destination", "", "below the container's root, found an empty string"),
    ("mounts[1].destination", "..", "a path that stays in the container"),
    ("mounts[1].destination", "/a/../../b", "a path that stays in the container"),
    ("mounts[1].destination", "/proc", 'a bind of /proc, found "bind" on /proc'),
    ("mounts[1].destination", "/proc/self/exe", "a place outside /proc"),
    ("mounts[1].destination", "/dev/../proc/sys", "a place outside /proc"),
    ("mounts[0].destination", "/proc/meminfo", "a place outside /proc"),
    ("mounts[0].type", DELETED, 'the type of a filesystem, or "bind" or "rbind" among the options, found nothing'),
    ("mounts[1].source", DELETED, "the path to bind, found nothing"),
    ("mounts[1].source", "a\0b", "without a NUL byte"),
    ("mounts[1].options", "ro", 'expected an array, found the string "ro"'),
    ("mounts[1].options[0]", {}, "expected a string, found an object"),
    ("mounts[1].gidMappings", DELETED, "mappings of users and of groups, or neither"),
    ("mounts[1].uidMappings", DELETED, "mappings of users and of groups, or neither"),
    ("mounts[1].uidMappings[0].size", 0, "a range of at least one id, found 0"),
    ("mounts[1].gidMappings[0].size", 2**32 - 1, "a range that ends at 4294967294"),
    # hooks
    ("hooks.prestart", {"path": "/a"}, "expected an array, found an object"),
    ("hooks.prestart[0].path", "hook", "expected an absolute path"),
    ("hooks.createRuntime[0].path", DELETED, "expected an absolute path, found nothing"),
    ("hooks.createContainer[0].args", "x", "expected an array"),
    ("hooks.createRuntime[0].env[0]", "A", "expected NAME=VALUE"),
    ("hooks.createRuntime[0].timeout", 0, "an integer of seconds from 1"),
    ("hooks.poststart[0].timeout", 2**63, "an integer of seconds from 1"),
    ("hooks.poststart[0].timeout", -5, "an integer of seconds from 1"),
    ("hooks.poststop[0].timeout", 0.5, "an integer of seconds, found the number 0.5"),
    # namespaces and mappings
    ("linux", [], "expected an object, found an empty array"),
    ("linux.namespaces[0].type", DELETED, "a type of namespace"),
    ("linux.namespaces[2].type", "mnt", "did you mean mount?"),
    ("linux.namespaces[1].type", "net", "did you mean network?"),
    ("linux.namespaces[3].type", "pid", 'each type once, found "pid" again'),
    ("linux.namespaces[1].path", "run/netns/web", "expected an absolute path"),
    ("linux.namespaces[1].path", "/run/netns/web\0", "without a NUL byte"),
    ("linux.uidMappings", [], "mappings for the new user namespace, found none"),
    ("linux.gidMappings", DELETED, "mappings for the new user namespace, found none"),
    ("linux.uidMappings[0].size", 0, "a range of at least one id"),
    ("linux.uidMappings[1].size", 2**32 - 1000, "a range that ends at 4294967294 at the latest (containerID is 1000)"),
    ("linux.gidMappings[0].containerID", 2**32 - 1, "from 0 to 4294967294"),
    ("linux.uidMappings[1].containerID", 999, "a range apart from that of linux.uidMappings[0], found 999"),
    ("linux.uidMappings[1].hostID", 100999, "a range apart from that of linux.uidMappings[0]"),
    ("linux.uidMappings", [{"containerID": n, "hostID": n, "size": 1} for n in range(341)], "at most 340 mappings, found 341"),
    ("linux.timeOffsets.realtime", {"secs": 1}, 'the clock monotonic or boottime, found "realtime"'),
    ("linux.timeOffsets.monotonic.nanosecs", 10**9, "an integer of nanoseconds from 0 to 999999999"),
    ("linux.timeOffsets.monotonic.secs", 2**63, "found 9223372036854775808"),
    ("linux.timeOffsets.monotonic.secs", -(2**63) - 1, "found -9223372036854775809"),
    # devices
    ("linux.devices[0].path", "dev/fuse", "expected an absolute path"),
    ("linux.devices[0].path", "/../dev/sda", "a path that stays in the container"),
    ("linux.devices[0].path", "/dev/..", "below the container's root"),
    ("linux.devices[0].type", "a", "a type of device"),
    ("linux.devices[0].type", DELETED, "a type of device"),
    ("linux.devices[0].major", DELETED, "a device's major number, found nothing"),
    ("linux.devices[0].major", 4096, "a device's major number from 0 to 4095"),
    ("linux.devices[0].minor", 1 << 20, "a device's minor number from 0 to 1048575"),
    ("linux.devices[0].fileMode", 0o060666, "of a device of type c, found 25014"),
    ("linux.devices[0].fileMode", 0o200000, "a file mode in decimal from 0 to 65535"),
    ("linux.devices[0].fileMode", -1, "a file mode in decimal from 0"),
    ("linux.devices[0].uid", 2**32 - 1, "a user or group id"),
    ("linux.devices[1].path", "/dev/./fuse", 'each path once, found another device at "/dev/fuse"'),
    ("linux.netDevices.eth0.name", "a/b", "an interface's name"),
    ("linux.netDevices.eth0.name", "a" * 16, "an interface's name: 1 to 15 bytes"),
    ("linux.netDevices.eth0.name", "%d%d", "%d for a number at most"),
    ("linux.netDevices.eth0.name", "a%s", "%d for a number at most"),
    ("linux.netDevices.eth1", {"name": "inner"}, 'each name once in the container, found "inner" again'),
    # cgroups
    ("linux.cgroupsPath", "/a/../b", "a path without .."),
    ("linux.cgroupsPath", 5, "expected a string, found 5"),
    ("linux.resources.memory.limit", "64m", 'expected an integer of bytes, found the string "64m"'),
    ("linux.resources.memory.limit", -2, "an integer of bytes from -1 to 9223372036854775807, found -2"),
    ("linux.resources.memory.reservation", 2**63, "an integer of bytes from -1"),
    ("linux.resources.memory.swap", 536870911, "at least the limit (536870912), found 536870911"),
    ("linux.resources.memory.kernel", False, "an integer of bytes, found false"),
    ("linux.resources.memory.swappiness", 101, "from 0 to 100"),
    ("linux.resources.memory.disableOOMKiller", 0, "true or false, found 0"),
    ("linux.resources.cpu.shares", -1, "an integer from 0"),
    ("linux.resources.cpu.quota", -2, "an integer of microseconds from -1"),
    ("linux.resources.cpu.burst", 50001, "at most the quota (50000), found 50001"),
    ("linux.resources.cpu.period", -1, "an integer of microseconds from 0"),
    ("linux.resources.cpu.realtimePeriod", 2**64, "an integer of microseconds from 0"),
    ("linux.resources.cpu.quota", 2**63, "an integer of microseconds from -1"),
    ("linux.resources.cpu.period", 1e5, "found the number 100000.0"),
    ("linux.resources.cpu.cpus", "all", "a list of CPUs"),
    ("linux.resources.cpu.mems", "0,,1", "a list of memory nodes"),
    ("linux.resources.cpu.idle", 2, "an integer from 0 to 1"),
    ("linux.resources.pids.limit", 2**63, "a number of tasks from -1"),
    ("linux.resources.memory.swappiness", -1, "from 0 to 100"),
    ("linux.resources.cpu.idle", -1, "an integer from 0 to 1"),
    ("linux.resources.blockIO.weight", -1, "a weight from 0"),
    ("linux.resources.blockIO.throttleReadBpsDevice[0].rate", 2**64, "a rate per second from 0"),
    ("linux.resources.blockIO.weightDevice[0].major", -1, "a device's major number from 0"),
    ("linux.resources.pids.limit", -2, "a number of tasks from -1"),
    ("linux.resources.pids", 5, "expected an object, found 5"),
    ("linux.resources.blockIO.weight", 9, "a weight from 10 to 1000"),
    ("linux.resources.blockIO.leafWeight", 1001, "a weight from 0 to 1000"),
    ("linux.resources.blockIO.weightDevice[0]", {"major": 8, "minor": 0}, "weight, leafWeight or both, found neither"),
    ("linux.resources.blockIO.weightDevice[0].major", DELETED, "a device's major number, found nothing"),
    ("linux.resources.blockIO.throttleReadBpsDevice[0].rate", -1, "a rate per second from 0"),
    ("linux.resources.blockIO.throttleWriteIOPSDevice[0].minor", -1, "a device's minor number from 0"),
    ("linux.resources.devices[0].allow", DELETED, "true or false, found nothing"),
    ("linux.resources.devices[1].type", "u", "a type of device: a, b, c"),
    ("linux.resources.devices[1].access", "rx", "letters of rwm, each once"),
    ("linux.resources.devices[1].access", "rr", "letters of rwm, each once"),
    ("linux.resources.devices[1].access", "", "letters of rwm: what is allowed"),
    ("linux.resources.devices[1].major", -2, "from -1 to 4095"),
    ("linux.resources.devices[1].major", 4096, "from -1 to 4095"),
    ("linux.resources.devices[1].minor", -2, "from -1 to 1048575"),
    ("linux.resources.devices[1].minor", 1 << 20, "from -1 to 1048575"),
    ("linux.resources.hugepageLimits[0].pageSize", "2M", "a size such as 64KB, 2MB or 1GB"),
    ("linux.resources.hugepageLimits[0].pageSize", "02MB", "a size such as"),
    ("linux.resources.hugepageLimits[0].pageSize", "2MB\n", "a size such as"),
    ("linux.resources.hugepageLimits[0].limit", DELETED, "an integer, found nothing"),
    ("linux.resources.hugepageLimits[1].pageSize", "2MB", 'each size once, found "2MB" again'),
    ("linux.resources.network.classID", 2**32, "an integer from 0 to 4294967295"),
    ("linux.resources.network.priorities[0].name", "eth 0", "an interface's name"),
    ("linux.resources.network.priorities[0].priority", DELETED, "an integer, found nothing"),
    ("linux.resources.network.priorities[1].name", "eth0", 'each interface once, found "eth0" again'),
    ("linux.resources.rdma.mlx5_1", {}, "hcaHandles, hcaObjects or both, found neither"),
    ("linux.resources.rdma.mlx5_1.hcaHandles", 2**32, "an integer from 0 to 4294967295"),
    ('linux.resources.rdma["a b"]', {"hcaHandles": 1}, "a device's name without whitespace"),
    ("linux.resources.unified.memory", "5", "a file of a cgroup, such as memory.high"),
    ('linux.resources.unified["memory.max/.."]', "5", "a file of a cgroup"),
    ('linux.resources.unified["cgroup.kill"]', "1", "which is the runtime's own"),
    ('linux.resources.unified["memory.high"]', 5, "expected a string, found 5"),
    # kernel settings
    ('linux.sysctl["kernel.core_pattern"]', "x", "a setting that a namespace has for itself"),
    ('linux.sysctl["kernel.hostname"]', "x", "the member hostname instead"),
    ('linux.sysctl["kernel..msgmax"]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["net/core/../../kernel/panic"]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["net.core/../kernel"]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["net.x+kernel.panic"]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["user."]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["user.max/../panic"]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["/kernel/msgmax"]', "1", "a setting that a namespace has for itself"),
    ('linux.sysctl["net.core.somaxconn"]', 256, "expected a string, found 256"),
    ('linux.sysctl["net.core.somaxconn"]', "1\n2", "a value of one line"),
    ('linux.sysctl["net.core.somaxconn"]', "1\0", "without a NUL byte"),
    ('linux.sysctl["net/core/somaxconn"]', "1", 'each setting once, found "net.core.somaxconn" again'),
    # paths, labels, the rest
    ("linux.rootfsPropagation", "slav", "did you mean slave?"),
    ("linux.maskedPaths[0]", "proc/kcore", "expected an absolute path"),
    ("linux.readonlyPaths[0]", "", "expected an absolute path, found an empty string"),
    ("linux.mountLabel", True, "expected a string, found true"),
    ("linux.personality.domain", "LINUX64", "an execution domain"),
    ("linux.personality.flags", ["ADDR_NO_RANDOMIZE"], "the specification has none"),
    ("linux.memoryPolicy.mode", "BIND", "a memory policy"),
    ("linux.memoryPolicy.mode", DELETED, "a memory policy"),
    ("linux.memoryPolicy.nodes", "", "the nodes for MPOL_INTERLEAVE"),
    ("linux.memoryPolicy.nodes", "x", "a list of memory nodes"),
    ("linux.memoryPolicy.flags[0]", "STATIC", "a memory policy's flag"),
    ("linux.intelRdt.closID", "a/b", "the name of a directory"),
    ("linux.intelRdt.closID", "..", "the name of a directory"),
    ("linux.intelRdt.schemata[0]", "L3:0=f\nMB:0=1", "a text of one line"),
    ("linux.intelRdt.l3CacheSchema", "L3:0=f\n", "a text of one line"),
    ("linux.intelRdt.memBwSchema", "L3:0=f", 'a schema that begins with "MB:"'),
    ("linux.intelRdt.enableMonitoring", "yes", "true or false"),
    # seccomp
    ("linux.seccomp", [], "expected an object, found an empty array"),
    ("linux.seccomp", {}, "expected the key defaultAction, found none"),
    ("linux.seccomp.defaultAction", "SCMP_ACT_DENY", "expected one of SCMP_ACT_ALLOW"),
    ("linux.seccomp.defaultErrnoRet", 4096, "an integer from 0 to 4095"),
    ("linux.seccomp.architectures[0]", "x86_64", "expected one of SCMP_ARCH"),
    ("linux.seccomp.flags[0]", "LOG", "expected one of SECCOMP_FILTER_FLAG_LOG"),
    ("linux.seccomp.listenerPath", "agent.sock", "expected an absolute path"),
    ("linux.seccomp.listenerPath", DELETED, "the path that listenerMetadata is sent to, found nothing"),
    ("linux.seccomp.syscalls[0].names", [], "at least one name"),
    ("linux.seccomp.syscalls[0].names[1]", "wri\0te", "without a NUL byte"),
    ("linux.seccomp.syscalls[0].errnoRet", 1, "no errno, because SCMP_ACT_ALLOW returns none"),
    ("linux.seccomp.syscalls[1].args[0].op", "EQ", "expected one of SCMP_CMP_EQ"),
    ("linux.seccomp.syscalls[1].args[0].index", 6, "an integer from 0 to 5"),
    ("linux.seccomp.syscalls[0].excludes", {"caps": ["CAP_SYS_ADMIN"]}, "a filter without conditions"),
    ("linux.seccomp.archMap", [], "a filter without conditions"),
)  # fmt: skip

# (changes, where the complaint is, phrase)
ELSEWHERE: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"process.scheduler.period": 1}, "process.scheduler", "0 < runtime <= deadline <= period"),
    ({"process.scheduler": {"policy": "SCHED_RR"}}, "process.scheduler.priority", "1 to 99 for SCHED_RR, found nothing"),
    ({"process.scheduler.policy": "SCHED_BATCH"}, "process.scheduler.runtime", "no runtime for SCHED_BATCH"),
    ({"process.user": {"uid": 0}}, "process.user.gid", "found nothing"),
    ({"linux.uidMappings[0].size": 1001}, "linux.uidMappings[1].containerID", "apart from that of linux.uidMappings[0]"),
    ({"linux.gidMappings[0].hostID": 2**32 - 2}, "linux.gidMappings[0].size", "(hostID is 4294967294), found 65536"),
    ({"linux.resources.devices[1].type": "a"}, "linux.resources.devices[1]", "type b or c, or else all numbers"),
    ({"linux.resources.devices[0].access": "m"}, "linux.resources.devices[0]", "the access rwm"),
    ({"linux.resources.devices[0]": {"allow": True}}, "linux.resources.devices[0].access", "found nothing"),
    ({"linux.resources.memory.limit": DELETED}, "linux.resources.memory.swap", "with a limit beside it"),
    ({"linux.resources.memory.limit": -1}, "linux.resources.memory.swap", "with a limit beside it"),
    ({"linux.memoryPolicy.mode": "MPOL_LOCAL"}, "linux.memoryPolicy.nodes", "no nodes for MPOL_LOCAL"),
    ({"linux.memoryPolicy.flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}, "linux.memoryPolicy.flags", "found both"),
    ({"mounts[0].options": ["bind"], "mounts[0].source": "/srv/proc"}, "mounts[0].destination", '"bind" on /proc'),
    ({"mounts[0].type": "tmpfs"}, "mounts[0].destination", 'the type proc, or a bind of /proc, found "tmpfs" on /proc'),
    ({"mounts[0].destination": "proc/1"}, "mounts[0].destination", 'found "/proc/1"'),
    # members that need a namespace, which is number: pid network mount ipc uts user cgroup time
    ({"linux.namespaces[4]": {"type": "uts"}, "linux.namespaces[0].type": "uts"}, "linux.namespaces[4].type", "again"),
    ({"linux.namespaces[4]": DELETED, 'linux.sysctl': {}}, "hostname", 'a namespace of type "uts" in linux.namespaces, found none'),
    ({"linux.namespaces[4]": DELETED, 'linux.sysctl': {}, "hostname": ""}, "domainname", 'a namespace of type "uts"'),
    ({"linux.namespaces[2]": DELETED}, "mounts", 'a namespace of type "mount" in linux.namespaces, found none'),
    ({"linux.namespaces[2]": DELETED, "mounts": []}, "linux.maskedPaths", 'a namespace of type "mount"'),
    ({"linux.namespaces[2]": DELETED, "mounts": [], "linux.maskedPaths": []}, "linux.readonlyPaths", 'a namespace of type "mount"'),
    ({"linux.namespaces[1]": DELETED, "linux.sysctl": {}}, "linux.netDevices", 'a namespace of type "network"'),
    ({"linux.namespaces[1]": DELETED}, 'linux.sysctl["net.core.somaxconn"]', 'a namespace of type "network"'),
    ({"linux.namespaces[3]": DELETED}, 'linux.sysctl["kernel/msgmax"]', 'a namespace of type "ipc"'),
    ({"linux.namespaces[4]": DELETED}, 'linux.sysctl["kernel.domainname"]', 'a namespace of type "uts"'),
    ({"linux.namespaces[5]": DELETED, "linux.sysctl": {"user.max_net_namespaces": "1"}},
     'linux.sysctl["user.max_net_namespaces"]', 'a namespace of type "user"'),
    ({"linux.namespaces[5]": DELETED}, "linux.uidMappings", 'a namespace of type "user"'),
    ({"linux.namespaces[5]": DELETED, "linux.uidMappings": []}, "linux.gidMappings", 'a namespace of type "user"'),
    ({"linux.namespaces[7]": DELETED}, "linux.timeOffsets", 'a new namespace of type "time" in linux.namespaces, found none'),
    ({"linux.namespaces[7].path": "/proc/1/ns/time"}, "linux.timeOffsets", 'one to join ("/proc/1/ns/time")'),
    ({"linux.namespaces[5]": DELETED, "linux.uidMappings": [], "linux.gidMappings": [], "mounts[1].uidMappings": [],
      "mounts[1].gidMappings": []}, "mounts[1].uidMappings", 'mappings for the option "ridmap"'),
    # seccomp
    ({"linux.seccomp.syscalls[0].action": DELETED}, "linux.seccomp.syscalls[0]", "expected the keys action"),
    ({"linux.seccomp.syscalls[0].arg": []}, "linux.seccomp.syscalls[0]", "expected only the keys"),
    ({"linux.seccomp.syscalls[1].args[0].op": DELETED}, "linux.seccomp.syscalls[1].args[0]", "expected the key op"),
    ({"linux.seccomp.defaultAction": "SCMP_ACT_ALLOW"}, "linux.seccomp.defaultErrnoRet", "SCMP_ACT_ALLOW returns none"),
    ({"linux.seccomp.defaultAction": "SCMP_ACT_NOTIFY", "linux.seccomp.defaultErrnoRet": None},
     "linux.seccomp.defaultAction", "another action than SCMP_ACT_NOTIFY"),
    ({"linux.seccomp.listenerPath": DELETED, "linux.seccomp.listenerMetadata": DELETED}, "linux.seccomp.listenerPath",
     "the socket that linux.seccomp.syscalls[2].action notifies, found nothing"),
    ({"linux.seccomp.syscalls": []}, "linux.seccomp.flags[1]", "a flag that goes without SCMP_ACT_NOTIFY"),
)  # fmt: skip


@pytest.mark.parametrize(("place", "value", "phrase"), AT_PLACE, ids=lambda value: str(value)[:60])
def test_refused_at_its_place(place: str, value: Any, phrase: str) -> None:
    message = refusal(edited(FULL, {place: value}))
    assert message.startswith(f"{place}: expected ")
    assert phrase in message


@pytest.mark.parametrize(("changes", "place", "phrase"), ELSEWHERE, ids=lambda value: str(value)[:60])
def test_refused_where_it_contradicts(changes: dict[str, Any], place: str, phrase: str) -> None:
    message = refusal(edited(FULL, changes))
    assert message.startswith(f"{place}: expected ")
    assert phrase in message


def test_the_message_of_the_manual() -> None:
    changed = edited(FULL, {"linux.resources.memory.limit": "64m"})
    assert refusal(changed) == 'linux.resources.memory.limit: expected an integer of bytes, found the string "64m"'


def test_long_and_hostile_text_stays_one_short_line() -> None:
    message = refusal(edited(FULL, {"linux.rootfsPropagation": "\n\u2028\x1b[31m" * 100_000}))
    assert len(message) < 300
    assert len(refusal(edited(FULL, {"linux.sysctl": {"a\r\n" * 100_000: "1"}}))) < 500


def test_16_mebibytes_are_the_end() -> None:
    text = json.dumps(FULL)
    parse_config(text + " " * ((16 << 20) - len(text)))
    assert refusal(text + " " * ((16 << 20) + 1 - len(text))) == "expected at most 16777216 bytes, found more"


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_ends_before_the_stack_does(opening: str) -> None:
    assert "at most 64 nested objects and arrays" in refusal(opening * 50_000)


def test_brackets_that_do_not_match_are_no_json() -> None:
    for text in ("[}" * 1_000_000, "[" * 64, "]" * 1_000_000, '{"a": [1, 2}]', "[" * 60 + "{]" * 60):
        assert "not JSON" in refusal(text) or "objects and arrays" in refusal(text)


def test_so_many_objects_that_reading_takes_minutes() -> None:
    assert "at most 100000 objects and arrays" in refusal('{"a": [' + ",".join(["{}"] * 100_000) + "]}")


def test_nesting_within_bounds_is_nothing_special() -> None:
    deep: Any = 1
    for _ in range(63):
        deep = [deep]
    parse_config(json.dumps({**FULL, "future": deep}))
    assert "at most 64 nested" in refusal({**FULL, "future": [deep]})
    assert "at most 64 nested" in refusal({**FULL, "future": deep, "later": [deep], "end": [[]]})
    parse_config(json.dumps({**FULL, "future": [[], "[{" * 100, '\\"[' * 100]}))
