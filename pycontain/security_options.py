"""``--security-opt`` as Docker writes it. Pure; reached through :mod:`pycontain.parse`."""

from __future__ import annotations

from .errors import InvalidArgument
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
    apparmor: str | None = None  # a profile that is loaded, or "unconfined"
    label: str = ""  # SELinux: USER:ROLE:TYPE:LEVEL


# what Docker and podman give a container when nothing is said
_LABEL = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
_VALID = (
    "no-new-privileges", "seccomp=unconfined|builtin|FILE", "systempaths=unconfined", "apparmor=PROFILE|unconfined",
    "label=disable|user:USER|role:ROLE|type:TYPE|level:LEVEL",
)  # fmt: skip
_KEYS = tuple(each.partition("=")[0] for each in _VALID)


def security_opts(items: Iterable[str]) -> SecurityOptions:
    """Docker's ``--security-opt`` values, ``KEY=VALUE`` or, as of old, ``KEY:VALUE``. The last of a key counts.

    Whether this kernel can give a label is the Plan's to say. Raises: InvalidArgument.
    """
    no_new_privileges, seccomp, masked_paths = False, None, True
    apparmor: str | None = None
    label: dict[str, str] = {}
    for text in items:
        at = min((i for i in (text.find("="), text.find(":")) if i >= 0), default=len(text))
        key, given, value = text[:at], at < len(text), text[at + 1 :]
        if key == "no-new-privileges":
            no_new_privileges = boolean(value, form="no-new-privileges=true") if given else True
        elif key == "seccomp" and value and "\0" not in value:
            seccomp = None if value == "builtin" else value
        elif key == "systempaths" and value == "unconfined":
            masked_paths = False
        elif key == "apparmor" and value and value.isprintable() and " " not in value:
            apparmor = value
        elif key == "label" and value == "disable":
            label = {}
        elif key == "label" and _is_label(value):
            part, _, name = value.partition(":")
            label[part] = name
        else:
            valid = f"write {', '.join(_VALID)}"
            hint = f": {valid}" if key in _KEYS else nearest(key, _KEYS, valid)
            raise InvalidArgument(f"invalid security option {quote(text)}{hint}")
    return SecurityOptions(
        no_new_privileges=no_new_privileges, seccomp=seccomp, masked_paths=masked_paths, apparmor=apparmor,
        label=":".join({**_LABEL, **label}.values()) if label else "",
    )  # fmt: skip


def _is_label(text: str) -> bool:
    part, _, name = text.partition(":")
    return part in _LABEL and bool(name) and name.isprintable() and " " not in name
