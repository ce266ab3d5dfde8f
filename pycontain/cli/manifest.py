"""``pycontain manifest``: documents of registries."""

from __future__ import annotations

from .arguments import Command, Option

__all__ = ["COMMAND"]

COMMAND = Command(
    "pycontain manifest",
    "COMMAND [ARGUMENT...]",
    "Look at the manifests of a registry.",
    (Option("-h --help", "", "print this"),),
    commands={"inspect": ("manifest_inspect", "print the manifest or the index of a name in its registry")},
)
