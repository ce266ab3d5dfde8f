"""Imports go one way. The order of the layers is docs/architecture.md's; an up-link fails here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pycontain"

# from the ground up: a module may import from its own layer and from those before it; the longest name counts
LAYERS = (
    ("_version", "record", "_ffi"),
    ("errors", "result"),
    ("ops", "capabilities", "mount_options", "request", "spec.runtime", "streams", "_native"),
    ("parse", "mounts", "security_options", "idmap", "consistency", "hierarchies", "durations", "journal"),
    ("host",),
    ("rootless",),
    ("limits", "seccomp"),
    (
        "plan_bytes",
        "plan_namespaces",
        "plan_mounts",
        "plan_hooks",
        "plan_process",
        "plan",
        "plan_exec",
        "plan_limits",
        "plan_view",
        "image",
        "healthcheck",
        "spec",
    ),
    ("disassemble",),
    ("runtime",),
    ("engine",),
    (
        "options",
        "explain",
        "explain_steps",
        "explain_identity",
        "explain_table",
        "doctor",
        "doctor_checks",
        "doctor_findings",
        "doctor_host",
        "doctor_users",
    ),
    ("capture",),
    ("inside",),
    ("container", "engine_container"),
    ("nouns",),
    ("aio", "aio_engine"),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _layer(module: str) -> str:
    """The name in LAYERS that a module goes by: its own, or its package's."""
    return module if module in LEVEL or "." not in module else _layer(module.rpartition(".")[0])


def _imports(path: Path) -> set[str]:
    """The pycontain modules that a file imports at run time; TYPE_CHECKING blocks do not count."""
    package = path.relative_to(PACKAGE).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        base = package[: len(package) - (node.level - 1)]
        if node.module:
            found.add(".".join((*base, node.module)))
        else:
            found.update(".".join((*base, alias.name)) for alias in node.names)
    return found


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_no_import_goes_up(path: Path) -> None:
    own = _layer(path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))
    assert own in LEVEL, f"give {own} a layer"
    for other in map(_layer, _imports(path)):
        if other == "__version__":
            continue
        assert LEVEL[other] <= LEVEL[own], f"{own} imports {other}, which lies above it"


def test_only_native_imports_the_extension() -> None:
    assert [p.name for p in MODULES if "_ffi" in _imports(p)] == ["_native.py"]


def test_only_the_registrys_transport_imports_urllib3() -> None:
    users = {p.name for p in MODULES if _loads(p, "urllib3")}
    assert users == {"transport.py", "patience.py"}


def _loads(path: Path, package: str) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    return any(name.partition(".")[0] == package for name in names)
