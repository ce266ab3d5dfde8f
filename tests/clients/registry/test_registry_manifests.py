"""Manifests, from a registry that does wrong: clear errors, bounded attempts, and bytes that are right or absent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from pycontain.errors import ImageNotFound, InvalidArgument, PycontainError, RegistryError, Unsupported
from pycontain.image.digest import parse_digest
from pycontain.image.names import parse_reference
from pycontain.image.registry.client import MAX_MANIFEST_BYTES, Registry
from pycontain.image.registry.credentials import Credentials
from pycontain.image.registry.patience import Patience
from pycontain.image.registry.settings import RegistrySettings
from pycontain.image.registry.transport import Timeouts, Transport
from tests.clients.registry.cases import MANIFEST, OCI, SECRET, TestClock, client
from tests.registry_faults import FaultyRegistry, Reply, Request, digest_of

pytestmark = pytest.mark.clients


def test_a_manifest_by_tag_and_by_digest(faulty: FaultyRegistry, time: TestClock) -> None:
    registry = client(faulty, time)
    expected = (MANIFEST, OCI, parse_digest(digest_of(MANIFEST)))
    assert registry.get_manifest("v1") == registry.get_manifest(digest_of(MANIFEST)) == expected
    found = registry.head_manifest("v1")
    assert found and (found.media_type, found.digest, found.size) == (OCI, expected[2], len(MANIFEST))
    assert registry.head_manifest("v2") is None and time.slept == []


def test_no_such_image_says_where_it_was_looked_for(faulty: FaultyRegistry, time: TestClock) -> None:
    name = f"{faulty.host}/team/app:v2"
    with pytest.raises(ImageNotFound) as caught:
        client(faulty, time).get_manifest("v2")
    assert str(caught.value) == f"no such image: {name} (tried {name}: 404 manifest unknown)"


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_bursts_are_sat_out_later_each_time(faulty: FaultyRegistry, time: TestClock, status: int, times: int) -> None:
    faulty.fault("GET", "/manifests/", Reply(status), times=times)
    assert client(faulty, time).get_manifest("v1")[0] == MANIFEST
    assert time.slept == [0.5, 1.0, 2.0, 4.0][:times]


def test_five_attempts_and_no_more(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("GET", "/manifests/", Reply(503, b"<html>overloaded</html>"), times=100)
    with pytest.raises(RegistryError, match="503 service unavailable") as caught:
        client(faulty, time).get_manifest("v1")
    assert len(faulty.seen("GET", "/manifests/")) == 5 and caught.value.status == 503


@pytest.mark.parametrize("later", ["7", formatdate(1007, usegmt=True)])
def test_retry_after_is_kept(faulty: FaultyRegistry, time: TestClock, later: str) -> None:
    faulty.fault("GET", "/manifests/", Reply(429, headers={"Retry-After": later}))
    client(faulty, time).get_manifest("v1")
    assert time.slept == [7.0]


def test_an_hour_is_not_waited(faulty: FaultyRegistry, time: TestClock) -> None:
    body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit"}]}'
    faulty.fault("GET", "/manifests/", Reply(429, body, {"Retry-After": "3600"}), times=9)
    with pytest.raises(
        RegistryError, match=r"429 You have reached your pull rate limit \(it asks to wait 3600 s\)"
    ) as e:
        client(faulty, time).get_manifest("v1")
    assert time.slept == [] and (e.value.status, e.value.code) == (429, "TOOMANYREQUESTS")


@pytest.mark.parametrize("later", ["-5", "soon", "1e9", "Wed, 99 Foo", "", "9" * 400])
def test_a_retry_after_that_is_nonsense(faulty: FaultyRegistry, time: TestClock, later: str) -> None:
    faulty.fault("GET", "/manifests/", Reply(503, headers={"Retry-After": later}))
    try:
        client(faulty, time).get_manifest("v1")
        assert time.slept == [0.5]
    except RegistryError as error:
        assert later.startswith("999") and "it asks to wait" in str(error)


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_manifest_that_is_cut_is_asked_for_again(faulty: FaultyRegistry, time: TestClock, cut: int) -> None:
    faulty.fault("GET", "/manifests/", Reply(body=MANIFEST, headers={"Content-Type": OCI}, cut=cut), times=2)
    assert client(faulty, time).get_manifest("v1")[0] == MANIFEST
    assert len(faulty.seen("GET", "/manifests/")) == 3


@pytest.mark.parametrize("reference", ["v1", digest_of(MANIFEST)])
def test_a_manifest_of_another_digest(faulty: FaultyRegistry, time: TestClock, reference: str) -> None:
    headers = {"Content-Type": OCI, "Docker-Content-Digest": digest_of(MANIFEST)}
    faulty.fault("GET", "/manifests/", Reply(body=MANIFEST + b" ", headers=headers))
    with pytest.raises(RegistryError, match=f"{digest_of(MANIFEST)}.* sends .*{digest_of(MANIFEST + b' ')}"):
        client(faulty, time).get_manifest(reference)


def test_the_registrys_word_is_no_digest(faulty: FaultyRegistry, time: TestClock) -> None:
    headers = {"Content-Type": OCI, "Docker-Content-Digest": "nonsense"}
    faulty.fault("GET", "/manifests/", Reply(body=MANIFEST, headers=headers))
    assert client(faulty, time).get_manifest("v1")[2] == parse_digest(digest_of(MANIFEST))


@pytest.mark.parametrize("length", [None, -1])
def test_a_huge_manifest(faulty: FaultyRegistry, time: TestClock, length: int | None) -> None:
    huge = b" " * (MAX_MANIFEST_BYTES + 1)
    faulty.fault("GET", "/manifests/", Reply(body=huge, headers={"Content-Type": OCI}, length=length), times=9)
    with pytest.raises(RegistryError, match=f"limit is {MAX_MANIFEST_BYTES}|more than {MAX_MANIFEST_BYTES} bytes"):
        client(faulty, time).get_manifest("v1")


@pytest.mark.parametrize(
    ("content_type", "document", "expected"),
    [
        (OCI + "; charset=utf-8", {}, OCI),
        ("application/json", {"mediaType": OCI}, OCI),
        ("", {"manifests": []}, "application/vnd.oci.image.index.v1+json"),
        ("text/plain; charset=utf-8", {"config": {}, "layers": []}, OCI),
    ],
)
def test_media_types(
    faulty: FaultyRegistry, time: TestClock, content_type: str, document: dict[str, object], expected: str
) -> None:
    faulty.add_manifest("t", json.dumps(document).encode(), content_type)
    assert client(faulty, time).get_manifest("t")[1] == expected
    found = client(faulty, time).head_manifest("t")
    assert found and found.media_type == expected


@pytest.mark.parametrize(
    ("content_type", "body", "error", "phrase"),
    [
        ("text/html", b"<html>", RegistryError, "no manifest, but text/html"),
        ("application/json", b"<html>", RegistryError, "no manifest"),
        ("application/json", b"[]", RegistryError, "no manifest"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}", Unsupported, "schema 1"),
        ("application/json", b'{"schemaVersion": 1, "fsLayers": []}', Unsupported, "schema 1"),
    ],
)
def test_what_is_no_manifest(
    faulty: FaultyRegistry, time: TestClock, content_type: str, body: bytes, error: type[PycontainError], phrase: str
) -> None:
    faulty.add_manifest("t", body, content_type)
    with pytest.raises(error, match=phrase):
        client(faulty, time).get_manifest("t")


@pytest.mark.parametrize("reference", ["", "a b", "../v2", "a/b", "é", "sha256:abc"])
def test_what_is_no_reference(faulty: FaultyRegistry, time: TestClock, reference: str) -> None:
    with pytest.raises(InvalidArgument):
        client(faulty, time).get_manifest(reference)
    assert faulty.requests == []


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\x00 garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n1234567",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_garbage_instead_of_http(faulty: FaultyRegistry, time: TestClock, raw: bytes) -> None:
    faulty.fault("GET", "/manifests/", Reply(raw=raw), times=100)
    with pytest.raises(RegistryError, match=r"cannot pull .*127\.0\.0\.1") as caught:
        client(faulty, time).get_manifest("v1")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert len(faulty.seen("GET", "/manifests/")) <= 5


def test_nobody_there(time: TestClock) -> None:
    with FaultyRegistry() as gone:
        pass
    with pytest.raises(RegistryError, match=r"no connection to 127\.0\.0\.1:\d+: Connection refused \(ECONNREFUSED\)"):
        client(gone, time).get_manifest("v1")
    assert time.slept == [0.5, 1.0]


def test_a_name_that_nobody_knows(time: TestClock) -> None:
    registry = Registry(
        parse_reference("registry.invalid/a:b"), settings=RegistrySettings(), credentials=Credentials({"HOME": "/nonexistent"}),
        transport=Transport(clock=time.clock(), environ={}),
    )  # fmt: skip
    with pytest.raises(RegistryError, match=r"the name registry\.invalid is not known"):
        registry.get_manifest("b")


def test_a_server_that_never_answers(faulty: FaultyRegistry, time: TestClock) -> None:
    release = threading.Event()

    def stall(request: Request, right: Reply) -> Reply:
        release.wait(60)
        return right

    faulty.fault("GET", "/manifests/", stall, times=100)
    with pytest.raises(RegistryError, match=r"no answer from .* in time"):
        client(faulty, time, timeouts=Timeouts(connect_s=5, read_s=0.05)).get_manifest("v1")
    release.set()


def test_an_error_is_one_line_however_it_was_written(faulty: FaultyRegistry, time: TestClock) -> None:
    message = "first\nsecond\x1b[31m" + "x" * 5000
    faulty.fault("GET", "/manifests/", Reply(400, json.dumps({"errors": [{"code": "X", "message": message}]}).encode()))
    with pytest.raises(RegistryError, match="400 first second") as caught:
        client(faulty, time).get_manifest("v1")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


# proxies


def _through(proxy: str, time: TestClock) -> Registry:
    return Registry(
        parse_reference("registry.test/team/app:v1"),
        settings=RegistrySettings(insecure_hosts=frozenset(("registry.test",))),
        credentials=Credentials({"HOME": "/nonexistent"}),
        transport=Transport(clock=time.clock(), environ={"HTTP_PROXY": proxy, "HTTPS_PROXY": "http://127.0.0.1:1"}),
    )


def test_through_a_proxy_with_a_password(faulty: FaultyRegistry, time: TestClock) -> None:
    assert _through(f"http://ann:{SECRET}@{faulty.host}", time).get_manifest("v1")[0] == MANIFEST
    (request,) = faulty.seen("GET", "/manifests/")
    assert request.target.startswith("http://registry.test/v2/")
    assert request.headers["proxy-authorization"] == "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()


def test_a_proxy_that_is_not_there_and_one_that_is_none(time: TestClock) -> None:
    with pytest.raises(RegistryError, match=r"the proxy for registry.test:80 failed: Connection refused") as caught:
        _through(f"http://ann:{SECRET}@127.0.0.1:1", time).get_manifest("v1")
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidArgument, match="cannot use the proxy of HTTP_PROXY and HTTPS_PROXY") as refused:
        _through(f"socks5://ann:{SECRET}@127.0.0.1:1", time).get_manifest("v1")
    assert SECRET not in str(refused.value)


def test_headers_that_come_a_byte_at_a_time(faulty: FaultyRegistry, time: TestClock) -> None:
    """One byte for each look at the clock, and each look takes five seconds."""
    allowed = threading.Semaphore(0)

    def look() -> float:
        time.now += 5.0
        allowed.release()
        return time.now

    def drip() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX: "
        for _ in range(600):  # one that has come together with another had no look of its own: then without
            allowed.acquire(timeout=0.05)
            yield b"y"

    def raw(request: Request, right: Reply) -> Reply:
        return Reply(raw=b"", raw_pieces=drip())

    faulty.fault("GET", "/manifests/", raw, times=9)
    with pytest.raises(RegistryError, match=r"is too slow: \d+ bytes in \d+ s"):
        client(faulty, time, patience=Patience(clock=look)).get_manifest("v1")
