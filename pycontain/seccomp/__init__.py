"""Seccomp: a profile becomes a :class:`Filter`, a Filter becomes classic BPF, and the BPF is kept for the next start.

Only :mod:`.cache` is on the start path. Names are loaded when first used, because the others cost more to import
(dataclasses, json) than a whole filter takes to load.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .bpf import compile_filter, unknown_names
    from .cache import default_filter, filter_for, profile_filter
    from .profile import Arg, Filter, Rule, flag_bits, parse_docker_profile

__all__ = [
    "Arg",
    "Filter",
    "Rule",
    "compile_filter",
    "default_filter",
    "filter_for",
    "flag_bits",
    "parse_docker_profile",
    "profile_filter",
    "unknown_names",
]

_HOME = {
    "Arg": "profile",
    "Filter": "profile",
    "Rule": "profile",
    "compile_filter": "bpf",
    "default_filter": "cache",
    "filter_for": "cache",
    "flag_bits": "profile",
    "parse_docker_profile": "profile",
    "profile_filter": "cache",
    "unknown_names": "bpf",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{home}", __name__), name)
