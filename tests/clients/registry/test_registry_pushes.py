"""Uploads, manifests and tags, with a registry that forgets, refuses and lies."""

from __future__ import annotations

import io
import json

import pytest

from pycontain.errors import ImageNotFound, InvalidArgument, RegistryError
from pycontain.image.digest import Digest, parse_digest
from pycontain.image.registry.client import Registry
from tests.clients.registry.cases import DATA, MANIFEST, OCI, SECRET, TestClock, blob, client
from tests.registry_faults import FaultyRegistry, Reply, Request, digest_of

pytestmark = pytest.mark.clients


def _upload(registry: Registry, data: bytes = DATA, *, chunk_bytes: int = 0) -> list[int]:
    sent: list[int] = []
    registry.upload_blob(lambda: io.BytesIO(data), blob(data), progress=sent.append, chunk_bytes=chunk_bytes or None)
    return sent


@pytest.mark.parametrize("chunk_bytes", [0, 1, 400_000, len(DATA), 2 * len(DATA)])
def test_an_upload(faulty: FaultyRegistry, time: TestClock, chunk_bytes: int) -> None:
    data = DATA if chunk_bytes != 1 else DATA[:3]
    faulty.blobs.clear()
    sent = _upload(client(faulty, time, push=True), data, chunk_bytes=chunk_bytes)
    assert faulty.blobs == {digest_of(data): data} and sent[-1] == len(data) and faulty.uploads == {}
    ranges = [each.headers["content-range"] for each in faulty.seen("PATCH", "")]
    assert ranges == {1: ["0-0", "1-1", "2-2"], 400_000: ["0-399999", "400000-799999", "800000-1048575"]}.get(
        chunk_bytes, ["0-1048575"] if chunk_bytes else []
    )


def test_an_empty_blob_is_uploaded(faulty: FaultyRegistry, time: TestClock) -> None:
    _upload(client(faulty, time, push=True), b"")
    assert digest_of(b"") in faulty.blobs


@pytest.mark.parametrize("chunk_bytes", [0, 300_000])
def test_an_upload_is_taken_up_where_it_was(faulty: FaultyRegistry, time: TestClock, chunk_bytes: int) -> None:
    """The connection ends after the registry has stored a part; it says how much."""
    faulty.blobs.clear()

    def keep_a_part(request: Request, right: Reply) -> Reply:
        faulty.uploads["upload0"] = DATA[: 350_000 if chunk_bytes else 500_000]
        return Reply(raw=b"")

    method = "PATCH" if chunk_bytes else "PUT"
    faulty.fault(method, "/uploads/", keep_a_part)
    faulty.fault("GET", "/uploads/", Reply(500))
    if chunk_bytes:
        _upload(client(faulty, time, push=True), chunk_bytes=chunk_bytes)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(faulty, "_faults", [each for each in faulty._faults if each.method == "PUT"])
            _upload(client(faulty, time, push=True))
        assert faulty.seen("PATCH", "")[0].headers["content-range"] == "500000-1048575"
    assert faulty.blobs == {digest_of(DATA): DATA}


def test_an_upload_session_that_is_lost_begins_anew(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.blobs.clear()

    def forget(request: Request, right: Reply) -> Reply:
        faulty.uploads.clear()
        return Reply(404, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')

    faulty.fault("PATCH", "/uploads/", forget)
    _upload(client(faulty, time, push=True), chunk_bytes=500_000)
    assert faulty.blobs == {digest_of(DATA): DATA} and len(faulty.seen("POST", "/uploads/")) == 2


def test_an_upload_whose_last_answer_is_lost(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.blobs.clear()
    faulty.fault("PUT", "/uploads/", lambda request, right: Reply(raw=b""))
    _upload(client(faulty, time, push=True))
    assert faulty.blobs == {digest_of(DATA): DATA} and len(faulty.seen("PUT", "")) == 1


def test_an_upload_that_never_succeeds_ends(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("PUT", "/uploads/", Reply(500), times=100)
    with pytest.raises(RegistryError, match=r"cannot upload blob sha256:.*500 internal server error"):
        _upload(client(faulty, time, push=True))
    assert len(faulty.seen("PUT", "")) == 5 and faulty.uploads == {}  # and it was cancelled


def test_a_chunk_that_is_refused_as_out_of_order(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.blobs.clear()
    faulty.fault("PATCH", "/uploads/", Reply(416))
    _upload(client(faulty, time, push=True), chunk_bytes=500_000)
    assert faulty.blobs == {digest_of(DATA): DATA}


def test_the_least_chunk_of_a_registry(faulty: FaultyRegistry, time: TestClock) -> None:
    def least(request: Request, right: Reply) -> Reply:
        right.headers["OCI-Chunk-Min-Length"] = "600000"
        return right

    faulty.fault("POST", "/uploads/", least)
    _upload(client(faulty, time, push=True), chunk_bytes=1000)
    assert [each.headers["content-length"] for each in faulty.seen("PATCH", "")] == ["600000", "448576"]


@pytest.mark.parametrize(("data", "phrase"), [(DATA[:-1], "it ends after 1048575 bytes"), (DATA + b"x", "more than")])
@pytest.mark.parametrize("chunk_bytes", [None, 400_000])
def test_a_stream_that_is_not_what_was_said(
    faulty: FaultyRegistry, time: TestClock, data: bytes, phrase: str, chunk_bytes: int | None
) -> None:
    faulty.blobs.clear()
    with pytest.raises(RegistryError, match=phrase):
        client(faulty, time, push=True).upload_blob(lambda: io.BytesIO(data), blob(), chunk_bytes=chunk_bytes)
    assert faulty.blobs == {}


def test_a_stream_that_cannot_be_read(faulty: FaultyRegistry, time: TestClock) -> None:
    class Broken(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(InvalidArgument, match=r"reading it: Input/output error \(EIO\)"):
        client(faulty, time, push=True).upload_blob(Broken, blob())


def test_a_registry_that_stores_something_else(faulty: FaultyRegistry, time: TestClock) -> None:
    wrong = {"Docker-Content-Digest": digest_of(b"wrong")}
    faulty.fault("PUT", "/uploads/", Reply(201, headers=wrong))
    faulty.fault("PUT", "/manifests/", Reply(201, headers=wrong))
    registry = client(faulty, time, push=True)
    with pytest.raises(RegistryError, match="it has stored sha256"):
        _upload(registry)
    with pytest.raises(RegistryError, match="it has stored sha256"):
        registry.put_manifest("v2", MANIFEST, OCI)


def test_an_upload_location_on_another_host_gets_no_password(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    faulty.user = ("ann", SECRET)
    other.uploads["there"] = b""
    faulty.fault("POST", "/uploads/", Reply(401, headers={"WWW-Authenticate": "Basic realm=x"}))
    faulty.fault("POST", "/uploads/", Reply(202, headers={"Location": f"{other.url}/v2/x/blobs/uploads/there"}))
    _upload(client(faulty, time, login=f"ann:{SECRET}", push=True))
    assert digest_of(DATA) in other.blobs and not any("authorization" in each.headers for each in other.requests)


def test_has_blob_and_mount(faulty: FaultyRegistry, time: TestClock) -> None:
    registry = client(faulty, time, push=True)
    assert registry.has_blob(blob()) and not registry.has_blob(blob(b"x"))
    with pytest.raises(RegistryError, match="it has 1048576 bytes under"):
        registry.has_blob(blob(size=5))
    assert registry.mount_blob(parse_digest(digest_of(DATA)), "from/here")
    assert not registry.mount_blob(Digest("sha256", "0" * 64), "from/here") and faulty.uploads == {}


def test_the_scopes_of_a_mount(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.user, faulty.realm = ("ann", SECRET), f"{faulty.url}/token"
    client(faulty, time, login=f"ann:{SECRET}", push=True).mount_blob(parse_digest(digest_of(DATA)), "from/here")
    (asked,) = faulty.seen("GET", "^/token")
    assert asked.query["scope"] == ["repository:team/app:pull,push", "repository:from/here:pull"]


def test_a_manifest_is_put_under_a_tag_and_its_digest(faulty: FaultyRegistry, time: TestClock) -> None:
    registry = client(faulty, time, push=True)
    data = b'{"schemaVersion": 2}'
    assert str(registry.put_manifest("v2", data, OCI)) == digest_of(data)
    assert str(registry.put_manifest(digest_of(data), data, OCI)) == digest_of(data)
    with pytest.raises(InvalidArgument, match="the bytes have the digest"):
        registry.put_manifest(digest_of(b"x"), data, OCI)
    registry.delete_manifest(parse_digest(digest_of(data)))
    with pytest.raises(ImageNotFound):
        registry.delete_manifest(parse_digest(digest_of(data)))


def test_a_registry_that_deletes_nothing(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("DELETE", "/manifests/", Reply(405, b'{"errors": [{"code": "UNSUPPORTED"}]}'))
    with pytest.raises(RegistryError, match="405 unsupported") as caught:
        client(faulty, time, push=True).delete_manifest(parse_digest(digest_of(MANIFEST)))
    assert caught.value.status == 405


def _page(tags: list[str], link: str = "") -> Reply:
    return Reply(body=json.dumps({"tags": tags}).encode(), headers={"Link": f'<{link}>; rel="next"'} if link else {})


def test_tags_page_by_page(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("GET", r"/tags/list\?n=1000$", _page(["a", "b"], "/v2/team/app/tags/list?last=b&n=2"))
    faulty.fault("GET", r"last=b", _page(["c"], f"{faulty.url}/v2/team/app/tags/list?last=c"))
    faulty.fault("GET", r"last=c", Reply(body=b'{"tags": null}'))
    assert list(client(faulty, time).tags()) == ["a", "b", "c"]


def test_tags_that_never_end(faulty: FaultyRegistry, time: TestClock) -> None:
    count = 0

    def more(request: Request, right: Reply) -> Reply:
        nonlocal count
        count += 1
        return _page(["a"], f"/v2/team/app/tags/list?last={count}")

    faulty.fault("GET", "/tags/", more, times=10_000)
    with pytest.raises(RegistryError, match="more than 1000 pages"):
        list(client(faulty, time).tags())


@pytest.mark.parametrize("link", ["{own}", "http://example.org/v2/", "file:///etc/passwd"])
def test_tags_that_go_on_elsewhere_or_in_circles(faulty: FaultyRegistry, time: TestClock, link: str) -> None:
    own = "/v2/team/app/tags/list?n=1000"
    faulty.fault("GET", "/tags/", _page(["a"], link.format(own=own)), times=9)
    with pytest.raises(RegistryError, match=r"the next page of its list|it points to"):
        list(client(faulty, time).tags())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": 5}', b'{"tags": [5]}', b"<html>"])
def test_what_is_no_list_of_tags(faulty: FaultyRegistry, time: TestClock, body: bytes) -> None:
    faulty.fault("GET", "/tags/", Reply(body=body))
    with pytest.raises(RegistryError, match="its list of tags is"):
        list(client(faulty, time).tags())
