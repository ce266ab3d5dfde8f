"""What came by TLS does not go on without: redirects, upload locations, token servers, foreign layers."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.errors import InvalidArgument, RegistryError
from pycontain.image.names import parse_reference
from pycontain.image.registry.client import Registry
from pycontain.image.registry.credentials import Credentials
from pycontain.image.registry.settings import RegistrySettings
from pycontain.image.registry.transport import Transport
from tests import registries
from tests.clients.registry.cases import DATA, MANIFEST, SECRET, TestClock, blob
from tests.registry_faults import FaultyRegistry, Reply, digest_of

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> registries.Certificates:
    return registries.make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(certificates: registries.Certificates, tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A registry with TLS; its CA is known, so that it is no insecure one, although it is on this machine."""
    with FaultyRegistry(str(certificates.certificate), str(certificates.key)) as registry:
        registry.add_manifest("v1", MANIFEST)
        registry.add_blob(DATA)
        (tmp_path / registry.host).mkdir()
        shutil.copy(certificates.ca, tmp_path / registry.host / "ca.crt")
        yield registry


def _client(registry: FaultyRegistry, certs: Path, *, known: bool = True) -> Registry:
    auth = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    return Registry(
        parse_reference(f"{registry.host}/team/app:v1"), push=True,
        settings=RegistrySettings(certificate_dirs=(str(certs),) if known else ()),
        credentials=Credentials({"DOCKER_AUTH_CONFIG": json.dumps({"auths": {registry.host: {"auth": auth}}})}),
        transport=Transport(clock=TestClock().clock(), environ={}),
    )  # fmt: skip


def test_it_is_spoken_to_by_tls(secure: FaultyRegistry, tmp_path: Path) -> None:
    secure.user = ("ann", SECRET)
    registry = _client(secure, tmp_path)
    assert registry.get_manifest("v1")[0] == MANIFEST
    with registry.open_blob(blob()) as reader:
        assert reader.read() == DATA


def test_a_secure_registry_is_never_asked_by_http(other: FaultyRegistry, tmp_path: Path) -> None:
    """A server without TLS, where one with TLS is to be: nothing is sent to it."""
    (tmp_path / other.host).mkdir()
    shutil.copy(registries.make_certificates(tmp_path).ca, tmp_path / other.host / "ca.crt")
    with pytest.raises(RegistryError, match="cannot pull"):
        _client(other, tmp_path).get_manifest("v1")
    assert other.requests == []


def test_a_redirect_from_https_to_http(secure: FaultyRegistry, other: FaultyRegistry, tmp_path: Path) -> None:
    at = f"{other.url}/v2/cdn/blobs/{digest_of(DATA)}?sig=abc"
    secure.fault("GET", "/blobs/", Reply(307, headers={"Location": at}), times=9)
    with pytest.raises(RegistryError, match=r"points from https to http://127\.0\.0\.1.*which is plain http") as caught:
        _client(secure, tmp_path).open_blob(blob())
    assert other.requests == [] and "sig=abc" not in str(caught.value)


def test_that_redirect_of_an_insecure_registry(secure: FaultyRegistry, other: FaultyRegistry, tmp_path: Path) -> None:
    """Nobody knows its CA, and it is on this machine: it need not prove anything, nor need what it points to."""
    at = f"{other.url}/v2/cdn/blobs/{digest_of(DATA)}"
    secure.fault("GET", "/blobs/", Reply(307, headers={"Location": at}))
    with _client(secure, tmp_path, known=False).open_blob(blob()) as reader:
        assert reader.read() == DATA
    assert len(other.requests) == 1


def test_an_upload_location_that_forgot_tls(secure: FaultyRegistry, tmp_path: Path) -> None:
    """A registry behind a proxy that does not tell it how it was asked."""
    location = f"http://{secure.host}/v2/team/app/blobs/uploads/x"
    secure.fault("POST", "/uploads/", Reply(202, headers={"Location": location}), times=9)
    with pytest.raises(RegistryError, match=r"plain http\. Its proxy has to pass on X-Forwarded-Proto"):
        _client(secure, tmp_path).upload_blob(lambda: io.BytesIO(DATA), blob())
    assert secure.seen("PUT", "") == []


def test_a_token_server_without_tls(secure: FaultyRegistry, other: FaultyRegistry, tmp_path: Path) -> None:
    secure.user, secure.realm = ("ann", SECRET), f"{other.url}/token"
    with pytest.raises(RegistryError, match=r"its token server, http://127\.0\.0\.1:\d+/token, is plain http"):
        _client(secure, tmp_path).get_manifest("v1")
    assert other.requests == []


def test_a_token_server_of_the_same_host_at_another_port(
    secure: FaultyRegistry, certificates: registries.Certificates, tmp_path: Path
) -> None:
    """By TLS its certificate says that it is the same host; a certificate of somebody else does not."""
    with FaultyRegistry(str(certificates.certificate), str(certificates.key)) as tokens:
        secure.user = tokens.user = ("ann", SECRET)
        secure.realm, tokens.tokens = f"{tokens.url}/token", secure.tokens
        (tmp_path / tokens.host).mkdir()
        shutil.copy(registries.make_certificates(tmp_path, name="other").ca, tmp_path / tokens.host / "ca.crt")
        with pytest.raises(RegistryError, match=r"its token server 127\.0\.0\.1: the certificate of .* is not valid"):
            _client(secure, tmp_path).get_manifest("v1")
        assert tokens.requests == []
        shutil.copy(certificates.ca, tmp_path / tokens.host / "ca.crt")
        assert _client(secure, tmp_path).get_manifest("v1")[0] == MANIFEST
        assert tokens.seen("GET", "^/token")[0].headers["authorization"].startswith("Basic ")


def test_certificates_that_cannot_be_used(secure: FaultyRegistry, tmp_path: Path) -> None:
    host = tmp_path / secure.host
    (host / "zz.crt").write_text("no PEM")
    with pytest.raises(InvalidArgument, match=r"cannot use the CA .*/zz\.crt"):
        _client(secure, tmp_path).get_manifest("v1")
    (host / "zz.crt").unlink()
    for name in ("me.cert", "me.key"):
        (host / name).write_text("no PEM")
    with pytest.raises(InvalidArgument, match=r"cannot use the client certificate .*/me\.cert with .*/me\.key"):
        _client(secure, tmp_path).get_manifest("v1")
