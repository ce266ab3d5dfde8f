"""Escapes from a user namespace of the container's own, with all capabilities in it, and from an ordinary user's container."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attacks import attack, decoys, host_unchanged
from ordinary_user import OrdinaryUser
from probes import SECRET, living, mounts, until
from test_escapes_devices import INJECT, MKNOD, numbers
from test_escapes_powers import KEYS, SHOCKER, handle_of
from test_escapes_proc import BREAK_OUT, RELEASE_AGENT, USERNS, release_agents

import pycontain

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

MAP: dict[str, Any] = {"userns": "0:300000:65536"}
ALL: dict[str, Any] = {**MAP, "privileged": True}
ADMIN: dict[str, Any] = {**MAP, "cap_add": ["SYS_ADMIN"], "seccomp": "unconfined"}
POWERS = pytest.mark.parametrize("options", [MAP, ADMIN, ALL], ids=["default", "admin", "privileged"])


# --- masks, fresh file systems, cgroups --------------------------------------------------------------------------------

PEEL = """
masked = [l.split()[4] for l in open('/proc/self/mountinfo') if l.split()[4].startswith(('/proc/', '/sys/'))]
for at in masked: libc.umount2(at.encode(), 2), mount(None, at.encode(), None, 32 | 4096)
os.makedirs('/tmp/m', exist_ok=True)
kinds = 'proc sysfs cgroup2 mqueue debugfs tracefs securityfs bpf devtmpfs configfs'
fresh = {k: mount(b'x', b'/tmp/m', k.encode()) for k in kinds.split()}
wrote = {}
for p in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sysrq-trigger', '/proc/sys/kernel/sysrq',
          '/proc/kcore', '/proc/sys/fs/suid_dumpable', '/sys/kernel/uevent_helper', '/proc/sys/vm/overcommit_memory'):
    def same(p=p):
        with open(p) as f: old = f.read()
        with open(p, 'w') as f: f.write(old)
    for at in (p, p.replace('/proc', '/tmp/m').replace('/sys', '/tmp/m', 1)): wrote[at] = attempt(same)
shown = sorted(d for d in os.listdir('/proc') if d.isdigit())
say([len(masked), fresh, wrote, shown])
"""


@POWERS
def test_who_takes_the_masks_away_finds_nothing_to_write(options: dict[str, Any]) -> None:
    """With CAP_SYS_ADMIN its own masks are its own to lift; the host's and other containers' stay, and no setting is its."""
    with living(**MAP) as other, host_unchanged():
        before = mounts(other.pid), Path("/proc/self/mountinfo").read_text()
        _, fresh, wrote, shown = attack(PEEL, **options)
        assert (mounts(other.pid), Path("/proc/self/mountinfo").read_text()) == before
    assert "ok" not in wrote.values(), wrote
    assert shown == ["1"]
    assert {fresh[k] for k in ("debugfs", "tracefs", "securityfs", "bpf", "devtmpfs", "configfs")} <= {
        "EPERM",
        "ENODEV",
        "ENOENT",
    }


@POWERS
def test_cve_2022_0492_release_agent(options: dict[str, Any]) -> None:
    before = release_agents()
    with host_unchanged():
        _, _, (_, _, wrote) = attack(RELEASE_AGENT, **options)
    assert "ok" not in wrote.values() and release_agents() == before


CGROUPS = """
tops = ['/sys/fs/cgroup']
for kind, data in ((b'cgroup2', None), (b'cgroup', b'memory'), (b'cgroup', b'pids')):
    at = f'/tmp/cg{len(tops)}'
    os.makedirs(at, exist_ok=True)
    if mount(b'x', at.encode(), kind, 0, data) == 'ok': tops.append(at)
made = [d for t in tops for d, _, _ in os.walk(t) if attempt(os.mkdir, d + '/pycontain-escape') == 'ok']
for d in made: os.rmdir(d + '/pycontain-escape')
limits = ('.max', 'limit_in_bytes', '.allow', '.deny', 'release_agent', 'subtree_control')
def same(p):
    fd = os.open(p, os.O_RDWR)
    os.write(fd, os.read(fd, 4096))
wrote = [f'{d}/{n}' for t in tops for d, _, names in os.walk(t) for n in names if n.endswith(limits) and attempt(same, f'{d}/{n}') == 'ok']
say([made, wrote])
"""


@POWERS
@pytest.mark.parametrize("cgroupns", ["private", "host"])
def test_cve_2023_25809_no_cgroup_can_be_made_or_changed(cgroupns: str, options: dict[str, Any]) -> None:
    assert attack(CGROUPS, cgroupns=cgroupns, memory="64m", **options) == [[], []]


def test_nested_user_namespaces_lift_no_guard() -> None:
    with host_unchanged():
        entered, (proc, sysfs, tmpfs), *rest = attack(USERNS, seccomp="unconfined", **MAP)
    assert (entered, tmpfs) == ("ok", "ok")
    assert "ok" not in (proc, sysfs) and "ok" not in rest, (proc, sysfs, rest)


MAPS = """
def write(name, value): os.write(os.open('/proc/self/' + name, os.O_WRONLY), value.encode())
tried = dict(uid_map='0 0 4294967295', gid_map='0 0 1', setgroups='deny', oom_score_adj='-1000', timens_offsets='1 1 1')
wrote = {n: attempt(write, n, v) for n, v in tried.items()}
def nested(m): return [sys_(272, NEW['user']), attempt(write, 'uid_map', m)]
say([wrote, {m: in_child(lambda: nested(m)) for m in ('0 65536 1', '0 300000 1', '0 4294967294 1', '0 0 1')},
     attempt(os.setuid, 70000), attempt(os.setgroups, [70000]), attempt(os.chown, '/tmp', 70000, 0)])
"""


@POWERS
def test_ids_outside_of_the_map_are_out_of_reach(options: dict[str, Any]) -> None:
    wrote, nested, *rest = attack(MAPS, **options)
    assert "ok" not in wrote.values() and set(rest) == {"EINVAL"}, (wrote, rest)
    own = nested.pop("0 0 1")
    assert own[0] == ("EPERM" if options == MAP else "ok"), own  # whoever may make one, for ids of its own
    assert all(answer != "ok" for _, answer in nested.values()), nested


# --- ways out ----------------------------------------------------------------------------------------------------------

LEAN = """
lines = open('/proc/self/mountinfo').read().splitlines()
ids = {l.split()[0] for l in lines}
places = [f'/proc/{p}/{w}' for p in os.listdir('/proc') if p.isdigit() for w in ('root', 'cwd')]
roots = {p: attempt(lambda: sorted(os.listdir(p + '/proc'))[:1] and None) for p in places}
same = all(os.stat(p + '/..').st_ino == os.stat('/').st_ino for p in places if p.endswith('root'))
fds = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n not in '012' and os.path.lexists(f'/proc/self/fd/{n}')]
hosts = [p for p in os.listdir('/proc') if p.isdigit() and p != '1']
say([[l for l in lines if l.split()[4] == '/'], same, fds, hosts])
"""


@POWERS
def test_the_spawners_namespace_with_its_procfs_is_out_of_sight(options: dict[str, Any]) -> None:
    top, same, fds, hosts = attack(LEAN, **options)
    assert len(top) == 1 and " - overlay " in top[0] and same and fds == [] and hosts == []


@POWERS
def test_breaking_out_of_the_root_finds_the_containers_own_at_most(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    with decoys(tmp_path / "decoy"):
        _, _, seen = attack(BREAK_OUT, mounts=[f"{tmp_path / 'marker'}:/marker-of-this-root"], **options)
    assert all(not names or "marker-of-this-root" in names for names in seen), seen


PIVOT = """
os.makedirs('/tmp/new/old', exist_ok=True)
seen = [mount(b'x', b'/tmp/new', b'tmpfs'), attempt(os.makedirs, '/tmp/new/old'), sys_(155, b'/tmp/new', b'/tmp/new/old')]
names = []
for at in ('/old', '/old/..', '/..', '/old/proc/1/root', '/proc/1/root/..'):
    try: names.append(sorted(os.listdir(at)))
    except OSError as e: names.append(why(e.errno))
libc.umount2(b'/old', 2)
for _ in range(8): os.chdir('..')
say([seen, names, os.listdir('.')])
"""


@pytest.mark.parametrize("options", [ADMIN, ALL], ids=["admin", "privileged"])
def test_pivoting_away_uncovers_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    seen, names, after = attack(PIVOT, mounts=[f"{tmp_path / 'marker'}:/marker-of-this-root"], **options)
    assert "ok" in seen  # the attack has its powers
    full = [n for n in (*names, after) if isinstance(n, list) and n not in ([], ["old"])]
    assert all("marker-of-this-root" in n for n in full), full


# --- power over the host -----------------------------------------------------------------------------------------------


@POWERS
def test_devices_keys_handles_and_terminals(options: dict[str, Any], base: str, tmp_path: Path) -> None:
    """mknod, open_by_handle_at, TIOCSTI, the keys of the caller's session."""
    (tmp_path / "v").mkdir()
    assert attack(f"NUMBERS = {numbers()!r}\n" + MKNOD, mounts=[f"{tmp_path / 'v'}:/b"], **options) == []
    outside = Path(base) / f"outside-{len(options)}-{options.get('privileged', 0)}"
    with decoys(outside) as kept:
        answers = attack(
            f"HANDLE = {handle_of(kept / 'secret')!r}\n" + SHOCKER, mounts=[f"{tmp_path / 'v'}:/b"], **options
        )
        assert SECRET not in answers.values() and "ok" not in answers.values(), answers
    assert "ok" not in [attack("FDS = [0]\n" + INJECT, **options)[k] for k in ("0 sti", "0 steal", "0 again")]
    answers = attack("KEYS = [1, 2, 3]\n" + KEYS, **options)
    assert answers["search"] in ("EPERM", "ENOKEY") and "ok" not in [answers[str(k)] for k in (1, 2, 3)]


SYSTEM = """
calls = dict(module=(175, 0, 0, 0), finit=(313, 0, b'', 0), kexec=(246, 0, 0, 0, 0), reboot=(169, 0xfee1dead, 672274793, 0, 0),
             swapon=(167, b'/dev/null', 0), ioperm=(173, 0, 1, 1), iopl=(172, 3), acct=(163, b'/tmp/x'), syslog=(103, 5, 0, 0),
             bpf=(321, 0, 0, 0), quota=(179, 0, 0, 0, 0), ptrace=(101, 16, HOST, 0, 0),
             settime=(227, 0, ctypes.addressof(ctypes.create_string_buffer(16))))
say({n: sys_(*c) for n, c in calls.items()} | {'nice': attempt(os.setpriority, os.PRIO_PROCESS, 0, -20),
    'disk': attempt(os.open, '/dev/vda', os.O_RDONLY), 'kill': attempt(os.kill, HOST, 9)})
"""


@pytest.mark.parametrize("options", [ADMIN, ALL], ids=["admin", "privileged"])
def test_the_kernels_own_powers_are_the_hosts(options: dict[str, Any]) -> None:
    with subprocess.Popen(["setpriv", "--reuid", "300000", "--regid", "300000", "--clear-groups", "sleep", "600"]) as p:
        try:
            with host_unchanged():
                answers = attack(f"HOST = {p.pid}\n" + SYSTEM, **options)
            assert p.poll() is None
        finally:
            p.kill()
    assert "ok" not in answers.values(), answers


@pytest.mark.parametrize("same", [False, True], ids=["another range", "the same range"])
def test_processes_of_another_container_are_strangers(same: bool) -> None:
    """Its uid may be equal, when that was asked for: neither its pid namespace nor its user namespace is."""
    other = MAP if same else {"userns": "0:400000:65536"}
    with living(**other) as c:
        source = f"say([attempt(os.kill, {c.pid}, 0), sys_(101, 16, {c.pid}, 0, 0), [p for p in os.listdir('/proc') if p.isdigit()]])"
        assert attack(source, **ALL) == ["ESRCH", "ESRCH", ["1"]]
        until(lambda: Path(f"/proc/{c.pid}/status").exists())


def test_what_a_set_user_id_file_on_a_volume_is_outside(tmp_path: Path) -> None:
    """On a volume that is not translated it is nobody of the host's; on one that is, root's, as the option says."""
    for name, word in (("plain", ":noidmap"), ("mapped", "")):
        volume = tmp_path / name
        volume.mkdir()
        os.chown(volume, *((300000, 300000) if word else (0, 0)))
        source = "open('/v/f', 'w').close(); os.chmod('/v/f', 0o4755); say(os.stat('/v/f').st_uid)"
        assert attack(source, mounts=[f"{volume}:/v{word}"], **MAP) == 0
    assert (tmp_path / "plain/f").stat().st_uid == 300000
    assert (tmp_path / "mapped/f").stat().st_uid == 0


# --- an ordinary user --------------------------------------------------------------------------------------------------

ORDINARY = """
def wrote(path): return attempt(lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
made = [d for d, _, _ in os.walk('/sys/fs/cgroup') if attempt(os.mkdir, d + '/pycontain-escape') == 'ok']
settings = ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/kernel/modprobe')
def had(p): return [wrote(p), attempt(os.chmod, p, 0o777), attempt(lambda: open(p).read())]
say({'cgroup': made, 'uid': attempt(os.setuid, 100000), 'root': attempt(os.listdir, '/proc/1/root/root/.ssh'),
     'files': [p for p in PATHS if 'ok' in had(p)], 'settings': [p for p in settings if wrote(p) == 'ok']})
"""


@pytest.mark.parametrize(
    "more", [(), ("--privileged",), ("--privileged", "--pid", "host"), ("--cgroupns", "host")], ids=" ".join
)
def test_root_inside_is_the_user_and_has_nothing_of_others(
    user: OrdinaryUser, more: tuple[str, ...], base: str
) -> None:
    """2023-25809 among it: /sys/fs/cgroup of an ordinary user's container takes no new group."""
    from attacks import PRELUDE

    volume = user.directory / f"others-{len(more)}-{len(more and more[-1])}"
    volume.mkdir(mode=0o755)
    (volume / "theirs").write_text(SECRET)
    (volume / "theirs").chmod(0o600)
    os.chown(volume / "theirs", 4242, 4242)
    source = PRELUDE + "PATHS = ['/v/theirs', '/etc/shadow', '/etc/gshadow']\n" + ORDINARY
    with host_unchanged():
        done = user.pycontain("run", *more, "-v", f"{volume}:/v", "host", "python3", "-I", "-S", "-c", source)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert (answers["cgroup"], answers["files"], answers["settings"]) == ([], [], []), answers
    assert answers["uid"] == "EINVAL" and answers["root"] != "ok", answers
    assert (volume / "theirs").read_text() == SECRET and (volume / "theirs").stat().st_mode & 0o777 == 0o600


def test_a_set_user_id_file_of_an_ordinary_users_root_is_the_users(user: OrdinaryUser) -> None:
    volume = user.home / "setuid"
    volume.mkdir()
    os.chown(volume, user.uid, user.uid)
    script = "cp /bin/true /v/f && chmod 4755 /v/f; cp /bin/true /v/g && chown 33:33 /v/g && chmod 6755 /v/g"
    assert user.pycontain("run", "-v", f"{volume}:/v", "host", "sh", "-c", script).returncode == 0
    assert (volume / "f").stat().st_uid == user.uid and (volume / "g").stat().st_uid == user.first + 32


def test_the_attacks_work_where_they_may() -> None:
    """Without a user namespace and with all capabilities."""
    with living() as c:
        assert attack(f"say(attempt(os.kill, {c.pid}, 0))", pid="host", privileged=True) == "ok"
    assert attack("say(attempt(os.chown, '/tmp', 70000, 0))") == "ok"
    assert pycontain.run("host", ["true"]).exit_code == 0
