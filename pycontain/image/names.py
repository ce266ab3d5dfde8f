"""Image names as Docker writes them: ``[registry[:port]/]path[:tag][@digest]``. Pure parsing, and where a name's record lives.

The grammar is distribution's ``reference.NormalizedNamed``; written by hand because importing ``re`` costs more than
the rest of resolving an image.
"""

from __future__ import annotations

import os

from ..errors import InvalidArgument
from ..record import record

__all__ = ["RESERVED", "ImageName", "name_record_path", "parse_image_name", "parse_reference", "stored_names"]

RESERVED = ("host", "oci")
"""Repository names that ``resolve`` reads as something else; ``import`` refuses them."""

_MAX_REPOSITORY = 255  # distribution/reference: RepositoryNameTotalLengthMax
_MAX_RECORD_NAME = 250  # a directory entry holds 255 bytes
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _ALNUM | frozenset("_.-")
_DEFAULT_DOMAIN = "docker.io"


@record
class ImageName:
    """A parsed name, in its short ("familiar") form: ``docker.io/library/debian`` is ``debian``.

    A name is by ``tag``, or by ``digest`` ("sha256:..."); the other one is "".
    """

    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @property
    def domain(self) -> str:
        """The registry's ``host[:port]``."""
        first, slash, _ = self.repository.partition("/")
        return first if slash and _is_domain_like(first) else _DEFAULT_DOMAIN

    @property
    def path(self) -> str:
        """The repository inside its registry: ``library/debian``."""
        first, slash, rest = self.repository.partition("/")
        if slash and _is_domain_like(first):
            return rest
        return self.repository if slash else f"library/{self.repository}"

    @property
    def reference(self) -> str:
        """What a registry is asked for: the tag or the digest."""
        return self.digest or self.tag

    @property
    def canonical(self) -> str:
        """The name in full: ``docker.io/library/debian:12``."""
        return f"{self.domain}/{self.path}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


def parse_reference(text: str) -> ImageName:
    """Parse ``repository[:tag]`` or ``repository[:tag]@digest``, where the digest counts and the tag does not, as in Docker.

    Raises: InvalidArgument, Unsupported: a digest of another algorithm.
    """
    head, at, digest = text.rpartition("@")
    if not at:
        return parse_image_name(text)
    from .digest import parse_digest

    name = ImageName(repository=parse_image_name(head).repository, tag="", digest=str(parse_digest(digest)))
    if len(_record_name(str(name))) > _MAX_RECORD_NAME:
        raise _bad(text, f"repository and digest together are longer than {_MAX_RECORD_NAME} bytes")
    return name


def parse_image_name(text: str) -> ImageName:
    """Parse ``repository[:tag]``; the tag defaults to ``latest``.

    Raises: InvalidArgument.
    Spec: distribution-spec, "Pulling manifests" (``<name>`` and ``<tag>``); Docker's registry part before it.
    """
    if "@" in text:
        raise _bad(text, "a digest cannot be part of a name that is given to an image; use NAME[:TAG]")
    head, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:  # no tag: the colon, if any, is a registry's port
        head, tag = text, "latest"
    if not _is_tag(tag):
        raise _bad(text, f"the tag {tag!r} is not 1 to 128 letters, digits, '_', '.' or '-'")
    first, slash, rest = head.partition("/")
    domain = first if slash and _is_domain_like(first) else ""
    path = rest if domain else head
    if domain and not _is_domain(domain):
        raise _bad(text, f"{domain!r} is not a registry's host[:port]")
    for component in path.split("/"):
        if not _is_component(component):
            raise _bad(text, _why_component(component))
    if len(head) > _MAX_REPOSITORY:
        raise _bad(text, f"the repository has {len(head)} characters, the limit is {_MAX_REPOSITORY}")
    name = ImageName(repository=_familiar(domain, path), tag=tag)
    if not domain and len(path) == 64 and all(c in "0123456789abcdef" for c in path):
        raise _bad(text, "64 hexadecimal digits are an image id, not a name")
    if len(_record_name(str(name))) > _MAX_RECORD_NAME:
        raise _bad(text, f"repository and tag together are longer than {_MAX_RECORD_NAME} bytes")
    return name


def name_record_path(data_root: str, name: ImageName) -> str:
    """The file that says which image has this name: ``<data-root>/names/<name with / as %2F>``."""
    return f"{data_root}/names/{_record_name(str(name))}"


def stored_names(data_root: str) -> list[str]:
    """Every name in ``<data-root>/names``, sorted; none when the directory is absent or unreadable."""
    try:
        entries = os.listdir(f"{data_root}/names")
    except OSError:
        return []
    return sorted(entry.replace("%2F", "/") for entry in entries if not entry.startswith("."))


def _record_name(name: str) -> str:
    return name.replace("/", "%2F")  # "%" is in no name, so this has an inverse


def _familiar(domain: str, path: str) -> str:
    if domain in ("", _DEFAULT_DOMAIN, "index.docker.io"):
        head, slash, tail = path.partition("/")
        if slash and _is_domain_like(head):  # without its registry it would read as another one's
            return f"{_DEFAULT_DOMAIN}/{path}"
        return tail if head == "library" and tail and "/" not in tail else path
    return f"{domain}/{path}"


def _is_domain_like(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost" or first.lower() != first


def _is_domain(domain: str) -> bool:
    host, colon, port = domain.partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        return False
    labels = host.split(".")
    return all(x and x[0] in _ALNUM and x[-1] in _ALNUM and all(c in _ALNUM or c == "-" for c in x) for x in labels)


def _is_tag(tag: str) -> bool:
    return 0 < len(tag) <= 128 and tag[0] not in ".-" and all(c in _TAG for c in tag)


def _is_component(text: str) -> bool:
    """``[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*``."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    run = ""
    for char in text:
        if char in _LOWER:
            if run not in ("", ".", "_", "__") and run.strip("-"):
                return False
            run = ""
        elif char in "._-":
            run += char
        else:
            return False
    return True


def _why_component(component: str) -> str:
    if component.lower() != component:
        return "a repository name must be lowercase"
    if not component:
        return "a part of the name is empty"
    return f"{component!r} is not lowercase letters and digits separated by '.', '_', '__' or '-'"


def _bad(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"cannot read {text[:300]!r} as an image: invalid reference format: {why}; "
        "an image is NAME[:TAG], a directory (/dir, ./dir), oci:DIR[:REF] or host"
    )
