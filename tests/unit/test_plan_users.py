"""Plans with user namespaces: root's on kernels 5.10 to 6.18, and an ordinary user's, from recorded facts of hosts."""

from __future__ import annotations

import json

import pytest

from pycontain.disassemble import as_json
from pycontain.errors import InvalidArgument, Unsupported
from pycontain.host import HostFacts
from pycontain.image.rootfs import DEFAULT_CONFIG, RootFS
from pycontain.plan import plan
from pycontain.record import replaced
from pycontain.request import Mount, RunRequest
from pycontain.runtime.generate import generate
from pycontain.runtime.look import Resolved
from pycontain.runtime.userns import IdRanges
from pycontain.spec.runtime import RuntimeSpec
from tests.unit import golden
from tests.unit.plan_cases import HOSTS, PLACE, TOO_OLD, rootless

_IMAGE = RootFS(image="web", lower=("/layers/one", "/layers/two"), config=DEFAULT_CONFIG)
_SHOWN = RootFS(image="host", lower=(), config=DEFAULT_CONFIG, shown=("/etc", "/usr"), links=(("bin", "usr/bin"),))
_VOLUME = Mount(type="bind", source="/srv/data", target="/data")


def spec(request: RunRequest, facts: HostFacts, rootfs: RootFS = _IMAGE, uid: int = 0) -> RuntimeSpec:
    binds = tuple((m.source, False) for m in request.mounts if m.type == "bind")
    found = Resolved(rootfs=rootfs, uid=uid, binds=binds)
    maps = IdRanges("/run/pycontain", "nobody", facts).preview(request)
    return generate(
        request,
        found,
        facts,
        maps,
        short_id="c0ffeec0ffee",
        console_size=(0, 0),
        cache_dir="/nowhere",
        init_source="/init",
    )


def asked(**more: object) -> RunRequest:
    return RunRequest(image="web", args=("id",), seccomp="unconfined", **more)  # type: ignore[arg-type]


def text(request: RunRequest, facts: HostFacts, rootfs: RootFS = _IMAGE) -> str:
    return as_json(plan(spec(request, facts, rootfs), facts, PLACE).data)


@pytest.mark.parametrize("host", ["v2-6.1", "v2-6.6", "v2-6.18"])
def test_root_with_a_user_namespace(host: str) -> None:
    request = asked(userns="0:100000:65536", mounts=(_VOLUME,), memory_bytes=64 << 20)
    golden.check(f"plan-userns-{host}.json", text(request, HOSTS[host]))


@pytest.mark.parametrize("kernel", [(6, 1), (6, 18)], ids=["6.1", "6.18"])
def test_an_ordinary_user(kernel: tuple[int, int]) -> None:
    request = asked(mounts=(_VOLUME,), memory_bytes=64 << 20)
    golden.check(f"plan-rootless-{kernel[0]}.{kernel[1]}.json", text(request, rootless(kernel)))


def test_an_ordinary_user_on_the_image_host_without_a_cgroup() -> None:
    golden.check("plan-rootless-host-6.18.json", text(asked(init=True), rootless((6, 18), delegated=False), _SHOWN))


def test_kernel_5_9_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(Unsupported, match=r"needs Linux 5\.10 or later .*; this kernel is 5\.9"):
        plan(spec(asked(), TOO_OLD), TOO_OLD, PLACE)


def test_kernel_5_15_has_no_id_mapped_layers_but_plain_containers() -> None:
    facts = HOSTS["v2-5.15"]
    plan(spec(asked(), facts), facts, PLACE)
    with pytest.raises(Unsupported, match=r"needs overlay on id-mapped layers \(Linux 5\.19\).*Leave out --userns"):
        plan(spec(asked(userns="auto"), facts), facts, PLACE)


def test_limits_without_a_delegated_cgroup() -> None:
    facts = rootless((6, 18), delegated=False)
    with pytest.raises(
        Unsupported, match=r"this user may write to no cgroup.*Delegate=yes pycontain \.\.\.\), or leave out --memory"
    ):
        plan(spec(asked(memory_bytes=64 << 20), facts), facts, PLACE)


def test_a_controller_that_was_not_delegated() -> None:
    facts = rootless((6, 18))
    with pytest.raises(Unsupported, match=r"cpuset controller cannot be used: it is not delegated"):
        plan(spec(asked(cpuset_cpus="0"), facts), facts, PLACE)


def test_an_id_that_the_user_has_not() -> None:
    facts = rootless((6, 18))
    spec(asked(), facts, uid=65536)
    with pytest.raises(InvalidArgument, match="user 65537 is outside the ordinary user's user namespace"):
        spec(asked(), facts, uid=65537)


@pytest.mark.parametrize(("option", "target"), [({"network": "host"}, "/sys"), ({"pid": "host"}, "/proc")])
def test_what_is_not_of_an_own_namespace_is_bound(option: dict[str, str], target: str) -> None:
    mounts = {m.destination: m for m in spec(asked(**option), rootless((6, 18))).mounts}
    assert (mounts[target].type, mounts[target].source) == ("bind", target)
    assert {"rnosuid", "rnodev", "rnoexec", "rprivate"} <= set(mounts[target].options)


def test_a_users_volume_is_not_translated_and_roots_is() -> None:
    own = json.loads(text(asked(mounts=(_VOLUME,)), rootless((6, 18))))
    roots = json.loads(text(asked(userns="auto", mounts=(_VOLUME,)), HOSTS["v2-6.18"]))
    assert not [op for op in own["prepare"] if op["op"] == "TREE_ATTR" and "slot2" in op]
    assert len([op for op in roots["prepare"] if op["op"] == "TREE_ATTR" and "slot2" in op]) == 1


def test_ranges_of_a_user_go_by_the_thousand() -> None:
    ranges = IdRanges("/nowhere", "nobody", rootless((6, 18)))
    starts = [start for start, _ in ranges._candidates(1000)]
    assert starts[:3] == [1, 1025, 2049] and starts[-1] + 1000 <= 65537 and len(starts) >= 63
    assert [start for start, _ in ranges._candidates(65536)] == [1]


def test_a_kept_layer_is_neither_made_nor_removed_nor_given_up() -> None:
    facts = HOSTS["v2-6.18"]
    kept, once = (
        json.loads(as_json(plan(spec(asked(), facts), facts, place).data))
        for place in (replaced(PLACE, kept=True), PLACE)
    )
    gone = [op["op"] for section in ("prepare", "finish") for op in once[section]]
    left = [op["op"] for section in ("prepare", "finish") for op in kept[section]]
    assert [op for op in gone if op not in ("DIR_MAKE", "TREE_REMOVE")] == left
    overlay = next(op for op in kept["prepare"] if op["op"] == "OVERLAY")
    assert "VOLATILE" in str(next(op for op in once["prepare"] if op["op"] == "OVERLAY")) and "VOLATILE" not in str(
        overlay
    )
