"""Resources -> which cgroups are made in which hierarchy, and what is written there.

Each controller where it lives: v2, v1, or both on a hybrid host. Pure. A limit whose controller is missing is an error,
and so is one that this kernel or this version of cgroups has no file for. One module per family of controllers, loaded
when a limit of that family is asked for.
Spec: opencontainers/runtime-spec config-linux.md, "Control groups"; kernel Documentation/admin-guide/cgroup-{v1,v2}.
"""

from __future__ import annotations

from .devices import device_group_name, device_program, device_writes
from .groups import (
    CGROUP_BASE,
    USAGE_CPU_V1,
    USAGE_CPU_V2,
    USAGE_IO_V1,
    USAGE_IO_V2,
    USAGE_MEMORY_V1,
    USAGE_MEMORY_V2,
    Cgroup,
    cgroups,
    path_of,
    writes_of,
)

__all__ = [
    "CGROUP_BASE",
    "USAGE_CPU_V1",
    "USAGE_CPU_V2",
    "USAGE_IO_V1",
    "USAGE_IO_V2",
    "USAGE_MEMORY_V1",
    "USAGE_MEMORY_V2",
    "Cgroup",
    "cgroups",
    "device_group_name",
    "device_program",
    "device_writes",
    "path_of",
    "writes_of",
]
