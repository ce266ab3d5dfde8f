"""Where a foreign layer's server may send us: whoever wrote the manifest has chosen that server."""

from __future__ import annotations

import pytest

from pycontain.image.registry.credentials import Credentials
from pycontain.image.registry.failures import Failure
from pycontain.image.registry.session import Session
from pycontain.image.registry.settings import Endpoint, load_settings
from pycontain.image.registry.transport import Transport
from pycontain.image.registry.urls import parse_url


def session(*, foreign: bool) -> Session:
    endpoint = Endpoint(name="x", host="layers.example.org", repository="", scheme="https")
    return Session(
        endpoint, transport=Transport(environ={}), settings=load_settings(), credentials=Credentials(), foreign=foreign
    )


BASE = parse_url("https://layers.example.org/x")


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "127.0.0.1", "10.1.2.3", "[::1]", "localhost", "2130706433", "0x7f.1"]
)
def test_no_redirect_into_a_network(host: str) -> None:
    with pytest.raises(Failure, match="address inside a network"):
        session(foreign=True).follow(BASE, f"https://{host}/latest/meta-data")
    # a registry's own storage is often one that has no name
    assert session(foreign=False).follow(BASE, f"https://{host}/blob").host


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "http+unix://%2Frun%2Fdocker.sock/",
        "gopher://x/",
        "//user:word@evil.example/",
    ],
)
def test_no_other_scheme_and_no_user(target: str) -> None:
    for foreign in (True, False):
        with pytest.raises(Failure, match="it points to"):
            session(foreign=foreign).follow(BASE, target)


def test_another_public_host_is_followed() -> None:
    assert session(foreign=True).follow(BASE, "https://cdn.example.net/blob").host == "cdn.example.net"
