"""The cache of compiled filters: one compilation per key, no trust in a file that is not whole and not ours."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain.seccomp
from pycontain.errors import InvalidArgument, Unsupported
from pycontain.seccomp import bpf, cache, names
from pycontain.seccomp.profile import Filter, Rule, parse_docker_profile

CAPS = frozenset({"CAP_SYS_CHROOT", "CAP_NET_RAW"})
KERNEL = (6, 1)


def invented_number(name: str, token: int) -> int:
    """A number for every name, the same everywhere: nothing here depends on the installed libseccomp."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "little") % 400


@pytest.fixture(autouse=True)
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Counts compilations; each test starts with an empty memory."""
    done: list[str] = []
    compile_filter = bpf.compile_filter

    def counting(filter: Filter, arch: str | None = None) -> bytes:
        done.append(str(arch))
        return compile_filter(filter, arch)

    monkeypatch.setattr(names, "_native_number", invented_number)
    monkeypatch.setattr(bpf, "compile_filter", counting)
    monkeypatch.setattr(cache, "_compiled", {})
    yield done


def default(directory: Path | None, caps: frozenset[str] = CAPS) -> bytes:
    return cache.default_filter(caps, "x86_64", KERNEL, str(directory) if directory else None)


def forget() -> None:
    cache._compiled.clear()


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_compiled_once_in_a_process(compilations: list[str]) -> None:
    assert default(None) is default(None)
    assert compilations == ["x86_64"]


def test_compiled_once_on_disk(tmp_path: Path, compilations: list[str]) -> None:
    first = default(tmp_path / "new")
    forget()
    assert default(tmp_path / "new") == first
    assert compilations == ["x86_64"]
    assert stat.S_IMODE(only_file(tmp_path / "new").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_file_holds_what_the_compiler_makes(tmp_path: Path) -> None:
    expected = bpf.compile_filter(parse_docker_profile(cache.default_profile(), CAPS, "x86_64", KERNEL), "x86_64")
    assert default(tmp_path) == expected
    assert only_file(tmp_path).read_bytes()[16:] == expected


def test_irrelevant_capability_shares_the_file(tmp_path: Path, compilations: list[str]) -> None:
    assert default(tmp_path) == default(tmp_path, frozenset({"CAP_SYS_CHROOT", "CAP_CHOWN"}))
    assert default(tmp_path) != default(tmp_path, frozenset({"CAP_SYS_ADMIN"}))
    assert len(compilations) == len(list(tmp_path.iterdir())) == 2


def test_old_kernel_has_its_own_filter(tmp_path: Path) -> None:
    old = cache.default_filter(CAPS, "x86_64", (4, 7), str(tmp_path))
    assert old != default(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:16],
        lambda content: content[:-8],
        lambda content: content[:-3],
        lambda content: content + bytes(8),
        lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:8] + bytes(8) + content[16:],
        lambda content: content + bytes(8 * 4096),
    ],
)  # fmt: skip
def test_damaged_file_is_made_anew(tmp_path: Path, damage: object, compilations: list[str]) -> None:
    first = default(tmp_path)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))  # type: ignore[operator]
    forget()
    assert default(tmp_path) == first
    assert len(compilations) == 2 and only_file(tmp_path).read_bytes() == whole


def test_file_under_another_keys_name_is_not_taken(tmp_path: Path) -> None:
    weak = default(tmp_path, frozenset({"CAP_SYS_ADMIN"}))
    admin = only_file(tmp_path)
    strong = default(tmp_path)
    (ours,) = (p for p in tmp_path.iterdir() if p != admin)
    ours.write_bytes(admin.read_bytes())
    forget()
    assert default(tmp_path) == strong != weak


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_others_can_write_is_not_read(tmp_path: Path, mode: int, compilations: list[str]) -> None:
    default(tmp_path)
    only_file(tmp_path).chmod(mode)
    forget()
    default(tmp_path)
    assert len(compilations) == 2
    assert stat.S_IMODE(only_file(tmp_path).stat().st_mode) == 0o600


def test_file_of_another_user_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    default(tmp_path)
    forget()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    default(tmp_path)
    assert len(compilations) == 2


def test_symbolic_link_and_fifo_are_not_read(tmp_path: Path, compilations: list[str]) -> None:
    default(tmp_path)
    path = only_file(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    forget()
    default(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    forget()
    default(tmp_path)
    assert len(compilations) == 3 and path.is_file()


def test_unusable_directory_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert default(tmp_path / "file" / "cache") == default(None)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_rename(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", no_rename)
    assert default(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_own_profile_is_kept_by_content(tmp_path: Path, compilations: list[str]) -> None:
    sources = [b'{"defaultAction": "SCMP_ACT_ALLOW"}', b'{"defaultAction": "SCMP_ACT_LOG"}']
    for source in [*sources, *sources]:
        forget()
        cache.profile_filter(source, CAPS, "x86_64", KERNEL, str(tmp_path))
    assert len(compilations) == len(list(tmp_path.iterdir())) == 2


def test_own_profile_with_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="defaultAction"):
        cache.profile_filter(b"{}", CAPS, "x86_64", KERNEL, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_filter_for_compiles_once(compilations: list[str]) -> None:
    rules = (Rule(names=("read",), action="SCMP_ACT_ALLOW"),)
    filters = [Filter(default_action="SCMP_ACT_ERRNO", rules=rules) for _ in range(2)]
    assert cache.filter_for(filters[0], "x86_64") is cache.filter_for(filters[1], "x86_64")
    assert compilations == ["x86_64"]


def test_unsupported_machine(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="cannot build a seccomp filter for vax"):
        cache.default_filter(CAPS, "vax", KERNEL, str(tmp_path))


def test_profile_digest_is_up_to_date() -> None:
    digest = hashlib.sha256(cache.default_profile()).hexdigest()
    assert digest[:16] == cache.PROFILE_DIGEST, "default.json changed: put its digest in cache.PROFILE_DIGEST"


def test_format_follows_the_compiler() -> None:
    recorded = {
        1: "7c24d4cce7beefe2",
        2: "7c24d4cce7beefe2",
        3: "c7a34490f154e1cd",
        4: "4733c49d99332af9",  # bit tests for 32-bit calls
    }  # 2: several conditions on one argument
    digest = hashlib.sha256(default(None)).hexdigest()[:16]
    assert recorded.get(cache.FORMAT) == digest, "output changed: record it (raise FORMAT unless default.json did it)"


def test_hot_path_imports_neither_json_nor_compiler(tmp_path: Path) -> None:
    expected = default(tmp_path)
    root = Path(pycontain.seccomp.__file__).parents[2]
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from pycontain.seccomp.cache import default_filter\n"
        f"found = default_filter(frozenset({sorted(CAPS)!r}), 'x86_64', {KERNEL!r}, {str(tmp_path)!r})\n"
        "print(len(found), *sys.modules)"
    )
    length, *modules = subprocess.check_output([sys.executable, "-I", "-S", "-c", program], text=True).split()
    assert int(length) == len(expected)
    assert not {"json", "dataclasses", "hashlib", "struct", "pycontain.seccomp.bpf", "re"} & set(modules)
