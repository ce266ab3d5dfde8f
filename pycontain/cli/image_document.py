"""What ``image inspect`` shows: Docker's document of an image, and the same as its templates see it.

The fields are those of the Engine API 1.50 (Docker 28), and VirtualSize, which left it with 1.44 and is still asked for. Container
and ContainerConfig, which 1.45 dropped, are not there. ``Config`` is an object also where an image has none: Docker's null makes
every template about it fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .gotemplate import Empty, Int64, NilList, NilMap, NilPointer, Number, Struct, Time
from .units import rfc3339_utc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.details import ImageDetails

__all__ = ["as_typed", "as_untyped", "document_of"]

_UNSAID = "0001-01-01T00:00:00Z"  # Go's zero time: what Docker shows where nobody has said when
# of the image's own configuration, in Docker's order; those that are always shown, and what they are when they are not set
_ALWAYS: dict[str, Any] = {
    "Cmd": None, "Entrypoint": None, "Env": None, "Labels": None, "OnBuild": None, "User": "", "Volumes": None, "WorkingDir": "",
}  # fmt: skip
_IF_SET = ("ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopSignal")


def document_of(details: ImageDetails) -> dict[str, Any]:
    """The document, ready for JSON."""
    info, written = details.info, details.document
    top = details.layers[-1] if details.layers else None
    lower = ":".join([layer.path for layer in details.layers[-2::-1]])
    data = {**({"LowerDir": lower} if lower else {}), **({"UpperDir": top.path} if top else {})}
    document: dict[str, Any] = {
        "Id": info.id,
        "RepoTags": list(info.names),
        "RepoDigests": list(info.digests),
        "Parent": details.parent,
        "Comment": details.comment,
        "Created": info.created or _UNSAID,
        "DockerVersion": _text(written.get("docker_version")),
        "Author": details.author,
        "Config": _config(written.get("config")),
        "Architecture": details.architecture,
        "Variant": details.variant,
        "Os": details.os,
        "OsVersion": _text(written.get("os.version")),
        "Size": info.size,
        "VirtualSize": info.size,
        # the layers are used where they lie, as those of Docker's overlay2 are
        "GraphDriver": {"Data": data, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in details.layers]},
        "Metadata": {"LastTagTime": rfc3339_utc(details.tagged) if details.tagged else _UNSAID},
    }
    for name in ("Variant", "OsVersion"):
        if not document[name]:
            del document[name]
    return document


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _config(config: object) -> dict[str, Any]:
    given = config if isinstance(config, dict) else {}
    fields = {name: given.get(name) or unset for name, unset in _ALWAYS.items()}
    fields.update({name: given[name] for name in _IF_SET if given.get(name)})
    return {name: fields[name] for name in sorted(fields)}


# --- for templates ----------------------------------------------------------------------------------------------------

# the fields of a configuration in the order of Docker's type, and what they are when they are not set
_TYPED: dict[str, Callable[[], Any]] = {
    "User": str, "ExposedPorts": NilMap, "Env": NilList, "Entrypoint": NilList, "Cmd": NilList, "Volumes": NilMap,
    "WorkingDir": str, "Labels": NilMap, "StopSignal": str, "ArgsEscaped": bool,
    "Healthcheck": lambda: NilPointer("*v1.HealthcheckConfig"), "OnBuild": NilList, "Shell": NilList,
}  # fmt: skip


def as_typed(document: dict[str, Any]) -> Struct:
    """The document as Docker's own types have it: ``.ID`` as well, no field beyond them, and every field there."""
    fields = {"Variant": "", "OsVersion": "", **document}
    for name in ("Size", "VirtualSize"):
        fields[name] = Int64(fields[name])
    given = document["Config"]
    config = {name: given[name] if given.get(name) else unset() for name, unset in _TYPED.items()}
    for name in ("Volumes", "ExposedPorts"):
        if not isinstance(config[name], NilMap) and isinstance(config[name], dict):
            config[name] = dict.fromkeys(config[name], Empty())
    fields["Config"] = Struct("*v1.DockerOCIImageConfig", config, optional=_TYPED)
    fields["GraphDriver"] = Struct("*storage.DriverData", document["GraphDriver"])
    fields["RootFS"] = Struct("image.RootFS", document["RootFS"])
    fields["Metadata"] = Struct("image.Metadata", {"LastTagTime": Time(document["Metadata"]["LastTagTime"])})
    return Struct("*image.InspectResponse", fields, aliases={"ID": "Id"}, optional=("Variant", "OsVersion"))


def as_untyped(value: Any) -> Any:
    """The document as the JSON that it is: ``.Id``. Numbers are texts to a template then, as with Docker."""
    if isinstance(value, dict):
        return {key: as_untyped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_untyped(each) for each in value]
    return Number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
