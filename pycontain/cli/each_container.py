"""What ``kill``, ``stop``, ``pause`` and ``unpause`` have in common: several containers, of which one may fail."""

from __future__ import annotations

from ..errors import PycontainError
from .output import complain, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["for_each"]


def for_each(words: Sequence[str], act: Callable[[str], object]) -> int:
    """Prints each container with which ``act`` has succeeded, unless it answers False, then the errors; 1 when there was one."""
    errors: list[PycontainError] = []
    for word in words:
        try:
            done = act(word)
        except PycontainError as error:
            errors.append(error)
        else:
            if done is not False:
                write(f"{word}\n")
    for each in errors:
        complain(f"pycontain: {each}")
    return 1 if errors else 0
