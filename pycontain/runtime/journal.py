"""The log driver journald: what its lines say of their container, in the words of Docker's driver; the monitor sends them.

Spec: systemd, "Native Journal Protocol"; docs.docker.com, "Journald logging driver".
"""

from __future__ import annotations

import os
import stat

from ..errors import InvalidArgument, Unsupported
from ..image.workspace import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .detached import Detached

__all__ = ["SOCKET", "check", "check_tag", "write_fields"]

SOCKET = "/run/systemd/journal/socket"
_SHORT = 12  # digits of an id
_TAGS = ("{{.ID}}", "{{.FullID}}", "{{.Name}}", "{{.ImageID}}", "{{.ImageFullID}}", "{{.ImageName}}", "{{.DaemonName}}")


def check() -> None:
    """Raises: Unsupported: no journal runs here."""
    try:
        if stat.S_ISSOCK(os.stat(SOCKET).st_mode):
            return
    except OSError:
        pass
    raise Unsupported(
        f"cannot log to journald: there is no socket {SOCKET} here: systemd-journald does not run. Use --log-driver json-file"
    )


def check_tag(tag: str) -> None:
    """Raises: InvalidArgument."""
    rest = tag
    for each in _TAGS:
        rest = rest.replace(each, "")
    if "{{" in rest or not tag.isprintable():
        raise InvalidArgument(f"unknown tag {tag[:60]!r}: write text, and of templates {', '.join(_TAGS)}")


def write_fields(directory: str, found: Detached) -> None:
    """The file ``journal``, as src/c/monitor_journal.c takes it."""
    image_id = found.image_id.removeprefix("sha256:")
    values = (
        found.id[:_SHORT],
        found.id,
        found.name,
        image_id[:_SHORT],
        found.image_id,
        found.request.image,
        "pycontain",
    )
    tag = found.logging.tag or _TAGS[0]
    for name, value in zip(_TAGS, values, strict=True):
        tag = tag.replace(name, value)
    fields = {
        "CONTAINER_ID": found.id[:_SHORT], "CONTAINER_ID_FULL": found.id, "CONTAINER_NAME": found.name, "CONTAINER_TAG": tag,
        "SYSLOG_IDENTIFIER": tag, "IMAGE_NAME": found.request.image,
    }  # fmt: skip
    data = b"".join(_field(name, value.encode("utf-8", "surrogateescape")) for name, value in fields.items())
    replace_file(f"{directory}/journal", data)


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
