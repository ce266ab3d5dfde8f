"""Passwords and tokens: who gets them, who does not, and that nobody is shown them."""

from __future__ import annotations

import base64
import json
import threading

import pytest

from pycontain.errors import RegistryError
from tests.clients.registry.cases import DATA, MANIFEST, SECRET, TestClock, blob, client
from tests.registry_faults import FaultyRegistry, Reply, Request

pytestmark = pytest.mark.clients


def test_basic(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user = ("ann", SECRET)
    registry = client(faulty, time, login=f"ann:{SECRET}")
    registry.get_manifest("v1")
    registry.get_manifest("v1")
    assert len(faulty.seen("GET", "/manifests/")) == 3  # the first one learns that a password is needed


@pytest.mark.parametrize("realm", [False, True])
@pytest.mark.parametrize("login", ["", f"ann:not-{SECRET}"])
def test_denied(faulty: FaultyRegistry, time: TestClock, login: str, realm: bool) -> None:
    faulty.user = ("ann", SECRET)
    faulty.realm = f"{faulty.url}/token" if realm else ""
    with pytest.raises(
        RegistryError, match=f"denied: cannot pull .*Log in with `pycontain login {faulty.host}`"
    ) as caught:
        client(faulty, time, login=login).get_manifest("v1")
    assert caught.value.status == 401 and SECRET not in str(caught.value)
    assert len(faulty.requests) <= 5


def test_one_token_for_many_threads(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"
    registry = client(faulty, time, login=f"ann:{SECRET}")
    results: list[bytes] = []

    def read() -> None:
        with registry.open_blob(blob()) as reader:
            results.append(reader.read())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [DATA] * 8
    (asked,) = faulty.seen("GET", "^/token")
    assert asked.query["scope"] == ["repository:team/app:pull"] and asked.query["service"] == ["faulty"]
    assert asked.query["account"] == ["ann"] and SECRET not in asked.target


def test_a_token_that_ends_in_the_middle_is_renewed(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm, faulty.token_uses = ("ann", SECRET), f"{faulty.url}/token", 2
    registry = client(faulty, time, login=f"ann:{SECRET}")
    faulty.fault("GET", "/blobs/", lambda request, right: right if right.status == 401 else Reply(body=DATA, cut=5000))
    for _ in range(5):
        assert registry.get_manifest("v1")[0] == MANIFEST
    with registry.open_blob(blob()) as reader:
        assert reader.read() == DATA
    assert 3 <= len(faulty.seen("GET", "^/token")) <= 5


def test_a_token_is_renewed_before_it_ends(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm, faulty.anonymous_tokens = ("ann", SECRET), f"{faulty.url}/token", True
    registry = client(faulty, time)
    registry.get_manifest("v1")
    time.now += 291
    registry.get_manifest("v1")
    assert len(faulty.seen("GET", "^/token")) == 2 and len(faulty.seen("GET", "/manifests/")) == 3


def test_an_identity_token_is_exchanged(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"
    client(faulty, time, identity=SECRET).get_manifest("v1")
    (asked,) = faulty.seen("POST", "^/token")
    assert b"grant_type=refresh_token" in asked.body and b"scope=repository%3Ateam%2Fapp%3Apull" in asked.body
    assert SECRET not in asked.target


def test_a_foreign_realm_does_not_get_the_password(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    """CVE-2020-15157's kind: the challenge names somebody else's server."""
    faulty.user, faulty.realm = ("ann", SECRET), f"{other.url}/token"
    for login, identity in ((f"ann:{SECRET}", ""), ("", SECRET)):
        with pytest.raises(RegistryError, match=f"PYCONTAIN_TOKEN_SERVERS={faulty.host}={other.host}") as caught:
            client(faulty, time, login=login, identity=identity).get_manifest("v1")
        assert "was not sent" in str(caught.value)
    assert all("authorization" not in each.headers and SECRET.encode() not in each.body for each in other.requests)
    assert all("account" not in each.query for each in other.requests)


def test_a_foreign_realm_that_the_user_named(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{other.url}/token"
    other.user, other.tokens = faulty.user, faulty.tokens
    registry = client(faulty, time, login=f"ann:{SECRET}", token_servers=((faulty.host, other.host),))
    assert registry.get_manifest("v1")[0] == MANIFEST


def test_a_public_image_needs_no_password_from_a_foreign_realm(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{other.url}/token"
    other.anonymous_tokens, other.tokens = True, faulty.tokens
    assert client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")[0] == MANIFEST
    assert all("authorization" not in each.headers for each in other.requests)


@pytest.mark.parametrize(
    ("realm", "phrase"),
    [
        ("http://169.254.169.254/latest/meta-data/", "inside a network"),
        ("http://127.0.0.2:1/token", "inside a network"),
        ("gopher://x/", "neither http nor https"),
        ("", "neither http nor https"),
    ],
)
def test_realms_that_are_not_asked(faulty: FaultyRegistry, time: TestClock, realm: str, phrase: str) -> None:
    challenge = f'Bearer realm="{realm}",service="s"'
    faulty.fault("GET", "/manifests/", Reply(401, headers={"WWW-Authenticate": challenge}))
    with pytest.raises(RegistryError, match=phrase):
        client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")


def test_a_token_server_that_redirects_elsewhere(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"
    faulty.fault("GET", "^/token", Reply(307, headers={"Location": f"{other.url}/token"}))
    with pytest.raises(RegistryError, match="where no password is sent"):
        client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")
    assert other.requests == []


@pytest.mark.parametrize(
    ("reply", "phrase"),
    [
        (Reply(body=b"[]"), "something else than a JSON object"),
        (Reply(body=b"{}"), "sent no token"),
        (Reply(body=b'{"token": 5}'), "sent no token"),
        (Reply(body=b'{"token": "a\\r\\nX-Evil: 1"}'), "characters that none can have"),
        (Reply(body=b'{"token": "' + b"a" * (2 << 20) + b'"}'), "the limit is 1048576"),
        (Reply(404), "its token server 127.0.0.1: 404 not found"),
    ],
)
def test_token_servers_that_do_wrong(faulty: FaultyRegistry, time: TestClock, reply: Reply, phrase: str) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"
    faulty.fault("GET", "^/token", reply, times=9)
    with pytest.raises(RegistryError, match=phrase):
        client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")


def test_a_token_server_that_is_busy(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"
    faulty.fault("GET", "^/token", Reply(503, headers={"Retry-After": "3"}), times=2)
    client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")
    assert time.slept == [3.0, 3.0]


def test_a_challenge_only_at_the_front_door(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user = ("ann", SECRET)
    faulty.fault("GET", "/manifests/", Reply(401))
    assert client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")[0] == MANIFEST


def test_a_challenge_that_cannot_be_read(faulty: FaultyRegistry, time: TestClock) -> None:
    for challenge, phrase in (('Bearer realm="', "cannot be read"), ("NTLM, Digest a=b", "login by digest, ntlm")):
        faulty.fault("GET", "/manifests/", Reply(401, headers={"WWW-Authenticate": challenge}))
        with pytest.raises(RegistryError, match=phrase):
            client(faulty, time).get_manifest("v1")


def test_a_server_that_repeats_what_it_was_sent(
    faulty: FaultyRegistry, time: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Some put the request into their error. Nothing of ours comes back out of it."""
    caplog.set_level("DEBUG")
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"

    def repeat(request: Request, right: Reply) -> Reply:
        message = f"{request.headers.get('authorization')} {SECRET} {request.body!r}"
        return Reply(403, json.dumps({"errors": [{"code": "DENIED", "message": message}]}).encode())

    encoded = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    faulty.fault("GET", "/manifests/v2", repeat, times=9)
    registry = client(faulty, time, login=f"ann:{SECRET}")
    registry.get_manifest("v1")  # so that there is a token
    shown = []
    with pytest.raises(RegistryError, match="403") as first:
        registry.get_manifest("v2")
    shown.append(str(first.value))
    faulty.fault("GET", "^/token", repeat, times=9)
    with pytest.raises(RegistryError, match="403") as second:
        client(faulty, time, login=f"ann:{SECRET}").get_manifest("v1")
    shown.append(str(second.value))
    faulty.fault("POST", "^/token", repeat, times=9)
    with pytest.raises(RegistryError, match="403") as third:
        client(faulty, time, identity=SECRET).get_manifest("v1")
    shown.append(str(third.value))
    for text in (*shown, caplog.text):
        assert SECRET not in text and encoded not in text and "token0" not in text
    assert "***" in shown[0] and "***" in shown[1]
