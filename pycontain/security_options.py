"""``--security-opt`` as Docker writes it. Pure; reached through :mod:`pycontain.parse`."""

from __future__ import annotations

from .errors import InvalidArgument, Unsupported
from .parse import boolean, nearest, quote
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SecurityOptions", "security_opts"]


@record
class SecurityOptions:
    """What ``--security-opt`` said. ``seccomp``: None the default profile, "unconfined", or a profile's path."""

    no_new_privileges: bool = False
    seccomp: str | None = None
    masked_paths: bool = True


_VALID = (
    "no-new-privileges", "seccomp=unconfined|builtin|FILE", "systempaths=unconfined", "apparmor=unconfined",
    "label=disable",
)  # fmt: skip
_KEYS = tuple(each.partition("=")[0] for each in _VALID)
_LATER = {"apparmor": ("unconfined", "AppArmor profiles"), "label": ("disable", "SELinux labels")}


def security_opts(items: Iterable[str]) -> SecurityOptions:
    """Docker's ``--security-opt`` values, ``KEY=VALUE`` or, as of old, ``KEY:VALUE``. The last of a key counts.

    Raises: InvalidArgument; Unsupported: an AppArmor profile or an SELinux label.
    """
    no_new_privileges, seccomp, masked_paths = False, None, True
    for text in items:
        at = min((i for i in (text.find("="), text.find(":")) if i >= 0), default=len(text))
        key, given, value = text[:at], at < len(text), text[at + 1 :]
        if key == "no-new-privileges":
            no_new_privileges = boolean(value, form="no-new-privileges=true") if given else True
        elif key == "seccomp" and value and "\0" not in value:
            seccomp = None if value == "builtin" else value
        elif key == "systempaths" and value == "unconfined":
            masked_paths = False
        elif key in _LATER and value:
            accepted, what = _LATER[key]
            if value != accepted:  # accepted: there is none of it to switch off
                hint = f"leave it out, or write {key}={accepted}"
                raise Unsupported(f"cannot apply {quote(text)}: {what} come later; {hint}")
        else:
            valid = f"write {', '.join(_VALID)}"
            hint = f": {valid}" if key in _KEYS else nearest(key, _KEYS, valid)
            raise InvalidArgument(f"invalid security option {quote(text)}{hint}")
    return SecurityOptions(no_new_privileges=no_new_privileges, seccomp=seccomp, masked_paths=masked_paths)
