"""Where cgroups may be made, from what /proc says on hosts of every kind."""

from __future__ import annotations

from pycontain.hierarchies import Survey, survey

ROOT_V2 = "30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
PID = 4711


def look(
    mountinfo: str, own: str, files: dict[str, str] | None = None, *, writable: tuple[str, ...] = ("/sys/fs/cgroup",),
    exactly: bool = False,
) -> Survey:  # fmt: skip
    """``writable``: directories that can be written with all below (``exactly``: and their files only)."""
    found = files or {}

    def may(path: str) -> bool:
        if exactly:
            return path in writable or path.rpartition("/")[0] in writable
        return any(path == w or path.startswith(w + "/") for w in writable)

    return survey(mountinfo, own, read=lambda path: found.get(path, ""), writable=may, pid=PID)


def test_the_real_top_may_hold_processes() -> None:
    files = {"/sys/fs/cgroup/cgroup.controllers": "cpu memory", "/sys/fs/cgroup/cgroup.procs": "1\n2\n3\n"}
    found = look(ROOT_V2, "0::/user.slice/user-0.slice/session-1.scope", files)
    assert (found.base, found.obstacle, found.options) == ("", "", "nsdelegate")
    assert set(found.controllers) == {"cpu", "memory"} and not any(c.obstacle for c in found.controllers.values())


SCOPE = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"
MANAGER = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"


def test_a_systemd_user_session_leads_to_its_manager() -> None:
    files = {
        "/sys/fs/cgroup/cgroup.controllers": "cpu io memory pids",
        f"{MANAGER}/cgroup.type": "domain",
        f"{MANAGER}/cgroup.controllers": "memory pids",
        f"/sys/fs/cgroup{SCOPE}/cgroup.procs": f"{PID}\n",
        f"/sys/fs/cgroup{SCOPE}/cgroup.type": "domain",
    }
    found = look(ROOT_V2, f"0::{SCOPE}", files, writable=(MANAGER,))
    assert found.base == "/user.slice/user-1000.slice/user@1000.service"
    usable = {n for n, c in found.controllers.items() if not c.obstacle}
    assert usable == {"memory", "pids"}
    assert "not delegated" in found.controllers["cpu"].obstacle


def test_a_user_without_a_delegated_cgroup_is_told_so() -> None:
    files = {"/sys/fs/cgroup/cgroup.controllers": "memory"}
    found = look(ROOT_V2, "0::/user.slice/session-3.scope", files, writable=())
    assert found.obstacle == (
        "this user may write to no cgroup between /sys/fs/cgroup and /sys/fs/cgroup/user.slice/session-3.scope"
    )
    assert found.controllers["memory"].obstacle == found.obstacle


def test_a_directory_whose_control_files_are_not_ours_is_passed_over() -> None:
    below = "/sys/fs/cgroup/a/b"
    files = {f"{below}/cgroup.type": "domain", f"{below}/cgroup.controllers": "pids"}
    # /a: the directory, but not its files
    found = look(ROOT_V2, "0::/a/b", files, writable=("/sys/fs/cgroup/a", below), exactly=True)
    assert found.base == "/a"
    found = look(ROOT_V2, "0::/a/b", files, writable=(below,), exactly=True)
    assert found.base == "/a/b"


CONTAINER = {"/sys/fs/cgroup/cgroup.type": "domain", "/sys/fs/cgroup/cgroup.controllers": "cpu memory pids"}


def test_alone_at_the_root_of_a_cgroup_namespace() -> None:
    found = look(ROOT_V2, "0::/", {**CONTAINER, "/sys/fs/cgroup/cgroup.procs": f"{PID}\n"})
    assert (found.base, found.obstacle) == ("", "")
    assert not found.controllers["memory"].obstacle


def test_with_our_own_children_at_the_root_of_a_cgroup_namespace() -> None:
    child = {"/proc/4712/status": f"Name:\tx\nPPid:\t{PID}\nTracerPid:\t0\n"}
    found = look(ROOT_V2, "0::/", {**CONTAINER, **child, "/sys/fs/cgroup/cgroup.procs": f"{PID}\n4712\n"})
    assert not found.controllers["memory"].obstacle


def test_not_alone_at_the_root_of_a_cgroup_namespace() -> None:
    found = look(ROOT_V2, "0::/", {**CONTAINER, "/sys/fs/cgroup/cgroup.procs": f"1\n{PID}\n"})
    assert (found.base, found.obstacle) == ("", "")  # a cgroup without controllers is still to be had
    assert "processes other than this one are in /sys/fs/cgroup itself" in found.controllers["memory"].obstacle


def test_processes_of_another_pid_namespace_count_as_others() -> None:
    found = look(ROOT_V2, "0::/", {**CONTAINER, "/sys/fs/cgroup/cgroup.procs": f"0\n{PID}\n"})
    assert found.controllers["memory"].obstacle


def test_an_ordinary_container_has_it_read_only() -> None:
    mounted = ROOT_V2.replace("rw,nosuid", "ro,nosuid")
    found = look(mounted, "0::/", {**CONTAINER, "/sys/fs/cgroup/cgroup.procs": f"{PID}\n"})
    assert found.obstacle == "/sys/fs/cgroup is mounted read-only" == found.controllers["cpu"].obstacle


def test_docker_in_docker_below_its_init_cgroup() -> None:
    """The image docker:dind moves all into /init, so that the namespace's root is empty."""
    files = {**CONTAINER, "/sys/fs/cgroup/cgroup.procs": "", "/sys/fs/cgroup/init/cgroup.procs": f"1\n{PID}\n"}
    found = look(ROOT_V2, "0::/init", files)
    assert found.base == "" and not found.controllers["cpu"].obstacle


def test_a_cgroup_of_the_host_bound_into_a_container() -> None:
    mounted = "30 22 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    files = {**CONTAINER, "/sys/fs/cgroup/inner/cgroup.type": "domain", "/sys/fs/cgroup/cgroup.procs": "1\n"}
    found = look(mounted, "0::/docker/abc/inner", {**files, "/sys/fs/cgroup/inner/cgroup.controllers": "cpu"})
    assert found.base == "/inner"  # the nearest that can hand down: the top is busy
    assert found.own == "/inner"


def test_a_mount_of_another_cgroup_namespace_is_not_ours() -> None:
    found = look("30 22 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/")
    assert found == Survey()


V1_NESTED = "".join(
    f"{40 + i} 22 0:{30 + i} /docker/abc /sys/fs/cgroup/{n} rw - cgroup cgroup rw,{n}\n"
    for i, n in enumerate(("memory", "cpu,cpuacct"))
)


def test_v1_nested_in_a_container() -> None:
    own = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
    found = look(V1_NESTED, own)
    assert {n: c.base for n, c in found.controllers.items()} == {"memory": "", "cpu": "", "cpuacct": ""}
    assert found.controllers["cpuacct"].mount == "/sys/fs/cgroup/cpu,cpuacct"
    assert found.unified == ""


def test_v1_nested_and_read_only() -> None:
    found = look(V1_NESTED.replace(" rw - ", " ro - "), "5:memory:/docker/abc\n")
    assert found.controllers["memory"].obstacle == "/sys/fs/cgroup/memory is mounted read-only"


def test_v1_where_only_our_own_cgroup_can_be_written() -> None:
    mounted = V1_NESTED.replace("/docker/abc ", "/ ")
    found = look(mounted, "5:memory:/u/mine\n4:cpu,cpuacct:/\n", writable=("/sys/fs/cgroup/memory/u/mine",))
    assert (found.controllers["memory"].base, found.controllers["memory"].obstacle) == ("/u/mine", "")
    assert found.controllers["cpu"].obstacle


def test_hybrid() -> None:
    mounted = V1_NESTED.replace("/docker/abc ", "/ ") + "50 22 0:50 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    mounted += "51 22 0:51 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    files = {"/sys/fs/cgroup/unified/cgroup.controllers": "hugetlb"}
    found = look(mounted, "5:memory:/process_api/x\n4:cpu,cpuacct:/\n0::/\n", files)
    assert found.unified == "/sys/fs/cgroup/unified"
    assert {n: (c.version, c.base) for n, c in found.controllers.items()} == {
        "memory": (1, ""), "cpu": (1, ""), "cpuacct": (1, ""), "hugetlb": (2, ""),
    }  # fmt: skip


def test_the_second_mount_of_a_hierarchy_changes_nothing() -> None:
    again = ROOT_V2 + "31 22 0:26 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n"
    assert look(again, "0::/", {"/sys/fs/cgroup/cgroup.controllers": "cpu"}).unified == "/sys/fs/cgroup"
