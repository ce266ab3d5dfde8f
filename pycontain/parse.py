"""Values as people write them, for the command line and the Python API alike: "64m", "nofile=1024", "host:10.0.0.1".

Pure: no I/O, and nothing imported that a start would not import anyway (``re`` would cost more than all of this). Every
error is one line that says what was given, why it is wrong, and the nearest valid form. What not every start needs has
modules of its own, and is reached from here too: :mod:`pycontain.mounts`, :mod:`pycontain.security_options`, and, for
contradictions between values, :mod:`pycontain.consistency`.
"""

from __future__ import annotations

import posixpath

from .errors import InvalidArgument, Unsupported
from .request import Device, DeviceRate, Ulimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .consistency import check as check
    from .mounts import mount as mount
    from .mounts import tmpfs as tmpfs
    from .mounts import volume as volume
    from .security_options import SecurityOptions as SecurityOptions
    from .security_options import security_opts as security_opts

__all__ = [
    "SecurityOptions",
    "add_host",
    "boolean",
    "check",
    "choice",
    "cpus",
    "cpuset",
    "device",
    "device_bps",
    "device_iops",
    "env",
    "env_file",
    "hostname",
    "integer",
    "invalid",
    "label",
    "label_file",
    "memory_swap",
    "mount",
    "name",
    "nearest",
    "network",
    "pids_limit",
    "quote",
    "seconds",
    "security_opts",
    "signal_number",
    "size",
    "sysctl",
    "sysctl_namespace",
    "tmpfs",
    "ulimit",
    "user",
    "volume",
]

_MAX_INT64 = (1 << 63) - 1
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def __getattr__(attribute: str) -> object:
    # by name, so that a start without mounts does not load their parser
    if attribute in ("volume", "mount", "tmpfs"):
        from . import mounts

        return getattr(mounts, attribute)
    if attribute in ("security_opts", "SecurityOptions"):
        from . import security_options

        return getattr(security_options, attribute)
    if attribute == "check":
        from .consistency import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


def quote(text: object) -> str:
    """A value for an error message: on one line, and not endless."""
    shown = repr(text)
    return shown if len(shown) <= 120 else f"{shown[:100]}...{shown[-1]}"


def nearest(text: str, choices: Iterable[str], otherwise: str = "") -> str:
    """The end of an error message: ``: did you mean X?``, or else ``: otherwise``."""
    import difflib

    # of two letters one may be wrong, of ten not five
    near = difflib.get_close_matches(text, list(choices), 1, 0.5 if len(text) < 4 else 0.6)
    if near:
        return f": did you mean {near[0]}?"
    return f": {otherwise}" if otherwise else ""


def invalid(what: str, text: object, why: str, form: str) -> InvalidArgument:
    """The one shape of an error here: what was given, why it is wrong, the nearest valid form."""
    return InvalidArgument(f"invalid {what} {quote(text)}: {why}; write {form}")


# --- numbers ----------------------------------------------------------------------------------------------------------

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def size(text: str | int) -> int:
    """Bytes. An int is bytes already; text is a number with b, k, m, g, t or p, powers of 1024: "64m", "1.5g", "64MiB".

    Raises: InvalidArgument.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if 0 <= text <= _MAX_INT64:
            return text
        raise _bad_size(text, "it is negative" if text < 0 else "it is above 2**63 - 1")
    if not isinstance(text, str):
        raise _bad_size(text, "it is neither a number nor text")
    rest = text.lower().removesuffix("b")
    scale = _UNITS.get(rest.removesuffix("i")[-1:])
    if scale is not None:
        rest = rest.removesuffix("i")[:-1]
    whole, dot, fraction = rest.removesuffix(" ").partition(".")
    digits = whole + fraction
    if not whole or (dot and not fraction) or not (digits.isascii() and digits.isdigit()) or len(digits) > 40:
        raise _bad_size(text, "it is negative" if text.startswith("-") else "it is not a number and a unit")
    # whole numbers throughout: a float would round what is above 2**53
    value: int = int(digits) * (scale or 1) // 10 ** len(fraction)
    if value > _MAX_INT64:
        raise _bad_size(text, "it is above 2**63 - 1 bytes")
    return value


def _bad_size(text: object, why: str) -> InvalidArgument:
    return invalid("size", text, why, "bytes, or a number with k, m, g or t: 64m, 1.5g")


def memory_swap(text: str | int) -> int:
    """Memory and swap together: a size, or -1 for unlimited swap."""
    return -1 if text in (-1, "-1") else size(text)


def integer(text: str | int, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    form = f"a whole number from {low} to {high}"
    digits = str(text).removeprefix("-")
    if isinstance(text, bool) or not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        raise invalid("number", text, "it is not a whole number", form)
    value = int(text)
    if not low <= value <= high:
        raise invalid("number", text, "it is out of range", form)
    return value


def pids_limit(text: str | int) -> int:
    """How many processes at most; -1 (and 0, as in Docker) is unlimited."""
    return integer(text, -1, _MAX_INT64) or -1


def _decimal(text: str | int | float, what: str, form: str) -> float:
    if isinstance(text, str):
        digits = text.replace(".", "", 1)
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 30:
            raise invalid(what, text, "it is not a decimal number", form)
    elif isinstance(text, bool) or not isinstance(text, (int, float)) or not 0 <= text < 1e18:
        raise invalid(what, text, "it is not a decimal number", form)
    return float(text)


def cpus(text: str | int | float) -> float:
    """How many CPUs' worth of time: 0.01 and up; 0 is no limit."""
    form = "how many CPUs as a decimal number from 0.01: 0.5, 2"
    value = _decimal(text, "number of CPUs", form)
    if 0 < value < 0.01 or value > 1e6:
        raise invalid("number of CPUs", text, "it is out of range", form)
    return value


def seconds(text: str | int | float) -> float:
    """A time above 0, in seconds."""
    form = "seconds, such as 2 or 0.5"
    value = _decimal(text, "time", form)
    if value <= 0:
        raise invalid("time", text, "it must be above 0", form)
    return value


def boolean(text: str, *, form: str) -> bool:
    """As Go's ParseBool reads it, because Docker's ``--flag=VALUE`` does; ``form`` is the valid form to name."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise invalid("value", text, "it is neither true nor false", form)


def choice(text: str, valid: tuple[str, ...], *, later: str = "") -> str:
    """One of ``valid``; what begins with ``container:`` and the like is Unsupported when ``later`` says so."""
    if text in valid:
        return text
    alternatives = " or ".join(valid)
    if later and ":" in text:
        raise Unsupported(f"cannot use {quote(text)}: {later}; use {alternatives}")
    raise InvalidArgument(f"invalid value {quote(text)}: write {alternatives}")


def network(text: str) -> str:
    """``none`` or ``host``."""
    if text not in ("none", "host"):
        raise Unsupported(f"cannot use network {quote(text)}: bridge networks come later; use none or host")
    return text


def cpuset(text: str, what: str = "CPU") -> str:
    """Numbers of CPUs, or memory nodes, as the kernel lists them: "0-3,5"."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(x.isascii() and x.isdigit() and len(x) < 6 for x in ends) or int(ends[0]) > int(ends[1]):
            raise invalid(f"list of {what}s", text, f"{quote(part)} is no {what} and no range", "0-3,5")
    return text


# --- limits and devices -----------------------------------------------------------------------------------------------

_ULIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def ulimit(text: str) -> Ulimit:
    """``NAME=SOFT[:HARD]``; -1 or "unlimited" is no limit. Without HARD both are SOFT."""
    form = "NAME=SOFT[:HARD], such as nofile=1024:2048 or core=0; -1 is unlimited"
    name, equals, limits = text.partition("=")
    if not equals:
        raise invalid("ulimit", text, "it has no '='", form)
    name = name.lower().removeprefix("rlimit_")
    if name not in _ULIMITS:
        hint = nearest(name, _ULIMITS, f"the names are {', '.join(_ULIMITS)}")
        raise InvalidArgument(f"invalid ulimit {quote(text)}: there is no limit {quote(name)}{hint}")
    first, colon, second = limits.partition(":")
    values = []
    for part in (first, second if colon else first):
        number = "-1" if part == "unlimited" else part
        if number != "-1" and not (number.isascii() and number.isdigit() and int(number[:30]) <= _MAX_INT64):
            raise invalid("ulimit", text, f"{quote(part)} is not a number", form)
        values.append(int(number))
    soft, hard = values
    if hard != -1 and (soft == -1 or soft > hard):
        raise invalid("ulimit", text, "the soft limit is above the hard one", form)
    return Ulimit(name=name, soft=soft, hard=hard)


def _is_access(text: str) -> bool:
    return bool(text) and all(c in "rwm" for c in text) and len(set(text)) == len(text)


def device(text: str) -> Device:
    """``/dev/NAME[:/dev/INSIDE][:rwm]``, the access a subset of read, write, mknod."""
    form = "/dev/NAME[:/dev/INSIDE][:rwm]"
    if not text.startswith("/") and "=" in text:
        raise Unsupported(f"cannot use device {quote(text)}: CDI devices come later; name a node: /dev/NAME")
    source, *rest = text.split(":")
    if not source.startswith("/") or "\0" in text or len(rest) > 2:
        raise invalid("device", text, "it is not a node's path", form)
    access = rest.pop() if len(rest) == 2 or (rest and not rest[0].startswith("/")) else "rwm"
    target = rest[0] if rest else source
    if not _is_access(access):
        raise invalid("device", text, f"{quote(access)} is not an access of the letters r, w, m", form)
    if not target.startswith("/"):
        raise invalid("device", text, f"{quote(target)} is not an absolute path", form)
    return Device(source=source, target=posixpath.normpath(target), access=access)


def _device_rate(text: str, form: str) -> tuple[str, str]:
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/") or "\0" in path:
        raise invalid("rate", text, "it is not a path and a rate", form)
    return path, rate


def device_bps(text: str) -> DeviceRate:
    """``/dev/NAME:SIZE``: bytes a second."""
    form = "/dev/NAME:SIZE, such as /dev/sda:10mb"
    path, rate = _device_rate(text, form)
    try:
        value = size(rate)
    except InvalidArgument:
        value = 0
    if value < 1:
        raise invalid("rate", text, f"{quote(rate)} is not a size above 0", form)
    return DeviceRate(path=path, rate=value)


def device_iops(text: str) -> DeviceRate:
    """``/dev/NAME:COUNT``: operations a second."""
    form = "/dev/NAME:COUNT, such as /dev/sda:1000"
    path, rate = _device_rate(text, form)
    if not (rate.isascii() and rate.isdigit() and 0 < int(rate[:30]) < 1 << 32):
        raise invalid("rate", text, f"{quote(rate)} is not a count above 0", form)
    return DeviceRate(path=path, rate=int(rate))


# --- environment, labels, sysctls, hosts ------------------------------------------------------------------------------


def env(items: Iterable[str], environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Variables from ``NAME=VALUE``; a bare ``NAME`` takes the caller's value and is left out when it has none.

    The last of several values counts.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or "\0" in item:
            why = "it has a NUL byte" if name else "the name is empty"
            raise invalid("variable", item, why, "NAME=VALUE, or NAME to pass yours on")
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return tuple(found.items())


def _file_lines(text: str) -> list[str]:
    """The lines that say something, checked. Not splitlines(): a form feed or U+2028 in a value ends no line."""
    lines = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name or "\0" in line:
            why = "has a NUL byte" if name else "has no name before '='"
            raise InvalidArgument(f"line {number}: {quote(line)} {why}; write NAME=VALUE")
        if any(c.isspace() for c in name):
            raise InvalidArgument(f"line {number}: the name {quote(name)} has whitespace; write NAME=VALUE")
        lines.append(line)
    return lines


def env_file(text: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The text of an env file by Docker's rules: ``NAME=VALUE``, ``NAME`` (the caller's value) or ``# comment``.

    Quotes are part of the value, and so is a ``#`` in it. Raises: InvalidArgument, with the line's number.
    """
    return env(_file_lines(text), environ)


def label(text: str) -> tuple[str, str]:
    """``KEY=VALUE``, or ``KEY`` for an empty value."""
    key, _, value = text.partition("=")
    if not key or "\0" in text:
        raise invalid("label", text, "the key is empty or has a NUL byte", "KEY=VALUE")
    return key, value


def label_file(text: str) -> tuple[tuple[str, str], ...]:
    """The text of a label file: like an env file's, but ``KEY`` alone is an empty value."""
    return tuple(label(line) for line in _file_lines(text))


_IPC_SYSCTLS = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
)  # fmt: skip


def sysctl_namespace(name: str) -> str:
    """The namespace ("ipc", "network") that keeps a kernel setting of its own. Raises InvalidArgument for any other."""
    form = "kernel.{msg*,sem,shm*}, fs.mqueue.* or net.*, such as net.core.somaxconn=1024"
    # the name becomes a path below /proc/sys: nothing in it may lead elsewhere
    if not all(name.split(".")) or not all(c in _ALNUM or c in "._-" for c in name):
        raise invalid("sysctl", name, "the name has an empty part or a character not allowed", form)
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "network"
    hint = nearest(name, _IPC_SYSCTLS) if name.startswith("kernel.") else ""
    why = "it is the whole machine's, no namespace has its own"
    raise InvalidArgument(f"invalid sysctl {quote(name)}: {why}{hint}") if hint else invalid("sysctl", name, why, form)


def sysctl(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of a kernel setting that a namespace has for itself."""
    name, equals, value = text.partition("=")
    if not equals or "\n" in value or "\0" in value:
        why = "the value has a line end or a NUL byte" if equals else "it has no '='"
        raise invalid("sysctl", text, why, "NAME=VALUE, such as net.core.somaxconn=1024")
    sysctl_namespace(name)
    return name, value


def add_host(text: str) -> tuple[str, str]:
    """``HOST:ADDRESS`` or ``HOST=ADDRESS``; an IPv6 address may stand in brackets."""
    form = "HOST:ADDRESS, such as db:10.0.0.2 or db=[2001:db8::2]"
    # '=' first: an IPv6 address is full of colons
    host, found, address = text.partition("=" if "=" in text else ":")
    if not found or not host or any(c.isspace() or c in "#\0" for c in host):
        raise invalid("host entry", text, "it is not a name and an address", form)
    if address == "host-gateway":
        raise Unsupported(f"cannot add host {quote(text)}: host-gateway comes with bridge networks; give an address")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    import ipaddress

    try:
        return host, str(ipaddress.ip_address(address))
    except ValueError:
        raise invalid("host entry", text, f"{quote(address)} is no IP address", form) from None


# --- identity ---------------------------------------------------------------------------------------------------------


def user(text: str) -> str:
    """``USER[:GROUP]``, each a name or a number from 0 to 2**31 - 1. Whether they exist is the image's to say."""
    parts = text.split(":")
    form = "USER[:GROUP], names or numbers: nobody, 1000, 1000:1000"
    if len(parts) > 2 or not all(parts) or any(c.isspace() or c in "\0/" for c in text):
        raise invalid("user", text, "it is not one or two names", form)
    for part in parts:
        numeric = part.removeprefix("-")
        if numeric.isascii() and numeric.isdigit() and not (part == numeric and int(part[:20]) < 1 << 31):
            raise invalid("user", text, f"{quote(part)} is not from 0 to {(1 << 31) - 1}", form)
    return text


def name(text: str) -> str:
    """A container's name: ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``, at most 128 characters."""
    form = "2 to 128 letters, digits, '_', '.' or '-', the first a letter or a digit"
    if not 2 <= len(text) <= 128:
        raise invalid("name", text, f"it has {len(text)} characters", form)
    if text[0] not in _ALNUM or not all(c in _ALNUM or c in "_.-" for c in text):
        raise invalid("name", text, "a character is not allowed there", form)
    return text


def volume_name(text: str) -> str:
    """``[a-zA-Z0-9][a-zA-Z0-9_.-]+``, at most 255 characters."""
    if len(text) == 1:
        raise InvalidArgument("volume name is too short, names should be at least two alphanumeric characters")
    if not 0 < len(text) <= 255 or text[0] not in _ALNUM or not all(c in _ALNUM or c in "_.-" for c in text):
        raise InvalidArgument(
            f'{quote(text)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
    return text


def _is_label(text: str) -> bool:
    return bool(text) and text[0] in _ALNUM and text[-1] in _ALNUM and all(c in _ALNUM or c in "-_" for c in text)


def hostname(text: str) -> str:
    """A host name of at most 64 bytes (HOST_NAME_MAX): labels of letters, digits, '-' and '_', joined by dots."""
    form = "at most 64 letters, digits, '-' and '.', such as web-1.example.org"
    if len(text) > 64:
        raise invalid("host name", text, f"it has {len(text)} characters", form)
    if not all(map(_is_label, text.split("."))):
        raise invalid("host name", text, "a part is empty or has a character not allowed there", form)
    return text


def signal_number(text: str) -> int:
    """The number of ``TERM``, ``SIGTERM``, ``15`` or ``SIGRTMIN+3``."""
    import signal

    word = text.upper().removeprefix("SIG")
    base, sign, offset = word.partition("+") if "+" in word else word.partition("-")
    if word.isascii() and word.isdigit():
        number = int(word[:6])
    elif sign and base in ("RTMIN", "RTMAX") and offset.isascii() and offset.isdigit():
        by = int(offset[:6])
        number = int(signal.SIGRTMIN) + by if sign == "+" else int(signal.SIGRTMAX) - by
        if (base, sign) not in (("RTMIN", "+"), ("RTMAX", "-")) or number < signal.SIGRTMIN:
            number = 0
    else:
        known = signal.Signals.__members__
        number = int(known["SIG" + word]) if "SIG" + word in known else -1
    if number < 0:
        hint = nearest(word, [s[3:] for s in signal.Signals.__members__], "write a name or a number: TERM, SIGTERM, 15")
        raise InvalidArgument(f"unknown signal {quote(text)}{hint}")
    if not 1 <= number <= signal.SIGRTMAX:
        raise invalid("signal", text, f"signals are 1 to {int(signal.SIGRTMAX)}", "TERM, SIGTERM or 15")
    return number
