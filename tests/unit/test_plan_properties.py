"""What holds for every mount option list, id map and set of namespaces: found by hypothesis."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument
from pycontain.idmap import keep_id, mappings
from pycontain.mount_options import ATTRIBUTE_WORDS, MOUNT_WORDS, PROPAGATION, MountOptions, parse_options
from pycontain.ops import CLONE_NS, Op
from pycontain.plan_bytes import OP, Builder, C
from pycontain.plan_namespaces import Birth, birth, check_namespaces, enter, host_id, map_text
from pycontain.record import replaced
from pycontain.spec.runtime import IDMapping, Linux, Namespace, TimeOffset
from tests.unit.plan_cases import HOSTS, HYBRID

# --- mount options --------------------------------------------------------------------------------------------------

BIND = sorted(
    {*ATTRIBUTE_WORDS, *PROPAGATION, *(f"r{w}" for w in ATTRIBUTE_WORDS), "bind", "rbind", "rw", "idmap", "ridmap"}
)
WORDS = sorted({*MOUNT_WORDS, *BIND, "size=1m", "mode=755", "tmpcopyup"})
_ATIME = 0x70


def bits_are_possible(on: int, off: int) -> bool:
    """What mount_setattr takes: nothing both set and cleared but the kind of access time, which is cleared as a whole."""
    atime = on & _ATIME
    return (
        not on & off & ~_ATIME
        and atime in (0, 0x10, 0x20)
        and (off & _ATIME in (0, _ATIME))
        and (not atime or off & _ATIME == _ATIME)
    )


@given(st.lists(st.sampled_from(BIND), max_size=8))
def test_a_bind_mounts_attributes_are_possible(words: list[str]) -> None:
    o = parse_options(tuple(words), bind=True)
    assert bits_are_possible(o.set, o.clear)
    assert bits_are_possible(o.tree_set, o.tree_clear)
    assert o.propagation == tuple(PROPAGATION[w] for w in words if w in PROPAGATION)
    assert (o.data, o.copy_up) == ("", False)


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_the_later_word_counts(words: list[str]) -> None:
    o = parse_options(tuple(words), bind=False)
    for word in set(words) & (MOUNT_WORDS - {"defaults", "remount", "silent", "loud"}):
        opposite = word[2:] if word.startswith("no") else f"no{word}"
        if words[-1] == word:
            alone, neither = (
                parse_options((word,), bind=False),
                parse_options((opposite, word), bind=False) if opposite in MOUNT_WORDS else None,
            )
            assert o.flags & alone.flags == alone.flags
            assert neither is None or neither.flags == alone.flags
    assert o.flags & 1024 == 0 or o.flags & (1 << 24) == 0
    assert o.data == ",".join(w for w in words if w in ("size=1m", "mode=755"))


@given(st.lists(st.sampled_from(WORDS), max_size=8), st.lists(st.sampled_from(WORDS), max_size=8))
def test_a_word_said_twice_is_said_once(first: list[str], second: list[str]) -> None:
    plain = [w for w in (*first, *second) if w in MOUNT_WORDS]
    once: list[str] = []
    for word in reversed(plain):
        if word not in once:
            once.insert(0, word)
    twice, found = (parse_options(tuple(w), bind=False) for w in (plain, once))
    assert (twice.flags, twice.set) == (found.flags, found.set)


@given(st.text(max_size=12), st.booleans())
def test_any_word_is_understood_passed_on_or_refused(word: str, bind: bool) -> None:
    try:
        o = parse_options((word,), bind=bind)
    except InvalidArgument as e:
        assert bind
        assert len(str(e).splitlines()) == 1
    else:
        assert isinstance(o, MountOptions)
        assert bind or word in WORDS or o.data == word


# --- id maps --------------------------------------------------------------------------------------------------------

_ID = st.integers(0, 2**32)
_RANGE = st.tuples(_ID, _ID, st.integers(0, 2**32))


@given(st.lists(_RANGE, min_size=1, max_size=4))
def test_a_map_is_one_to_one_or_refused(ranges: list[tuple[int, int, int]]) -> None:
    try:
        found = mappings(",".join(f"{a}:{b}:{n}" for a, b, n in ranges))
    except InvalidArgument as e:
        assert len(str(e).splitlines()) == 1
        return
    assert [(m.container_id, m.host_id, m.size) for m in found] == ranges
    assert host_id(found, 0) is not None
    edges = {e for m in found for e in (m.container_id, m.container_id + m.size - 1)}
    outside = [host_id(found, e) for e in edges]
    assert None not in outside
    assert len(set(outside)) == len(edges)
    assert all(max(m.container_id, m.host_id) + m.size <= 2**32 - 1 for m in found)
    assert len(map_text(found).splitlines()) == len(found)


@given(st.text(alphabet="0123456789:,²-+ x\n", max_size=40))
def test_any_text_is_a_map_or_refused(text: str) -> None:
    try:
        assert mappings(text)
    except InvalidArgument as e:
        assert len(str(e).splitlines()) == 1


@given(st.integers(0, 2**31), st.integers(1, 2**31))
def test_keep_id_keeps_the_caller_and_gives_every_id_once(own: int, count: int) -> None:
    found = keep_id(own, count)
    assert host_id(found, own) == 0
    assert sum(m.size for m in found) == count
    covered = sorted((m.host_id, m.host_id + m.size) for m in found)
    assert covered[0][0] == 0
    assert covered[-1][1] == count
    assert all(a[1] == b[0] for a, b in itertools.pairwise(covered))
    inside = sorted((m.container_id, m.container_id + m.size) for m in found)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(inside))


# --- namespaces -----------------------------------------------------------------------------------------------------

KINDS = sorted(set(CLONE_NS) - {"into_cgroup"})
_MAP = (IDMapping(container_id=0, host_id=100000, size=65536),)


@st.composite
def documents(draw: st.DrawFn) -> Linux:
    """New and joined namespaces that check_namespaces lets pass."""
    kinds = {"mount", *draw(st.sets(st.sampled_from(KINDS)))}
    paths = {k: draw(st.sampled_from(["", f"/ns/{k}"])) for k in sorted(kinds)}
    user = _MAP if paths.get("user") == "" else ()
    offsets = (
        (TimeOffset(clock="monotonic", secs=1, nanosecs=0),) if paths.get("time") == "" and draw(st.booleans()) else ()
    )
    namespaces = tuple(Namespace(type=k, path=p) for k, p in paths.items())
    return Linux(namespaces=namespaces, uid_mappings=user, gid_mappings=user, time_offsets=offsets)


_FACTS = st.sampled_from(
    [
        *HOSTS.values(),
        replaced(HYBRID, uid_map=((0, 1000, 1),), gid_map=((0, 1000, 1),)),
        replaced(HYBRID, kernel=(5, 15)),
    ]
)


def flags(kinds: set[str]) -> int:
    return sum(CLONE_NS[k] for k in kinds)


def ops_of(linux: Linux, way: Birth) -> list[tuple[int, int]]:
    """(code, x) of the child's first ops."""
    b = Builder()
    enter(b, linux, way, [])
    return [(fields[0], fields[8]) for fields in map(OP.unpack, b.sections[C])]


@given(documents(), _FACTS, st.booleans(), st.booleans())
def test_every_new_namespace_is_made_exactly_once(linux: Linux, facts: object, into: bool, joins: bool) -> None:
    check_namespaces(linux, facts)  # type: ignore[arg-type]
    way = birth(linux, facts, into_cgroup=into, joins_cgroups=joins)  # type: ignore[arg-type]
    made = [way.clone & ~CLONE_NS["into_cgroup"], way.fork or 0]
    made += [x for code, x in ops_of(linux, way) if code == Op.UNSHARE]
    total = 0
    for bits in made:
        assert total & bits == 0, "made twice"
        total |= bits
    assert total == flags(set(way.new))
    assert bool(way.clone & CLONE_NS["into_cgroup"]) == into


@given(documents(), _FACTS, st.booleans(), st.booleans())
def test_memory_is_shared_only_where_nobody_can_look(linux: Linux, facts: object, into: bool, joins: bool) -> None:
    way = birth(linux, facts, into_cgroup=into, joins_cgroups=joins)  # type: ignore[arg-type]
    joined = {k for k, _ in way.joined}
    if not way.own_memory:
        assert "pid" in way.new
        assert way.clone & CLONE_NS["pid"]
        assert not joined & {"pid", "user", "mount", "time"}
        assert way.fork is None


@given(documents(), _FACTS, st.booleans())
def test_what_is_joined_comes_in_order(linux: Linux, facts: object, joins: bool) -> None:
    way = birth(linux, facts, into_cgroup=False, joins_cgroups=joins)  # type: ignore[arg-type]
    ops = ops_of(linux, way)
    joined = [x for code, x in ops if code == Op.SETNS]
    assert sorted(joined) == sorted(CLONE_NS[k] for k, _ in way.joined)
    if "user" in dict(way.joined):  # with its powers the others' owners are left behind
        assert joined[-1] == CLONE_NS["user"]
        assert way.clone & ~CLONE_NS["into_cgroup"] == 0
    codes = [code for code, _ in ops]
    assert codes.count(Op.FORK) == (0 if way.fork is None else 1)
    if way.fork is not None and way.joined:
        assert codes.index(Op.FORK) > max(i for i, c in enumerate(codes) if c == Op.SETNS)
    if "user" in way.new:
        assert codes.index(Op.IDS) > codes.index(Op.ID_MAPS)
        assert way.visible
        assert way.pivot


@given(documents(), _FACTS)
def test_the_pid_namespace_is_made_by_the_last_clone(linux: Linux, facts: object) -> None:
    way = birth(linux, facts, into_cgroup=False, joins_cgroups=False)  # type: ignore[arg-type]
    if "pid" in way.new and way.fork is not None:
        assert way.fork & CLONE_NS["pid"]
        assert not way.clone & CLONE_NS["pid"]


def test_before_linux_6_3_a_time_namespace_needs_a_fork() -> None:
    linux = Linux(namespaces=(Namespace(type="mount"), Namespace(type="pid"), Namespace(type="time")))
    way = birth(linux, replaced(HYBRID, kernel=(6, 2)), into_cgroup=False, joins_cgroups=False)
    codes = [code for code, _ in ops_of(linux, way)]
    assert codes.index(Op.UNSHARE) < codes.index(Op.FORK)
    assert birth(linux, HYBRID, into_cgroup=False, joins_cgroups=False).fork is None


@pytest.mark.parametrize("kind", ["into_cgroup", "nonsense", ""])
def test_an_unknown_kind_is_refused(kind: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown namespace"):
        check_namespaces(Linux(namespaces=(Namespace(type="mount"), Namespace(type=kind))), HYBRID)
