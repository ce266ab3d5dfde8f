"""The pull of ``pycontain run``: told on standard error, as Docker does it."""

from __future__ import annotations

import sys

from ..image.names import parse_reference
from ..image.remote import pull_missing
from .output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.progress import Progress
    from ..image.resolve import NotHere
    from ..request import RunRequest
    from ..runtime.roots import Roots

__all__ = ["pull_for_run"]


def pull_for_run(request: RunRequest, roots: Roots, missing: NotHere | None, *, quiet: bool) -> None:
    """``missing``: why it is pulled, if not always. Raises: ImageNotFound, RegistryError, InvalidArgument, Unsupported."""
    from .progress import shown

    with shown(quiet=quiet, file=sys.stderr) as show:
        told = missing is None or quiet

        def progress(step: Progress) -> None:
            nonlocal told
            if not told:  # not before there is something to pull: an error is one line
                told = True
                write(f"Unable to find image '{parse_reference(request.image)}' locally\n", sys.stderr)
            if show is not None:
                show(step)

        pull_missing(roots.data_root, request.image, platform=request.platform, progress=progress, missing=missing)
