"""What a registry answers with, checked before anybody believes it: references, digests, media types, lists of tags. Pure."""

from __future__ import annotations

from ...errors import InvalidArgument, Unsupported
from ..digest import Digest, new_hasher, parse_digest
from ..documents import INDEX_TYPES, MANIFEST_TYPES, parse_json
from .failures import Failure, clean_text

__all__ = [
    "TYPES",
    "bare_type",
    "checked_digest",
    "digest_of",
    "manifest_type",
    "mark_of",
    "next_link",
    "parse_tags",
    "stated_digest",
    "wanted_digest",
]

TYPES = (*MANIFEST_TYPES, *INDEX_TYPES)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_UNTOLD = ("", "application/json", "text/plain", "application/octet-stream")


def wanted_digest(reference: str) -> Digest | None:
    """The digest that a reference is; None: a tag. Raises: InvalidArgument, Unsupported."""
    if ":" in reference:
        return parse_digest(reference)
    if not reference or not all(char.isalnum() or char in "_.-" for char in reference) or not reference.isascii():
        raise InvalidArgument(f"cannot ask a registry for {reference[:160]!r}: a tag or a digest is needed")
    return None


def mark_of(reference: str) -> str:
    return "@" if ":" in reference else ":"


def digest_of(data: bytes, algorithm: str) -> Digest:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return Digest(algorithm, hasher.hexdigest())


def stated_digest(text: str) -> Digest | None:
    try:
        return parse_digest(text.strip())
    except (InvalidArgument, Unsupported):
        return None


def checked_digest(data: bytes, wanted: Digest | None, stated: str) -> Digest:
    """The digest of the bytes. Raises: Failure: it is not the one asked for, or not what the registry says itself."""
    digest = digest_of(data, wanted.algorithm if wanted else "sha256")
    if wanted is not None and digest != wanted:
        raise Failure(f"asked for {wanted} it sends bytes with the digest {digest}")
    said = stated_digest(stated)
    if said is not None and wanted is None and digest_of(data, said.algorithm) != said:
        raise Failure(f"it says that it sends {said}, and sends {digest}", again=True)
    return digest


def bare_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def manifest_type(data: bytes, content_type: str, what: str) -> str:
    """The media type of a manifest. Where the registry names none, the document does.

    Raises: Failure; Unsupported: schema 1.
    """
    stated = bare_type(content_type)
    if stated in TYPES:
        return stated
    if stated in _UNTOLD:
        try:
            document = parse_json(data, what)
        except InvalidArgument as error:
            raise Failure(f"its answer is no manifest: {str(error).partition(': ')[2]}") from None
        stated = document["mediaType"] if isinstance(document.get("mediaType"), str) else ""
        if stated in TYPES:
            return stated
        if not stated and "manifests" in document:
            return INDEX_TYPES[0]
        if not stated and "config" in document:
            return MANIFEST_TYPES[0]
        if document.get("schemaVersion") == 1:
            stated = _SCHEMA_1
    if stated.startswith(_SCHEMA_1):
        raise Unsupported(
            f"cannot use {what}: it is an image of schema 1, which no tool makes since 2017: pull it with an old Docker and "
            "push it again"
        )
    raise Failure(f"its answer is no manifest, but {clean_text(stated or content_type, 80) or 'of no known type'}")


def parse_tags(data: bytes) -> list[str]:
    """A page of ``tags/list``. Raises: Failure."""
    try:
        tags = parse_json(data, "it").get("tags")
    except InvalidArgument:
        raise Failure("its list of tags is not JSON") from None
    if tags is None:  # Go's way to write an empty list
        return []
    if not isinstance(tags, list) or not all(isinstance(each, str) for each in tags):
        raise Failure("its list of tags is none")
    return [clean_text(each, 128) for each in tags]


def next_link(links: list[str]) -> str:
    """The target of ``Link: <target>; rel="next"``, "" without one. Spec: RFC 8288."""
    for link in links:
        target, _, parameters = link.strip().partition(">")
        words = parameters.replace('"', "").replace(" ", "").lower().split(";")
        if target.startswith("<") and "rel=next" in words:
            return target[1:]
    return ""
