"""``pycontain image tree``: an image's layers, the lowest first, and what each of them changed."""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import parse
from ..errors import InvalidArgument
from .arguments import Command, Option, Values, converted, count, read
from .history import ellipsis
from .output import one_for_errors, write
from .table import printable
from .units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.details import ImageDetails
    from ..runtime.roots import Roots
    from .layer_changes import LayerChanges, Paths

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain image tree",
    "[OPTIONS] IMAGE",
    "Draw an image's layers, the lowest first: the step that made each, and what it added, changed and removed.",
    (
        Option("--format", "FORMAT", "text or json (text)"),
        Option("-h --help", "", "print this"),
        Option("--no-trunc", "", "print steps in full"),
        Option("--paths", "N", "name so many paths of each kind, the largest first (3)"),
    ),
    interspersed=True,
)

_WIDTH = 100  # where there is no terminal


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    if values.format not in (None, "text", "json"):
        raise InvalidArgument(f"--format: there is no format {parse.quote(values.format)}: write text or json")
    shown = converted("paths", lambda v: parse.integer(v, 0, 1000), values.paths or "3")
    return one_for_errors(lambda: _tree(values, words, shown, command, roots.data_root))


def _tree(values: Values, words: list[str], shown: int, command: Command, data_root: str) -> int:
    count(command, words, 1, 1)
    from ..engine import images as engine
    from .layer_changes import changes_of

    details = engine.inspect_image(data_root, words[0])
    if not all(os.path.isdir(layer.path) for layer in details.layers):
        engine.restore(data_root, details.info.id)
    changes = changes_of([layer.path for layer in details.layers], shown)
    if values.format == "json":
        import json

        write(json.dumps(_document(details, changes), ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        write("".join([f"{line}\n" for line in _drawn(words[0], details, changes, values.no_trunc)]))
    return 0


def _steps(details: ImageDetails) -> list[str]:
    """What made each layer; a history that does not fit says nothing about any."""
    steps = [entry.created_by or entry.comment for entry in details.history if entry.layer is not None]
    return steps if len(steps) == len(details.layers) else [""] * len(details.layers)


# --- text -------------------------------------------------------------------------------------------------------------


def _drawn(name: str, details: ImageDetails, changes: list[LayerChanges], whole: bool) -> list[str]:
    width = _terminal_width()
    branch, last, trunk = ("├─ ", "└─ ", "│  ") if _has_boxes() else ("|- ", "`- ", "|  ")
    platform = "/".join([printable([part])[0] for part in (details.os, details.architecture, details.variant) if part])
    number = len(details.layers)
    layers = f"{number} layer{'' if number == 1 else 's'}"
    lines = [f"{name}  {details.info.id[7:19]}  {human_size(details.info.size, 3)}, {layers}, {platform}"]
    for at, (layer, step, changed) in enumerate(zip(details.layers, _steps(details), changes, strict=True)):
        is_last = at == number - 1
        head = f"{last if is_last else branch}{layer.diff_id[7:19]}  {human_size(layer.size, 3):>6}  "
        text = printable([" ".join(step.split())])[0]
        lines.append((head + (text if whole else ellipsis(text, max(width - 1 - len(head), 20)))).rstrip())
        lines += [f"{'   ' if is_last else trunk}  {line}" for line in _changes(changed)]
    return lines


def _changes(changes: LayerChanges) -> list[str]:
    counts = []
    if changes.added.count or changes.directories:
        counts.append(f"added {_files(changes.added)}" if changes.added.count else "added")
        if changes.directories:
            what = f"{changes.directories:,} director{'y' if changes.directories == 1 else 'ies'}"
            counts[-1] += f" in {what}" if changes.added.count else f" {what}"
    if changes.changed.count:
        counts.append(f"changed {_files(changes.changed)}")
    if changes.removed.count:
        counts.append(f"removed {changes.removed.count:,}")
    lines = [", ".join(counts) or "changed nothing"]
    for mark, paths in (("+", changes.added), ("~", changes.changed), ("-", changes.removed)):
        for path, size in paths.some:
            lines.append(f"{mark} {human_size(size, 3) if mark != '-' else '':>6}  {printable([path])[0]}")
    return lines


def _files(paths: Paths) -> str:
    return f"{paths.count:,} file{'' if paths.count == 1 else 's'} ({human_size(paths.size, 3)})"


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _WIDTH
    except (OSError, ValueError):  # no terminal; no descriptor
        return _WIDTH


def _has_boxes() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


# --- JSON -------------------------------------------------------------------------------------------------------------


def _document(details: ImageDetails, changes: list[LayerChanges]) -> dict[str, Any]:
    return {
        "Id": details.info.id,
        "RepoTags": list(details.info.names),
        "Size": details.info.size,
        "Os": details.os,
        "Architecture": details.architecture,
        "Variant": details.variant,
        "Layers": [
            {
                "DiffId": layer.diff_id, "Digest": str(layer.descriptor.digest), "Size": layer.size, "CreatedBy": step,
                "Directories": changed.directories, "Added": _paths(changed.added), "Changed": _paths(changed.changed),
                "Removed": _paths(changed.removed),
            }
            for layer, step, changed in zip(details.layers, _steps(details), changes, strict=True)
        ],
    }  # fmt: skip


def _paths(paths: Paths) -> dict[str, Any]:
    some = [{"Path": os.fsencode(path).decode("utf-8", "replace"), "Size": size} for path, size in paths.some]
    return {"Count": paths.count, "Size": paths.size, "Paths": some}
