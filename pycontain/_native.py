"""The only importer of the cffi module: one typed function per C function, reports become exceptions here.

Descriptors are ints; times are nanoseconds of the monotonic clock unless the name says otherwise.
"""

from __future__ import annotations

import os

from ._ffi import ffi, lib
from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from typing_extensions import Buffer

# RESOLVE_* of openat2(2)
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

SECTIONS = ("prepare", "child", "finish")
FAULT_ERROR, FAULT_KILL_CHILD, FAULT_KILL_PARENT = 1, 2, 3

CLD_EXITED, CLD_KILLED, CLD_DUMPED = 1, 2, 3

_INT_MIN = -(2**31)

_found = ffi.string(lib.pc_version()).decode()
if _found != __version__:  # a stale build beside newer sources: every later symptom would mislead
    raise ImportError(f"pycontain's extension is version {_found}, the package {__version__}: build again (make build)")


class StartFailure(Exception):
    """A report of the C core, before :mod:`pycontain.runtime.failure` has put it into words."""

    def __init__(self, step: str, errno: int, section: str, arg: int) -> None:
        super().__init__(f"{section}[{arg}] {step}: {os.strerror(errno)}")
        self.step = step
        self.errno = errno
        self.section = section
        self.arg = arg


class Started:
    """A child, made before the clone so that an interrupt at any moment finds it: ``pidfd`` is -1 until there is one.

    ``pidfd`` (and ``tty_fd``, ``gate_fd``, or -1) belong to the caller.
    """

    __slots__ = ("_p",)

    def __init__(self) -> None:
        self._p = ffi.new("struct pc_process *", {"pid": -1, "pidfd": -1, "tty_fd": -1, "gate_fd": -1})

    @property
    def pid(self) -> int:
        return int(self._p.pid)

    @property
    def pidfd(self) -> int:
        return int(self._p.pidfd)

    @property
    def tty_fd(self) -> int:
        return int(self._p.tty_fd)

    @property
    def gate_fd(self) -> int:
        return int(self._p.gate_fd)

    @property
    def begun_ns(self) -> int:
        return int(self._p.begun_ns)

    @property
    def prepared_ns(self) -> int:
        return int(self._p.prepared_ns)

    @property
    def cloned_ns(self) -> int:
        return int(self._p.cloned_ns)

    @property
    def execed_ns(self) -> int:
        return int(self._p.execed_ns)


class Exit:
    """How a process ended, filled by :func:`reap`. ``code``: 0 until then, CLD_EXITED, CLD_KILLED or CLD_DUMPED;
    ``status``: exit status or signal."""

    __slots__ = ("_e",)

    def __init__(self) -> None:
        self._e = ffi.new("struct pc_exit *")

    @property
    def code(self) -> int:
        return int(self._e.code)

    @property
    def status(self) -> int:
        return int(self._e.status)

    @property
    def user_ns(self) -> int:
        return int(self._e.user_ns)

    @property
    def system_ns(self) -> int:
        return int(self._e.system_ns)

    @property
    def max_rss_bytes(self) -> int:
        return int(self._e.max_rss_bytes)


class RawUsage:
    """What the cgroups counted; ``have`` is a bit set of the kinds that could be read."""

    __slots__ = (
        "cpu_system_ns",
        "cpu_user_ns",
        "have",
        "io_read_bytes",
        "io_write_bytes",
        "memory_peak_bytes",
        "oom_kills",
    )

    def __init__(self, u: Any) -> None:
        self.cpu_user_ns: int = u.cpu_user_ns
        self.cpu_system_ns: int = u.cpu_system_ns
        self.memory_peak_bytes: int = u.memory_peak_bytes
        self.io_read_bytes: int = u.io_read_bytes
        self.io_write_bytes: int = u.io_write_bytes
        self.oom_kills: int = u.oom_kills
        self.have: int = u.have


class Fault:
    """For tests: at op ``op`` of ``section``, fail with ``errno`` (kind 1), kill the child (2) or the parent (3)."""

    __slots__ = ("errno", "kind", "op", "section")

    def __init__(self, *, kind: int, section: int, op: int, errno: int = 5) -> None:
        self.kind = kind
        self.section = section
        self.op = op
        self.errno = errno


class Trace:
    """Room for one time stamp per op, in memory that the child shares."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.pointer = lib.pc_trace_alloc(max(count, 1))
        if self.pointer == ffi.NULL:
            raise MemoryError("no memory for a trace")

    def __len__(self) -> int:
        return self._count

    def stamps(self) -> list[int]:
        return list(self.pointer[0 : self._count])

    def close(self) -> None:
        if self.pointer is not None:
            lib.pc_trace_free(self.pointer, max(self._count, 1))
            self.pointer = None


def _check(ret: int, what: str) -> int:
    if ret < 0:
        raise OSError(-ret, os.strerror(-ret), what)
    return ret


def step_name(number: int) -> str:
    text: bytes = ffi.string(lib.pc_step_name(number))
    return text.decode()


class _SyncCall:
    """One start's callback, and what it raised: an exception cannot pass through C."""

    __slots__ = ("error", "handle", "sync")

    def __init__(self, sync: Callable[[int, int, int], None]) -> None:
        self.sync = sync
        self.error: BaseException | None = None
        self.handle: Any = None


def _sync_interrupted(kind: Any, error: BaseException, trace: Any) -> int:
    """A signal's handler has raised before the function's own first line."""
    call: _SyncCall = ffi.from_handle(trace.tb_frame.f_locals["context"])
    call.error = error
    return -125


@ffi.def_extern(error=-5, onerror=_sync_interrupted)  # type: ignore[untyped-decorator]  # EIO
def pc_python_sync(context: Any, what: int, pid: int, fd: int) -> int:
    call: _SyncCall = ffi.from_handle(context)
    try:
        call.sync(what, pid, fd)
    except BaseException as error:
        call.error = error
        return -125  # ECANCELED
    return 0


def start(
    plan: bytes,
    fds: Sequence[int],
    started: Started,
    *,
    deadline_ns: int = 0,
    trace: Trace | None = None,
    fault: Fault | None = None,
    sync: Callable[[int, int, int], None] | None = None,
) -> None:
    """Executes the Plan's prepare and child sections and fills ``started``. Raises StartFailure, having left nothing.

    ``sync(what, pid, fd)`` is called while the child waits at an op for its caller (ops.SYNC_*; ``fd`` or -1, closed
    afterwards); what it raises ends the start and is raised from here.
    """
    args = ffi.new("struct pc_start_args *")
    plan_buffer = ffi.from_buffer(plan)
    fd_array = ffi.new("int32_t[]", fds) if fds else ffi.NULL
    args.plan = plan_buffer
    args.plan_len = len(plan)
    args.fds = fd_array
    args.n_fds = len(fds)
    args.deadline_ns = deadline_ns
    if trace is not None:
        args.trace_ns = trace.pointer
        args.n_trace = len(trace)
    if fault is not None:
        args.fault = (fault.kind, fault.section, fault.op, fault.errno)
    out = started._p
    call = _SyncCall(sync) if sync is not None else None
    if call is not None:
        args.sync = lib.pc_python_sync
        args.context = call.handle = ffi.new_handle(call)
    if lib.pc_start(args, out) < 0:
        if call is not None and call.error is not None:
            raise call.error
        r = out.report
        raise StartFailure(step_name(r.step), r.err, SECTIONS[r.section], r.arg)


def finish(plan: bytes, fault: Fault | None = None) -> tuple[RawUsage, StartFailure | None]:
    """Executes the finish section: every op is tried; the first failure is returned beside the usage."""
    usage = ffi.new("struct pc_usage *")
    report = ffi.new("struct pc_report *")
    c_fault = ffi.NULL
    if fault is not None:
        c_fault = ffi.new("struct pc_fault *", (fault.kind, fault.section, fault.op, fault.errno))
    ret = lib.pc_finish(ffi.from_buffer(plan), len(plan), c_fault, usage, report)
    failure = (
        StartFailure(step_name(report.step), report.err, SECTIONS[report.section], report.arg) if ret < 0 else None
    )
    return RawUsage(usage), failure


def reap(pidfd: int, end: Exit, *, block: bool) -> bool:
    """Whether the process behind ``pidfd`` has ended; then ``end`` is filled, now or by an earlier call."""
    return end.code != 0 or bool(_check(lib.pc_reap(pidfd, block, end._e), "waitid"))


def usage_read(kinds: Sequence[tuple[int, str]]) -> RawUsage:
    """Live usage: (enum pc_usage_kind, cgroup directory) pairs."""
    usage = ffi.new("struct pc_usage *")
    for kind, directory in kinds:
        lib.pc_usage_read(kind, directory.encode(), usage)  # what cannot be read is missing from `have`
    return RawUsage(usage)


def spawn_floor(argv: Sequence[str]) -> tuple[int, int]:
    """Clone + exec + wait of ``argv[0]`` and nothing else: nanoseconds until exec and until exit."""
    until_exec, until_exit = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    words = [ffi.new("char[]", os.fsencode(a)) for a in argv]
    _check(lib.pc_spawn_floor(ffi.new("char *[]", [*words, ffi.NULL]), until_exec, until_exit), argv[0])
    return int(until_exec[0]), int(until_exit[0])


def spawn_helper(argv: Sequence[str], fd: int) -> tuple[int, int]:
    """Starts ``argv`` in a session of its own with ``fd`` as fd 3: (pid, pidfd)."""
    pidfd = ffi.new("int32_t *")
    words = [ffi.new("char[]", os.fsencode(a)) for a in argv]
    pid = _check(lib.pc_spawn_helper(words[0], ffi.new("char *[]", [*words, ffi.NULL]), fd, pidfd), argv[0])
    return pid, int(pidfd[0])


def mount_detached(fstype: str, options: str, attributes: int) -> int:
    """A new file system as a detached mount: its fd. ``options``: "key=value,flag"."""
    return _check(lib.pc_mount_detached(fstype.encode(), options.encode(), attributes), fstype)


def sealed_copy(path: str) -> int:
    """A sealed copy in memory of the program at ``path``: its fd."""
    return _check(lib.pc_sealed_copy(os.fsencode(path)), path)


def make_userns(uid_map: str, gid_map: str) -> int:
    """A user namespace that nobody is in, for id-mapped mounts: its fd."""
    return _check(lib.pc_make_userns(uid_map.encode(), gid_map.encode()), "user namespace")


def act_as(uid: int, gid: int) -> None:
    """From here on this thread makes files as this user and group, with all of its powers."""
    _check(lib.pc_act_as(uid, gid), "setfsuid")


def mount_attributes(fd: int, set_: int, clear: int = 0, *, userns_fd: int = -1, recursive: bool = False) -> None:
    """mount_setattr of the mount behind ``fd``; ``userns_fd`` >= 0 is its id map."""
    _check(lib.pc_mount_attributes(fd, set_, clear, userns_fd, recursive), "mount_setattr")


def open_tree(dirfd: int, path: str, *, recursive: bool = False) -> int:
    """A detached copy of the mount at ``path``: its fd."""
    return _check(lib.pc_open_tree(dirfd, os.fsencode(path), recursive), path)


def move_mount(fd: int, dirfd: int, path: str) -> None:
    """Attaches the detached mount ``fd`` at ``path`` below ``dirfd``."""
    _check(lib.pc_move_mount(fd, dirfd, os.fsencode(path)), path)


def watch_directory(path: str) -> int:
    """A descriptor that is readable when something in it is written, made or renamed; reading empties it, and never waits."""
    return _check(lib.pc_watch_directory(os.fsencode(path)), path)


def unshare(flags: int) -> None:
    _check(lib.pc_unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(lib.pc_setns(fd, kind), "setns")


def superblock_readonly(fd: int) -> None:
    _check(lib.pc_superblock_readonly(fd), "superblock")


def remove_tree(path: str) -> None:
    """Removes ``path`` with everything below; never follows a link. Gone already is fine."""
    _check(lib.pc_remove_tree(os.fsencode(path)), path)


def remove_cgroup(path: str) -> None:
    """Kills everything in the cgroup and removes it with its children. Gone already is fine."""
    _check(lib.pc_remove_cgroup(os.fsencode(path)), path)


def openat2(dirfd: int, path: bytes | str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    return _check(lib.pc_openat2(dirfd, os.fsencode(path), flags | os.O_CLOEXEC, mode, resolve), os.fsdecode(path))


def syncfs(fd: int) -> None:
    _check(lib.pc_syncfs(fd), "syncfs")


class UnpackFailure(Exception):
    """What the C core found wrong while unpacking, before :mod:`pycontain.image.unpack` has put it into words.

    ``fault`` is a name of src/c/tar.h; ``name`` (of the entry, or with ``after`` of the one before it) and ``text`` may be
    cut, ``name_bytes`` and ``text_bytes`` are their whole lengths.
    """

    def __init__(self, e: Any) -> None:
        self.fault: str = ffi.string(lib.pc_unpack_fault_name(e.fault)).decode()
        self.errno: int = e.err
        self.numbers: tuple[int, int] = (e.numbers[0], e.numbers[1])
        self.kind: str = ffi.string(e.kind).decode()
        self.what: str = ffi.string(e.what).decode()
        self.after: bool = bool(e.after)
        self.uid: int = e.uid
        self.gid: int = e.gid
        self.name_bytes: int = e.name_bytes
        self.text_bytes: int = e.text_bytes
        self.name: bytes = bytes(ffi.buffer(e.name))[: e.name_bytes]
        self.text: bytes = bytes(ffi.buffer(e.text))[: e.text_bytes]
        super().__init__(self.fault, self.errno, self.name)


class UnpackStats:
    """What was unpacked; ``skipped_xattrs`` in the order in which they came first."""

    __slots__ = ("bytes_read", "entries", "file_bytes", "opaque_dirs", "skipped_nodes", "skipped_xattrs", "whiteouts")

    def __init__(self, s: Any) -> None:
        self.entries: int = s.entries
        self.bytes_read: int = s.bytes_read
        self.file_bytes: int = s.file_bytes
        self.whiteouts: int = s.whiteouts
        self.opaque_dirs: int = s.opaque_dirs
        self.skipped_nodes: int = s.skipped_nodes
        self.skipped_xattrs = bytes(ffi.buffer(s.skipped_xattrs))[: s.skipped_bytes].split(b"\0")[: s.n_skipped_xattrs]


class Unpacker:
    """One tar, pushed in pieces of any size and written below ``root_fd`` (borrowed). Not for two threads at once.

    ``uid_map`` and ``gid_map`` are (inside, outside, count); without them every id is itself. ``plain``, ``sober``, ``owner``
    (uid, gid): src/c/pycontain.h, pc_unpack_flags.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        max_bytes: int,
        max_entries: int,
        max_depth: int,
        max_path_bytes: int,
        max_meta_bytes: int,
        in_user_namespace: bool,
        uid_map: Sequence[tuple[int, int, int]] = (),
        gid_map: Sequence[tuple[int, int, int]] = (),
        plain: bool = False,
        sober: bool = False,
        owner: tuple[int, int] | None = None,
    ) -> None:
        uids, gids = ffi.new("struct pc_id_range[]", list(uid_map)), ffi.new("struct pc_id_range[]", list(gid_map))
        options = ffi.new("struct pc_unpack_options *")
        options.root_fd, options.in_user_namespace = root_fd, in_user_namespace
        options.max_bytes, options.max_entries = max_bytes, max_entries
        options.max_depth, options.max_path_bytes, options.max_meta_bytes = max_depth, max_path_bytes, max_meta_bytes
        options.uid_map, options.n_uid_map = uids, len(uid_map)
        options.gid_map, options.n_gid_map = gids, len(gid_map)
        options.flags = (lib.PC_UNPACK_PLAIN if plain else 0) | (lib.PC_UNPACK_SOBER if sober else 0)
        if owner is not None:
            options.flags |= lib.PC_UNPACK_OWNED
            options.owner_uid, options.owner_gid = owner
        out = ffi.new("struct pc_unpack **")
        _check(lib.pc_unpack_new(options, out), "unpack")
        self._u = ffi.gc(out[0], lib.pc_unpack_free)
        self._error = ffi.new("struct pc_unpack_error *")

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Parse and write the next piece; the interpreter's lock is free meanwhile. Raises: UnpackFailure."""
        with ffi.from_buffer("uint8_t[]", data) as view:
            if lib.pc_unpack_feed(self._open(), view, len(view), self._error) < 0:
                raise UnpackFailure(self._error)

    def finish(self) -> UnpackStats:
        """The tar has ended. Raises: UnpackFailure: too early, or the directories' times cannot be set."""
        stats = ffi.new("struct pc_unpack_stats *")
        if lib.pc_unpack_finish(self._open(), stats, self._error) < 0:
            raise UnpackFailure(self._error)
        return UnpackStats(stats)

    def _open(self) -> Any:
        if self._u == ffi.NULL:
            raise ValueError("this unpacker is closed")
        return self._u

    def close(self) -> None:
        """Idempotent."""
        u, self._u = self._u, ffi.NULL
        if u != ffi.NULL:
            ffi.release(u)


def unpack_faults() -> list[str]:
    """The names of all faults."""
    names: list[str] = []
    while name := ffi.string(lib.pc_unpack_fault_name(len(names))).decode():
        names.append(name)
    return names


def seccomp_resolve(name: str, arch_token: int) -> int:
    """The number of the system call ``name``; negative when that architecture lacks it. Raises OSError without libseccomp."""
    number = int(lib.pc_seccomp_resolve(name.encode(), arch_token))
    if number == _INT_MIN:
        raise OSError(2, "cannot load libseccomp.so.2 (install libseccomp2)")
    return number


# The packer: directory trees into a tar stream

PACK_LAYER, PACK_MERGED, PACK_CHANGES = lib.PC_PACK_LAYER, lib.PC_PACK_MERGED, lib.PC_PACK_CHANGES


class PackFailure(Exception):
    """A failure of the packer, before :mod:`pycontain.image.pack` has put it into words; ``path`` is in the tree."""

    def __init__(self, step: str, errno: int, path: bytes) -> None:
        super().__init__(f"{step} {path!r}: {os.strerror(errno)}")
        self.step = step
        self.errno = errno
        self.path = path


class Packer:
    """Directory trees as a stream of bytes. ``roots``: directory descriptors, topmost first, the caller's.

    ``uid_map``, ``gid_map``: (inside, outside, count), for the first ``mapped`` roots. ``exclude``: paths in the first root
    that are passed over. ``mtime_max``: seconds. ``name``: what the root is called instead of "."; ``tree``, ``one``:
    src/c/pycontain.h, pc_pack_flags. Not for two threads at once.
    """

    __slots__ = ("_p",)

    def __init__(
        self,
        roots: Sequence[int],
        mode: int,
        *,
        userxattr: bool = False,
        root_entry: bool = False,
        mtime_max: int | None = None,
        uid_map: Sequence[tuple[int, int, int]] = (),
        gid_map: Sequence[tuple[int, int, int]] = (),
        mapped: int = 0,
        exclude: Sequence[bytes] = (),
        name: bytes = b"",
        tree: bool = False,
        one: bool = False,
    ) -> None:
        self._p = ffi.NULL
        args = ffi.new("struct pc_pack_args *")
        kept = (  # for as long as the call: the packer copies
            ffi.new("int32_t[]", list(roots)),
            ffi.new("struct pc_pack_range[]", list(uid_map)),
            ffi.new("struct pc_pack_range[]", list(gid_map)),
            ffi.new("char[]", b"".join(path + b"\0" for path in exclude)),
            ffi.new("char[]", name),
        )
        args.roots, args.uids, args.gids, args.exclude, args.name = kept
        args.n_roots, args.n_mapped, args.n_exclude = len(roots), mapped, len(exclude)
        args.n_uids, args.n_gids = len(uid_map), len(gid_map)
        args.mtime_max = 2**63 - 1 if mtime_max is None else mtime_max
        args.mode = mode
        args.flags = (lib.PC_PACK_USERXATTR if userxattr else 0) | (lib.PC_PACK_ROOT if root_entry else 0)
        args.flags |= (lib.PC_PACK_TREE if tree else 0) | (lib.PC_PACK_ONE if one else 0)
        self._p = lib.pc_pack_new(args)
        if self._p == ffi.NULL:
            raise MemoryError("no memory for a packer")

    def readinto(self, buffer: Buffer) -> int:
        """Fills ``buffer`` as far as there is something: how many bytes, 0 at the end. Raises PackFailure, for good."""
        if self._p == ffi.NULL:
            raise ValueError("read of a closed packer")
        into = ffi.from_buffer("uint8_t[]", buffer, require_writable=True)
        got = int(lib.pc_pack_read(self._p, into, len(into)))
        if got < 0:
            f = ffi.new("struct pc_pack_failure *")
            lib.pc_pack_failed(self._p, f)
            step: bytes = ffi.string(lib.pc_pack_step_name(f.step))
            raise PackFailure(step.decode(), -got, ffi.unpack(f.path, f.path_len) if f.path_len else b"")
        return got

    def counts(self) -> dict[str, int]:
        """How many entries, whiteouts, opaque_dirs, file_bytes, sockets, vanished so far."""
        if self._p == ffi.NULL:
            raise ValueError("counts of a closed packer")
        c = ffi.new("struct pc_pack_counts *")
        lib.pc_pack_counted(self._p, c)
        return {name: int(getattr(c, name)) for name, _ in ffi.typeof("struct pc_pack_counts").fields}

    def close(self) -> None:
        p, self._p = self._p, ffi.NULL
        lib.pc_pack_free(p)

    def __del__(self) -> None:
        if lib is not None:  # not at the interpreter's end
            self.close()
