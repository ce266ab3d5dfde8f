"""``pycontain container``: the commands of containers under Docker's other names for them."""

from __future__ import annotations

from .arguments import Command, Option

__all__ = ["COMMAND"]

COMMAND = Command(
    "pycontain container",
    "COMMAND [ARGUMENT...]",
    "Manage containers. `pycontain container COMMAND --help` has the options of a command.",
    (Option("-h --help", "", "print this"),),
    commands={
        "attach": ("attach", "be connected to what a container says and hears"),
        "create": ("create", "make a container that is started later"),
        "commit": ("commit", "make an image of what a container has changed"),
        "cp": ("cp", "copy files between a container and this machine"),
        "exec": ("exec", "run one more program in a container"),
        "diff": ("diff", "list what a container has changed in its root"),
        "export": ("export", "write the files of a container to a tar"),
        "inspect": ("container_inspect", "print everything about containers"),
        "kill": ("kill", "send a signal to containers"),
        "logs": ("logs", "show what a container has said"),
        "ls": ("ps", "list containers"),
        "pause": ("pause", "stop all processes of containers where they stand"),
        "port": ("port", "list the published ports of a container"),
        "prune": ("container_prune", "remove containers that do not run"),
        "rename": ("rename", "give a container another name"),
        "restart": ("restart", "stop containers, and start them again"),
        "rm": ("rm", "remove containers"),
        "run": ("run", "run a program in a new container"),
        "start": ("start", "start containers"),
        "stats": ("stats", "show what containers use, each second anew"),
        "stop": ("stop", "end containers: a signal, some time, SIGKILL"),
        "top": ("top", "show the processes of a container"),
        "unpause": ("unpause", "let the processes of containers go on"),
        "update": ("update", "change limits of containers, and their restart policy"),
        "wait": ("wait", "wait until containers have ended"),
    },
    synonyms={"list": "ls", "ps": "ls", "remove": "rm"},
)
