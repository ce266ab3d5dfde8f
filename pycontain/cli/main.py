"""``pycontain``: finds the command, loads its module only, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from .. import parse
from ..errors import InvalidArgument, PycontainError, Unsupported, errno_name
from .arguments import Command, Option, read, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ..runtime.roots import Roots

__all__ = ["COMMANDS", "TOP", "console", "main"]

_SIGINT, _SIGPIPE = 2, 13

# command -> (module, one line of help)
COMMANDS = {
    "run": ("run", "run a program in a new container"),
    "exec": ("exec", "run one more program in a running container"),
    "pull": ("pull", "download an image from a registry"),
    "push": ("push", "upload an image to a registry"),
    "images": ("images", "list images"),
    "history": ("history", "show how an image was made"),
    "inspect": ("inspect", "print everything about containers or images"),
    "tag": ("tag", "give an image one more name"),
    "rmi": ("rmi", "remove images"),
    "save": ("save", "write images to an archive"),
    "load": ("load", "take images out of an archive"),
    "import": ("import_", "make an image of a tar of a root file system"),
    "login": ("login", "log in to a registry"),
    "logout": ("logout", "log out of a registry"),
    "create": ("create", "make a container that is started later"),
    "start": ("start", "start containers"),
    "ps": ("ps", "list containers"),
    "attach": ("attach", "be connected to what a container says and hears"),
    "logs": ("logs", "show what a container has said"),
    "wait": ("wait", "wait until containers have ended"),
    "restart": ("restart", "stop containers, and start them again"),
    "rename": ("rename", "give a container another name"),
    "update": ("update", "change limits of containers, and their restart policy"),
    "rm": ("rm", "remove containers"),
    "stop": ("stop", "end containers: a signal, some time, SIGKILL"),
    "kill": ("kill", "send a signal to containers"),
    "pause": ("pause", "stop all processes of containers where they stand"),
    "unpause": ("unpause", "let the processes of containers go on"),
    "stats": ("stats", "show what containers use, each second anew"),
    "diff": ("diff", "list what a container has changed in its root"),
    "cp": ("cp", "copy files between a container and this machine"),
    "port": ("port", "list the published ports of a container"),
    "top": ("top", "show the processes of a container"),
    "export": ("export", "write the files of a container to a tar"),
    "commit": ("commit", "make an image of what a container has changed"),
    "events": ("events", "show what happens to containers and images, as it happens"),
    "info": ("info", "describe this host and what is stored on it"),
    "container": ("container", "all commands of containers: container ls, container kill, ..."),
    "image": ("image", "all commands of images: image ls, image prune, image tree, ..."),
    "system": ("system", "disk usage, events, clean-up, and the start after a boot"),
    "volume": ("volume", "all commands of volumes: volume create, volume ls, ..."),
    "manifest": ("manifest", "look at the manifests of a registry"),
    "search": ("search", "says why searching is not supported"),
    "unshare": ("unshare", "run a program where an ordinary user may start containers"),
    "doctor": ("doctor", "say what this host can do, and what is missing"),
    "version": ("version", "print the version"),
    "help": ("", "print the help of a command"),
}

# commands of commands
_GROUPS = frozenset(("container", "image", "manifest", "system", "volume"))

# modules for which one must be root, be it of a user namespace of one's own: they write or read files of other owners. Lists,
# names and archives of images are the user's own files, and need nobody else
_AS_ROOT = frozenset(
    (
        "run",
        "attach",
        "import_",
        "unshare",
        "pull",
        "load",
        "rmi",
        "image_prune",
        "image_tree",
        "commit",
        "export",
        "kill",
        "stop",
        "pause",
        "unpause",
        "top",
        "diff",
        "create",
        "start",
        "restart",
        "rm",
        "container_prune",
        "system_df",
        "system_prune",
        "system_start_all",
        "system_stop_all",
        "volume_rm",
        "volume_prune",
        "update",
    )
)

# modules that write what is of no use by halves
_CLEAN_END = frozenset(("pull", "push", "load", "save", "import_", "commit", "cp", "export"))

TOP = Command(
    "pycontain",
    "[--data-root DIR] [--run-root DIR] COMMAND [ARGUMENT...]",
    "A container engine. `pycontain help COMMAND` has the options of a command.",
    (
        Option(
            "--data-root",
            "DIR",
            "images and layers (/var/lib/pycontain; as a user ~/.local/share/pycontain)",
        ),
        Option(
            "--run-root",
            "DIR",
            "what does not outlive a boot (/run/pycontain; as a user $XDG_RUNTIME_DIR/pycontain)",
        ),
        Option("-h --help", "", "print this"),
        Option("-v --version", "", "print the version"),
    ),
)


def main(argv: list[str], *, owns_process: bool = False) -> int:
    """Runs a command line (without the program's name): the exit code. ``owns_process``: signals may be handled.

    Raises PycontainError; SystemExit after --help, or by a signal.
    """
    if any(word == "--help" or word == "-h" for word in argv[:1]) or not argv:
        _write(_help())
        return 0
    values, words = read(TOP, argv)
    if values.version:
        words = ["version"]
    if not words:
        raise InvalidArgument(f"a command is missing: write {', '.join(COMMANDS)}, as in `pycontain run host sh`")
    if words[0] == "help":
        if not words[1:]:
            _write(_help())
            return 0
        words = [*words[1:], "--help"]
    name, *rest = words
    if name in _GROUPS:
        return _of_group(name, rest, values.data_root, values.run_root, owns_process)
    if name not in COMMANDS or not COMMANDS[name][0]:
        hint = parse.nearest(name, COMMANDS, f"the commands are {', '.join(COMMANDS)}")
        raise InvalidArgument(f"unknown command {parse.quote(name)}{hint}")
    module = _module(COMMANDS[name][0], rest, owns_process)
    return int(module.main(rest, _roots(values.data_root, values.run_root)))


def _of_group(name: str, argv: list[str], data_root: str | None, run_root: str | None, owns_process: bool) -> int:
    """``pycontain image ls``: the same module as ``pycontain images``, under this name in its help and its errors."""
    group = import_module(f".{name}", __package__).COMMAND
    _, words = read(group, argv)
    if not words:
        from .help import help_of

        _write(help_of(group))
        return 0
    verb, *rest = words
    verb = group.synonyms.get(verb, verb)
    if verb not in group.commands:
        hint = parse.nearest(verb, group.commands, f"the commands are {', '.join(group.commands)}")
        error = InvalidArgument(f"unknown command {parse.quote(f'{name} {verb}')}{hint}")
        error.exit_code = 1  # as Docker's
        raise error
    module = _module(group.commands[verb][0], rest, owns_process)
    return int(module.main(rest, _roots(data_root, run_root), module.COMMAND.called(f"{group.prog} {verb}")))


def _module(name: str, rest: list[str], owns_process: bool) -> Any:
    """Of a command; for those that only root can do, this process is root when it returns. Raises Unsupported."""
    if name in _AS_ROOT and os.geteuid() != 0:
        _become_root(name, rest)
    if owns_process and name in _CLEAN_END:
        _end_cleanly()
    return import_module(f".{name}", __package__)


def _end_cleanly() -> None:
    """SIGTERM and SIGHUP from now on end this process as Ctrl-C does: what was half written goes."""
    import signal

    def end(number: int, frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) wants it
            signal.signal(number, end)


def _roots(data_root: str | None, run_root: str | None) -> Roots:
    from ..runtime.roots import default_roots

    return default_roots(_path(data_root, "PYCONTAIN_DATA_ROOT"), _path(run_root, "PYCONTAIN_RUN_ROOT"))


def _path(given: str | None, variable: str) -> str | None:
    path = given or os.environ.get(variable)
    return os.path.abspath(path) if path else None


def _become_root(name: str, rest: list[str]) -> None:
    """Begins again as root of a user namespace, and does not return; or, where there is none to be had, returns when the
    command only wants to say something. Raises Unsupported."""
    from .. import rootless

    try:
        rootless.enter()
    except Unsupported:
        words, _ = split(import_module(f".{name}", __package__).COMMAND, rest)
        if not {"--help", "--explain"} & set(words) or "--time" in words:
            raise


def _help() -> str:
    lines = [f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items()]
    from .help import help_of

    return help_of(TOP) + "\ncommands:\n" + "\n".join(lines) + "\n"


def console() -> NoReturn:
    """The entry point of the ``pycontain`` program."""
    try:
        if sys.stdin is None or sys.stdout is None or sys.stderr is None:
            from .closed_streams import stand_in

            stand_in()
        code = _ended(sys.argv[1:])
        _flush()
    except PycontainError as error:
        code = _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = 128 + _SIGINT
    except ImportError as error:  # without it Python would say so in thirty lines
        code = _report(
            f"{error}: this installation of pycontain is not whole: `pip install --force-reinstall pycontain`", 125
        )
    except BrokenPipeError:
        code = 128 + _SIGPIPE
    except (
        OSError
    ) as error:  # of a host where even what is always there is not: /dev/null, a directory that can be removed
        code = _unforeseen(error)
    _leave(code)


def _ended(argv: list[str]) -> int:
    try:
        return main(argv, owns_process=True)
    except SystemExit as ended:  # after --help; by a signal
        return ended.code if isinstance(ended.code, int) else 0


def _write(text: str) -> None:
    from .output import write

    write(text)


def _flush() -> None:
    """Not by :mod:`.output`, which a plain run does not need otherwise. Raises: PycontainError, BrokenPipeError."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from .output import unwritable

        raise unwritable(error) from None


def _unforeseen(error: OSError) -> int:
    where = f"{error.filename}: " if error.filename else ""
    remedy = "`pycontain doctor` says what this host lacks"
    return _report(f"{where}{error.strerror or error} ({errno_name(error.errno or 0)}). {remedy}", 125)


def _leave(code: int) -> NoReturn:
    """Ends the process. What the interpreter's own shutdown would do, the kernel does at once and for nothing; what only
    we can do is done here."""
    session = sys.modules.get("pycontain.runtime.session")
    if session is not None:
        try:
            session.close_all()
        except OSError as error:  # the next start removes it
            code = code or _unforeseen(error)
    try:
        sys.stderr.flush()
    except OSError:
        pass
    os._exit(code)


def _report(message: str, code: int) -> int:
    if not message:
        return code
    line = " ".join(message.split(chr(10)))
    if not line.isprintable():  # an image's or a registry's words, which could steer a terminal
        from .table import printable

        line = printable([line])[0]
    try:
        sys.stderr.write(f"pycontain: {line}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it; the exit code still says it
    return code
