"""The corpus of hostile layers: one archive for each kind, with what must come of it.

``python tests/kernel/hostile_layers.py DIRECTORY`` writes each to a file of its own, for other people's unpackers. The
canary, which none of them may touch, is the directory ``canary`` beside the root; ``CANARY`` stands for its absolute path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hostile_bytes
import hostile_paths
from hostile_layer import HostileLayer

__all__ = ["HostileLayer", "hostile_layers"]


def hostile_layers(canary: str) -> Iterator[HostileLayer]:
    for of_paths in (
        hostile_paths.names, hostile_paths.links, hostile_paths.hard_links, hostile_paths.whiteouts, hostile_paths.root,
        hostile_paths.nodes, hostile_paths.depth,
    ):  # fmt: skip
        yield from of_paths(canary)
    for of_bytes in (hostile_bytes.sizes, hostile_bytes.numbers, hostile_bytes.pax, hostile_bytes.sparse):
        yield from of_bytes()


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for layer in hostile_layers("CANARY"):
        (target / f"{layer.name}.tar").write_bytes(layer.data)


if __name__ == "__main__":
    main()
