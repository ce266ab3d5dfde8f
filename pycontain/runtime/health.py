"""Health checks of a detached container: the Plan that its monitor executes for each, and what has come of them (ADR 15, 16).

<data root>/containers/<id>/health-plan    an exec into the container, whichever of its starts runs
<data root>/containers/<id>/health.0 ...   its last five results, the monitor's
"""

from __future__ import annotations

import json
import os

from .. import _native
from ..capabilities import CAPABILITIES
from ..durations import duration_text
from ..errors import PycontainError
from ..healthcheck import INTERVAL_NS, RETRIES, START_INTERVAL_NS, TIMEOUT_NS, command_of
from ..image.workspace import replace_file
from ..limits import cgroups, path_of
from ..ops import CLONE_NS
from ..plan_bytes import Plan
from ..plan_exec import OwnCgroup, Wish, inherited, plan_exec
from ..record import record
from .failure import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.rootfs import ImageConfig
    from ..spec.runtime import RuntimeSpec
    from .detached import Detached
    from .session import Session
    from .userns import Mappings

__all__ = ["HealthResult", "monitor_word", "read_results", "write_plan"]

_RESULTS = 5
_CGROUP = "pycontain-health"
_CAP_SETGID = CAPABILITIES.index("CAP_SETGID")


@record
class HealthResult:
    """One check. Times are RFC 3339; ``exit_code`` -1: it could not be started, or took too long; ``output`` says so."""

    number: int
    start: str
    end: str
    exit_code: int
    output: str
    failing_streak: int


def monitor_word(config: ImageConfig) -> str:
    """As src/c/monitor.c has it; "" when the health is not checked."""
    health = config.healthcheck
    if health is None or not command_of(config):
        return ""
    times = (
        health.interval_ns or INTERVAL_NS, health.timeout_ns or TIMEOUT_NS, health.start_period_ns,
        health.start_interval_ns or START_INTERVAL_NS,
    )  # fmt: skip
    return "health=" + ":".join(map(str, (*times, health.retries or RETRIES)))


def write_plan(
    directory: str, found: Detached, made: Plan, spec: RuntimeSpec, session: Session, maps: Mappings
) -> None:
    """The Plan of a check, beside the start's, ``made``. Raises: Unsupported: no exec into such a container."""
    of = inherited(made.data)
    kinds = {each.type for each in spec.linux.namespaces}
    namespaces = 0
    for kind in kinds:
        namespaces |= CLONE_NS[kind]
    wish = Wish(
        namespaces=namespaces, v1_cgroups=0, v2_cgroup=False, drops_groups=bool(session.facts.capabilities >> _CAP_SETGID & 1),
        maps=maps,
    )  # fmt: skip
    env = of.env
    if found.request.terminal and not any(each.startswith("TERM=") for each in found.config.env):
        env = tuple(
            [each for each in env if not each.startswith("TERM=")]
        )  # the start's own -t; a check has no terminal
    exec_plan = plan_exec(of, wish, args=command_of(found.config), env=env, own=_cgroups(found, spec, session))
    replace_file(f"{directory}/health-plan", exec_plan.data)


def _cgroups(found: Detached, spec: RuntimeSpec, session: Session) -> tuple[OwnCgroup, ...]:
    """Those of the container, and in one of them one below: what is in it at the end of a check is ended with it."""
    joined = []
    has_own = False
    for group in sorted(cgroups(spec.linux.resources, session.facts), key=lambda group: -group.version):
        path = path_of(group, session.cgroup_parent, "")
        # a cpuset of its own would be one without CPUs
        own = not (has_own or group.shared or "cpuset" in group.controllers)
        joined.append(OwnCgroup(path=f"{path}/{_CGROUP}" if own else path, version=group.version, make=own))
        has_own = has_own or own
    return tuple(joined)


# --- results ----------------------------------------------------------------------------------------------------------


def read_results(directory: str, found: Detached) -> list[HealthResult]:
    """The last five, the oldest first; one that is just being replaced is left out."""
    results = []
    for i in range(_RESULTS):
        try:
            with open(f"{directory}/health.{i}", encoding="ascii") as file:
                results.append(_result(json.load(file), directory, found))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not there yet
    return sorted(results, key=lambda each: each.number)


def _result(document: dict[str, object], directory: str, found: Detached) -> HealthResult:
    fields = {name: document[name] for name in ("number", "start", "end", "failing_streak")}
    code = int(str(document["exit_code"]))
    code = code - (1 << 32) if code >> 31 else code
    # every byte is a character of its own there
    output = str(document["output"]).encode("latin-1").decode("utf-8", "replace") + ("..." if document["cut"] else "")
    if document["timed_out"]:
        health = found.config.healthcheck
        limit = duration_text((health.timeout_ns if health else 0) or TIMEOUT_NS)
        output = f"Health check exceeded timeout ({limit})" + (f": {output}" if output else "")
    elif document["error_errno"]:
        output = _why(document, directory, found)
    return HealthResult(exit_code=code, output=output, **fields)  # type: ignore[arg-type]


def _why(document: dict[str, object], directory: str, found: Detached) -> str:
    step, errno, section, arg = (document[f"error_{name}"] for name in ("step", "errno", "section", "arg"))
    failure = _native.StartFailure(str(step), int(str(errno)), _native.SECTIONS[int(str(section))], int(str(arg)))
    words = command_of(found.config)
    path = next((each[5:] for each in found.config.env if each.startswith("PATH=")), None)
    try:
        with open(f"{directory}/health-plan", "rb") as file:
            plan = Plan(data=file.read(), process_off=0)
        return str(describe(failure, plan, who=f"the health check of {found.name}", program=words[0], env_path=path))
    except (OSError, IndexError, PycontainError):
        return f"cannot start the health check of {found.name}: {step}: {os.strerror(int(str(errno)))}"
