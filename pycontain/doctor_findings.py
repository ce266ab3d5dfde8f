"""One finding of ``pycontain doctor``, and the three kinds of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO", "NOTE", "OK", "Finding", "finding_no", "finding_note", "finding_ok"]

OK, NO, NOTE = "ok", "no", "note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """``mark``: ok, no or note. ``blocks``: without it no container starts. ``remedy``: what to do about it."""

    section: str
    name: str
    mark: str
    text: str
    remedy: str = ""
    blocks: bool = False


def finding_ok(name: str, text: str) -> Finding:
    return Finding(section="", name=name, mark=OK, text=text)


def finding_no(name: str, text: str, remedy: str, *, blocks: bool = False) -> Finding:
    return Finding(section="", name=name, mark=NO, text=text, remedy=remedy, blocks=blocks)


def finding_note(name: str, text: str, remedy: str = "") -> Finding:
    return Finding(section="", name=name, mark=NOTE, text=text, remedy=remedy)
