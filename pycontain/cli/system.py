"""``pycontain system``: what concerns everything at once."""

from __future__ import annotations

from .arguments import Command, Option

__all__ = ["COMMAND"]

COMMAND = Command(
    "pycontain system",
    "COMMAND [ARGUMENT...]",
    "Look after all of it. `pycontain system COMMAND --help` has the options of a command.",
    (Option("-h --help", "", "print this"),),
    commands={
        "df": ("system_df", "show what takes how much room"),
        "events": ("events", "show what happens to containers and images, as it happens"),
        "info": ("info", "describe this host and what is stored on it"),
        "prune": ("system_prune", "remove what nothing uses"),
        "start-all": ("system_start_all", "after a boot, start what is to run again"),
        "stop-all": ("system_stop_all", "before a shutdown, stop what runs"),
    },
)
