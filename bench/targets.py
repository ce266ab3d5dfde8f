"""What pycontain promises about its start-up, checked against figures of the same run."""

from __future__ import annotations

from dataclasses import dataclass

from bench.results import Results


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """figure(peer) <= factor * figure(against), both p50."""

    peer: str
    until_exit: bool  # the peer's figure: until exit, else whole
    factor: float
    against: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    text: str
    met: bool
    figures: str


# The command line peers have no "until exit" of their own: their whole process is what their user waits for.
TARGETS = (
    Target(
        peer="pycontain", until_exit=True, factor=3.3, against="floor", text="in process, until exit <= 3.3 x floor"
    ),
    Target(peer="pycontain", until_exit=True, factor=1 / 5, against="crun", text="in process, until exit <= crun / 5"),
    Target(
        peer="pycontain", until_exit=True, factor=1 / 12, against="runc", text="in process, until exit <= runc / 12"
    ),
    Target(
        peer="pycontain-500mb",
        until_exit=True,
        factor=1.1,
        against="pycontain-20mb",
        text="parent of 500 MB <= 1.1 x parent of 20 MB",
    ),
    Target(
        peer="pycontain-500mounts",
        until_exit=True,
        factor=1.15,
        against="pycontain-0mounts",
        text="500 host mounts <= 1.15 x none",
    ),
    Target(
        peer="exec", until_exit=True, factor=2.2, against="floor", text="exec in process, until exit <= 2.2 x floor"
    ),
    Target(peer="exec", until_exit=True, factor=1 / 8, against="runc-exec", text="exec in process <= runc exec / 8"),
    Target(peer="pycontain-cli", until_exit=False, factor=1.0, against="runc", text="pycontain run <= runc run"),
)


def check(results: Results) -> list[Verdict]:
    """One verdict per target; a target whose figures are absent is missed, since nothing shows that it is met."""
    return [_judge(results, target) for target in TARGETS]


def _judge(results: Results, target: Target) -> Verdict:
    ours = _p50(results, target.peer, target.until_exit)
    # Like with like: our own variants compare by the same figure.
    theirs = _p50(results, target.against, target.until_exit)
    if ours is None or theirs is None:
        absent = target.peer if ours is None else target.against
        return Verdict(text=target.text, met=False, figures=f"no figure for {absent}")
    limit = theirs * target.factor
    figures = f"{ours * 1e3:.3f} ms, limit {limit * 1e3:.3f} ms ({target.against} {theirs * 1e3:.3f} ms)"
    # Said, not judged: this comparison would be unequal, but its reader may want it.
    bare = _p50(results, f"{target.against}-noseccomp", target.until_exit)
    if bare is not None:
        figures += f"; {target.against} without seccomp {bare * 1e3:.3f} ms"
    return Verdict(text=target.text, met=ours <= limit, figures=figures)


def _p50(results: Results, name: str, until_exit: bool) -> float | None:
    result = results.find(name)
    if result is None:
        return None
    summary = (result.until_exit if until_exit else None) or result.whole
    return None if summary is None else summary.p50_s
