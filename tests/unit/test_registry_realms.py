"""Where a password may go: the rules of pycontain/image/registry/realms.py, one by one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.image.registry.realms import may_have_password, parse_token_servers, realm_url
from pycontain.image.registry.urls import host_and_port, is_internal, is_loopback, parse_url, resolve

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


def _registry(text: str) -> tuple[str, str]:
    """("https://reg.example.org", "reg.example.org")."""
    url = parse_url(text)
    return text, "docker.io" if url.host == "registry-1.docker.io" else url.netloc


def _may(registry: str, realm: str, named: tuple[tuple[str, str], ...] = ()) -> bool:
    text, domain = _registry(registry)
    at = parse_url(text)
    return may_have_password(realm_url(realm, at, domain, named), at, domain, named)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://quay.io", "https://quay.io/v2/auth"),
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://registry.example.org", "https://gitlab.example.org/jwt/auth"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth"),
        ("https://registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth"),
        ("https://nvcr.io", "https://authn.nvidia.com/token"),
        ("https://example.org", "https://auth.example.org/token"),
        ("https://reg.example.co.uk", "https://auth.example.co.uk/token"),
        ("https://reg.example.org:5000", "https://reg.example.org:5001/auth"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/auth"),
        ("https://127.0.0.1:5000", "https://127.0.0.1:5001/auth"),
    ],
)
def test_token_servers_that_get_the_password(registry: str, realm: str) -> None:
    assert _may(registry, realm)


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry.example.org", "https://evil.net/token"),
        ("https://registry.example.org", "https://auth.docker.io/token"),
        ("https://quay.io", "https://evil.io/token"),
        ("https://reg.co.uk", "https://evil.co.uk/token"),
        ("https://registry.example.org", "https://registry.example.org.evil.net/"),
        ("https://registry.example.org", "https://evilexample.org/"),
        ("https://registry.example.org", "https://gitlab.example.org:8443/"),
        ("http://registry.example.org", "https://gitlab.example.org/"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/auth"),
        ("http://reg.example.org:5000", "http://reg.example.org:5001/auth"),
        ("https://10.0.0.5", "https://evil.0.0.5.example.net/"),
        ("https://localhost", "https://x.localhost/"),
    ],
)
def test_token_servers_that_do_not(registry: str, realm: str) -> None:
    assert not _may(registry, realm)


def test_a_named_pair_gets_it_and_only_that() -> None:
    named = parse_token_servers(" registry.example.org=login.other.net , r:5000=login.other.net:8443")
    assert _may("https://registry.example.org", "https://login.other.net/t", named)
    assert not _may("https://registry.example.com", "https://login.other.net/t", named)
    assert not _may("https://registry.example.org", "https://login.other.net:8443/t", named)
    inside = parse_token_servers("10.0.0.5:5000=10.0.0.6")
    assert _may("https://10.0.0.5:5000", "https://10.0.0.6/t", inside)


@pytest.mark.parametrize("text", ["a", "=b", "a=", "a=https://b", ","])
def test_malformed_pairs(text: str) -> None:
    if text == ",":
        assert parse_token_servers(text) == ()
        return
    with pytest.raises(ValueError, match="REGISTRY=HOST"):
        parse_token_servers(text)


@pytest.mark.parametrize(
    ("registry", "realm", "phrase"),
    [
        ("https://r.example.org", "http://r.example.org/token", "plain http"),
        ("https://r.example.org", "https://169.254.169.254/latest", "inside a network"),
        ("https://r.example.org", "https://127.0.0.1/token", "inside a network"),
        ("https://r.example.org", "https://[::1]/token", "inside a network"),
        ("https://r.example.org", "https://[::ffff:10.0.0.1]/token", "inside a network"),
        ("https://r.example.org", "https://2130706433/token", "inside a network"),
        ("https://r.example.org", "https://0x7f.1/token", "inside a network"),
        ("https://r.example.org", "https://10.1.2.3/token", "inside a network"),
        ("https://r.example.org", "https://localhost/token", "inside a network"),
        ("http://127.0.0.1:5000", "http://127.0.0.2:5000/", "inside a network"),
        ("https://r.example.org", "https://user:pw@r.example.org/token", "user name"),
        ("https://r.example.org", "ftp://r.example.org/token", "neither http nor https"),
        ("https://r.example.org", "file:///etc/passwd", "neither http nor https"),
        ("https://r.example.org", "", "neither http nor https"),
        ("https://r.example.org", "https:///token", "without a host"),
        ("https://r.example.org", "https://r.example.org/to ken", "space"),
        ("https://r.example.org", "https://r.example.org\\@evil.net/", "control character"),
        ("https://r.example.org", "https://r.example.org:99999/", "port"),
    ],
)
def test_realms_that_nothing_is_sent_to(registry: str, realm: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase) as caught:
        realm_url(realm, parse_url(registry), "r.example.org")
    assert "pw@" not in str(caught.value)


def test_a_location_is_resolved_and_its_query_not_shown() -> None:
    base = parse_url("https://r.example.org:443/v2/a/blobs/uploads/")
    assert resolve(base, "/x?_state=secret").text == "https://r.example.org/x?_state=secret"
    assert resolve(base, "y#z").text == "https://r.example.org/v2/a/blobs/uploads/y"
    assert resolve(base, "//cdn.example.net/b?sig=secret").shown == "https://cdn.example.net/b"
    assert "secret" not in repr(resolve(base, "?sig=secret"))
    assert host_and_port("[::1]:5000", "https") == ("::1", 5000)


def test_what_is_this_machine() -> None:
    assert [is_loopback(each) for each in ("localhost", "127.1.2.3", "::1")] == [True] * 3
    assert [is_loopback(each) for each in ("127.1", "0x7f.1", "localhost.example.org", "8.8.8.8")] == [False] * 4
    assert not is_internal("8.8.8.8") and not is_internal("example.org")


@UNHURRIED
@given(st.text(max_size=80))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for read in (parse_url, lambda each: resolve(parse_url("https://r.example.org/a"), each)):
        try:
            url = read(text)
        except ValueError:
            continue
        assert parse_url(url.text) == url
