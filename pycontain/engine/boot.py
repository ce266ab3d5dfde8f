"""After a boot and before a shutdown: the containers whose restart policy says that they run again.

A container that ran when the machine went down needs no boot id to be told: the lock of its monitor is not held any more
(runtime/detached.py, state_of), whether the run root has gone with the boot or not. It has ended then, with exit code 255.
"""

from __future__ import annotations

import os

from ..errors import ContainerNotFound, NotFound, PycontainError
from ..record import record
from ..runtime import detached
from . import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.detached import Detached, State
    from ..runtime.roots import Roots

__all__ = ["Failure", "runs_again", "start_all", "stop_all"]


@record
class Failure:
    """``container``: its name, or its id where not even that can be read."""

    container: str
    error: PycontainError


def runs_again(found: Detached, state: State) -> bool:
    """Whether it is started when the engine is, as dockerd does it: one that has run before and has ended.

    Spec: docker's restart policies; moby, restartmanager.ShouldRestart.
    """
    if state.is_alive or not state.started_at:
        return False
    policy = found.restart
    if policy.policy == "always":
        return True
    if policy.policy == "unless-stopped":
        return not state.stopped_by_request
    return (
        policy.policy == "on-failure"
        and state.exit_code != 0
        and (not policy.most or state.restart_count < policy.most)
    )


def start_all(roots: Roots, *, at_once: int = 0) -> tuple[list[str], list[Failure]]:
    """Starts them, so many at once (0: twice the processors): the names of the started, the oldest first, and what has failed.

    What was to be removed at its end, which nobody was there for, is removed. What runs is left alone: twice is as once.
    """
    wanted: list[Detached] = []
    failures: list[Failure] = []
    for container_id in detached.ids(roots):
        try:
            found = detached.load(roots, container_id)
            state = detached.state_of(roots, found)
            if found.auto_remove and state.started_at and not state.is_alive:
                containers.remove(roots, found.id)
            elif runs_again(found, state):
                wanted.append(found)
        except ContainerNotFound:
            continue  # removed meanwhile
        except (PycontainError, OSError) as error:
            failures.append(_failure(container_id[:12], error))
    wanted.sort(key=lambda each: each.created)
    started, failed = _each(wanted, lambda each: containers.start(roots, each.id), at_once)
    return started, failures + failed


def stop_all(roots: Roots, *, at_once: int = 0, grace_s: float | None = None) -> tuple[list[str], list[Failure]]:
    """Stops all that run, the newest first, each by its own stop signal; whether they run after the boot is not changed by it."""
    running = []
    failures: list[Failure] = []
    for container_id in detached.ids(roots):
        try:
            found = detached.load(roots, container_id)
            if detached.state_of(roots, found).is_alive:
                running.append(found)
        except ContainerNotFound:
            continue
        except (PycontainError, OSError) as error:
            failures.append(_failure(container_id[:12], error))
    running.sort(key=lambda each: each.created, reverse=True)
    stopped, failed = _each(
        running, lambda each: containers.stop(roots, each.id, grace_s=grace_s, shutdown=True), at_once
    )
    return stopped, failures + failed


def _each(wanted: list[Detached], do: Callable[[Detached], None], at_once: int) -> tuple[list[str], list[Failure]]:
    from concurrent.futures import ThreadPoolExecutor

    def attempt(each: Detached) -> Failure | None:
        try:
            do(each)
        except NotFound as error:
            # its image, which is a failure; or itself, which is none
            return None if isinstance(error, ContainerNotFound) else _failure(each.name, error)
        except (PycontainError, OSError) as error:
            return _failure(each.name, error)
        return None

    if not wanted:
        return [], []
    with ThreadPoolExecutor(at_once or 2 * (os.cpu_count() or 1), thread_name_prefix="containers") as pool:
        ends = list(pool.map(attempt, wanted))
    done = [each.name for each, end in zip(wanted, ends, strict=True) if end is None]
    return done, [end for end in ends if end is not None]


def _failure(container: str, error: PycontainError | OSError) -> Failure:
    if isinstance(error, OSError):
        error = PycontainError(f"{error.filename or 'its files'}: {error.strerror or error}")
    return Failure(container=container, error=error)
