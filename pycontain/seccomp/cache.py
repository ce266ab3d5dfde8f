"""Compiled filters, kept: in the process, and as files for the next one.

This is on the start path, so nothing is imported at the top but what every process has already; the compiler, json
and dataclasses are imported only when a file is missing. A file is named by its key in plain words: reading the
profile to hash it on every start would cost as much as loading the filter. ``PROFILE_DIGEST`` stands for the default
profile's content and ``FORMAT`` for the compiler; tests fail when either is out of date.

The checksum in a file guards against accidents (a torn write, a file under the wrong name). Against other users guard
the owner and the mode: whoever can write as us could write a matching checksum too.
"""

from __future__ import annotations

import os
import stat
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import Filter

__all__ = [
    "FORMAT",
    "PROFILE_DIGEST",
    "RELEVANT_CAPS",
    "default_filter",
    "default_profile",
    "filter_for",
    "profile_filter",
]

FORMAT = 4  # raise it when the compiler's output for the same profile changes
PROFILE_DIGEST = "fe9765cf6eb44c58"  # first 16 hex digits of the SHA-256 of default.json

# The capabilities default.json asks about, in a fixed order: a set of them is one number in the key.
RELEVANT_CAPS = (
    "CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
)  # fmt: skip
_PTRACE_IS_SAFE = (4, 8)  # the one kernel version default.json asks about

_MAGIC = b"pcbpf1\0\0"
_HEADER = len(_MAGIC) + 8  # then the checksum, zero-extended to 8 bytes
_MAX_FILE = _HEADER + 8 * 4096

_compiled: dict[object, bytes] = {}


def default_filter(caps: frozenset[str], arch: str, kernel: tuple[int, int], cache_dir: str | None) -> bytes:
    """The default profile's BPF for a container with the bounding set ``caps`` on a host of ``arch`` and ``kernel``.

    ``cache_dir`` is made (0700) if missing; None keeps nothing on disk. Idempotent; a file appears whole or not at
    all, and one that is damaged or could be another user's is made anew.

    Raises:
        Unsupported: no seccomp support for this architecture, or libseccomp is missing.
    """
    bits = sum(1 << i for i, cap in enumerate(RELEVANT_CAPS) if cap in caps)
    old = "" if kernel >= _PTRACE_IS_SAFE else "-old"
    key = f"default-v{FORMAT}-{PROFILE_DIGEST}-{arch}-{bits:04x}{old}"
    found = _compiled.get(key) or _load(key, cache_dir)
    if found is None:
        found = _compile(default_profile(), caps, arch, kernel)
        _store(key, found, cache_dir)
    _compiled[key] = found
    return found


def profile_filter(
    source: bytes, caps: frozenset[str], arch: str, kernel: tuple[int, int], cache_dir: str | None
) -> bytes:
    """As :func:`default_filter`, for a profile's JSON text.

    Raises:
        InvalidArgument: the profile is malformed or too large.
        Unsupported: as above.
    """
    import hashlib  # a user's own profile only: its content has to be in the key

    facts = f"{FORMAT} {arch} {kernel[0]}.{kernel[1]} {' '.join(sorted(caps))}\0".encode()
    key = f"profile-v{FORMAT}-{hashlib.sha256(facts + source).hexdigest()}"
    found = _compiled.get(key) or _load(key, cache_dir)
    if found is None:
        found = _compile(source, caps, arch, kernel)
        _store(key, found, cache_dir)
    _compiled[key] = found
    return found


def filter_for(filter: Filter, arch: str | None = None) -> bytes:
    """The BPF of a Filter for ``arch`` (this machine by default), compiled once per process.

    Raises:
        InvalidArgument: the filter is too large.
        Unsupported: no seccomp support for this architecture, or libseccomp is missing.
    """
    machine = arch or os.uname().machine
    found = _compiled.get((filter, machine))
    if found is None:
        from .bpf import compile_filter

        found = _compiled[filter, machine] = compile_filter(filter, machine)
    return found


def default_profile() -> bytes:
    """The default profile's JSON text, in Docker's form."""
    with open(os.path.join(os.path.dirname(__file__), "default.json"), "rb") as file:
        return file.read()


def _compile(source: bytes, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> bytes:
    from .bpf import compile_filter
    from .profile import parse_docker_profile

    return compile_filter(parse_docker_profile(source, caps, arch, kernel), arch)


def _checksum(key: str, program: bytes) -> bytes:
    # The key is in it, so that a file under another key's name is not taken for that key's filter.
    return zlib.crc32(program, zlib.crc32(key.encode())).to_bytes(8, "little")


def _load(key: str, cache_dir: str | None) -> bytes | None:
    """The program in the file, or None if there is none that can be trusted."""
    if cache_dir is None:
        return None
    try:
        fd = os.open(f"{cache_dir}/{key}.bpf", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None  # missing or unreadable: it is made anew, and storing it is tried again
    try:
        facts = os.fstat(fd)
        ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
        if not ours or facts.st_size % 8 or not _HEADER < facts.st_size <= _MAX_FILE:
            return None
        content = os.read(fd, facts.st_size + 1)
    finally:
        os.close(fd)
    program = content[_HEADER:]
    whole = len(content) == facts.st_size and content[:_HEADER] == _MAGIC + _checksum(key, program)
    return program if whole else None


def _store(key: str, program: bytes, cache_dir: str | None) -> None:
    if cache_dir is None:
        return
    temporary = f"{cache_dir}/.{key}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        os.makedirs(cache_dir, mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return  # a full or read-only cache costs time, not safety: the filter itself is at hand
    try:
        with open(fd, "wb") as file:
            file.write(_MAGIC + _checksum(key, program) + program)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, f"{cache_dir}/{key}.bpf")
    except OSError:
        # For the same reason; but no half-written file may stay.
        try:
            os.unlink(temporary)
        except OSError:
            return
