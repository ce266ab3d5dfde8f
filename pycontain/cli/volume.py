"""``pycontain volume``: the commands of volumes."""

from __future__ import annotations

from .arguments import Command, Option

__all__ = ["COMMAND"]

COMMAND = Command(
    "pycontain volume",
    "COMMAND [ARGUMENT...]",
    "Manage volumes. `pycontain volume COMMAND --help` has the options of a command.",
    (Option("-h --help", "", "print this"),),
    commands={
        "create": ("volume_create", "make a volume"),
        "inspect": ("volume_inspect", "print everything about volumes"),
        "ls": ("volume_ls", "list volumes"),
        "prune": ("volume_prune", "remove volumes that no container uses"),
        "rm": ("volume_rm", "remove volumes"),
    },
    synonyms={"list": "ls", "remove": "rm"},
)
