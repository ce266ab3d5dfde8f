"""What a pull, push or load says while it works."""

from __future__ import annotations

from ..record import record

__all__ = ["Progress", "Report"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event


@record
class Progress:
    """One step of a layer. ``layer`` is its digest's first 12 digits, or "" for a line about the whole, to be shown as it is.

    ``state``: Docker's words ("Pulling fs layer", "Downloading", "Pull complete", "Pushed", ...). ``current`` and ``total`` in bytes, 0
    when not known.
    """

    layer: str
    state: str
    current: int = 0
    total: int = 0


class Report:
    """Calls ``progress``, if there is one. Safe in threads as far as ``progress`` is. ``stop``, when set, ends the work."""

    def __init__(self, progress: Callable[[Progress], None] | None, stop: Event | None = None) -> None:
        self._progress = progress
        self.stop = stop

    def line(self, text: str) -> None:
        if self._progress is not None:
            self._progress(Progress(layer="", state=text))

    def layer(self, digits: str, state: str, current: int = 0, total: int = 0) -> None:
        if self._progress is not None:
            self._progress(Progress(layer=digits[:12], state=state, current=current, total=total))
