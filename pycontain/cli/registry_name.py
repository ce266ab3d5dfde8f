"""Names as ``pull`` and ``push`` take them: with a tag, by digest, or, with --all-tags, a repository alone."""

from __future__ import annotations

from ..errors import InvalidArgument
from ..image.names import parse_image_name, parse_reference
from .output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.names import ImageName

__all__ = ["DISABLE_CONTENT_TRUST", "asked_name", "whole_name"]

DISABLE_CONTENT_TRUST = "accepted, and without effect: names are not signed (true)"


def asked_name(text: str, *, all_tags: bool, quiet: bool) -> ImageName:
    """The parsed name; says which tag is meant where none is given. Raises: InvalidArgument."""
    name = parse_reference(text) if not all_tags else parse_image_name(text.partition("@")[0])
    only_name = "@" not in text and ":" not in text.rpartition("/")[2]
    if all_tags and not only_name:
        raise InvalidArgument("tag can't be used with --all-tags/-a: name the repository alone")
    if only_name and not all_tags and not quiet:
        write(f"Using default tag: {name.tag}\n")
    return name


def whole_name(name: ImageName, *, all_tags: bool) -> str:
    """``docker.io/library/debian:12``, and with all its tags ``docker.io/library/debian``."""
    return f"{name.domain}/{name.path}" if all_tags else name.canonical
