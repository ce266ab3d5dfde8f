"""``registries.conf``, version 2: where a repository's images really are. Bytes in, rules out, no I/O.

Read are the ``[[registry]]`` tables: ``prefix`` (also ``*.example.org``), ``location``, ``insecure``, ``blocked``,
``mirror-by-digest-only`` and ``[[registry.mirror]]`` with ``location``, ``insecure`` and ``pull-from-mirror``. What is about
short names (``unqualified-search-registries``, aliases) is not used: a name without a registry is Docker Hub's, as Docker has it.
Spec: containers-registries.conf(5).
"""

from __future__ import annotations

import re
import sys

from ...errors import InvalidArgument
from ...record import record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Mirror", "Rule", "matching_rule", "merge_rules", "parse_registries_conf", "rewritten"]

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?"
_PATH = r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_LOCATION = re.compile(_HOST + _PATH)
_WILDCARD = re.compile(r"\*\.[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_PULLS = ("all", "digest-only", "tag-only")


@record
class Mirror:
    """``location`` replaces the rule's prefix. ``pull``: for which references: all, digest-only, tag-only."""

    location: str
    insecure: bool = False
    pull: str = "all"


@record
class Rule:
    """One ``[[registry]]``. ``source`` is the file, for messages. An empty ``location`` is that of the name itself."""

    prefix: str
    location: str
    source: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()


def parse_registries_conf(data: bytes, source: str) -> tuple[Rule, ...]:
    """Raises: InvalidArgument: names the file and the field."""
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"cannot read {source}: {' '.join(str(error).split())}") from None
    if "registries" in document:
        raise InvalidArgument(
            f"cannot use {source}: [registries...] is version 1 of the format, which nothing reads any more: "
            "write [[registry]] tables, see containers-registries.conf(5)"
        )
    rules = [_rule(each, f"registry[{index}]", source) for index, each in _tables(document, "registry", "", source)]
    seen: dict[str, int] = {}
    for index, rule in enumerate(rules):
        if rule.prefix in seen:
            raise InvalidArgument(
                f"cannot use {source}: registry[{seen[rule.prefix]}] and registry[{index}] have the same prefix, "
                f"{rule.prefix}: remove one"
            )
        seen[rule.prefix] = index
    return tuple(rules)


def merge_rules(files: Iterable[tuple[Rule, ...]]) -> tuple[Rule, ...]:
    """The rules of all files in their order: a later one replaces an earlier one of the same prefix as a whole."""
    return tuple({rule.prefix: rule for rules in files for rule in rules}.values())


def matching_rule(rules: Iterable[Rule], repository: str) -> Rule | None:
    """The rule of the longest prefix of ``docker.io/library/debian``."""
    best: tuple[int, Rule] | None = None
    for rule in rules:
        length = _matched(rule.prefix, repository)
        if length and (best is None or length > best[0]):
            best = (length, rule)
    return best[1] if best else None


def rewritten(rule: Rule, location: str, repository: str) -> str:
    """``repository`` with what the rule's prefix matched replaced by ``location``."""
    return location + repository[_matched(rule.prefix, repository) :] if location else repository


def _matched(prefix: str, repository: str) -> int:
    """How many characters of the repository the prefix covers; 0: it does not match."""
    host = repository.partition("/")[0]
    if prefix.startswith("*."):
        name = host.partition(":")[0].lower()
        return len(host) if name.endswith(prefix[1:].lower()) and len(name) > len(prefix) - 1 else 0
    whole = _host_lowered(repository)
    same = whole.startswith(_host_lowered(prefix)) and whole[len(prefix) : len(prefix) + 1] in ("", "/")
    return len(prefix) if same else 0


def _host_lowered(repository: str) -> str:
    host, slash, path = repository.partition("/")
    return host.lower() + slash + path


def _rule(table: dict[str, Any], what: str, source: str) -> Rule:
    location = _location(table, what, source)
    prefix = _text(table, "prefix", what, source).rstrip("/") or location
    if not prefix:
        raise InvalidArgument(f"cannot use {source}: {what} has neither prefix nor location")
    if prefix.startswith("*"):
        if not _WILDCARD.fullmatch(prefix):
            raise InvalidArgument(f"cannot use {source}: {what}.prefix: {prefix!r} is not of the form *.example.org")
    elif not _LOCATION.fullmatch(prefix):
        raise _not_a_location(prefix, f"{what}.prefix", source)
    elif not location:
        raise InvalidArgument(f"cannot use {source}: {what} has no location, and its prefix is no *.example.org")
    by_digest = _flag(table, "mirror-by-digest-only", what, source)
    mirrors = tuple(
        _mirror(each, f"{what}.mirror[{index}]", source, by_digest)
        for index, each in _tables(table, "mirror", f"{what}.", source)
    )
    return Rule(
        prefix=prefix, location=location, source=source, insecure=_flag(table, "insecure", what, source),
        blocked=_flag(table, "blocked", what, source), mirrors=mirrors,
    )  # fmt: skip


def _mirror(table: dict[str, Any], what: str, source: str, by_digest: bool) -> Mirror:
    location = _location(table, what, source)
    if not location:
        raise InvalidArgument(f"cannot use {source}: {what} has no location")
    pull = _text(table, "pull-from-mirror", what, source)
    if pull and pull not in _PULLS:
        raise InvalidArgument(
            f"cannot use {source}: {what}.pull-from-mirror: {pull!r} is not one of {', '.join(_PULLS)}"
        )
    if pull and by_digest:
        raise InvalidArgument(
            f"cannot use {source}: {what}.pull-from-mirror contradicts mirror-by-digest-only of its registry: remove one"
        )
    insecure = _flag(table, "insecure", what, source)
    return Mirror(location=location, insecure=insecure, pull="digest-only" if by_digest else pull or "all")


def _location(table: dict[str, Any], what: str, source: str) -> str:
    location = _text(table, "location", what, source).rstrip("/")
    if location and not _LOCATION.fullmatch(location):
        raise _not_a_location(location, f"{what}.location", source)
    return location


def _not_a_location(text: str, what: str, source: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use {source}: {what}: {text[:160]!r} is not host[:port][/path], without http://")


def _tables(table: dict[str, Any], key: str, where: str, source: str) -> list[tuple[int, dict[str, Any]]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidArgument(f"cannot use {source}: {where}{key} is not a list of tables: write [[{where}{key}]]")
    return list(enumerate(value))


def _text(table: dict[str, Any], key: str, what: str, source: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise InvalidArgument(f"cannot use {source}: {what}.{key}: a text in quotation marks is needed")
    return value


def _flag(table: dict[str, Any], key: str, what: str, source: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise InvalidArgument(f"cannot use {source}: {what}.{key}: true or false is needed, without quotation marks")
    return value
