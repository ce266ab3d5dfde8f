"""Making a detached container, and starting it: a session of its own becomes its monitor's."""

from __future__ import annotations

import os
import time

from .. import _native, parse
from ..errors import Conflict, SetupFailed, Unsupported, VolumeNotFound, errno_name
from ..healthcheck import check as check_health
from ..healthcheck import command_of
from ..host import probe
from ..image.usage import hold_rootfs
from ..image.workspace import release, replace_file
from ..plan import plan
from ..plan_bytes import Place
from ..record import replaced
from . import journal, monitor, names, volumes
from .at_rest import make_upper
from .container_events import leave_for_monitor
from .detached import (
    Detached,
    Logging,
    Restart,
    State,
    changing,
    directory_of,
    load,
    publish,
    run_directory_of,
    state_of,
    write,
    write_place,
)
from .failure import describe
from .foreground import config_as_run
from .generate import environment, init_target, program_args
from .look import look
from .reservations import holder_of_name
from .session import Session
from .shapes import generated
from .slots import Slots, slots_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..plan_bytes import Plan
    from ..request import RunRequest
    from .look import Resolved
    from .roots import Roots

__all__ = ["check_foreground", "create", "resolved_of", "start"]

_NAME_TRIES = 20
_GONE_WITHIN_S = 10.0


def create(
    request: RunRequest, roots: Roots, *, auto_remove: bool = False, restart: Restart | None = None, logging: Logging | None = None,
    open_stdin: bool = False, stdin_once: bool = False, stop_timeout_s: float = 10.0,
) -> Detached:  # fmt: skip
    """A container that has not been started. Its image is pulled as the request says.

    Raises: as a start; Conflict: the name is in use.
    """
    parse.check(request)
    if request.image.startswith("bundle:"):
        raise Unsupported("a bundle cannot be detached yet: run it in the foreground, or leave out -d")
    if request.userns.startswith("auto"):
        raise Unsupported(
            "--userns auto is for containers that do not stay: the files of one that stays would belong to whoever gets the ids "
            "next. Give it ids of its own: --userns 0:100000:65536"
        )
    if request.volumes_from:
        from .volumes_from import inherit

        request = inherit(request, roots)
    # whoever starts it may do so from another working directory
    absolute = [replaced(m, source=os.path.abspath(m.source)) if m.type == "bind" else m for m in request.mounts]
    request = replaced(request, mounts=tuple(absolute))
    if logging is not None and logging.driver == "journald":
        journal.check()
    found = look(request, data_root=roots.data_root)
    config = config_as_run(request, found.rootfs.config)
    check_health(config.healthcheck)
    container_id = os.urandom(32).hex()
    made = Detached(
        id=container_id, name=container_id[:12], created=time.time(), request=request, image_id=found.rootfs.image_id,
        args=program_args(request, found), lower=found.rootfs.lower, config=config,
        auto_remove=auto_remove, restart=restart or Restart(), logging=logging or Logging(), open_stdin=open_stdin,
        stdin_once=stdin_once, stop_timeout_s=stop_timeout_s,
    )  # fmt: skip
    # held until it is written down whose it is (image_users.py)
    image_fd = hold_rootfs(roots.data_root, request.image, found.rootfs)
    try:
        if not found.declared and not volumes.volumes_of(request.mounts):
            return _publish(roots, made)
        return _publish_with_volumes(roots, made, found)
    finally:
        if image_fd >= 0:
            release(image_fd)


def _publish(roots: Roots, made: Detached, prepare: Callable[[str], None] | None = None) -> Detached:
    """Its directory, and its name."""
    wanted, container_id = made.request.name, made.id
    try:
        publish(roots, made, prepare)
    except OSError as e:
        raise _cannot("make", roots, e) from None
    try:
        with changing(roots, container_id):
            made = replaced(made, name=_named(roots, wanted, container_id))
            write(roots, made)
    except BaseException as e:
        names.forget(roots, made.name, container_id)
        _native.remove_tree(directory_of(roots, container_id))
        if isinstance(e, OSError):
            raise _cannot("make", roots, e) from None
        raise
    return made


def _publish_with_volumes(roots: Roots, made: Detached, found: Resolved) -> Detached:
    """Every volume has its name in the configuration; with ``--rm`` the anonymous ones go with the container's directory."""
    mounts = (*made.request.mounts, *found.declared)
    own = [m for m in volumes.volumes_of(mounts) if not m.source]
    with volumes.Taken(roots.data_root) as taken:
        if made.auto_remove:
            mounts = volumes.named(mounts, made.id)
        mounts = tuple([
            m if m.type != "volume" else taken.take_new(m, found.rootfs) if not m.source else m for m in mounts
        ])  # fmt: skip
        for m in volumes.volumes_of(made.request.mounts):
            if m.source:
                taken.take(m, found.rootfs)
        made = replaced(made, request=replaced(made.request, mounts=mounts))
        if not made.auto_remove or not own:
            return _publish(roots, made)
        return _publish(roots, made, lambda path: volumes.make_owned(f"{path}/volumes", own, found.rootfs, []))


def _cannot(verb: str, roots: Roots, e: OSError) -> SetupFailed:
    number = e.errno or 0
    return SetupFailed(
        f"cannot {verb} a container in the data root {roots.data_root}: {e.strerror} ({errno_name(number)}). Give a --data-root that "
        "this user may write to, and that has room",
        step="container", errno=number,
    )  # fmt: skip


def _named(roots: Roots, wanted: str | None, container_id: str) -> str:
    if wanted is not None:
        names.reserve(roots, wanted, container_id)
        check_foreground(roots, wanted, container_id)
        return wanted
    for _ in range(_NAME_TRIES):
        name = names.random_name()
        try:
            names.reserve(roots, name, container_id)
        except Conflict:
            continue
        return name
    names.reserve(roots, container_id[:12], container_id)
    return container_id[:12]


def check_foreground(roots: Roots, name: str, container_id: str) -> None:
    """Ours is there before the look at theirs: so never both of us have it."""
    held_id = holder_of_name(roots, name)
    if held_id:
        names.forget(roots, name, container_id)
        raise Conflict(
            f"the name {name!r} is already in use by container {held_id[:12]}. Stop that container, or choose another name"
        )


def start(roots: Roots, container_id: str, *, console_size: tuple[int, int] = (0, 0), client: int = -1) -> bool:
    """Its program has begun when this returns; nothing happens when it runs already: False. ``client``: as for
    :func:`pycontain.runtime.monitor.start`.

    Raises: as a start in the foreground; ContainerNotFound; Conflict: it is paused.
    """
    with changing(roots, container_id):
        found = load(roots, container_id)
        state = _settled(roots, found)
        if state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if not state.is_alive:
            _start(roots, found, console_size, client)
        return not state.is_alive


def _settled(roots: Roots, found: Detached) -> State:
    """What is true, once a monitor that is about to end has ended."""
    run_directory = run_directory_of(roots, found.id)
    end = time.monotonic() + _GONE_WITHIN_S
    while True:
        state = state_of(roots, found, locked=True)
        if state.is_alive or not monitor.is_alive(run_directory):
            return state
        if time.monotonic() > end:
            raise Conflict(f"container {found.name} is still being ended: try again")
        time.sleep(0.002)


def _start(roots: Roots, found: Detached, console_size: tuple[int, int], client: int) -> None:
    # the name may be another image's by now
    request = replaced(found.request, image=found.image_id or found.request.image, pull="never")
    resolved = resolved_of(roots, found, request)
    image_fd = hold_rootfs(roots.data_root, found.request.image, resolved.rootfs)
    try:
        session = Session(roots, probe(), detached=found.id)
        try:
            made, slots, env = _ready(found, request, resolved, roots, session, console_size)
            held = tuple(fd for fd in (session.lock_fd, image_fd) if fd >= 0)
            try:
                monitor.start(
                    directory_of(roots, found.id),
                    run_directory_of(roots, found.id),
                    slots.fds,
                    _words(roots, found, session),
                    held=held,
                    client=client,
                    enter=session.programs()[0] if command_of(found.config) else -1,
                )
            except _native.StartFailure as failure:
                path = next((e[5:] for e in env if e.startswith("PATH=")), None)
                raise describe(failure, made, who=found.name, program=found.args[0], env_path=path) from None
        except BaseException:
            session.close()
            raise
        session.hand_over()
    except OSError as e:
        raise _cannot("start", roots, e) from None
    finally:
        if image_fd >= 0:
            os.close(image_fd)  # the monitor has it as well, and with it the lock


def resolved_of(roots: Roots, found: Detached, request: RunRequest) -> Resolved:
    """What ``request``, of this container, means now; its volumes are whole. Raises: as a start."""
    resolved = look(request, data_root=roots.data_root)
    wanted = volumes.volumes_of(request.mounts)
    if not wanted:
        return resolved
    try:
        volumes.ensure_filled(roots.data_root, wanted)
        return replaced(resolved, sources=volumes.sources(roots.data_root, wanted, found.id))
    except VolumeNotFound as error:  # nothing of ours removes one that a container has
        raise VolumeNotFound(
            f"cannot start {found.name}: {error}: its directory has been removed; `pycontain volume create NAME` makes an empty one"
        ) from None


def _ready(
    found: Detached,
    request: RunRequest,
    resolved: Resolved,
    roots: Roots,
    session: Session,
    console_size: tuple[int, int],
) -> tuple[Plan, Slots, tuple[str, ...]]:
    """The Plan, in its file, what its slots take, and its environment."""
    directory = directory_of(roots, found.id)
    layer = f"{directory}/layer"
    facts = session.facts
    maps = session.ids.mappings(request)
    spec = generated(request, resolved, maps, roots, facts, console_size, found.id, layer)
    session.ensure_cgroups(spec.linux.resources)
    slots = slots_for(session, resolved.rootfs, maps, hosts=request.network == "none")
    hostname = request.hostname or ("" if request.uts == "host" else found.id[:12])
    env = environment(request, resolved, hostname)
    place = Place(container_id=found.id, directory=layer, cgroup_parent=session.cgroup_parent, kept=True, alone=True)
    made = plan(spec, facts, place).with_process(
        (init_target(resolved), "--", *found.args) if request.init else found.args, env
    )
    make_upper(layer, maps)
    os.makedirs(run_directory_of(roots, found.id), 0o711, exist_ok=True)
    replace_file(f"{directory}/plan", made.data)
    write_place(roots, found.id, session, spec.linux.resources, maps)
    if found.logging.driver == "journald":
        journal.check()
        journal.write_fields(directory, found)
    if command_of(found.config):
        from .health import write_plan

        write_plan(directory, found, made, spec, session, maps)
    return made, slots, env


def _words(roots: Roots, found: Detached, session: Session) -> list[str]:
    """As src/c/monitor.c has them."""
    words = []
    if found.request.terminal:
        words.append("tty")
    if found.open_stdin:
        words.append("stdin-once" if found.stdin_once else "stdin")
    policy = found.restart
    words.append(f"restart={policy.policy}" + (f":{policy.most}" if policy.most else ""))
    if found.logging.driver == "journald":
        words += ["log=none", f"journal={journal.SOCKET}"]
    else:
        words.append(f"log={found.logging.driver}")
    if found.logging.driver == "json-file":
        words += [f"max-size={found.logging.max_size}", f"max-file={found.logging.max_file}"]
    if command_of(found.config):
        from .health import monitor_word

        words.append(monitor_word(found.config))
    cgroups, trees = session.left_at_end()
    words += [f"cgroup={path}" for path in cgroups]
    words += [f"remove={path}" for path in trees]
    words += leave_for_monitor(roots, directory_of(roots, found.id), found)
    if found.auto_remove:
        words += [f"destroy={directory_of(roots, found.id)}", f"destroy={run_directory_of(roots, found.id)}"]
    return words
