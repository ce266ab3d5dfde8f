"""``bundle:DIR``: an OCI bundle, whose config.json says everything. Its directory becomes the root as it is.

What the document leaves to the runtime is settled here: the default devices and their rules, HOME, the compiled filter; and
what happens beside the Plan: hooks of the runtime's namespace, the seccomp listener's way to its agent.
Spec: opencontainers/runtime-spec config.md, config-linux.md ("Default Devices"), runtime.md ("Lifecycle").
"""

from __future__ import annotations

import os
import stat

from ..errors import InvalidArgument, SetupFailed, errno_name
from ..host import probe
from ..image.rootfs import RootFS
from ..image.users import read_file_in_layers, resolve_user
from ..ops import SYNC_CREATE_CONTAINER, SYNC_CREATE_RUNTIME, SYNC_LISTENER, SYNC_START_CONTAINER
from ..plan import plan
from ..plan_bytes import Place
from ..record import replaced
from ..request import RunRequest
from ..spec.document import load_bundle
from ..spec.runtime import DeviceNode, DeviceRule, RuntimeSpec
from .cgroup_tree import Claim, claim
from .generate import DEVICE_RULES, NODES
from .hooks import InsideHooks, run_hook
from .session import session_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..host import HostFacts
    from ..spec.runtime import Hook, MountPoint
    from .roots import Roots
    from .running import Running
    from .session import Session
    from .systemd import Scope

__all__ = ["PREFIX", "Bundle", "complete", "open_bundle", "request_of_bundle"]

PREFIX = "bundle:"
_FILE_LIMIT = 4 << 20


def request_of_bundle(image: str) -> RunRequest:
    """The RunRequest that stands for the bundle ``bundle:DIR``: its document has the rest.

    Raises: NotFound, InvalidArgument.
    """
    spec = load_bundle(_directory(image), warn=lambda line: None)  # said when it starts
    return RunRequest(image=image, args=spec.process.args, terminal=spec.process.terminal)


def _directory(image: str) -> str:
    directory = image.removeprefix(PREFIX)
    if not directory:
        raise InvalidArgument("bundle:DIR: the directory is empty: name the one that holds config.json")
    return os.path.abspath(directory)


class Bundle:
    """One bundle about to start: the completed document, its Plan, what was made for it."""

    def __init__(self, directory: str, spec: RuntimeSpec, session: Session, container_id: str) -> None:
        self.directory = directory
        self.container_id = container_id
        self.inside = InsideHooks(spec.hooks)
        self._claim: Claim | None = None
        self._scope: Scope | None = None
        spec = self.spec = self._with_cgroups(spec, session)
        linux = spec.linux
        place = Place(
            container_id=container_id, directory=f"{session.directory}/{container_id}",
            cgroup_parent=session.cgroup_parent,
        )  # fmt: skip
        try:
            self.plan = plan(spec, session.facts, place)
            self.translation = session.ids.translation((linux.uid_mappings, linux.gid_mappings))
            self.template = session.template(RootFS(image=directory, lower=(spec.root.path,)), hosts=False)
        except BaseException:
            self.release()
            raise

    def _with_cgroups(self, spec: RuntimeSpec, session: Session) -> RuntimeSpec:
        """Makes what must be there before the Plan is executed. ``slice:prefix:name`` is systemd's to make: the document's
        path is then where it did."""
        path, resources, facts = spec.linux.cgroups_path, spec.linux.resources, session.facts
        if not path:
            session.ensure_cgroups(resources)
            return spec
        holder = 0
        if path.count(":") == 2 and not path.startswith("/"):
            from .systemd import Scope, unit_name

            self._scope = Scope(unit_name(path, self.container_id))
            self._scope.start(resources, facts, f"pycontain container {self.container_id[:12]}")
            path, holder = self._scope.cgroups_path, self._scope.holder
            spec = replaced(spec, linux=replaced(spec.linux, cgroups_path=path))
        try:
            self._claim = claim(resources, facts, path, tolerated=holder)
        except BaseException:
            self.release()
            raise
        return spec

    def settle(self) -> None:
        """The container is in its cgroups: what kept a place for it may go."""
        if self._scope is not None:
            self._scope.settle()

    def release(self) -> None:
        """Removes the cgroups that were made for its cgroupsPath. Safe to repeat."""
        self.inside.close()
        if self._claim is not None:
            self._claim.release()
        if self._scope is not None:
            scope, self._scope = self._scope, None
            scope.stop()

    def sync(self, what: int, pid: int, fd: int) -> None:
        """The caller's part while the child waits (ops.SYNC_*). For a signal there is none: its handler has been called."""
        if what == SYNC_LISTENER:
            self._hand_over_listener(pid, fd)
        elif what == SYNC_CREATE_RUNTIME:
            hooks = self.spec.hooks
            self.run_hooks("prestart", hooks.prestart, "creating", pid)
            self.run_hooks("createRuntime", hooks.create_runtime, "creating", pid)
        elif what == SYNC_CREATE_CONTAINER:
            self.inside.tell(what, self.state("creating", _pid_inside(pid)))
        elif what == SYNC_START_CONTAINER:
            self.inside.tell(what, self.state("created", _pid_inside(pid)))

    def state(self, status: str, pid: int) -> bytes:
        """The state of the container as JSON. Spec: runtime.md, "State"."""
        import json

        document: dict[str, object] = {"ociVersion": self.spec.oci_version, "id": self.container_id, "status": status}
        if status != "stopped":
            document["pid"] = pid
        document["bundle"] = self.directory
        document["annotations"] = dict(self.spec.annotations)
        return json.dumps(document).encode()

    def run_hooks(self, kind: str, hooks: tuple[Hook, ...], status: str, pid: int) -> None:
        """One after the other, with the state on stdin. Raises SetupFailed for one that fails or takes too long."""
        for i, hook in enumerate(hooks):
            run_hook(f"hooks.{kind}[{i}]", hook, self.state(status, pid), self.directory)

    def _hand_over_listener(self, pid: int, fd: int) -> None:
        import json
        import socket

        linux = self.spec.linux
        message: dict[str, object] = {"ociVersion": self.spec.oci_version, "fds": ["seccompFd"], "pid": pid}
        if linux.seccomp_listener_metadata:
            message["metadata"] = linux.seccomp_listener_metadata
        message["state"] = json.loads(self.state("creating", pid))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
                agent.settimeout(10)
                agent.connect(linux.seccomp_listener_path)
                socket.send_fds(agent, [json.dumps(message).encode()], [fd])
        except OSError as e:
            raise SetupFailed(
                f"linux.seccomp.listenerPath: cannot give the listener to {linux.seccomp_listener_path}: "
                f"{e.strerror or e} ({errno_name(e.errno or 0)}). Start the agent first",
                step="seccomp listener",
                errno=e.errno or 0,
            ) from None


def _pid_inside(pid: int) -> int:
    """The number that the process has in its own pid namespace."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return next((int(line.split()[-1]) for line in f if line.startswith("NSpid:")), pid)


def _warn(line: str) -> None:
    os.write(2, f"pycontain: warning: {line}\n".encode())


def open_bundle(request: RunRequest, roots: Roots, container_id: str, console_size: tuple[int, int]) -> Bundle:
    """Reads, completes and plans the bundle that ``request`` names.

    Raises: NotFound, InvalidArgument, Conflict, Unsupported, SetupFailed.
    """
    directory = _directory(request.image)
    facts = probe()
    session = session_for(roots, facts)
    spec = complete(
        load_bundle(directory, warn=_warn),
        facts,
        cache_dir=f"{roots.data_root}/cache/seccomp",
        console_size=console_size,
    )
    if spec.process.terminal != request.terminal:
        raise InvalidArgument(
            "config.json: process.terminal: the document wants a terminal, which only the command line gives: pycontain run "
            f"{request.image}"
        )
    return Bundle(directory, spec, session, container_id)


# --- what the document leaves open ---------------------------------------------------------------------------------


def complete(
    spec: RuntimeSpec, facts: HostFacts, *, cache_dir: str, console_size: tuple[int, int] = (0, 0)
) -> RuntimeSpec:
    """The document with the runtime's own part. Raises InvalidArgument, Unsupported."""
    try:
        if not stat.S_ISDIR(os.stat(spec.root.path).st_mode):
            raise InvalidArgument(f"config.json: root.path: {spec.root.path} is not a directory")
    except OSError as e:
        raise InvalidArgument(
            f"config.json: root.path: cannot use {spec.root.path}: {e.strerror} ({errno_name(e.errno or 0)})"
        ) from None
    _check_own_settings(spec)
    filters, flags = _filter(spec, facts, cache_dir)
    own_dev = not any(m.type == "bind" and m.destination.rstrip("/") == "/dev" for m in spec.mounts)
    linux = replaced(
        spec.linux, devices=_devices(spec.linux.devices) if own_dev else spec.linux.devices, seccomp=filters,
        seccomp_flags=flags, resources=replaced(spec.linux.resources, devices=_rules(spec.linux.resources.devices)),
    )  # fmt: skip
    size = spec.process.console_size if spec.process.console_size != (0, 0) else console_size
    # the kernel keeps ambient what is inheritable and permitted; the rest of the list means nothing, as in runc and crun
    caps = spec.process.capabilities
    caps_kept = replaced(caps, ambient=caps.ambient & caps.inheritable & caps.permitted)
    process = replaced(spec.process, env=_environment(spec), console_size=size, capabilities=caps_kept)
    mounts = tuple(_mount(i, m) for i, m in enumerate(spec.mounts))
    return replaced(spec, linux=linux, process=process, mounts=mounts)


_SETTINGS_OF = {
    "network": ("net", ("net.",)),
    "ipc": ("ipc", ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")),
    "uts": ("uts", ("kernel.domainname",)),
}


def _check_own_settings(spec: RuntimeSpec) -> None:
    """A namespace that is joined by its path may be the host's own: its settings are not the container's to change."""
    for n in spec.linux.namespaces:
        if not n.path or n.type not in _SETTINGS_OF:
            continue
        file, names = _SETTINGS_OF[n.type]
        hit = next((name for name, _ in spec.linux.sysctl if name.startswith(names)), None)
        try:
            same = os.path.samefile(n.path, f"/proc/self/ns/{file}")
        except OSError:
            continue  # the start will say what is wrong with the path
        if hit is not None and same:
            raise InvalidArgument(
                f"config.json: linux.sysctl.{hit}: the {n.type} namespace {n.path} is the host's own, whose setting it would change"
            )


def _devices(extra: tuple[DeviceNode, ...]) -> tuple[DeviceNode, ...]:
    named = {d.path for d in extra}
    return (*(d for d in NODES if d.path not in named), *extra)


def _rules(rules: tuple[DeviceRule, ...]) -> tuple[DeviceRule, ...]:
    """Nothing is allowed until a rule says so; the default devices always are. Spec: "Default Devices"."""
    return (DeviceRule(allow=False), *rules, *(r for r in DEVICE_RULES if r.allow))


def _filter(spec: RuntimeSpec, facts: HostFacts, cache_dir: str) -> tuple[bytes | None, int]:
    source = spec.linux.seccomp_source
    if source is None:
        return None, 0
    from ..seccomp.cache import profile_filter
    from ..seccomp.profile import flag_bits, parse_docker_profile

    bounding = spec.process.capabilities.bounding
    flags = flag_bits(parse_docker_profile(source, bounding, facts.machine, facts.kernel))
    return profile_filter(source, bounding, facts.machine, facts.kernel, cache_dir), flags


def _environment(spec: RuntimeSpec) -> tuple[str, ...]:
    env = spec.process.env
    if any(item.startswith("HOME=") for item in env):
        return env
    passwd = read_file_in_layers((spec.root.path,), "/etc/passwd", _FILE_LIMIT) or b""
    try:
        home = resolve_user(str(spec.process.user.uid), passwd, b"", ()).home
    except InvalidArgument:  # an id that no passwd can name
        home = ""
    return (*env, f"HOME={home or '/'}")


def _mount(index: int, m: MountPoint) -> MountPoint:
    if m.type != "bind":
        return m
    try:
        is_file = not stat.S_ISDIR(os.stat(m.source).st_mode)
    except OSError as e:
        raise InvalidArgument(
            f"config.json: mounts[{index}].source: cannot use {m.source}: {e.strerror} ({errno_name(e.errno or 0)})"
        ) from None
    return replaced(m, source_is_file=is_file)


def after_start(bundle: Bundle, running: Running) -> None:
    """Poststart hooks: one that fails ends the container. Spec: runtime.md, "Lifecycle", 9."""
    bundle.settle()
    if bundle.spec.hooks.poststart:
        bundle.run_hooks("poststart", bundle.spec.hooks.poststart, "running", running.pid)


def after_end(bundle: Bundle) -> Callable[[], None]:
    """Poststop hooks, then the cgroups. One that fails is passed over. Spec: runtime.md, "Lifecycle", 13."""

    def end() -> None:
        try:
            bundle.run_hooks("poststop", bundle.spec.hooks.poststop, "stopped", 0)
        except SetupFailed as error:
            _warn(str(error))
        bundle.release()

    return end
