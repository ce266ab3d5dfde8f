"""What Python does before the clone: host facts, spec -> Plan, a kept Plan patched. `pytest bench --benchmark-only`"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
host: Any = pytest.importorskip("pycontain.host")
plan: Any = pytest.importorskip("pycontain.plan")
spec: Any = pytest.importorskip("pycontain.spec.runtime")

CONTAINER_ID = "0123456789abcdef" * 4
NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "cgroup")


@pytest.fixture
def whole_spec() -> Any:
    return spec.RuntimeSpec(
        process=spec.Process(args=("/bin/true",), env=("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)),
        root=spec.Root(path="/", layers=("/srv/rootfs",)),
        mounts=(
            spec.MountPoint(destination="/proc", type="proc", source="proc"),
            spec.MountPoint(destination="/dev", type="tmpfs", source="tmpfs", options=("nosuid", "mode=755")),
            spec.MountPoint(destination="/sys", type="sysfs", source="sysfs", options=("nosuid", "noexec", "ro")),
        ),
        linux=spec.Linux(namespaces=tuple(spec.Namespace(type=name) for name in NAMESPACES)),
    )


@pytest.fixture
def place() -> Any:
    return plan.Place(container_id=CONTAINER_ID, directory=f"/run/pycontain/{CONTAINER_ID}", cgroup_parent="pycontain")


@pytest.mark.benchmark(group="plan")
def test_probe_host(benchmark: Any) -> None:
    assert benchmark(host.probe, fresh=True).kernel >= (5, 10)


@pytest.mark.benchmark(group="plan")
def test_build_plan(benchmark: Any, whole_spec: Any, place: Any) -> None:
    facts = host.probe()
    assert benchmark(plan.plan, whole_spec, facts, place) == plan.plan(whole_spec, facts, place)


@pytest.mark.benchmark(group="plan")
def test_patch_kept_plan(benchmark: Any, whole_spec: Any, place: Any) -> None:
    kept = plan.plan(whole_spec, host.probe(), place)

    def patch() -> Any:
        return kept.with_id(CONTAINER_ID).with_process(("/bin/echo", "hi"), ("A=b",))

    assert b"/bin/echo\0hi\0" in benchmark(patch).data
