"""A foreign layer's URL, which a manifest names: somebody else's server, which gets no credentials and is not trusted.

Whoever wrote the manifest chose the URL, so it must not become a way to ask this network's own servers for something.
"""

from __future__ import annotations

from .blobs import Source
from .credentials import Credential, Credentials
from .failures import Failure, clean_text
from .session import Session
from .settings import Endpoint, RegistrySettings
from .transport import Transport
from .urls import Url, is_internal, parse_url

__all__ = ["foreign_source"]


def foreign_source(
    text: str, *, registry: Endpoint, transport: Transport, settings: RegistrySettings, credentials: Credentials
) -> Source:
    """Where the layer may be. What is wrong with the URL is told when it is its turn, as a request's failure is."""
    url: Url | None = None
    why = ""
    try:
        url = _checked(text, registry, settings)
    except ValueError as error:
        why = str(error)
    name = url.shown if url else clean_text(text.partition("?")[0].rpartition("@")[2], 120)

    def at() -> Url:
        if url is None:
            raise Failure(f"the manifest names {why}")
        return url

    endpoint = Endpoint(
        name=name, host=url.netloc if url else "", repository="", scheme=url.scheme if url else "",
        insecure=url is not None and settings.is_insecure(url.netloc),
    )  # fmt: skip
    session = Session(
        endpoint, transport=transport, settings=settings, credentials=credentials, given=Credential(), foreign=True
    )
    return Source(name=name, session=session, url=at)


def _checked(text: str, registry: Endpoint, settings: RegistrySettings) -> Url:
    """Raises: ValueError."""
    url = parse_url(text)
    if is_internal(url.host) and not is_internal(registry.host.rpartition(":")[0] or registry.host):
        raise ValueError("an address inside a network")
    if url.scheme == "http" and not settings.is_insecure(url.netloc):
        raise ValueError("a URL of plain http")
    return url
