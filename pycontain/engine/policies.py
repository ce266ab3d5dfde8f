"""What a container that stays is to do when nobody is there, in Docker's words: its restart policy, its log."""

from __future__ import annotations

from collections.abc import Mapping

from .. import parse
from ..errors import InvalidArgument
from ..healthcheck import NO_CHECK
from ..image.rootfs import Healthcheck
from ..runtime.detached import Logging, Restart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal

__all__ = ["parse_healthcheck", "parse_log_driver", "parse_logging", "parse_restart"]

_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_TIMES = ("interval", "timeout", "start_period", "start_interval")
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


def parse_healthcheck(value: str | Sequence[str] | Mapping[str, Any] | Literal[False]) -> Healthcheck:
    """A shell's command, or a program and its words, or {"test": one of these, "interval": SECONDS, "timeout": ..., "start_period": ...,
    "start_interval": ..., "retries": N}; False: none, whatever the image says. Raises: InvalidArgument."""
    if value is False:
        return NO_CHECK
    given: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"test": value}
    test = given.pop("test", ())
    fields: dict[str, Any] = {}
    for name in _TIMES:
        if name in given:
            fields[f"{name}_ns"] = int(parse.seconds(str(given.pop(name))) * 1e9)
    if "retries" in given:
        fields["retries"] = parse.integer(str(given.pop("retries")), 0, 1 << 31)
    if given:
        names = ", ".join(("test", *_TIMES, "retries"))
        raise InvalidArgument(f"there is no {parse.quote(str(next(iter(given))))}: the keys are {names}")
    words = ("CMD-SHELL", test) if isinstance(test, str) and test else ("CMD", *map(str, test)) if test else ()
    return Healthcheck(test=words, **fields)
