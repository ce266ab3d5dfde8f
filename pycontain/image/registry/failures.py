"""What went wrong inside the client, before it is known what the user had asked for; and the words that come of it."""

from __future__ import annotations

from ...errors import ImageNotFound, PycontainError, RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Failure", "clean_text", "failed"]

_MAX_TEXT = 200
_DENIED = (401, 403)
_NOT_FOUND_CODES = ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")


class Failure(Exception):
    """One attempt's end. ``reason`` is part of a sentence; ``hint`` a whole one, what to do.

    ``again``: the same request may succeed later. ``retry_after_s``: when, if the server said so.
    """

    def __init__(
        self, reason: str, *, hint: str = "", status: int = 0, code: str = "", again: bool = False,
        retry_after_s: float | None = None, spoke: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.status = status
        self.code = code
        self.again = again
        self.retry_after_s = retry_after_s
        self.spoke = spoke  # False: nobody there speaks what we speak (no connection, no TLS, no HTTP)

    @property
    def not_found(self) -> bool:
        return self.status == 404 or self.code in _NOT_FOUND_CODES

    @property
    def denied(self) -> bool:
        return self.status in _DENIED


def clean_text(text: str, limit: int = _MAX_TEXT) -> str:
    """What a server wrote, on one line, printable, and not endless."""
    shown = "".join(char if char.isprintable() else " " for char in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def failed(action: str, tried: Sequence[tuple[str, Failure]], *, missing: str = "") -> PycontainError:
    """The error for everything that was tried, in order: (where, how it ended). ``action`` is "cannot pull debian:12".

    ``missing``: what to call that which nobody has ("debian:12"), when not to have it is an answer.
    """
    attempts = "; ".join(f"{where}: {each.reason}" for where, each in tried)
    last = tried[-1][1]
    if missing and last.not_found:
        return ImageNotFound(f"no such image: {missing} (tried {attempts})")
    hints = list(dict.fromkeys(each.hint for _, each in tried if each.hint))
    denied = "denied: " if last.denied else ""
    message = f"{denied}{action}: {attempts}" + (f". {' '.join(hints)}" if hints else "")
    return RegistryError(message, status=last.status, code=last.code)
