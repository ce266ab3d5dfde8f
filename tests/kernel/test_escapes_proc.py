"""Escapes by /proc, /sys, cgroups and mounts: what stands at /proc in an image, mounts over it, a fresh one, its writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attacks import attack, decoys, evil_image, host_unchanged, outcome, plant
from probes import SECRET, living, mounts, refused

import pycontain
from pycontain.errors import InvalidArgument, SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


# --- /proc of the image, mounts over it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["/proc", "/proc/", "//proc", "/a/../proc", "/proc/sys", "/proc/self/attr", "/proc/1/fd", "/./proc/../proc/x"],
)
def test_cve_2019_16884_a_mount_over_proc_is_refused(target: str, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    both: list[dict[str, Any]] = [
        {"mounts": [pycontain.bind(str(tmp_path / "v"), target)]},
        {"tmpfs": [pycontain.tmpfs(target)]},
    ]
    for options in both:
        assert "guards /proc" in refused(InvalidArgument, **options), options
    assert list((tmp_path / "v").iterdir()) == []


def guards(pid: int) -> dict[str, tuple[str, str, set[str]]]:
    """What covers and what is read-only at /proc and /sys."""
    return {at: how for at, how in mounts(pid).items() if at.startswith(("/proc", "/sys"))}


@pytest.mark.parametrize("target", ["/v/fake", "/tmp", "/", "self", "../v/fake", "/proc", "/dev/shm"])
def test_cve_2019_19921_2023_27561_2023_28642_proc_as_a_link_changes_no_guard(
    target: str, image: Path, busybox_root: str, tmp_path: Path
) -> None:
    """/proc of the image leads into a volume that has a /proc of the attacker's; the masks must lie on the real one."""
    for name in ("fake/sys/kernel", "fake/self/attr", "fake/self/fd"):
        (tmp_path / "vol" / name).mkdir(parents=True)
    with living("sleep", "600", image=busybox_root) as honest:
        expected = guards(honest.pid)
    assert "/proc/sys" in expected and expected["/proc/keys"][0] == "/null"
    plant(image, "/proc", target)
    plant(image, "/sys", target)
    volume = pycontain.bind(str(tmp_path / "vol"), "/v")
    with (
        decoys(tmp_path / "decoy", tmp_path / "vol", image),
        living("sleep", "600", image=str(image), mounts=[volume]) as c,
    ):
        assert guards(c.pid) == expected


HOSTILE_PROC = ("sys/net/ipv4/ip_forward", "self/oom_score_adj", "self/attr/exec", "sys/kernel/core_pattern")


@pytest.mark.parametrize("by", ["the image", "a volume"])
def test_cve_2025_52881_writes_to_proc_are_not_redirected(by: str, image: Path, tmp_path: Path) -> None:
    """A sysctl and an oom_score_adj, while what looks like /proc leads each of them to a decoy or to core_pattern."""
    with decoys(tmp_path / "decoy") as kept:
        fake = image / "proc" if by == "the image" else tmp_path / "vol"
        for name, to in zip(HOSTILE_PROC, ["/proc/sys/kernel/core_pattern", *[str(kept / "secret")] * 3], strict=True):
            plant(fake, name, to)
        plant(image, "/data", "/proc")  # a volume on it lies over /proc
        volume = [] if by == "the image" else [pycontain.bind(str(fake), "/data")]
        settings = {"net.ipv4.ip_forward": "1"}
        try:
            with living("sleep", "600", image=str(image), mounts=volume, sysctls=settings, oom_score_adj=500) as c:
                look = ["nsenter", f"--net=/proc/{c.pid}/ns/net", "cat", "/proc/sys/net/ipv4/ip_forward"]
                assert subprocess.run(look, capture_output=True, text=True, check=True).stdout == "1\n"
                assert Path(f"/proc/{c.pid}/oom_score_adj").read_text() == "500\n"
        except SetupFailed:  # a volume over /proc may be refused as well
            assert by == "a volume"


@pytest.mark.parametrize("name", ["sysrq-trigger", "sys", "keys", "bus"])
def test_cve_2025_52881_a_link_in_place_of_a_guarded_path_ends_the_start(
    name: str, image: Path, tmp_path: Path
) -> None:
    """A mask or a read-only remount that follows a link covers something else: then nothing starts."""
    with decoys(tmp_path / "decoy") as kept:
        plant(tmp_path / "vol", name, str(kept))
        plant(image, "/data", "/proc")
        said = outcome(image, "true", mounts=[pycontain.bind(str(tmp_path / "vol"), "/data")])
        assert said.startswith("refused: "), said


# Every file of the whole machine's in /proc and /sys that takes a write, be it of no bytes.
SWEEP = """
def writable(path):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try: os.write(fd, b'')
    finally: os.close(fd)
found = []
for top in TOPS:
    for base, dirs, files in os.walk(top):
        dirs[:] = [d for d in dirs if not d.isdigit() and not os.path.islink(f'{base}/{d}')]
        found += [f'{base}/{f}' for f in files if attempt(writable, f'{base}/{f}') == 'ok']
say(found)
"""
COVERED = {f"/proc/{name}" for name in ("keys", "timer_list", "interrupts", "kcore", "latency_stats", "sched_debug")}


@pytest.mark.parametrize("user", ["0", "1000"])
def test_no_file_of_proc_or_sys_takes_a_write(user: str) -> None:
    """core_pattern, modprobe, sysrq-trigger, uevent_helper, mtrr, slabinfo and whatever else there is."""
    with host_unchanged():
        found = attack("TOPS = ['/proc', '/sys']" + SWEEP, user=user)
    assert set(found) <= COVERED  # the null device lies there


def test_the_sweep_finds_what_takes_a_write() -> None:
    found = attack("TOPS = ['/proc/sys/net/ipv4']" + SWEEP, privileged=True)  # of its own network
    assert "/proc/sys/net/ipv4/ip_forward" in found


MEM = """
import mmap
fd = os.open('/b/secret', os.O_RDONLY)
at = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
where = int(next(l for l in open('/proc/self/maps') if l.rstrip().endswith('/b/secret')).split('-')[0], 16)
mem = os.open('/proc/self/mem', os.O_RDWR)
def force(): os.pwrite(mem, b'XXXX', where)
say([attempt(force), at[:4].decode(), os.pread(fd, 4, 0).decode(), attempt(touch, '/proc/1/mem'), attempt(touch, '/proc/kcore')])
"""


def test_proc_self_mem_changes_the_copy_and_never_the_hosts_file(tmp_path: Path) -> None:
    """/proc/PID/mem writes where the mapping itself forbids it: into this process's own page, not the file's."""
    with decoys(tmp_path / "decoy") as kept:
        wrote, mapped, file, _, kcore = attack(MEM, mounts=[pycontain.bind(str(kept), "/b", read_only=True)])
    assert (wrote, mapped, file) == ("ok", "XXXX", SECRET[:4])
    assert kcore != "ok" or os.path.exists("/proc/kcore")  # then it is the null device: HARMLESS


# --- cgroups ------------------------------------------------------------------------------------------------------------

RELEASE_AGENT = """
def release_agents():
    found = []
    for base, dirs, files in os.walk('/'):
        if base == '/': dirs[:] = [d for d in dirs if d not in ('proc', 'usr', 'lib')]
        found += [base + '/' + f for f in files if f in ('release_agent', 'cgroup.procs')]
    return found
def write_back():
    wrote = {}
    for path in release_agents():
        if path.endswith('release_agent'):
            def same():
                fd = os.open(path, os.O_RDWR); old = os.read(fd, 4096); os.lseek(fd, 0, 0); os.write(fd, old or b'\\n')
            wrote[path] = attempt(same)
    return wrote
def mounts():
    os.makedirs('/tmp/cg', exist_ok=True)
    return {c: mount(b'cgroup', b'/tmp/cg', b'cgroup2' if c == 'v2' else b'cgroup', 0, None if c == 'v2' else c.encode())
            for c in ('v2', 'memory', 'pids', 'cpuset', 'rdma', 'none,name=systemd', 'freezer')}
def as_user_namespace():
    entered = sys_(272, NEW['user'] | NEW['mnt'] | NEW['cgroup'])
    return [entered, mounts(), write_back()]
say([mounts(), release_agents(), in_child(as_user_namespace)])
"""


def release_agents() -> dict[str, str]:
    found = [
        Path(line.split()[4]) / "release_agent"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if " - cgroup " in line
    ]
    return {str(f): f.read_text() for f in found if f.exists()}


def test_cve_2022_0492_release_agent_is_out_of_reach() -> None:
    before = release_agents()
    with host_unchanged():
        direct, seen, (entered, inside, wrote) = attack(RELEASE_AGENT)
    assert set(direct.values()) == set(inside.values()) == {"EPERM"}
    assert (entered, seen, wrote) == ("EPERM", [], {})
    assert release_agents() == before


def test_cve_2022_0492_not_even_from_a_user_namespace() -> None:
    """Without the filter a user namespace can be made, and cgroups mounted in it; writing release_agent is the kernel's to
    refuse, and what is mounted is our own cgroup."""
    before = release_agents()
    with host_unchanged():
        direct, seen, (entered, _, wrote) = attack(RELEASE_AGENT, seccomp="unconfined")
    assert set(direct.values()) == {"EPERM"} and seen == []
    assert entered == "ok" and "ok" not in wrote.values()
    assert release_agents() == before


CGROUP_WRITES = """
top = '/sys/fs/cgroup'
def make(): os.mkdir(top + '/escape')
say([attempt(make), attempt(touch, top + '/cgroup.procs'), [d for d, _, f in os.walk(top) if attempt(touch, d + '/cgroup.procs') == 'ok'],
     mount(None, top.encode(), None, 32), call(libc.umount2(top.encode(), 2))])
"""


@pytest.mark.parametrize(
    "options", [{}, {"cgroupns": "host"}, {"read_only": True}, {"pid": "host", "cgroupns": "host"}]
)
def test_cve_2023_25809_the_cgroup_file_system_is_absent_or_read_only(options: dict[str, str]) -> None:
    made, procs, writable, remount, umount = attack(CGROUP_WRITES, **options)
    assert made in ("EROFS", "ENOENT", "EPERM") and procs in ("EROFS", "ENOENT")
    assert (writable, remount, umount) == ([], "EPERM", "EPERM")


# --- user and mount namespaces ------------------------------------------------------------------------------------------

USERNS = """
def inside():
    entered = sys_(272, NEW['user'] | NEW['mnt'] | NEW['pid'])
    os.makedirs('/tmp/m', exist_ok=True)
    def fresh():
        return [mount(b'x', b'/tmp/m', b'proc'), mount(b'x', b'/tmp/m', b'sysfs'), mount(b'x', b'/tmp/m', b'tmpfs')]
    peeled = [call(libc.umount2(at, 2)) for at in (b'/proc/keys', b'/proc/sys', b'/')]
    return [entered, in_child(fresh), *peeled,
            mount(None, b'/proc/sys', None, 32 | 4096), attempt(touch, '/proc/sys/kernel/core_pattern')]
say(in_child(inside))
"""


def test_a_user_namespace_made_inside_lifts_no_guard() -> None:
    """Root there, without a filter: a fresh /proc or /sys would have no masks, an unmounted mask neither."""
    with host_unchanged():
        entered, (proc, sysfs, tmpfs), *rest = attack(USERNS, seccomp="unconfined")
    assert (entered, tmpfs) == ("ok", "ok")  # the attack works as far as it may
    assert "ok" not in (proc, sysfs) and "ok" not in rest, (proc, sysfs, rest)


BREAK_OUT = """
seen, old, ns = [], os.open('/', os.O_RDONLY), os.open('/proc/1/ns/mnt', os.O_RDONLY)
def look(): seen.append(sorted(os.listdir('/'))); seen.append(sorted(os.listdir('.')))
for at in ('/tmp', '/etc'):
    attempt(os.chroot, at)
    os.fchdir(old)
    for _ in range(64): os.chdir('..')
    attempt(os.chroot, '.')
    look()
took_away = call(libc.umount2(b'/', 2))
entered = call(libc.setns(ns, 0))
look()
say([took_away, entered, seen])
"""


@pytest.mark.parametrize(
    ("options", "allowed"),
    [({}, "EPERM"), ({"privileged": True}, "ok"), ({"cap_add": ["ALL"], "seccomp": "unconfined"}, "ok")],
)
def test_breaking_out_of_the_root_finds_an_empty_directory_at_most(
    options: dict[str, Any], allowed: str, tmp_path: Path
) -> None:
    """The root is a chroot on top of an empty tmpfs: chroot twice, take the root's mount away, enter the namespace again."""
    (tmp_path / "marker").touch()
    marker = pycontain.bind(str(tmp_path / "marker"), "/marker-of-this-root")
    with decoys(tmp_path / "decoy"):
        took_away, entered, seen = attack(BREAK_OUT, mounts=[marker], **options)
    assert (took_away, entered) == (allowed, allowed)
    assert all(not names or "marker-of-this-root" in names for names in seen), seen
    assert ([] in seen) == (allowed == "ok")


NSENTER = """
def enter(path):
    if libc.setns(os.open(path, os.O_RDONLY), 0) < 0: raise OSError(ctypes.get_errno(), '')
say({f'{p}/{k}': attempt(enter, f'/proc/{p}/ns/{k}')
     for p in PIDS for k in ('mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup', 'user')})
"""


def test_nsenter_by_proc_pid_ns_enters_nothing() -> None:
    """Its own process 1; with the host's pid namespace the host's first process and the engine."""
    assert "ok" not in attack("PIDS = [1]\n" + NSENTER).values()
    answers = attack(f"PIDS = [1, {os.getpid()}]\n" + NSENTER, pid="host")
    assert len(answers) == 14 and set(answers.values()) <= {"EPERM", "EACCES"}
    assert attack(f"PIDS = [{os.getpid()}]\n" + NSENTER, pid="host", privileged=True)[f"{os.getpid()}/net"] == "ok"


def test_the_upper_layer_cannot_be_reached_by_its_path() -> None:
    """The mount table names the layers' directories on the host."""
    source = """
lines = [line.split()[-1] for line in open('/proc/self/mountinfo') if ' - overlay ' in line]
paths = [o.split('=', 1)[1] for line in lines for o in line.split(',') if '=/' in o]
say([[p, attempt(os.listdir, p), attempt(os.listdir, '/proc/1/root/..' + p)] for p in paths])
"""
    for path, plain, by_root in attack(source):
        assert path == "/" or {plain, by_root} <= {"ENOENT", "EACCES"}, path


def test_cve_2021_41091_a_set_user_id_program_of_a_container_cannot_be_reached_by_a_user_of_the_host(
    tmp_path: Path,
) -> None:
    """The upper layers lie on the host: nobody else may walk there."""
    script = "cp /bin/true /escape && chmod 4755 /escape && exec sleep 600"
    source = "import os, sys; os.setgid(65534); os.setuid(65534); [os.listdir(d) for d in sys.argv[1:]]"
    from census import poll_until

    with living("sh", "-c", script):
        data = Path(os.environ["PYCONTAIN_DATA_ROOT"])
        assert poll_until(lambda: bool(list(data.glob("ephemeral/*/*/upper/escape"))))
        for made in data.glob("ephemeral/*/*"):
            if made.is_dir():
                r = subprocess.run(["python3", "-c", source, str(made)], capture_output=True, text=True)
                assert "PermissionError" in r.stderr, made
        own = subprocess.run(["python3", "-c", source, "/usr"], capture_output=True, text=True)
        assert own.returncode == 0, own.stderr


@pytest.mark.parametrize("init", [True, False])
def test_cve_2019_16884_a_volume_on_a_link_into_proc_makes_nothing_writable(
    init: bool, image: Path, tmp_path: Path
) -> None:
    """A place in /proc named by a link of the image may be covered; what guards must not be lifted by it."""
    names = ("/proc/sys/kernel/core_pattern", "/p/kernel/core_pattern", "/p/core_pattern", "/proc/sysrq-trigger")
    script = "".join(f"echo '|/x' >{name} && echo wrote {name}; " for name in names)
    (tmp_path / "vol").mkdir()
    with decoys(tmp_path / "decoy", tmp_path / "vol"):
        for to in ("/proc/sys", "/proc/sys/kernel", "/proc/1", "/proc/self/fd", "/proc/self/root", "/proc/acpi"):
            plant(image, "/p", to)
            volume = pycontain.bind(str(tmp_path / "vol"), "/p", read_only=True)
            assert "wrote" not in outcome(image, script, mounts=[volume], init=init), to


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
@pytest.mark.parametrize("to", ["/proc", "/proc/sys", "/proc/self", "../proc", "/proc/1/fd"])
def test_cve_2019_16884_a_mount_over_proc_by_a_link_of_the_image_is_refused(
    to: str, kind: str, image: Path, tmp_path: Path
) -> None:
    """As a mount that says so itself is: it would cover what guards /proc."""
    (tmp_path / "vol").mkdir()
    plant(image, "/data", to)
    options: dict[str, Any] = {"mounts": [f"{tmp_path / 'vol'}:/data"]} if kind == "bind" else {"tmpfs": ["/data"]}
    assert outcome(image, "test -e /proc/self/status && echo there", **options).startswith("refused: ")


COVERS = """
changed = [mount(b'x', b'/proc/acpi', None, 32), attempt(os.mkdir, '/proc/acpi/escape'), attempt(os.chmod, '/proc/keys', 0)]
say([changed, os.listdir('/proc/acpi'), oct(os.stat('/proc/keys').st_mode & 0o7777)])
"""


def test_what_covers_is_not_changed_for_other_containers() -> None:
    """What lies over masked paths is shared by all containers of a process; who may remount it may write to it."""
    attack(COVERS, cap_add=["SYS_ADMIN"])
    changed, listed, mode = attack(COVERS)
    assert "ok" not in changed
    assert (listed, mode) == ([], "0o666")
