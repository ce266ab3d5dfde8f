"""What a request depends on beyond its own words: the image, its user, the kind of each bind source, device numbers.

All look-ups on the host before planning are here, so that what follows (generate, plan) is pure, and so that a Plan may be
kept for its shape: same request, same answers here, same Plan.
"""

from __future__ import annotations

import os
import posixpath
import stat

from ..errors import InvalidArgument, errno_name
from ..host import probe
from ..image.resolve import NotHere, is_pullable, resolve
from ..image.rootfs import RootFS
from ..image.users import read_file_in_layers, resolve_user
from ..record import record
from ..request import Mount
from ..spec.runtime import DeviceNode, DeviceRule, ThrottleDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.users import ResolvedUser
    from ..request import DeviceRate, RunRequest

__all__ = ["Resolved", "forget_images", "has_dev_volume", "look"]

_FILE_LIMIT = 4 << 20  # bytes of an image's passwd or group
_KEPT = 256

# of images with an id, which never change: by data root; and their users, by (id, words of the request)
_roots: dict[str, dict[tuple[str, str], RootFS]] = {}
_users: dict[tuple[object, ...], ResolvedUser] = {}


def forget_images() -> None:
    """After one was removed that was known here: everything is looked up anew."""
    _roots.clear()
    _users.clear()


@record
class Resolved:
    """Answers from the host. ``binds``: for each bind mount (absolute source, whether it is a file)."""

    rootfs: RootFS
    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    home: str = "/root"
    binds: tuple[tuple[str, bool], ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()
    rates: tuple[tuple[ThrottleDevice, ...], ...] = ((), (), (), ())
    seccomp_profile: bytes | None = None
    host_files: tuple[tuple[str, bytes], ...] = ()
    declared: tuple[Mount, ...] = ()  # volumes that the image wants beside those of the request
    sources: tuple[tuple[str, bool], ...] = ()  # of all volumes: see pycontain.runtime.volumes.sources


def look(request: RunRequest, *, data_root: str, create: bool = True) -> Resolved:
    """``create``: make the missing sources of -v, as Docker does; not when only a Plan is wanted.

    Raises InvalidArgument, ImageNotFound, Unsupported: in one line, naming the option."""
    online = os.cpu_count() or 1
    if request.cpus is not None and request.cpus > online:
        raise InvalidArgument(
            f"--cpus {request.cpus:g} is more than this machine has: write at most {online}, or leave it out for no limit"
        )
    rootfs = _rootfs(request, data_root, pull=create)
    if rootfs.config.stop_signal:
        _check_stop_signal(request, rootfs.config.stop_signal)
    user = _user(request, rootfs)
    declared = _volumes(request, rootfs) if rootfs.config.volumes else ()
    mounts = (*request.mounts, *declared)
    nodes, rules = _devices(request, mounts)
    return Resolved(
        rootfs=rootfs,
        uid=user.uid,
        gid=user.gid,
        additional_gids=user.additional_gids,
        home=user.home,
        binds=_binds(request, create) if request.mounts else (),
        devices=nodes,
        device_rules=rules,
        rates=tuple(
            tuple(_rate(r) for r in rates)
            for rates in (
                request.device_read_bps,
                request.device_write_bps,
                request.device_read_iops,
                request.device_write_iops,
            )
        ),
        seccomp_profile=_profile(request.seccomp),
        host_files=_host_files(request, rootfs),
        declared=declared,
        sources=() if create or not mounts else _preview(data_root, mounts),
    )


def _rootfs(request: RunRequest, data_root: str, *, pull: bool) -> RootFS:
    """The image's root file system; from a registry, when it is missing and the request allows that."""
    in_user_namespace = probe().in_user_namespace
    memo = _roots.setdefault(data_root, {})
    missing: NotHere | None = None
    if request.pull != "always" or not is_pullable(request.image):
        try:
            found = resolve(request.image, data_root=data_root, in_user_namespace=in_user_namespace, memo=memo)
        except NotHere as error:
            if request.pull == "never" or not pull:
                raise
            missing = error
        else:
            if not request.platform or found.platform in ("", _platform(request.platform)):
                return found
            if request.pull == "never":
                raise NotHere(
                    f"cannot use image {request.image}: the one that is here is for {found.platform}, and {request.platform} was "
                    "asked for: without --pull never that one is pulled."
                )
    if not pull:
        return resolve(request.image, data_root=data_root, in_user_namespace=in_user_namespace, memo=memo)
    from ..image.remote import pull_missing

    pull_missing(data_root, request.image, platform=request.platform, missing=missing)
    return resolve(request.image, data_root=data_root, in_user_namespace=in_user_namespace, memo=memo)


def _check_stop_signal(request: RunRequest, text: str) -> None:
    from .. import parse

    try:
        parse.signal_number(text)
    except InvalidArgument as error:
        if not request.stop_signal:
            raise InvalidArgument(
                f"cannot use image {request.image}: its StopSignal: {error}; --stop-signal replaces it"
            ) from None


def _volumes(request: RunRequest, rootfs: RootFS) -> tuple[Mount, ...]:
    from .volumes import declared

    return declared(request, rootfs.config.volumes)


def _preview(data_root: str, mounts: tuple[Mount, ...]) -> tuple[tuple[str, bool], ...]:
    from .volumes import preview, volumes_of

    return preview(data_root, volumes_of(mounts))


def _platform(text: str) -> str:
    from ..image.pull import parse_platform

    wanted = parse_platform(text)
    return f"{wanted.os}/{wanted.architecture}"


def _user(request: RunRequest, rootfs: RootFS) -> ResolvedUser:
    spec = request.user if request.user is not None else rootfs.config.user
    key = (rootfs.image_id, rootfs.lower, spec, request.group_add)
    known = _users.get(key) if rootfs.image_id else None
    if known is None:
        known = _resolved_user(request, rootfs, spec)
        if rootfs.image_id:
            if len(_users) >= _KEPT:
                _users.clear()
            _users[key] = known
    return known


def _resolved_user(request: RunRequest, rootfs: RootFS, spec: str) -> ResolvedUser:
    passwd = read_file_in_layers(rootfs.files, "/etc/passwd", _FILE_LIMIT) or b""
    named = any(not part.isdigit() for part in spec.split(":") if part) or request.group_add
    # the supplementary groups of a numeric uid come from its name's entries, so the file is read for these too
    group = read_file_in_layers(rootfs.files, "/etc/group", _FILE_LIMIT) or b"" if named or not spec or passwd else b""
    return resolve_user(spec, passwd, group, request.group_add)


def _binds(request: RunRequest, create: bool) -> tuple[tuple[str, bool], ...]:
    found = []
    for m in request.mounts:
        if m.type != "bind":
            continue
        source = os.path.abspath(m.source)
        try:
            info = os.stat(source)
        except FileNotFoundError:
            if not m.create_source:
                raise InvalidArgument(
                    f"bind {source} on {m.target}: no such file or directory on this host (ENOENT). "
                    "Create it first; -v creates a missing directory by itself"
                ) from None
            if not create:
                found.append((source, False))
                continue
            try:
                os.makedirs(source, 0o755, exist_ok=True)
                info = os.stat(source)
            except OSError as e:
                raise InvalidArgument(
                    f"bind {source} on {m.target}: cannot create the missing directory: {e.strerror} ({errno_name(e.errno or 0)})"
                ) from None
        except OSError as e:
            raise InvalidArgument(f"bind {source} on {m.target}: {e.strerror} ({errno_name(e.errno or 0)})") from None
        found.append((source, not stat.S_ISDIR(info.st_mode)))
    return tuple(found)


def _stat_device(path: str, option: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as e:
        raise InvalidArgument(f"{option} {path}: {e.strerror} ({errno_name(e.errno or 0)})") from None


def _node(source: str, target: str, access: str, info: os.stat_result) -> tuple[DeviceNode, DeviceRule]:
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b"
    major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    node = DeviceNode(
        path=target,
        type=kind,
        major=major,
        minor=minor,
        file_mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
    )
    return node, DeviceRule(allow=True, type=kind, major=major, minor=minor, access=access)


def _is_device(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)


def _walk_devices(directory: str) -> list[tuple[str, os.stat_result]]:
    """Device nodes below ``directory``, links not followed, other file systems (pts, shm) left out."""
    out = []
    device = os.stat(directory).st_dev
    for base, dirs, files in os.walk(directory):
        dirs[:] = sorted(d for d in dirs if os.lstat(f"{base}/{d}").st_dev == device)
        for name in sorted(files):
            path = f"{base}/{name}"
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                continue
            if _is_device(info):
                out.append((path, info))
    return out


def has_dev_volume(mounts: tuple[Mount, ...]) -> bool:
    """Whether a directory of the host, or a volume, lies on /dev."""
    return any(m.type != "tmpfs" and posixpath.normpath(m.target).rstrip("/") == "/dev" for m in mounts)


# in every container already
_DEFAULT_NODES = frozenset(f"/dev/{n}" for n in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"))


def _devices(request: RunRequest, mounts: tuple[Mount, ...]) -> tuple[tuple[DeviceNode, ...], tuple[DeviceRule, ...]]:
    pairs: list[tuple[DeviceNode, DeviceRule]] = []
    if request.privileged and not has_dev_volume(mounts):
        pairs = [_node(p, p, "rwm", i) for p, i in _walk_devices("/dev")]
    for d in request.devices:
        info = _stat_device(d.source, "--device")
        if stat.S_ISDIR(info.st_mode):
            below = _walk_devices(d.source)
            if not below:
                raise InvalidArgument(f"--device {d.source}: no device nodes in that directory")
            pairs += [_node(p, d.target + p[len(d.source) :], d.access, i) for p, i in below]
        elif _is_device(info):
            pairs.append(_node(d.source, d.target, d.access, info))
        else:
            raise InvalidArgument(
                f"--device {d.source}: not a device node. A plain file or directory is mounted with -v {d.source}:{d.target}"
            )
    seen: dict[str, DeviceNode] = {}
    for node, _ in pairs:
        if node.path not in _DEFAULT_NODES:
            seen[node.path] = node
    return tuple(seen.values()), tuple(rule for _, rule in pairs)


def _whole_disk(device: int) -> tuple[int, int]:
    """The disk of a partition: the kernel throttles disks."""
    major, minor = os.major(device), os.minor(device)
    base = f"/sys/dev/block/{major}:{minor}"
    if os.path.exists(f"{base}/partition"):
        with open(f"{base}/../dev", encoding="ascii") as f:
            big, _, small = f.read().strip().partition(":")
        return int(big), int(small)
    return major, minor


def _rate(rate: DeviceRate) -> ThrottleDevice:
    info = _stat_device(rate.path, "--device-*-bps/-iops")
    device = info.st_rdev if stat.S_ISBLK(info.st_mode) else info.st_dev
    major, minor = _whole_disk(device)
    if major == 0:
        raise InvalidArgument(
            f"cannot limit block I/O on {rate.path}: it is not on a block device. Give a device node such as /dev/sda, or a file on a disk"
        )
    return ThrottleDevice(major=major, minor=minor, rate=rate.rate)


def _profile(seccomp: str | None) -> bytes | None:
    if seccomp is None or seccomp in ("unconfined", "builtin"):
        return None
    try:
        with open(seccomp, "rb") as f:
            return f.read(16 << 20)
    except OSError as e:
        raise InvalidArgument(
            f"--security-opt seccomp={seccomp}: {e.strerror} ({errno_name(e.errno or 0)}). Give the path of a profile, or unconfined"
        ) from None


def _host_files(request: RunRequest, rootfs: RootFS) -> tuple[tuple[str, bytes], ...]:
    """With the host's network: the host's own resolver files, as copies. The image "host" has them already."""
    if request.network != "host" or rootfs.files == ("/",):
        return ()
    found = []
    for path in ("/etc/hosts", "/etc/resolv.conf"):
        try:
            with open(path, "rb") as f:
                found.append((path, f.read(1 << 20)))
        except OSError:
            pass  # a host without the file resolves without it
    return tuple(found)
