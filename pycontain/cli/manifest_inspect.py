"""``pycontain manifest inspect``: a registry's manifest or index of a name, without pulling the image."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain manifest inspect",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Print the manifest, or the index of manifests, that a registry has for a name.",
    (
        Option("-h --help", "", "print this"),
        Option("--insecure", "", "also by HTTP, and whatever the registry's certificate"),
        Option(
            "-v --verbose", "", "with digest, size, platform and the bytes (base64); of an index, every manifest in it"
        ),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _inspect(values, words, command, roots.data_root))


def _inspect(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, 1)
    from ..engine import images as engine
    from ..image.documents import INDEX_TYPES, parse_json

    data, media_type = engine.manifest_document(data_root, words[0], insecure=values.insecure)
    document = parse_json(data, f"the manifest of {words[0]}")
    is_index = media_type in INDEX_TYPES
    if not values.verbose:
        # Docker indents the two differently
        write(json.dumps(document, ensure_ascii=False, indent="   " if is_index else "\t") + "\n")
        return 0
    if not is_index:
        shown: Any = _verbose(words[0], data, media_type, document, None)
    else:
        shown = [_of_index(each, words[0], data_root, values.insecure) for each in _entries(document, words[0])]
    write(json.dumps(shown, ensure_ascii=False, indent="\t") + "\n")
    return 0


def _entries(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get("manifests")
    if not isinstance(entries, list) or not all(
        isinstance(each, dict) and isinstance(each.get("digest"), str) for each in entries
    ):
        raise InvalidArgument(f"cannot show the manifests of {name}: its index has no list of descriptors")
    return entries


def _of_index(entry: dict[str, Any], name: str, data_root: str, insecure: bool) -> dict[str, Any]:
    from ..engine import images as engine
    from ..image.documents import parse_json
    from ..image.names import parse_reference

    one = f"{parse_reference(name).repository}@{entry['digest']}"
    data, media_type = engine.manifest_document(data_root, one, insecure=insecure)
    return _verbose(one, data, media_type, parse_json(data, f"the manifest of {one}"), entry.get("platform"))


def _verbose(name: str, data: bytes, media_type: str, document: dict[str, Any], platform: object) -> dict[str, Any]:
    """Docker's ``-v``. The platform of what is in no index is in its configuration, which is not fetched for this."""
    from base64 import b64encode
    from hashlib import sha256

    from ..image.documents import OCI_MANIFEST
    from ..image.names import parse_reference

    descriptor: dict[str, Any] = {
        "mediaType": media_type, "digest": f"sha256:{sha256(data).hexdigest()}", "size": len(data),
    }  # fmt: skip
    if platform is not None:
        descriptor["platform"] = platform
    body = "OCIManifest" if media_type == OCI_MANIFEST else "SchemaV2Manifest"
    return {
        "Ref": parse_reference(name).canonical, "Descriptor": descriptor, "Raw": b64encode(data).decode(), body: document,
    }  # fmt: skip
