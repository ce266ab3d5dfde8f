"""``pycontain doctor``: what this host offers, what follows for the user, and what to do about each thing missing.

Runs as any user, and inside containers with a masked /proc: what cannot be read is said, never raised.
"""

from __future__ import annotations

from .doctor_checks import findings
from .doctor_findings import NO, NOTE
from .doctor_host import Host, facts_of
from .errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .doctor_findings import Finding
    from .host import HostFacts
    from .runtime.roots import Roots

__all__ = ["FORMATS", "report"]

FORMATS = ("text", "json")


def report(fmt: str, roots: Roots, *, host: Host | None = None) -> tuple[str, int]:
    """(The report, exit code: 0 when containers can run, 1 otherwise). ``host``: whom to ask, for tests.

    Raises: InvalidArgument for an unknown format.
    """
    if fmt not in FORMATS:
        raise InvalidArgument(f"--format {fmt}: expected {' or '.join(FORMATS)}")
    asked = host or Host()
    facts = facts_of(asked)
    found = findings(asked, facts, roots)
    code = 1 if any(f.blocks for f in found) else 0
    return (_text(found) if fmt == "text" else _json(found, facts)), code


def _verdict(found: list[Finding]) -> str:
    blocking = list(dict.fromkeys(f.text for f in found if f.blocks))
    own = [f.text for f in found if f.blocks and f.section == "an ordinary user"]
    if own:  # what root could do all the same
        return f"this user cannot run containers: {'; '.join(own)}"
    if blocking:
        return f"this host cannot run containers: {'; '.join(blocking)}"
    missing = [f.name for f in found if f.mark == NO]
    return f"this host can run containers{', without ' + ', '.join(missing) if missing else ''}"


def _text(found: list[Finding]) -> str:
    rows: list[str] = []
    section = ""
    for f in found:
        if f.section != section:
            section = f.section
            rows += ["", section] if rows else [section]
        stop = "" if not f.remedy or f.text.endswith(".") else "."
        rows.append(f"  {f.mark:<6}{f.text}{stop}{' ' + f.remedy if f.remedy else ''}")
    return "\n".join((*rows, "", _verdict(found))) + "\n"


def _json(found: list[Finding], facts: HostFacts) -> str:
    import json

    document = {
        "can_run": not any(f.blocks for f in found),
        "verdict": _verdict(found),
        "kernel": list(facts.kernel),
        "machine": facts.machine,
        "controllers": {n: {"version": c.version, "mount": c.mount} for n, c in sorted(facts.controllers.items())},
        "counts": {mark: sum(f.mark == mark for f in found) for mark in ("ok", NO, NOTE)},
        "findings": [
            {
                "section": f.section,
                "name": f.name,
                "mark": f.mark,
                "text": f.text,
                "remedy": f.remedy,
                "blocks": f.blocks,
            }
            for f in found
        ],
    }
    return json.dumps(document, indent=1) + "\n"
