"""What a container that stays is to do when nobody is there, in Docker's words: its restart policy, its log."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from ..runtime.detached import Logging, Restart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["parse_log_driver", "parse_logging", "parse_restart"]

_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_DRIVERS = ("journald", "json-file", "none")


def parse_restart(text: str) -> Restart:
    """``no``, ``on-failure[:N]``, ``always``, ``unless-stopped``. Raises: InvalidArgument."""
    policy, colon, most = text.partition(":")
    if policy not in _POLICIES:
        raise parse.invalid("policy", text, "there is no such policy", "no, on-failure[:N], always or unless-stopped")
    if colon and policy != "on-failure":
        raise parse.invalid("policy", text, "only on-failure has a number of restarts", "on-failure:3")
    return Restart(policy=policy, most=parse.integer(most, 0, 1 << 31) if colon else 0)


def parse_log_driver(text: str) -> str:
    """Raises: InvalidArgument: there is no such driver."""
    if text not in _DRIVERS:
        raise InvalidArgument(f"there is no driver {parse.quote(text)} here: write json-file, journald or none")
    return text


def parse_logging(driver: str, options: Iterable[str]) -> Logging:
    """``options``: ``max-size=10m``, ``max-file=3``. Raises: InvalidArgument."""
    fields: dict[str, Any] = {}
    for text in options:
        key, equals, value = text.partition("=")
        if driver == "journald":
            if key != "tag" or not value:
                raise InvalidArgument(f"unknown option {parse.quote(text)}: the driver journald has tag=TEXT")
            from ..runtime.journal import check_tag

            check_tag(value)
            fields["tag"] = value
            continue
        if driver == "none" or not equals or key not in ("max-size", "max-file"):
            known = "the driver none has no options" if driver == "none" else "write max-size=SIZE or max-file=COUNT"
            raise InvalidArgument(f"unknown option {parse.quote(text)}: {known}")
        if key == "max-size":
            fields["max_size"] = 0 if value == "-1" else parse.size(value)
        else:
            fields["max_file"] = parse.integer(value, 1, 1000)
    if fields.get("max_file", 1) > 1 and not fields.get("max_size"):
        raise InvalidArgument("max-file needs a max-size: there is no second file before the first one is full")
    return Logging(driver=driver, **fields)
