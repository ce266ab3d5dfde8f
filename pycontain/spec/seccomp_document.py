"""The section ``linux.seccomp`` of config.json. Spec: config-linux.md, "Seccomp"."""

from __future__ import annotations

import json

from ..errors import InvalidArgument
from ..record import record
from ..seccomp.profile import Filter, flag_bits, parse_docker_profile
from .node import Node, complaint

__all__ = ["Seccomp", "parse_seccomp"]

_PREFIX = "seccomp profile: $"
_ERRNO_ACTIONS = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_NOTIFY = "SCMP_ACT_NOTIFY"
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
_LISTENER = ("listenerPath", "listenerMetadata")


@record
class Seccomp:
    """As in :class:`~pycontain.spec.runtime.Linux`; all of it empty without a filter."""

    source: bytes | None = None
    flags: int = 0
    listener_path: str = ""
    listener_metadata: str = ""


def parse_seccomp(node: Node) -> Seccomp:
    if not node.given:
        return Seccomp()
    members = node.as_object()
    _refuse_conditions(node)
    path, metadata = node.text("listenerPath"), node.text("listenerMetadata")
    if path:
        node.child("listenerPath").as_path()
    elif metadata:
        raise node.child("listenerPath").bad("the path that listenerMetadata is sent to")
    plain = {key: value for key, value in members.items() if key not in _LISTENER}
    source = json.dumps(plain, separators=(",", ":")).encode()
    filter = _parse(node, source)
    for item in node.items("syscalls"):
        item.texts("names")  # a name that ends at a NUL byte would be another one in C
    _check_errnos(node, filter)
    notifies = _check_notify(node, filter, path)
    return Seccomp(
        source=source,
        flags=flag_bits(filter),
        # "If the SCMP_ACT_NOTIFY action is not used this value is ignored."
        listener_path=path if notifies else "",
        listener_metadata=metadata if notifies else "",
    )


def _refuse_conditions(node: Node) -> None:
    """Docker's profiles have conditions; the specification has none and runc would apply such rules always."""
    for place in (
        node.child("archMap"),
        *(r.child(k) for r in node.items("syscalls") for k in ("includes", "excludes")),
    ):
        if place.given:
            raise complaint(
                place.path, "a filter without conditions", "one of Docker's profile format; settle it first"
            )


def _parse(node: Node, source: bytes) -> Filter:
    try:
        # without conditions nothing depends on the host
        return parse_docker_profile(source, frozenset(), "x86_64", (6, 0))
    except InvalidArgument as error:
        text = str(error)
        place = text.removeprefix(_PREFIX) if text.startswith(_PREFIX) else f": {text}"
        raise InvalidArgument(f"config.json: {node.path}{place}") from None


def _check_errnos(node: Node, filter: Filter) -> None:
    if filter.default_errno is not None and filter.default_action not in _ERRNO_ACTIONS:
        raise node.child("defaultErrnoRet").bad(f"no errno, because {filter.default_action} returns none")
    # by the document's own entries: one of them can be several rules
    for item in node.items("syscalls"):
        action = item.child("action").as_text()
        if item.child("errnoRet").given and action not in _ERRNO_ACTIONS:
            raise item.child("errnoRet").bad(f"no errno, because {action} returns none")


def _check_notify(node: Node, filter: Filter, listener: str) -> bool:
    if filter.default_action == _NOTIFY:
        # the answer to the first call would be needed before the listener has the descriptor
        raise node.child("defaultAction").bad(f"another action than {_NOTIFY}, which is for single calls")
    used = [index for index, item in enumerate(node.items("syscalls")) if item.child("action").as_text() == _NOTIFY]
    if used and not listener:
        where = node.items("syscalls")[used[0]].child("action").path
        raise node.child("listenerPath").bad(f"the path of the socket that {where} notifies")
    if not used and _WAIT_KILLABLE in filter.flags:
        index = filter.flags.index(_WAIT_KILLABLE)
        raise node.items("flags")[index].bad(f"a flag that goes without {_NOTIFY}")
    return bool(used)
