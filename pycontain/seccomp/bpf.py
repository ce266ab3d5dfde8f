"""Filter -> classic BPF: a balanced binary tree over ranges of system call numbers; bits for a second architecture's.

Loading costs two things about alike: the kernel runs a new filter once for every system call number that it can decide
by number alone (so the depth of the tree), and makes machine code of it (so its length). Assumptions:

- The architecture is checked first; one that cannot be ours is killed (a 32-bit call past a 64-bit filter).
- x32 calls (bit 30 set) get ENOSYS whatever the profile says, which is what a kernel without x32 answers.
- A number above the newest the profile names gets ENOSYS, as in runc, so that C libraries fall back to older calls.
- 64-bit architectures compare whole arguments. 32-bit ones only the lower word: a 64-bit program can make a 32-bit
  call with anything in the upper halves of its registers, which the kernel drops after the filter has seen them.
"""

from __future__ import annotations

import errno as _errno
import os
import struct

from ..errors import InvalidArgument, Unsupported
from .names import FAMILY, MULTIPLEXED, OCI_ARCHES, TOKENS, is_known, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import Arg, Filter, Rule

    Clause = tuple[tuple[Arg, ...], int]  # conditions, all of which must hold; what the filter then returns
    Leaf = tuple[Clause, ...]  # tried in order; the last has no conditions
    Segment = tuple[int, Leaf]  # first number it is for; it ends where the next begins
    # first number; one bit for each of 32 (0 or -1: all the same, up to the next word); single numbers that differ
    # None: everything from there on is as the one segment says
    Word = tuple[int, int | None, tuple[Segment, ...]]

__all__ = ["MAX_INSTRUCTIONS", "compile_filter", "unknown_names"]

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_LD, _AND, _JA, _RET = 0x20, 0x54, 0x05, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JA, BPF_RET|K
_JEQ, _JGT, _JGE, _JSET = 0x15, 0x25, 0x35, 0x45
_LD_IMM, _TAX, _RSH_X = 0x00, 0x07, 0x7C  # BPF_LD|IMM, BPF_MISC|TAX, BPF_ALU|RSH|X: for bit tests

_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data

_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_TRACE = 0x7FF00000
_VERDICTS = {
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
_NOSYS = _RET_ERRNO | _errno.ENOSYS
# A default that lets calls through also lets unknown ones through: the kernel (or the tracer) answers them.
_PERMISSIVE = frozenset({"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"})

_X32_BIT = 0x40000000
_ARM_PRIVATE = 0x0F0000  # ARM's own calls (cacheflush, set_tls) lie far above the table and say nothing of its end


def compile_filter(filter: Filter, arch: str | None = None) -> bytes:
    """The filter as an array of ``struct sock_filter``, for a host of ``arch`` (as uname has it; this one by default).

    Names the architecture lacks are passed over, as every runtime does; see :func:`unknown_names`.

    Raises:
        InvalidArgument: the program would exceed 4096 instructions.
        Unsupported: no seccomp support for this architecture here.
    """
    arches = _arches(filter, arch or os.uname().machine)
    program = _Assembler()
    entries = []
    for a in reversed(arches):
        segments = _segments(filter, a)
        if a == arches[0]:
            entry = program.tree(segments, a in FAMILY)
        else:
            # Only the native calls are worth finding out for when the filter is loaded. At an argument the kernel gives up,
            # and asks the filter at every call of a 32-bit program instead. Bit tests are half as long as the tree: the
            # code that is made of it is the other part of what loading costs.
            program.bits(segments, a in FAMILY)
            entry = program.emit(_LD, _ARGS)
        entries.append((TOKENS[a], entry))
    target = program.ret(_KILL_PROCESS)
    for token, entry in entries:
        target = program.jump(_JEQ, token, entry, target)
    program.emit(_LD, _ARCH)
    return program.finish()


def unknown_names(filter: Filter, arch: str | None = None) -> tuple[str, ...]:
    """The names in the filter that no architecture has: misspelt, or newer than the installed libseccomp."""
    native = _arches(filter, arch or os.uname().machine)[0]
    names = dict.fromkeys(name for rule in filter.rules for name in rule.names)
    return tuple(name for name in names if not is_known(name, native))


def _arches(filter: Filter, native: str) -> list[str]:
    """The native architecture first, then the listed ones whose calls this kernel can be asked."""
    if native not in FAMILY:
        raise Unsupported(
            f"cannot build a seccomp filter for {native}: only {', '.join(FAMILY)} are supported; "
            "run without seccomp (unconfined) or on another machine"
        )
    listed = {OCI_ARCHES[name] for name in filter.architectures}
    return [a for a in FAMILY[native] if a == native or a in listed]


def _verdict(action: str, number: int | None) -> int:
    # EPERM where no errno is given: the specification's default.
    if action == "SCMP_ACT_ERRNO":
        return _RET_ERRNO | (_errno.EPERM if number is None else number)
    if action == "SCMP_ACT_TRACE":
        return _RET_TRACE | (_errno.EPERM if number is None else number)
    return _VERDICTS[action]


def _segments(filter: Filter, arch: str) -> list[Segment]:
    """The whole range of numbers, 0 to 2**32 - 1, cut where the answer changes."""
    default = _verdict(filter.default_action, filter.default_errno)
    calls = _calls(filter.rules, arch)
    newest = max((n for n in calls if n < _ARM_PRIVATE), default=-1)
    beyond = default if filter.default_action in _PERMISSIVE or newest < 0 else _NOSYS
    cuts: dict[int, Leaf] = {0: (((), default),), newest + 1: (((), beyond),)}
    for number in sorted(calls):
        cuts[number] = _leaf(calls[number], default, arch)
        cuts.setdefault(number + 1, (((), default if number < newest else beyond),))
    if arch == "x86_64":
        cuts[_X32_BIT] = (((), _NOSYS),)
    segments: list[Segment] = []
    for number in sorted(cuts):
        if not segments or segments[-1][1] != cuts[number]:
            segments.append((number, cuts[number]))
    return segments


def _calls(rules: tuple[Rule, ...], arch: str) -> dict[int, list[Clause]]:
    """number -> its clauses, in the order of the profile."""
    calls: dict[int, list[Clause]] = {}
    for rule in rules:
        clause = (rule.args, _verdict(rule.action, rule.errno))
        for name in rule.names:
            number = resolve(name, arch)
            if number is not None:
                calls.setdefault(number, []).append(clause)
            if arch == "x86" and name in MULTIPLEXED and not rule.args:
                # A rule with conditions cannot be carried over: these calls' arguments are in memory.
                _add_multiplexed(calls, name, clause[1])
    return calls


def _add_multiplexed(calls: dict[int, list[Clause]], name: str, verdict: int) -> None:
    from .profile import Arg

    outer, sub_call = MULTIPLEXED[name]
    number = resolve(outer, "x86")
    # ipc(2) keeps a version in the upper 16 bits of its first argument.
    mask = 0xFFFF if outer == "ipc" else 0xFFFFFFFF
    condition = Arg(index=0, value=mask, value_two=sub_call, op="SCMP_CMP_MASKED_EQ")
    if number is not None:
        calls.setdefault(number, []).append(((condition,), verdict))


def _leaf(clauses: list[Clause], default: int, arch: str) -> Leaf:
    """The clauses up to the first that always holds, without those that change nothing."""
    kept: list[Clause] = []
    final = default
    for conditions, verdict in clauses:
        settled = conditions if arch in FAMILY else _lower_words(conditions)
        if settled is None:
            continue
        if not settled:
            final = verdict
            break
        kept.append((settled, verdict))
    while kept and kept[-1][1] == final:
        kept.pop()
    return (*kept, ((), final))


def _lower_words(conditions: tuple[Arg, ...]) -> tuple[Arg, ...] | None:
    """The conditions for arguments below 2**32: without those that always hold, None if one never does."""
    left: list[Arg] = []
    for arg in conditions:
        operand = arg.value_two if arg.op == "SCMP_CMP_MASKED_EQ" else arg.value
        if operand <= 0xFFFFFFFF:
            left.append(arg)
        elif arg.op not in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):
            return None
    return tuple(left)


class _Assembler:
    """Builds the program from its end, so that every jump's target exists when the jump is written.

    A position counts from the end. Conditional jumps reach 255 instructions; a farther target gets a stepping stone.
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._rets: dict[int, int] = {}
        self._wide = True  # compare whole 64-bit arguments
        self._bit = -1  # where the bit of A that X says is tested

    def emit(self, code: int, k: int, jt: int = 0, jf: int = 0) -> int:
        self._code.append((code, jt, jf, k))
        return len(self._code) - 1

    def ret(self, verdict: int) -> int:
        """A return in reach of the next few instructions: an old one, or a new one where the old is far."""
        at = self._rets.get(verdict)
        if at is None or len(self._code) - at > 240:
            at = self._rets[verdict] = self.emit(_RET, verdict)
        return at

    def _near(self, target: int) -> int:
        # 253, not 255: the jump's other target may need a stepping stone between this one and the jump.
        if len(self._code) - 1 - target <= 253:
            return target
        code, _, _, k = self._code[target]
        if code == _RET:
            return self.emit(_RET, k)
        return self.emit(_JA, len(self._code) - 1 - target)

    def jump(self, code: int, k: int, yes: int, no: int) -> int:
        if yes == no:
            return yes
        yes = self._near(yes)
        no = self._near(no)
        here = len(self._code)
        return self.emit(code, k, here - 1 - yes, here - 1 - no)

    def tree(self, segments: list[Segment], wide: bool) -> int:
        """The decision for one architecture, from loading the number on."""
        self._wide = wide
        self._load_before(self._subtree(segments))
        return self.emit(_LD, _NR)

    def bits(self, segments: list[Segment], wide: bool) -> int:
        """As :meth:`tree`, by one bit for each number where two answers are enough for nearly all."""
        self._wide = wide
        table = _bit_table(segments)
        if table is None:
            return self.tree(segments, wide)
        yes, no, words = table
        self.jump(_JSET, 1, self.ret(yes), self.ret(no))
        self._bit = self.emit(_RSH_X, 0)
        self._load_before(self._words(words, yes, no))
        for code, k in ((_LD, _NR), (_TAX, 0), (_AND, 31)):
            self.emit(code, k)
        return self.emit(_LD, _NR)

    def _words(self, words: list[Word], yes: int, no: int) -> int:
        """The word by a tree; single numbers in it; its bit."""
        if len(words) > 1:
            middle = len(words) // 2
            right = self._words(words[middle:], yes, no)
            left = self._words(words[:middle], yes, no)
            return self.jump(_JGE, words[middle][0], right, left)
        _, bits, others = words[0]
        if bits is None:  # one answer for all that is left
            return self._decide(others[0][1])
        if bits in (0, -1):
            at = self.ret(yes if bits else no)
        else:
            self._load_before(self._bit)
            at = self.emit(_LD_IMM, bits)
        for number, leaf in others:
            at = self.jump(_JEQ, number, self._decide(leaf), at)
        return at

    def _subtree(self, segments: list[Segment]) -> int:
        if len(segments) == 1:
            return self._decide(segments[0][1])
        middle = len(segments) // 2
        right, left = segments[middle:], segments[:middle]
        # Plain returns are looked up last, when what lies between them and this jump is known.
        at_right = self._subtree(right) if not _is_plain(right) else -1
        at_left = self._subtree(left)
        if at_right < 0:
            at_right = self._subtree(right)
        return self.jump(_JGE, right[0][0], at_right, at_left)

    def _decide(self, leaf: Leaf) -> int:
        target = self.ret(leaf[-1][1])
        for conditions, verdict in reversed(leaf[:-1]):
            holds = self.ret(verdict)
            for arg in reversed(conditions):
                holds = self._compare(arg, holds, target)
            target = holds
        return target

    def _compare(self, arg: Arg, yes: int, no: int) -> int:
        """One condition: the position from which it is tested."""
        if arg.op in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):
            yes, no = no, yes
        if arg.op in ("SCMP_CMP_GT", "SCMP_CMP_LE"):
            return self._ordered(_JGT, arg, yes, no)
        if arg.op in ("SCMP_CMP_GE", "SCMP_CMP_LT"):
            return self._ordered(_JGE, arg, yes, no)
        masked = arg.op == "SCMP_CMP_MASKED_EQ"
        mask, value = (arg.value, arg.value_two) if masked else (2**64 - 1, arg.value)
        low = self._equal_word(arg.index, False, mask, value, yes, no)
        # A mask without upper bits has nothing to ask of the upper word (the value has no bits outside the mask).
        return self._equal_word(arg.index, True, mask, value, low, no) if self._wide and mask >> 32 else low

    def _equal_word(self, index: int, upper: bool, mask: int, value: int, yes: int, no: int) -> int:
        shift = 32 if upper else 0
        mask, value = mask >> shift & 0xFFFFFFFF, value >> shift & 0xFFFFFFFF
        if not mask:
            return yes
        self._load_before(self.jump(_JEQ, value, yes, no))
        if mask != 0xFFFFFFFF:
            self.emit(_AND, mask)
        return self.emit(_LD, _ARGS + 8 * index + (4 if upper else 0))

    def _ordered(self, code: int, arg: Arg, yes: int, no: int) -> int:
        """``argument > value`` or ``>= value``, by the upper word first."""
        upper, lower = arg.value >> 32, arg.value & 0xFFFFFFFF
        self._load_before(self.jump(code, lower, yes, no))
        low = self.emit(_LD, _ARGS + 8 * arg.index)
        if not self._wide:
            return low
        same = self.jump(_JEQ, upper, low, no)
        self._load_before(self.jump(_JGT, upper, yes, same))
        return self.emit(_LD, _ARGS + 8 * arg.index + 4)

    def _load_before(self, position: int) -> None:
        """What is written next runs into ``position``: it has to be the latest instruction."""
        if position != len(self._code) - 1:
            self.emit(_JA, len(self._code) - 1 - position)

    def finish(self) -> bytes:
        if len(self._code) > MAX_INSTRUCTIONS:
            raise InvalidArgument(
                f"seccomp profile: it needs {len(self._code)} BPF instructions and the kernel takes at most "
                f"{MAX_INSTRUCTIONS}: use fewer rules with conditions on arguments"
            )
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in reversed(self._code))


def _bit_table(segments: list[Segment]) -> tuple[int, int, list[Word]] | None:
    """(answer for a set bit, for a clear one, words), or None where a tree is better."""
    top = segments[-1][0]
    ranges = [(first, segments[i + 1][0], leaf) for i, (first, leaf) in enumerate(segments[:-1])]
    count: dict[int, int] = {}
    for first, end, leaf in ranges:
        if len(leaf) == 1:
            count[leaf[0][1]] = count.get(leaf[0][1], 0) + end - first
    if len(count) < 2 or top > 1024:
        return None
    yes, no = sorted(count, key=lambda verdict: -count[verdict])[:2]
    ones, either = 0, -1 << top
    others: list[Segment] = []
    for first, end, leaf in ranges:
        if len(leaf) == 1 and leaf[0][1] in (yes, no):
            ones |= (1 << end) - (1 << first) if leaf[0][1] == yes else 0
        elif end == first + 1:
            others.append((first, leaf))
            either |= 1 << first
        else:
            return None
    words: list[Word] = []
    for first in range(0, top, 32):
        bits = ones >> first & 0xFFFFFFFF
        if bits | either >> first & 0xFFFFFFFF == 0xFFFFFFFF:
            bits = -1
        here = tuple(each for each in others if first <= each[0] < first + 32)
        if here or not words or bits not in (0, -1) or words[-1][1:] != (bits, ()):
            words.append((first, bits, here))
    # two instructions for each word and one for the tree over them, against one for each segment
    if len(others) + 3 * len(words) >= len(segments):
        return None
    return yes, no, [*words, (top, None, (segments[-1],))]


def _is_plain(segments: list[Segment]) -> bool:
    return len(segments) == 1 and len(segments[0][1]) == 1
