"""The exception tree: every error that leaves the package is a :class:`PycontainError`.

Each class owns its process exit code (as ``docker run`` has it) and its HTTP status (as the Docker Engine API has it).
A message says what was tried, why it failed and what to do, in one line.
"""

from __future__ import annotations

import errno as _errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .result import CompletedContainer, Usage

__all__ = [
    "Conflict",
    "ContainerExited",
    "ContainerNotFound",
    "ImageNotFound",
    "InvalidArgument",
    "NotExecutable",
    "NotFound",
    "ProgramNotFound",
    "PycontainError",
    "RegistryError",
    "SetupFailed",
    "TimeoutExpired",
    "Unsupported",
    "VolumeNotFound",
    "errno_name",
]


def errno_name(number: int) -> str:
    """The symbol of an errno: ``ENOENT`` for 2; ``errno 9999`` when the number has none."""
    return _errno.errorcode.get(number, f"errno {number}")


class PycontainError(Exception):
    """Base of every error that pycontain raises."""

    exit_code = 125
    http_status = 500


class InvalidArgument(PycontainError, ValueError):
    """What was asked for makes no sense: a malformed value, or options that contradict each other."""

    http_status = 400


class NotFound(PycontainError, LookupError):
    """Something named does not exist."""

    http_status = 404


class ImageNotFound(NotFound):
    """No image or root filesystem of that name."""


class ContainerNotFound(NotFound):
    """No container of that name or id."""


class VolumeNotFound(NotFound):
    """No volume of that name."""


class Conflict(PycontainError):
    """The name or the object is in use."""

    http_status = 409


class Unsupported(PycontainError):
    """This host (kernel, cgroups, privileges) cannot do what was asked; the message says what is missing."""

    http_status = 501


class RegistryError(PycontainError):
    """A registry could not be reached, refused, or answered with what cannot be used.

    ``status`` is its HTTP status, 0 when no answer came; ``code`` the first code of its error document
    (``MANIFEST_UNKNOWN``, ``DENIED``...), or "". Spec: distribution-spec, "Error Codes".
    """

    http_status = 502

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_registry_error, (type(self), str(self), self.status, self.code))


def _rebuild_registry_error(cls: type[RegistryError], message: str, status: int, code: str) -> RegistryError:
    return cls(message, status=status, code=code)


class SetupFailed(PycontainError):
    """A system call on the way to the container's first instruction failed.

    ``step`` is the C core's name of the step, ``errno`` the kernel's answer, ``arg`` the index of the Plan's op.
    """

    def __init__(self, message: str, *, step: str = "", errno: int = 0, arg: int = -1) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno
        self.arg = arg

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_setup_failed, (type(self), str(self), self.step, self.errno, self.arg))


def _rebuild_setup_failed(cls: type[SetupFailed], message: str, step: str, errno: int, arg: int) -> SetupFailed:
    return cls(message, step=step, errno=errno, arg=arg)


class ProgramNotFound(SetupFailed):
    """The program to run is not in the container's root filesystem (exit code 127, as in a shell)."""

    exit_code = 127
    http_status = 400


class NotExecutable(SetupFailed):
    """The program to run is there and cannot be executed (exit code 126, as in a shell)."""

    exit_code = 126
    http_status = 400


class ContainerExited(PycontainError):
    """``check=True`` and the program ended with a status other than 0. ``result`` is the whole result."""

    def __init__(self, message: str, result: CompletedContainer) -> None:
        super().__init__(message)
        self.result = result

    @property
    def returncode(self) -> int:
        return self.result.exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.result))


class TimeoutExpired(PycontainError):
    """The time allowed ran out, and the container was killed. Carries what was captured so far and the usage."""

    exit_code = 124

    def __init__(self, message: str, result: CompletedContainer) -> None:
        super().__init__(message)
        self.result = result

    @property
    def stdout(self) -> bytes | str | None:
        return self.result.stdout

    @property
    def stderr(self) -> bytes | str | None:
        return self.result.stderr

    @property
    def usage(self) -> Usage:
        return self.result.usage

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.result))
