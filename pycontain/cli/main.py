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
    from typing import NoReturn

__all__ = ["COMMANDS", "TOP", "console", "main"]

_SIGINT, _SIGPIPE = 2, 13

# command -> (module, one line of help)
COMMANDS = {
    "run": ("run", "run a program in a new container"),
    "import": ("import_", "make an image of a tar of a root file system"),
    "login": ("login", "log in to a registry"),
    "logout": ("logout", "log out of a registry"),
    "unshare": ("unshare", "run a program where an ordinary user may start containers"),
    "doctor": ("doctor", "say what this host can do, and what is missing"),
    "version": ("version", "print the version"),
    "help": ("", "print the help of a command"),
}

# what only root can do, be it of a user namespace of its own
_AS_ROOT = frozenset(("run", "import", "unshare"))

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


def main(argv: list[str]) -> int:
    """Runs a command line (without the program's name): the exit code. Raises PycontainError."""
    if any(word == "--help" or word == "-h" for word in argv[:1]) or not argv:
        sys.stdout.write(_help())
        return 0
    values, words = read(TOP, argv)
    if values.version:
        words = ["version"]
    if not words:
        raise InvalidArgument(f"a command is missing: write {', '.join(COMMANDS)}, as in `pycontain run host sh`")
    name, *rest = words
    if name == "help":
        if not rest:
            sys.stdout.write(_help())
            return 0
        name, rest = rest[0], ["--help"]
    if name not in COMMANDS or not COMMANDS[name][0]:
        hint = parse.nearest(name, COMMANDS, f"the commands are {', '.join(COMMANDS)}")
        raise InvalidArgument(f"unknown command {parse.quote(name)}{hint}")
    if name in _AS_ROOT and os.geteuid() != 0:
        _become_root(name, rest)
    module = import_module(f".{COMMANDS[name][0]}", __package__)
    from ..runtime.roots import default_roots

    roots = default_roots(_path(values.data_root, "PYCONTAIN_DATA_ROOT"), _path(values.run_root, "PYCONTAIN_RUN_ROOT"))
    return int(module.main(rest, roots))


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
        words, _ = split(import_module(f".{COMMANDS[name][0]}", __package__).COMMAND, rest)
        if not {"--help", "--explain"} & set(words) or "--time" in words:
            raise


def _help() -> str:
    lines = [f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items()]
    from .help import help_of

    return help_of(TOP) + "\ncommands:\n" + "\n".join(lines) + "\n"


def console() -> NoReturn:
    """The entry point of the ``pycontain`` program."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except PycontainError as error:
        code = _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = 128 + _SIGINT
    except BrokenPipeError:
        # the reader has gone; without this the interpreter's own flush would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + _SIGPIPE
    except (
        OSError
    ) as error:  # of a host where even what is always there is not: /dev/null, a directory that can be removed
        code = _unforeseen(error)
    _leave(code)


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
    try:
        sys.stderr.write(f"pycontain: {' '.join(message.split(chr(10)))}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it; the exit code still says it
    return code
