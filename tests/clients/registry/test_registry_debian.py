"""Debian's docker-registry: plain, with htpasswd, with tokens, with TLS; and skopeo on the other side."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.errors import ImageNotFound, RegistryError
from pycontain.image.digest import parse_digest
from pycontain.image.documents import OCI_MANIFEST, Descriptor, parse_manifest
from pycontain.image.names import parse_reference
from pycontain.image.registry.client import Registry, check_login
from pycontain.image.registry.credentials import Credential, Credentials
from pycontain.image.registry.settings import RegistrySettings
from tests import registries, registry_tokens
from tests.cutting_proxy import CuttingProxy
from tests.registry_faults import FaultyRegistry, Reply, Request, digest_of

pytestmark = pytest.mark.clients

USER, SECRET = "ann", "s3cr3t-p4ssw0rd"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def _client(
    host: str, repository: str = "team/app", *, login: bool = False, certificates: Path | None = None, push: bool = True,
    token_servers: tuple[tuple[str, str], ...] = (),
) -> Registry:  # fmt: skip
    auth = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    document = {"auths": {host: {"auth": auth}} if login else {}}
    return Registry(
        parse_reference(f"{host}/{repository}"), push=push,
        credentials=Credentials({"HOME": "/nonexistent", "DOCKER_AUTH_CONFIG": json.dumps(document)}),
        settings=RegistrySettings(
            certificate_dirs=(str(certificates),) if certificates else (), token_servers=token_servers
        ),
    )  # fmt: skip


def _descriptor(data: bytes, media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type=media_type, digest=parse_digest(digest_of(data)), size=len(data))


def _image() -> tuple[dict[str, bytes], bytes]:
    """The blobs of a small image of two layers, and its manifest."""
    layers, diff_ids = [], []
    for name in ("etc/one", "etc/two"):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.size = 200_000
            tar.addfile(info, io.BytesIO(os.urandom(200_000)))
        diff_ids.append(digest_of(plain.getvalue()))
        layers.append(gzip.compress(plain.getvalue()))
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()

    def entry(data: bytes, media_type: str) -> dict[str, object]:
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": entry(config, CONFIG),
            "layers": [entry(each, LAYER) for each in layers],
        }
    ).encode()
    return {digest_of(each): each for each in (config, *layers)}, manifest


def _push(registry: Registry, tag: str = "v1") -> tuple[dict[str, bytes], bytes]:
    blobs, manifest = _image()
    for data in blobs.values():
        registry.upload_blob(lambda data=data: io.BytesIO(data), _descriptor(data))  # type: ignore[misc]
    registry.put_manifest(tag, manifest, OCI_MANIFEST)
    return blobs, manifest


def _pull(registry: Registry, reference: str = "v1") -> tuple[dict[str, bytes], bytes]:
    data, media_type, _ = registry.get_manifest(reference)
    manifest = parse_manifest(data, media_type, reference)
    blobs: dict[str, bytes] = {}
    for each in (manifest.config, *manifest.layers):
        with registry.open_blob(each) as reader:
            blobs[str(each.digest)] = reader.read()
            assert digest_of(blobs[str(each.digest)]) == str(each.digest)
    return blobs, data


def _skopeo(*words: str) -> str:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed (tests/peers/install.sh)")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["plain", "htpasswd", "tls", "tls and htpasswd"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def running(kind: str, tmp_path: Path) -> Iterator[tuple[registries.DebianRegistry, Registry]]:
    """A registry, and a client that may write there."""
    htpasswd = (USER, SECRET) if "htpasswd" in kind else None
    with registries.start(tmp_path, tls="tls" in kind, htpasswd=htpasswd) as registry:
        certificates = tmp_path / "certs.d"
        if registry.ca:
            (certificates / registry.host).mkdir(parents=True)
            shutil.copy(registry.ca, certificates / registry.host / "ca.crt")
        with _client(registry.host, login="htpasswd" in kind, certificates=certificates) as client:
            yield registry, client


def test_there_and_back(running: tuple[registries.DebianRegistry, Registry]) -> None:
    _, client = running
    client.ping()
    pushed = _push(client)
    assert _pull(client) == pushed
    assert _pull(client, digest_of(pushed[1])) == pushed
    assert list(client.tags()) == ["v1"]
    found = client.head_manifest("v1")
    assert found and (str(found.digest), found.size, found.media_type) == (
        digest_of(pushed[1]),
        len(pushed[1]),
        OCI_MANIFEST,
    )


def test_skopeo_reads_what_we_pushed(
    running: tuple[registries.DebianRegistry, Registry], kind: str, tmp_path: Path
) -> None:
    registry, client = running
    blobs, manifest = _push(client)
    login = ["--src-creds", f"{USER}:{SECRET}"] if "htpasswd" in kind else []
    certs = ["--src-cert-dir", str(tmp_path / "certs.d" / registry.host)] if registry.ca else ["--src-tls-verify=false"]
    _skopeo(
        "copy",
        "--insecure-policy",
        *login,
        *certs,
        f"docker://{registry.host}/team/app:v1",
        f"oci:{tmp_path}/layout:v1",
    )
    stored = {f"sha256:{each.name}": each.read_bytes() for each in (tmp_path / "layout/blobs/sha256").iterdir()}
    assert stored == {**blobs, digest_of(manifest): manifest}


def test_we_read_what_skopeo_pushed(
    running: tuple[registries.DebianRegistry, Registry], kind: str, tmp_path: Path
) -> None:
    registry, client = running
    blobs, manifest = _image()
    directory = tmp_path / "dir"
    directory.mkdir()
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
    (directory / "manifest.json").write_bytes(manifest)
    for digest, data in blobs.items():
        (directory / digest.removeprefix("sha256:")).write_bytes(data)
    login = ["--dest-creds", f"{USER}:{SECRET}"] if "htpasswd" in kind else []
    certs = (
        ["--dest-cert-dir", str(tmp_path / "certs.d" / registry.host)] if registry.ca else ["--dest-tls-verify=false"]
    )
    for form, tag in (("oci", "oci"), ("v2s2", "docker")):
        _skopeo(
            "copy", "--insecure-policy", "--format", form, *login, *certs, f"dir:{directory}",
            f"docker://{registry.host}/team/app:{tag}",
        )  # fmt: skip
    assert _pull(client, "oci") == (blobs, manifest)
    pulled, document = _pull(client, "docker")
    assert pulled == blobs and json.loads(document)["mediaType"].startswith("application/vnd.docker.")


def test_no_such_image(running: tuple[registries.DebianRegistry, Registry]) -> None:
    registry, client = running
    with pytest.raises(
        ImageNotFound, match=rf"no such image: {registry.host}/team/app:v9 \(tried .*: 404 manifest unknown\)"
    ):
        client.get_manifest("v9")
    assert client.head_manifest("v9") is None
    with pytest.raises(RegistryError, match="404 blob unknown"):
        client.open_blob(_descriptor(b"nothing"))


def test_mount_and_delete(running: tuple[registries.DebianRegistry, Registry], kind: str, tmp_path: Path) -> None:
    registry, client = running
    blobs, manifest = _push(client)
    with _client(
        registry.host, "other/app", login="htpasswd" in kind, certificates=tmp_path / "certs.d"
    ) as other:  # fmt: skip
        first = next(iter(blobs))
        assert not other.has_blob(_descriptor(blobs[first]))
        assert other.mount_blob(parse_digest(first), "team/app") and other.has_blob(_descriptor(blobs[first]))
        assert not other.mount_blob(parse_digest(digest_of(b"nothing")), "team/app")
    client.delete_manifest(parse_digest(digest_of(manifest)))
    assert client.head_manifest("v1") is None


@pytest.mark.parametrize("chunk_bytes", [None, 1 << 20, 3_000_000])
def test_large_uploads(running: tuple[registries.DebianRegistry, Registry], chunk_bytes: int | None) -> None:
    _, client = running
    data = os.urandom(8 << 20)
    client.upload_blob(lambda: io.BytesIO(data), _descriptor(data), chunk_bytes=chunk_bytes)
    with client.open_blob(_descriptor(data), offset=5_000_000) as reader:
        assert reader.read() == data[5_000_000:]


def test_many_threads(running: tuple[registries.DebianRegistry, Registry]) -> None:
    _, client = running
    layers = [os.urandom(300_000) for _ in range(8)]
    wrong: list[object] = []

    def there_and_back(data: bytes) -> None:
        try:
            client.upload_blob(lambda: io.BytesIO(data), _descriptor(data))
            with client.open_blob(_descriptor(data)) as reader:
                assert reader.read() == data
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=there_and_back, args=(each,)) for each in layers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


@pytest.mark.parametrize("chunk_bytes", [None, 1 << 20])
def test_an_upload_over_a_network_that_fails(tmp_path: Path, chunk_bytes: int | None) -> None:
    data = os.urandom(6 << 20)
    with (
        registries.start(tmp_path) as registry,
        CuttingProxy(registry.host, [2_500_000, 2_500_000], upwards=True) as proxy,
    ):
        with _client(proxy.host) as client:
            client.upload_blob(lambda: io.BytesIO(data), _descriptor(data), chunk_bytes=chunk_bytes)
            assert client.has_blob(_descriptor(data))
        assert proxy.connections >= 3


def test_a_download_over_a_network_that_fails(tmp_path: Path) -> None:
    data = os.urandom(6 << 20)
    with registries.start(tmp_path) as registry:
        with _client(registry.host) as client:
            client.upload_blob(lambda: io.BytesIO(data), _descriptor(data))
        cuts = [0, 2_500_000, 2_500_000]
        with (
            CuttingProxy(registry.host, cuts) as proxy,
            _client(proxy.host) as client,
            client.open_blob(_descriptor(data)) as reader,
        ):
            assert reader.read() == data
        assert "status=206" in registry.log() or " 206 " in registry.log()


def test_a_registry_whose_ca_nobody_knows(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    other = registries.make_certificates(tmp_path, name="other")
    with registries.start(tmp_path, tls=True) as registry:
        (tmp_path / "certs.d" / registry.host).mkdir(parents=True)
        shutil.copy(other.ca, tmp_path / "certs.d" / registry.host / "ca.crt")
        phrase = rf"the certificate of {registry.host} is not valid: .*\. Put its CA into"
        with (
            _client(registry.host, login=True, certificates=tmp_path / "certs.d") as client,
            pytest.raises(RegistryError, match=phrase),
        ):
            client.get_manifest("v1")
        with _client(registry.host) as client:  # on this machine, and nothing said about it
            client.ping()
    assert not recwarn.list


def test_a_registry_that_wants_a_clients_certificate(tmp_path: Path) -> None:
    own = registries.make_certificates(tmp_path, name="client")
    with registries.start(tmp_path, tls=True, client_ca=own.ca) as registry:
        assert registry.ca
        host = tmp_path / "certs.d" / registry.host
        host.mkdir(parents=True)
        shutil.copy(registry.ca, host / "ca.crt")
        with _client(registry.host, certificates=tmp_path / "certs.d") as client, pytest.raises(RegistryError):
            client.ping()
        shutil.copy(own.certificate, host / "me.cert")
        shutil.copy(own.key, host / "me.key")
        with _client(registry.host, certificates=tmp_path / "certs.d") as client:
            client.ping()


@pytest.mark.parametrize("login", [False, True])
def test_htpasswd_without_the_right_login(tmp_path: Path, login: bool) -> None:
    with registries.start(tmp_path, htpasswd=(USER, "another")) as registry:
        with _client(registry.host, login=login) as client:
            with pytest.raises(
                RegistryError, match=f"denied: .*Log in with `pycontain login {registry.host}`"
            ) as caught:
                client.get_manifest("v1")
            assert SECRET not in str(caught.value)
        with pytest.raises(RegistryError, match=r"denied: cannot log in to .*Check the user name and the password"):
            check_login(
                registry.host, Credential(username=USER, password=SECRET), settings=RegistrySettings(),
                credentials=Credentials({}),
            )  # fmt: skip
        check_login(
            registry.host, Credential(username=USER, password="another"), settings=RegistrySettings(),
            credentials=Credentials({}),
        )  # fmt: skip


def test_tokens_of_a_token_server(tmp_path: Path) -> None:
    """A registry with tokens signed for each scope, and its token server on another port."""
    certificates = registries.make_certificates(tmp_path, name="issuer")
    with FaultyRegistry() as server:
        expected = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()

        def token(request: Request, right: Reply) -> Reply:
            known = request.headers.get("authorization") == expected
            wanted = registry_tokens.access_of(request)
            return registry_tokens.token_reply(certificates, wanted if known else [])

        server.fault("GET", "^/token", token, times=1000)
        extra = registry_tokens.configuration(f"{server.url}/token", certificates)
        with registries.start(tmp_path, extra=extra) as registry:
            pairs = ((registry.host, server.host),)
            with _client(registry.host, login=True, token_servers=pairs) as client:
                client.ping()
                pushed = _push(client)
                assert _pull(client) == pushed
                with _client(registry.host, "other/app", login=True, token_servers=pairs) as other:
                    assert other.mount_blob(parse_digest(next(iter(pushed[0]))), "team/app")
            with (
                _client(registry.host, login=True) as stranger,
                pytest.raises(RegistryError, match=f"denied: .*PYCONTAIN_TOKEN_SERVERS={registry.host}={server.host}"),
            ):
                stranger.get_manifest("v1")
            with _client(registry.host) as nobody, pytest.raises(RegistryError, match=r"denied: .*pycontain login"):
                nobody.get_manifest("v1")
