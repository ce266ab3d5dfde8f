"""A pull from the registry that a name says, for all who want one: ``pycontain pull``, and a start whose image is missing."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ImageNotFound, PycontainError, RegistryError, Unsupported
from .documents import Descriptor
from .image_events import emit_transfer
from .names import parse_image_name, parse_reference
from .progress import Progress, Report
from .pull import Pulled, parse_platform, pull_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .registry.blobs import BlobReader
    from .registry.client import Registry

__all__ = ["client", "pull_missing", "pull_names"]


def client() -> type[Registry]:
    """The registry client's class. Raises: Unsupported: the library that it stands on is not installed."""
    try:
        from .registry.client import Registry
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"cannot talk to a registry: the Python module {error.name} is not installed: pip install {error.name}"
        ) from None
    return Registry


def pull_names(
    data_root: str, text: str, *, platform: str = "", all_tags: bool = False, report: Report
) -> list[Pulled]:
    """Pull ``text``, or with ``all_tags`` every tag of that repository. Raises: as :func:`.pull.pull_image`."""
    name = parse_reference(text)
    registry_of = client()
    wanted = parse_platform(platform) if platform else None
    done = []
    with registry_of(name) as registry:
        # parsed, for a registry can call anything a tag
        names = [parse_image_name(f"{name.repository}:{each}") for each in registry.tags()] if all_tags else [name]
        if not names:
            raise ImageNotFound(f"no such image: {name.domain}/{name.path} has no tags")
        for each in names:
            done.append(pull_image(data_root, each, _Remote(registry), report, platform=wanted))
            emit_transfer(data_root, "pull", each, done[-1].image.labels)
            report.line(f"Digest: {done[-1].digest}")
    new = "Downloaded newer image" if any(each.is_new for each in done) else "Image is up to date"
    report.line(f"Status: {new} for {name.repository if all_tags else name}")
    return done


class _Remote:
    """A registry, and for a layer that it may not have (of Windows' base images) where the manifest says that it is."""

    def __init__(self, registry: Registry) -> None:
        self.get_manifest = registry.get_manifest
        self.abandon = registry.abandon
        self._registry = registry

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        return self._registry.open_blob(descriptor, urls=descriptor.urls)


def pull_missing(
    data_root: str,
    text: str,
    *,
    platform: str = "",
    progress: Callable[[Progress], None] | None = None,
    missing: ImageNotFound | None = None,
) -> None:
    """The pull of a start: one that the registry cannot serve leaves the image what it was, ``missing``.

    Raises: ImageNotFound: nor has the registry it, or the registry cannot be asked; others as :func:`.pull.pull_image`.
    """
    try:
        client()
    except Unsupported as error:
        raise _still_missing(missing, error) from None
    try:
        pull_names(data_root, text, platform=platform, report=Report(progress))
    except (ImageNotFound, RegistryError) as error:
        raise _still_missing(missing, error) from None


def _still_missing(missing: ImageNotFound | None, error: PycontainError) -> PycontainError:
    return error if missing is None else ImageNotFound(f"{missing} Pulling it failed: {error}")
