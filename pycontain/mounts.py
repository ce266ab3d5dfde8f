"""``-v``, ``--mount`` and ``--tmpfs`` as Docker writes them -> :class:`pycontain.request.Mount`. Pure.

A relative source (``./src``) stays relative: whose working directory counts, the caller knows.
"""

from __future__ import annotations

import posixpath

from .errors import InvalidArgument, Unsupported
from .mount_options import ATTRIBUTE_WORDS, MOUNT_WORDS
from .parse import boolean, invalid, nearest, quote, size, volume_name
from .request import Mount

__all__ = ["mount", "tmpfs", "volume"]

_PROPAGATION = ("rprivate", "private", "rslave", "slave")
_BIND_WORDS = ("rw", "dev", "suid", "exec")  # what a bind mount is anyway
_NO_EFFECT = ("z", "Z", "cached", "delegated", "consistent")  # SELinux labels; words for other systems
_TMPFS_NUMBERS = ("uid", "gid", "nr_inodes", "nr_blocks")
# what a tmpfs is anyway: pycontain.runtime.generate adds these, unless the opposite word is among the options
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev", "defaults")


def _target(text: str, given: str, form: str) -> str:
    """An absolute path inside, in its shortest form. Raises InvalidArgument."""
    if "\0" in text:
        raise invalid("mount", given, "a path cannot have a NUL byte", form)
    if not text.startswith("/"):
        raise invalid("mount", given, f"the target {quote(text)} is not an absolute path", form)
    return "/" + posixpath.normpath(text).lstrip("/")


def _propagation(word: str, given: str) -> str:
    if word in ("shared", "rshared"):
        raise Unsupported(
            f"cannot mount {quote(given)}: with {word}, mounts made inside would reach the host; use rslave or rprivate"
        )
    if word not in _PROPAGATION:
        raise invalid("mount", given, f"{quote(word)} is no propagation", " or ".join(_PROPAGATION))
    return word


def volume(text: str) -> Mount:
    """``SOURCE:TARGET[:OPTIONS]`` or ``TARGET``. A source that is an absolute path, or begins with a dot, is a bind, and made when
    it is missing; any other is the name of a volume; without one the volume is anonymous.

    Options: ``ro``, ``rw``, ``rprivate``, ``rslave``, ``nosuid``, ``nodev``, ``noexec`` and the like; of a volume ``nocopy`` and no
    propagation; ``z`` and ``Z`` have no effect.
    Raises: InvalidArgument; Unsupported: a propagation towards the host.
    """
    form = "SOURCE:TARGET[:OPTIONS], such as /srv/data:/data:ro, ./src:/src or data:/data; or /TARGET alone"
    parts = text.split(":")
    if len(parts) == 1 and text.startswith("/"):
        return Mount(type="volume", target=_target(text, text, form), anonymous=True, create_source=True)
    if len(parts) not in (2, 3) or not all(parts):
        hint = " (a path with ':' goes into --mount)" if len(parts) > 3 else ""
        raise invalid("volume", text, f"it is not two paths and options{hint}", form)
    source, target = parts[0], _target(parts[1], text, form)
    named = not source.startswith(("/", "./", "../")) and source not in (".", "..")
    if named:
        volume_name(source)
    read_only, options, copy = False, [], True
    for word in parts[2].split(",") if len(parts) == 3 else ():
        if word in ("ro", "rw"):
            read_only = word == "ro"
        elif word == "nocopy" and named:
            copy = False
        elif named and (word in _PROPAGATION or word.endswith("shared")):
            raise invalid("volume", text, f"{quote(word)} is for a directory of the host", f"{source}:{target}")
        elif word in _PROPAGATION or word.endswith("shared"):
            options.append(_propagation(word, text))
        elif word in ATTRIBUTE_WORDS or word == "noidmap":
            options.append(word)
        elif word not in _BIND_WORDS and word not in _NO_EFFECT:
            known = ("rw", "noidmap", *(("nocopy",) if named else _PROPAGATION), *sorted(ATTRIBUTE_WORDS))
            hint = nearest(word, known, f"the options are {', '.join(known)}")
            raise InvalidArgument(f"invalid volume {quote(text)}: there is no option {quote(word)}{hint}")
    return Mount(
        type="volume" if named else "bind", source=source, target=target, read_only=read_only, create_source=True,
        options=tuple(options), copy=copy,
    )  # fmt: skip


# --- --mount ----------------------------------------------------------------------------------------------------------


def _csv(text: str) -> list[str]:
    """The fields of one CSV record (RFC 4180): ``a,"b,c"`` -> a; b,c."""
    fields, at = [], 0
    while True:
        if text.startswith('"', at):
            field, at = "", at + 1
            while True:
                end = text.find('"', at)
                if end < 0:
                    raise invalid("mount", text, "a quoted field has no end", '"source=/a,b"')
                field, at = field + text[at:end], end + 1
                if not text.startswith('"', at):
                    break
                field, at = field + '"', at + 1
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            field, at = text[at:end], end
            if '"' in field:
                raise invalid("mount", text, "a quote stands inside a field", '"source=/a,b"')
        fields.append(field)
        if at == len(text):
            return fields
        if text[at] != ",":
            raise invalid("mount", text, "something follows a quoted field", '"source=/a,b"')
        at += 1


_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_KEYS = {
    "bind": ("source", "target", "readonly", "bind-propagation", "bind-nonrecursive", "consistency"),
    "volume": ("source", "target", "readonly", "volume-nocopy", "volume-subpath", "volume-driver", "consistency"),
    "tmpfs": ("target", "readonly", "tmpfs-size", "tmpfs-mode"),
}
_FLAGS = ("readonly", "bind-nonrecursive", "volume-nocopy")
_MOUNT_FORM = (
    "type=bind,source=/SRC,target=/DST[,readonly], type=volume,source=NAME,target=/DST or type=tmpfs,target=/DST"
)
_CREATE_FIRST = "make the volume first: `pycontain volume create` has --label and --opt"


def mount(text: str) -> Mount:
    """``type=bind|volume|tmpfs,source=,target=,readonly`` and so on, comma separated, with CSV quotes.

    Unlike with ``volume``, a source that is missing stays missing. Raises: InvalidArgument; Unsupported.
    """
    values = _mount_values(text)
    kind = values.pop("type", "volume")
    if kind in ("image", "npipe", "cluster"):
        raise invalid("mount", text, f"type {kind} is not there yet", _MOUNT_FORM)
    if kind not in _KEYS:
        hint = nearest(kind, _KEYS, "the types are bind, volume and tmpfs")
        raise InvalidArgument(f"invalid mount {quote(text)}: there is no type {quote(kind)}{hint}")
    for key in values:
        if key not in _KEYS[kind]:
            other = [each for each in _KEYS if key in _KEYS[each]]
            if kind == "volume" and key in ("volume-label", "volume-opt"):
                raise Unsupported(f"cannot mount {quote(text)}: {key} is not supported: {_CREATE_FIRST}")
            hint = f": it belongs to type={other[0]}" if other else nearest(key, _KEYS[kind], f"write {_MOUNT_FORM}")
            raise InvalidArgument(f"invalid mount {quote(text)}: type={kind} has no {quote(key)}{hint}")
    if "target" not in values:
        raise invalid("mount", text, "it has no target", _MOUNT_FORM)
    target = _target(values["target"], text, _MOUNT_FORM)
    read_only = "readonly" in values and boolean(values["readonly"], form="readonly or readonly=true")
    if kind == "tmpfs":
        return Mount(
            type="tmpfs", target=target, read_only=read_only,
            size_bytes=(size(values["tmpfs-size"]) or None) if "tmpfs-size" in values else None,
            mode=_mode(values["tmpfs-mode"], text) if "tmpfs-mode" in values else None,
        )  # fmt: skip
    source = values.get("source", "")
    if kind == "volume":
        return _volume_mount(values, source, target, read_only, text)
    if not source.startswith(("/", "./", "../")) and source not in (".", ".."):
        why = f"the source {quote(source)} is no path" if source else "it has no source"
        raise invalid("mount", text, why, _MOUNT_FORM)
    if "\0" in source:
        raise invalid("mount", text, "a path cannot have a NUL byte", _MOUNT_FORM)
    options = [_propagation(values["bind-propagation"], text)] if "bind-propagation" in values else []
    if "bind-nonrecursive" in values and boolean(values["bind-nonrecursive"], form="bind-nonrecursive=true"):
        options.append("bind")
    return Mount(type="bind", source=source, target=target, read_only=read_only, options=tuple(options))


def _volume_mount(values: dict[str, str], source: str, target: str, read_only: bool, text: str) -> Mount:
    if source:
        volume_name(source)
    if values.get("volume-driver", "local") != "local":
        raise Unsupported(f"cannot mount {quote(text)}: the only volume driver here is local: leave out volume-driver")
    no_copy = "volume-nocopy" in values and boolean(values["volume-nocopy"], form="volume-nocopy or volume-nocopy=true")
    return Mount(
        type="volume", source=source, target=target, read_only=read_only, anonymous=not source, copy=not no_copy,
        subpath=values.get("volume-subpath", ""),
    )  # fmt: skip


def _mount_values(text: str) -> dict[str, str]:
    """The keys by their first names; a flag without a value is true."""
    values: dict[str, str] = {}
    for field in _csv(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        key = _ALIASES.get(key, key)
        if not equals and key not in _FLAGS:
            raise invalid("mount", text, f"the field {quote(field)} has no value", _MOUNT_FORM)
        if key in values:
            raise invalid("mount", text, f"{key} is given twice", _MOUNT_FORM)
        values[key] = value if equals else "true"
    return values


# --- tmpfs ------------------------------------------------------------------------------------------------------------


def _mode(text: str, given: str) -> int:
    digits = text.removeprefix("0o")
    if not (0 < len(digits) < 8 and all(c in "01234567" for c in digits) and int(digits, 8) <= 0o7777):
        raise invalid("tmpfs", given, f"the mode {quote(text)} is not octal", "mode=1777")
    return int(digits, 8)


def _tmpfs_data(key: str, value: str, given: str) -> str:
    """An option with a value that goes to the kernel as it is."""
    if key in _TMPFS_NUMBERS:
        digits = value[:-1] if key.startswith("nr_") and value[-1:].lower() in ("k", "m", "g") else value
        if not (digits.isascii() and digits.isdigit()):
            raise invalid("tmpfs", given, f"{key} is not a number", f"{key}=1000")
    elif key == "size":  # a share of the memory
        share = value.removesuffix("%")
        if not (share.isascii() and share.isdigit() and 0 < int(share[:9]) <= 100):
            raise invalid("tmpfs", given, f"{quote(value)} is no share of the memory", "size=50%")
    return f"{key}={value}"


def tmpfs(text: str) -> Mount:
    """``TARGET[:OPTIONS]``: ``size=64m``, ``mode=1777``, ``ro``, ``exec``... Default: nosuid,nodev,noexec."""
    form = "/TARGET[:OPTIONS], such as /run:size=64m,mode=1777"
    path, colon, words = text.partition(":")
    target = _target(path, text, form)
    read_only, size_bytes, mode, options = False, None, None, []
    for word in words.split(",") if colon and words else ():
        key, equals, value = word.partition("=")
        if word in ("ro", "rw"):
            read_only = word == "ro"
        elif word in _TMPFS_DEFAULTS:
            continue
        elif equals and key == "mode":
            mode = _mode(value, text)
        elif equals and key == "size" and not value.endswith("%"):
            size_bytes = size(value) or None
        elif equals and (key == "size" or key in _TMPFS_NUMBERS):
            options.append(_tmpfs_data(key, value, text))
        elif word in MOUNT_WORDS:
            options.append(word)
        else:
            known = ("size=", "mode=", "uid=", "gid=", "nr_inodes=", "ro", "exec", "suid", "dev", *sorted(MOUNT_WORDS))
            hint = nearest(word, known, f"write {form}")
            raise InvalidArgument(f"invalid tmpfs {quote(text)}: there is no option {quote(word)}{hint}")
    return Mount(
        type="tmpfs", target=target, read_only=read_only, size_bytes=size_bytes, mode=mode, options=tuple(options)
    )
