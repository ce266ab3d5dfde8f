"""``--explain``: a Plan told as about thirty lines, each a system call, its arguments and the reason in plain words.

The lines stand under the three ideas that make a container (see less, use less, have a root of one's own), then what
it may do, then how it becomes the program. Inside a group they keep the order of execution; the exact order of all of
them is the Plan itself, ``--format json``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .disassemble import as_document, decode, dump
from .errors import InvalidArgument
from .explain_steps import GROUPS, Scene, Step, clone_step, exec_step
from .explain_table import RENDERINGS, merge_key
from .record import replaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .disassemble import DecodedOp, DecodedPlan
    from .host import HostFacts
    from .request import RunRequest
    from .runtime.roots import Roots

__all__ = ["FORMATS", "Timing", "explain", "explain_timed", "lines", "terminal_width"]

FORMATS = ("text", "json")
_WIDEST, _NARROWEST = 140, 70
_GROUP, _TIME = 12, 11  # columns, with the space beside them


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When each op was done: monotonic nanoseconds, ``stamps`` in plan order (prepare, then child)."""

    stamps: tuple[int, ...]
    begun_ns: int
    cloned_ns: int
    execed_ns: int
    run_ns: int = 0
    cleanup_ns: int = 0

    def durations(self, n_prepare: int, n_child: int) -> tuple[tuple[int, ...], int, tuple[int, ...], int]:
        """Nanoseconds of (each prepare op, clone3, each child op, look-up and execve)."""

        def gaps(first: int, stamps: Sequence[int]) -> tuple[int, ...]:
            # an op that was not reached has no stamp: 0
            return tuple(max(0, b - a) if b else 0 for a, b in zip((first, *stamps), stamps, strict=False))

        prepare, child = self.stamps[:n_prepare], self.stamps[n_prepare : n_prepare + n_child]
        clone = self.cloned_ns - (prepare[-1] if prepare else self.begun_ns)
        execve = self.execed_ns - (child[-1] if child else self.cloned_ns)
        return gaps(self.begun_ns, prepare), max(0, clone), gaps(self.cloned_ns, child), max(0, execve)


@dataclass(slots=True)
class _Line:
    step: Step
    ns: int | None = None


@dataclass(slots=True)
class _Gathered:
    ops: list[DecodedOp] = field(default_factory=list)
    ns: int = 0


def _gather(ops: tuple[DecodedOp, ...], ns: tuple[int, ...] | None) -> list[_Gathered]:
    """Ops that are told together, each where its first stands."""
    found: dict[object, _Gathered] = {}
    for i, op in enumerate(ops):
        gathered = found.setdefault(merge_key(op), _Gathered())
        gathered.ops.append(op)
        gathered.ns += ns[i] if ns and i < len(ns) else 0
    return list(found.values())


def _told(scene: Scene, timing: Timing | None) -> list[_Line]:
    plan = scene.plan
    prepare = clone = child = execve = None
    if timing is not None:
        prepare, clone, child, execve = timing.durations(len(plan.prepare), len(plan.child))

    def section(ops: tuple[DecodedOp, ...], ns: tuple[int, ...] | None) -> list[_Line]:
        return [_Line(RENDERINGS[g.ops[0].name](g.ops, scene), g.ns if ns else None) for g in _gather(ops, ns)]

    told = [*section(plan.prepare, prepare), _Line(clone_step(scene), clone)]
    told += [*section(plan.child, child), _Line(exec_step(scene), execve), *section(plan.finish, None)]
    return told


def lines(plan_bytes: bytes, facts: HostFacts, timing: Timing | None = None, *, width: int = _WIDEST) -> list[str]:
    """The Plan as lines of at most ``width`` columns (70 at the least), the last one summing up."""
    plan = decode(plan_bytes)
    told = _told(Scene(plan=plan, facts=facts), timing)
    room = max(_NARROWEST, min(width, _WIDEST)) - _GROUP - (_TIME if timing is not None else 0)
    call_room = room * 47 // 100
    out: list[str] = []
    for group in GROUPS:
        label = group
        for line in told:
            if line.step.group == group:
                out += _rows(label, line, call_room, room - call_room)
                label = ""
    return [*out, "", _closing(plan, timing)]


def _closing(plan: DecodedPlan, timing: Timing | None) -> str:
    steps = len(plan.prepare) + len(plan.child) + 2  # clone3 and execve are in no section
    if timing is None:
        return f" {steps} steps; nothing was run. --time runs it and measures each; --format json is the exact list"
    until = (timing.execed_ns - timing.begun_ns) / 1e6
    after = f"; it ran for {timing.run_ns / 1e6:.1f} ms, cleaning up took {timing.cleanup_ns / 1e6:.1f} ms"
    return f" {steps} steps, {until:.1f} ms until the program ran{after if timing.run_ns else ''}"


# --- layout ------------------------------------------------------------------------------------------------------

_HEX = frozenset("0123456789abcdef")


def _short_ids(text: str) -> str:
    """A container's 64 digits become the 12 that people know it by."""
    if len(text) < 64:
        return text
    parts = text.split("/")
    return "/".join(p[:12] if len(p) == 64 and not set(p) - _HEX else p for p in parts)


def _elide(word: str, room: int) -> str:
    """A word too long for its column loses its middle, a path whole names: no line breaks inside a word."""
    if len(word) <= room:
        return word
    parts = word.split("/")
    for tail in range(3, len(parts)):
        short = "/".join((*parts[:2], "...", *parts[tail:]))
        if len(short) <= room:
            return short
    head = max(1, (room - 3) * 2 // 5)
    return f"{word[:head]}...{word[len(word) - (room - 3 - head) :]}"


def _printable(text: str) -> str:
    """Control characters (a newline in an argument) would break the columns, and a terminal obeys some of them."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape", "surrogatepass").decode() for ch in text)


def _words(text: str, room: int) -> list[str]:
    """Where a line may break: at spaces; inside clone3's long list of flags also after a bar."""
    out: list[str] = []
    for word in text.split(" "):
        cut = word.rfind("|", 0, room) + 1 if len(word) > room else 0
        out += [word[:cut], word[cut:]] if cut else [word]
    return out


def _wrap(text: str, room: int) -> list[str]:
    rows, row = [], ""
    for word in _words(text, room):
        short = _elide(_short_ids(word), room)
        if row and len(row) + 1 + len(short) > room:
            rows.append(row)
            row = "  " + _elide(short, room - 2)
        else:
            row = f"{row} {short}" if row else short
    return [*rows, row]


_CALL_ROWS = 2  # a command's words or a list of paths: the rest is in the JSON


def _call(step: Step, room: int) -> list[str]:
    first_room = room - (7 if len(step.items) > 1 else 2)  # a continuation's indent, and ", ..." behind
    items = [_elide(_printable(_short_ids(i)), first_room) for i in step.items]
    shown = step.call
    for n, item in enumerate(items):
        sep = " " if n == 0 else ", "
        tail = ", ..." if n + 1 < len(items) else ""
        if n and len(shown) + len(sep) + len(item) + len(tail) > room:
            shown += ", ..."
            break
        shown += sep + item
    rows = _wrap(_printable(shown), room)
    if len(rows) > _CALL_ROWS:
        rows = rows[:_CALL_ROWS]
        while len(rows[-1]) > room - 4 and " " in rows[-1].strip():
            rows[-1] = rows[-1].rpartition(" ")[0]
        rows[-1] = _elide(rows[-1], room - 4) + " ..."
    return rows


def _rows(label: str, line: _Line, call_room: int, why_room: int) -> list[str]:
    left = _call(line.step, call_room - 2)
    right = _wrap(line.step.why, why_room)
    time = f"{line.ns / 1000:>{_TIME - 3}.0f} us" if line.ns is not None else ""
    out = []
    for i in range(max(len(left), len(right))):
        call = left[i] if i < len(left) else ""
        why = right[i] if i < len(right) else ""
        head = label if i == 0 else ""
        out.append(f" {head:<{_GROUP - 1}}{call:<{call_room}}{why:<{why_room}}{time if i == 0 else ''}".rstrip())
    return out


def terminal_width() -> int:
    """Columns of the terminal that standard output is; 140 when it is none."""
    try:
        return os.get_terminal_size(1).columns or _WIDEST
    except OSError:
        return _WIDEST


# --- the two commands --------------------------------------------------------------------------------------------


def _check_format(fmt: str) -> None:
    if fmt not in FORMATS:
        raise InvalidArgument(f"--format {fmt}: expected {' or '.join(FORMATS)}")


def explain(request: RunRequest, roots: Roots, fmt: str = "text", *, width: int | None = None) -> str:
    """What ``pycontain run`` would do; nothing is started. Raises what planning raises."""
    from .host import probe
    from .runtime.shapes import plan_for

    _check_format(fmt)
    facts = _whose_plan(probe())
    data = plan_for(request, roots, facts=facts).data
    if fmt == "json":
        return dump(as_document(data))
    return "\n".join(lines(data, facts, width=width or terminal_width())) + "\n"


def _whose_plan(facts: HostFacts) -> HostFacts:
    """An ordinary user who can have no user namespace reads what root would do here."""
    if os.geteuid() == 0 or facts.in_user_namespace:
        return facts
    controllers = {n: replaced(c, base="", obstacle="") for n, c in facts.controllers.items()}
    everything = (2 << facts.last_cap) - 1
    return replaced(facts, controllers=controllers, cgroup_base="", cgroup_obstacle="", capabilities=everything)


def explain_timed(
    request: RunRequest,
    roots: Roots,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    fmt: str = "text",
    width: int | None = None,
) -> tuple[str, int]:
    """Runs it with a time stamp after each op, waits: the text and the program's exit code.

    Raises: InvalidArgument for a container with a terminal (nobody serves it here); what starting raises.
    """
    from . import _native
    from .host import probe
    from .runtime.running import start
    from .runtime.shapes import plan_for

    _check_format(fmt)
    if request.terminal:
        raise InvalidArgument("--explain --time does not serve a terminal: leave out -t")
    shape = decode(plan_for(request, roots).data)
    trace = _native.Trace(len(shape.prepare) + len(shape.child))
    try:
        running = start(request, roots=roots, stdin=stdin, stdout=stdout, stderr=stderr, trace=trace)
        try:
            outcome = running.wait()
        except BaseException:  # an interrupt: what was started must not outlive us
            running.kill()
            running.wait()
            raise
        stamps = tuple(trace.stamps())
    finally:
        trace.close()
    assert outcome is not None  # wait() without a timeout
    began = running.started
    timing = Timing(
        stamps=stamps, begun_ns=began.begun_ns, cloned_ns=began.cloned_ns, execed_ns=began.execed_ns,
        run_ns=round(outcome.phases["run"] * 1e9), cleanup_ns=round(outcome.phases["reap"] * 1e9),
    )  # fmt: skip
    if fmt == "json":
        return dump({**as_document(running.plan.data), "timing": _timing_document(timing, shape)}), outcome.exit_code
    text = lines(running.plan.data, probe(), timing, width=width or terminal_width())
    return "\n".join(text) + "\n", outcome.exit_code


def _timing_document(timing: Timing, plan: DecodedPlan) -> dict[str, object]:
    prepare, clone, child, execve = timing.durations(len(plan.prepare), len(plan.child))
    return {
        "prepare_ns": list(prepare), "clone_ns": clone, "child_ns": list(child), "execve_ns": execve,
        "run_ns": timing.run_ns, "cleanup_ns": timing.cleanup_ns,
    }  # fmt: skip
