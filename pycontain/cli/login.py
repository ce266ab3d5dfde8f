"""``pycontain login``: asks a registry whether it takes a user's password, and keeps it where Docker does."""

from __future__ import annotations

import os
import sys

from ..errors import InvalidArgument, PycontainError, RegistryError
from .arguments import Command, Option, Values, read
from .output import flush, one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.registry.credentials import Credential, Credentials
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main", "server_of"]

COMMAND = Command(
    "pycontain login",
    "[-u USERNAME] [-p PASSWORD | --password-stdin] [SERVER]",
    "Log in to a registry (Docker Hub); the login is kept in ~/.docker/config.json, or by its credential helper.",
    (
        Option("-u --username", "USERNAME", "user name (asked for)"),
        Option(
            "-p --password", "PASSWORD", "password or access token (asked for); others can see it in the process list"
        ),
        Option("--password-stdin", "", "read the password from standard input"),
        Option("-h --help", "", "print this"),
    ),
    interspersed=True,
)

_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_MAX_PASSWORD_BYTES = 1 << 20
_HUB_HINT = (
    "Login with your Docker ID to push and pull images from Docker Hub. If you don't have a Docker ID, head over to "
    "https://hub.docker.com to create one.\n"
)
_UNENCRYPTED = (
    "\nWARNING! Your credentials are stored unencrypted in '{}'.\n"
    "Configure a credential helper to remove this warning. See\n"
    "https://docs.docker.com/go/credential-store/\n\n"
)


def main(argv: list[str], roots: Roots) -> int:
    values, words = read(COMMAND, argv)
    return one_for_errors(lambda: _log_in(values, words))


def _log_in(values: Values, words: list[str]) -> int:
    domain = server_of(words, COMMAND)
    username, password = values.username, values.password
    if values.password_stdin:
        if password is not None:
            raise InvalidArgument("--password and --password-stdin are mutually exclusive: give one of them")
        if not username:
            raise InvalidArgument("Must provide --username with --password-stdin")
    if username == "" or password == "":
        raise InvalidArgument(f"{'--username' if username == '' else '--password'} is empty")
    if password is not None:
        _say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    if values.password_stdin:
        password = _password_from_stdin()
    from ..image.registry.credentials import Credentials

    credentials = Credentials()
    old = _found(credentials, domain) if username is None and password is None else None
    if old is None or not _is_still_good(domain, old):
        old = _asked(domain, username, password, old)
        _check(domain, old)
        _keep(credentials, domain, old)
    write("Login Succeeded\n")
    return 0


def server_of(words: list[str], command: Command) -> str:
    """The registry of ``[SERVER]``, "docker.io" without one; a scheme and a path are left out, as Docker does.

    Raises: InvalidArgument.
    """
    if len(words) > 1:
        raise InvalidArgument(f"{len(words)} servers at once: `{command.prog} {command.usage}`")
    from ..image.registry.urls import parse_url

    text = words[0] if words else "docker.io"
    host = text.partition("://")[2] if "://" in text else text
    host = host.partition("/")[0].lower()
    try:
        parse_url(f"https://{host}")
    except ValueError:
        raise InvalidArgument(f"cannot read {text[:160]!r} as a registry: the form is HOST[:PORT]") from None
    return "docker.io" if host in _HUB else host


def _found(credentials: Credentials, domain: str) -> Credential | None:
    """What is kept; something broken there is what a new login is for."""
    try:
        return credentials.find(domain)
    except PycontainError as error:
        _say(f"The login that was kept cannot be used: {error}\n")
        return None


def _is_still_good(domain: str, credential: Credential) -> bool:
    _say("Authenticating with existing credentials...\n")
    try:
        _check(domain, credential)
    except RegistryError as error:
        if not sys.stdin.isatty():
            raise
        _say(f"Login did not succeed, error: {error}\n")
        return False
    return True


def _check(domain: str, credential: Credential) -> None:
    from ..image.registry.client import check_login

    check_login(domain, credential)


def _keep(credentials: Credentials, domain: str, credential: Credential) -> None:
    kept = credentials.store(domain, credential)
    if kept == credentials.path:
        _say(_UNENCRYPTED.format(kept))


def _asked(domain: str, username: str | None, password: str | None, old: Credential | None) -> Credential:
    """What was given, and the rest from the terminal. Raises: InvalidArgument: there is none."""
    if (username is None or password is None) and not sys.stdin.isatty():
        raise InvalidArgument(
            "Cannot perform an interactive login from a non TTY device: give --username, and the password by --password-stdin"
        )
    if username is None:
        if domain == "docker.io":
            write(_HUB_HINT)
        known = old.username if old else ""
        username = _prompt(f"Username ({known}): " if known else "Username: ").strip() or known
        if not username:
            raise InvalidArgument("Username Required")
    if password is None:
        password = _hidden("Password: ")
        if not password:
            raise InvalidArgument("Password Required")
    if ":" in username:  # RFC 7617: everything after it would be the password
        raise InvalidArgument("a user name cannot have a ':' in it")
    from ..image.registry.credentials import Credential

    return Credential(username=username, password=password)


def _prompt(text: str) -> str:
    write(text)
    flush()
    return _text(sys.stdin.buffer.readline(_MAX_PASSWORD_BYTES))


def _hidden(text: str) -> str:
    """Like :func:`_prompt`, without an echo, which comes back whatever happens."""
    import termios

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    silent = list(before)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
    try:
        return _prompt(text)
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
        write("\n")
        flush()


def _password_from_stdin() -> str:
    data = sys.stdin.buffer.read(_MAX_PASSWORD_BYTES + 1)
    if len(data) > _MAX_PASSWORD_BYTES:
        raise InvalidArgument(f"the password on standard input has more than {_MAX_PASSWORD_BYTES} bytes")
    password = _text(data)
    if not password.strip():
        raise InvalidArgument("the password on standard input is empty")
    return password


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidArgument("what was typed or sent is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _say(text: str) -> None:
    flush()
    try:
        os.write(2, text.encode())
    except OSError:
        pass  # nobody reads it
