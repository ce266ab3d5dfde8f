"""Where a registry's password may go: the rule for the ``realm`` of a Bearer challenge. Pure.

A registry names the server that exchanges a password for a token, and that server is often another host (Docker Hub's is
auth.docker.io; GitLab's registry.example.org has gitlab.example.org). Clients that follow any realm give the password to
whoever the challenge names: a registry that passes on another one's challenge, or that was broken into, is enough
(CVE-2020-15157 for challenges of foreign layers, CVE-2026-24845 and GHSA-xf85-363p-868w for realms). So:

1. Only the registry's own answer counts. A challenge after a redirect, or of a foreign layer's URL, is never answered.
2. No request at all goes to a realm that is http while the registry is https, that has a user name in it, or that names
   this machine or a private or link-local address (169.254.169.254 holds a cloud machine's credentials), unless the
   registry itself has that very name, or the pair is named (3e).
3. A password or identity token goes only to
   a. the registry's own scheme, host and port;
   b. the registry's host at another port, over https: the certificate says that it is the same host;
   c. over https: the registry's parent domain or a host below it, registry.example.org -> gitlab.example.org, where the
      parent is not a domain under which everybody registers (co.uk); and hosts below the registry's own name;
   d. the pairs that are known to belong together (``KNOWN``);
   e. pairs that the user has named: ``PYCONTAIN_TOKEN_SERVERS=registry=host[:port][,registry=host...]``.
   A realm that is none of these is asked for a token without a password, which is enough for a public image; when that
   is refused, the error says where the password was not sent, and how to allow it.

Docker, containerd and containers/image send the password to any realm of the registry's own challenge; go-containerregistry
and oras-go check scheme and address (2) only; oras for .NET allows the registry's own host only, and then a list. The rule here
is in between: what real registries do works by itself, anything else takes a word of the user.
"""

from __future__ import annotations

from .urls import Url, is_internal, parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["KNOWN", "may_have_password", "parse_token_servers", "realm_url"]

KNOWN = (("docker.io", "auth.docker.io"), ("nvcr.io", "authn.nvidia.com"))

# second-level names under which a country's registrars sell domains to everybody
_SHARED = frozenset(("ac", "co", "com", "edu", "gob", "gov", "go", "gv", "mil", "ne", "net", "nom", "or", "org", "sch"))


def realm_url(realm: str, registry: Url, domain: str, named: Container[tuple[str, str]] = ()) -> Url:
    """The token server of a challenge that came from ``registry``, which the user knows as ``domain`` ("docker.io").

    Raises: ValueError: no request may go there (rule 2); the text is part of a sentence.
    """
    try:
        url = parse_url(realm)
    except ValueError as error:
        raise ValueError(f"its token server is {error}") from None
    if url.scheme == "http" and registry.scheme == "https":
        raise ValueError(f"its token server, {url.shown}, is plain http")
    if is_internal(url.host) and url.host != registry.host and (domain, url.netloc) not in named:
        raise ValueError(
            f"its token server, {url.shown}, is an address inside a network, and not the registry's own "
            f"(PYCONTAIN_TOKEN_SERVERS={domain}={url.netloc} allows it)"
        )
    return url


def may_have_password(realm: Url, registry: Url, domain: str, named: Container[tuple[str, str]] = ()) -> bool:
    """Rule 3. ``domain`` as in :func:`realm_url`."""
    if realm.origin == registry.origin or (domain, realm.netloc) in named:
        return True
    if realm.scheme != "https" or registry.scheme != "https":
        return False
    return realm.host == registry.host or (domain, realm.netloc) in KNOWN or _same_owner(realm, registry)


def _same_owner(realm: Url, registry: Url) -> bool:
    if realm.port != 443 or is_internal(realm.host) or is_internal(registry.host):
        return False
    if realm.host.endswith(f".{registry.host}"):
        return "." in registry.host
    parent = registry.host.partition(".")[2]
    labels = parent.split(".")
    if len(labels) < 2 or (len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _SHARED):
        return False
    return realm.host == parent or realm.host.endswith(f".{parent}")


def parse_token_servers(text: str) -> tuple[tuple[str, str], ...]:
    """The pairs of ``PYCONTAIN_TOKEN_SERVERS``. Raises: ValueError."""
    pairs: list[tuple[str, str]] = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        registry, equals, host = each.partition("=")
        if not equals or not registry or not host or "/" in each:
            raise ValueError(f"{each!r} is not REGISTRY=HOST[:PORT]")
        pairs.append((registry.lower(), host.lower()))
    return tuple(pairs)
