"""Blobs that are cut, too long, too slow, elsewhere: what is read is right, or there is an error."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator

import pytest

from pycontain.errors import RegistryError
from pycontain.image.names import parse_reference
from pycontain.image.registry.client import Registry
from pycontain.image.registry.credentials import Credentials
from pycontain.image.registry.patience import Patience
from pycontain.image.registry.settings import RegistrySettings
from pycontain.image.registry.transport import Timeouts, Transport
from tests.clients.registry.cases import DATA, MANIFEST, OCI, SECRET, TestClock, blob, client
from tests.registry_faults import FaultyRegistry, Reply, Request, digest_of

pytestmark = pytest.mark.clients


def test_a_blob_whole_and_from_an_offset(faulty: FaultyRegistry, time: TestClock) -> None:
    with client(faulty, time).open_blob(blob()) as reader:
        buffer = bytearray(1000)
        assert reader.readinto(buffer) == 1000 and bytes(buffer) == DATA[:1000] and reader.position == 1000
        assert reader.read(5) == DATA[1000:1005] and reader.read() == DATA[1005:] and reader.read(1) == b""
    with client(faulty, time).open_blob(blob(), offset=4096) as reader:
        assert reader.read() == DATA[4096:]
    with client(faulty, time).open_blob(blob(), offset=len(DATA)) as reader:
        assert reader.read(1) == b""


def test_an_empty_blob(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.add_blob(b"")
    with client(faulty, time).open_blob(blob(b"")) as reader:
        assert reader.read() == b""


@pytest.mark.parametrize("cut", [0, 1, 4096, len(DATA) - 1])
def test_a_cut_blob_is_taken_up_where_it_ended(faulty: FaultyRegistry, time: TestClock, cut: int) -> None:
    faulty.fault("GET", "/blobs/", Reply(body=DATA, cut=cut))
    with client(faulty, time).open_blob(blob()) as reader:
        assert b"".join(iter(lambda: reader.read(1000), b"")) == DATA
    second = faulty.seen("GET", "/blobs/")[1]
    assert second.headers.get("range") == (f"bytes={cut}-" if cut else None)


def test_a_blob_that_is_cut_again_and_again_comes_in_the_end(faulty: FaultyRegistry, time: TestClock) -> None:
    def cut_later(request: Request, right: Reply) -> Reply:
        right.cut = 1 << 20
        return right

    data = DATA * 12
    faulty.add_blob(data)
    faulty.fault("GET", "/blobs/", cut_later, times=11)
    with client(faulty, time).open_blob(blob(data)) as reader:
        assert reader.read() == data
    assert len(faulty.seen("GET", "/blobs/")) == 12


def test_a_connection_that_brings_nothing_is_not_tried_forever(faulty: FaultyRegistry, time: TestClock) -> None:
    def cut_at_once(request: Request, right: Reply) -> Reply:
        right.cut = 10
        return right

    faulty.fault("GET", "/blobs/", cut_at_once, times=1000)
    reader = client(faulty, time).open_blob(blob())
    with pytest.raises(RegistryError, match=r"cannot download blob sha256:.*: the connection was closed in the middle"):
        reader.read()
    assert len(faulty.seen("GET", "/blobs/")) == 5 and reader.position == 50


def test_a_server_that_knows_no_ranges(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("GET", "/blobs/", Reply(body=DATA, cut=300_000))
    faulty.fault("GET", "/blobs/", Reply(body=DATA))
    with client(faulty, time).open_blob(blob()) as reader:
        assert reader.read() == DATA


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-1048575/1048576",
        "bytes 100-1048575/9999999",
        "bytes 100-200/1048576",
        "lines 100-1048575/1048576",
        "",
        "x",
    ],
)
def test_another_range_than_the_one_asked_for(faulty: FaultyRegistry, time: TestClock, content_range: str) -> None:
    faulty.fault("GET", "/blobs/", Reply(206, DATA[100:], {"Content-Range": content_range}), times=9)
    with pytest.raises(RegistryError, match="asked for bytes 100 to 1048575 it sends others"):
        client(faulty, time).open_blob(blob(), offset=100)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_a_length_that_is_not_the_manifests(faulty: FaultyRegistry, time: TestClock, size: int) -> None:
    with pytest.raises(RegistryError, match=f"it sends {len(DATA)} bytes instead of the {size} that the manifest says"):
        client(faulty, time).open_blob(blob(size=size))
    assert len(faulty.requests) == 1


def test_a_body_without_a_length_that_is_too_long(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("GET", "/blobs/", Reply(body=DATA + b"x", length=-1), times=9)
    reader = client(faulty, time).open_blob(blob())
    with pytest.raises(RegistryError, match="it sends more than the 1048576 bytes"):
        reader.read()


def test_a_body_without_a_length_that_is_right(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("GET", "/blobs/", Reply(body=DATA, length=-1))
    with client(faulty, time).open_blob(blob()) as reader:
        assert reader.read() == DATA


def test_a_body_without_a_length_that_is_too_short(faulty: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("GET", "/blobs/", Reply(body=DATA[:-1], length=-1), times=1)
    with client(faulty, time).open_blob(blob()) as reader:
        assert reader.read() == DATA  # its last byte by another request
    assert faulty.seen("GET", "/blobs/")[1].headers["range"] == f"bytes={len(DATA) - 1}-"


def test_a_blob_that_is_not_there(faulty: FaultyRegistry, time: TestClock) -> None:
    with pytest.raises(RegistryError, match=r"404 blob unknown") as caught:
        client(faulty, time).open_blob(blob(b"other"))
    assert (caught.value.status, caught.value.code) == (404, "BLOB_UNKNOWN")


def test_a_byte_now_and_then_is_not_waited_for_forever(faulty: FaultyRegistry, time: TestClock) -> None:
    """The server sends one byte for each look at the clock, and each look takes five seconds."""
    allowed = threading.Semaphore(0)

    def look() -> float:
        time.now += 5.0
        allowed.release()
        return time.now

    def drip() -> Iterator[bytes]:
        for index in range(len(DATA)):
            if not allowed.acquire(timeout=30):
                return
            yield DATA[index : index + 1]

    faulty.fault("GET", "/blobs/", lambda request, right: Reply(length=len(DATA), pieces=drip()), times=9)
    with pytest.raises(RegistryError, match=r"is too slow: \d+ bytes in \d+ s"):
        client(faulty, time, patience=Patience(clock=look, window_s=30.0)).open_blob(blob()).read()


def test_a_slow_reader_is_not_a_slow_server(faulty: FaultyRegistry, time: TestClock) -> None:
    with client(faulty, time).open_blob(blob()) as reader:
        for _ in range(4):
            reader.read(1000)
            time.now += 3600  # the disk, say
        assert len(reader.read()) == len(DATA) - 4000


def test_a_redirect_to_another_host_goes_without_the_password(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    faulty.user = ("ann", SECRET)
    faulty.fault("GET", "/blobs/", Reply(401, headers={"WWW-Authenticate": "Basic realm=x"}))
    faulty.fault(
        "GET", "/blobs/", Reply(307, headers={"Location": f"{other.url}/v2/cdn/blobs/{digest_of(DATA)}?sig=abc"})
    )
    with client(faulty, time, login=f"ann:{SECRET}").open_blob(blob()) as reader:
        assert reader.read() == DATA
    (request,) = other.requests
    assert "authorization" not in request.headers and request.query == {"sig": ["abc"]}
    assert "authorization" in faulty.seen("GET", "/blobs/")[-1].headers


def test_a_challenge_after_a_redirect_is_not_answered(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    faulty.user = other.user = ("ann", SECRET)
    other.realm = f"{other.url}/token"
    faulty.fault(
        "GET", "/blobs/", Reply(307, headers={"Location": f"{other.url}/v2/cdn/blobs/{digest_of(DATA)}"}), times=9
    )
    with pytest.raises(RegistryError, match=r"denied: cannot download.*401 unauthorized") as caught:
        client(faulty, time, login=f"ann:{SECRET}").open_blob(blob())
    assert [each.path.partition("/blobs")[0] for each in other.requests] == ["/v2/cdn"]
    assert not any("authorization" in each.headers for each in other.requests)
    assert "pycontain login" not in str(caught.value)


@pytest.mark.parametrize("location", ["{own}", "/v2/team/app/blobs/x?n={n}", "{other}/again"])
def test_redirects_in_circles_end(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock, location: str
) -> None:
    count = 0

    def around(request: Request, right: Reply) -> Reply:
        nonlocal count
        count += 1
        own = f"{faulty.url}{request.target}"
        return Reply(302, headers={"Location": location.format(own=own, n=count, other=other.url)})

    faulty.fault("GET", "/blobs/", around, times=1000)
    other.fault("GET", "/again", Reply(302, headers={"Location": f"{other.url}/again"}), times=1000)
    with pytest.raises(RegistryError, match="it redirects in circles"):
        client(faulty, time).open_blob(blob())
    assert len(faulty.requests) + len(other.requests) < 20


@pytest.mark.parametrize(
    ("location", "phrase"),
    [
        ("", "has no Location"),
        ("ftp://127.0.0.1/x", "neither http nor https"),
        ("http://ann:pw@127.0.0.1/x", "user name"),
        ("http://[::1", "it points to"),
        ("http:///x y", "space"),
    ],
)
def test_redirects_to_nowhere(faulty: FaultyRegistry, time: TestClock, location: str, phrase: str) -> None:
    faulty.fault("GET", "/blobs/", Reply(307, headers={"Location": location} if location else {}), times=9)
    with pytest.raises(RegistryError, match=phrase):
        client(faulty, time).open_blob(blob())


def test_a_redirected_upload_is_refused(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    faulty.fault("PUT", "/manifests/", Reply(302, headers={"Location": f"{other.url}/x"}))
    with pytest.raises(RegistryError, match=r"it redirects a PUT to http://127\.0\.0\.1"):
        client(faulty, time, push=True).put_manifest("v2", MANIFEST, OCI)
    assert other.requests == []


def test_a_foreign_layer_without_credentials(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    faulty.user = ("ann", SECRET)
    data = b"foreign"
    other.add_blob(data)
    at = f"{other.url}/v2/x/blobs/{digest_of(data)}"
    with client(faulty, time, login=f"ann:{SECRET}").open_blob(blob(data), urls=[at]) as reader:
        assert reader.read() == data
    assert not any("authorization" in each.headers for each in other.requests)


def test_a_foreign_layers_challenge_is_not_answered(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    """CVE-2020-15157 itself."""
    faulty.user = other.user = ("ann", SECRET)
    for realm in ("", f"{other.url}/token", f"{faulty.url}/token"):
        other.realm = realm
        with pytest.raises(RegistryError, match="401"):
            client(faulty, time, login=f"ann:{SECRET}").open_blob(blob(b"x"), urls=[f"{other.url}/v2/x/blobs/y"])
    assert {each.path for each in other.requests} <= {"/v2/x/blobs/y", "/v2/"}
    assert not any("authorization" in each.headers for each in other.requests)
    assert faulty.seen("GET", "^/token") == []


@pytest.mark.parametrize(
    ("url", "phrase"),
    [
        ("http://example.org/x", "plain http"),
        ("file:///etc/passwd", "neither http nor https"),
        ("nonsense", "neither http nor https"),
        ("https://a:b@example.org/", "user name"),
    ],
)
def test_foreign_urls_that_are_not_asked(faulty: FaultyRegistry, time: TestClock, url: str, phrase: str) -> None:
    with pytest.raises(RegistryError, match=phrase) as caught:
        client(faulty, time).open_blob(blob(b"x"), urls=[url])
    assert "a:b@" not in str(caught.value)


# what nobody waits for any more


def _abandoned(registry: Registry, act: Callable[[], object], waits: threading.Event) -> BaseException:
    """How ``act`` ends in a thread, once the registry has been told that nobody wants it, while it waits."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert waits.wait(30)
    registry.abandon()
    thread.join(60)
    assert not thread.is_alive()
    return ended[0]


def _real(registry: FaultyRegistry) -> Registry:
    return Registry(
        parse_reference(f"{registry.host}/team/app:v1"), settings=RegistrySettings(), push=True,
        credentials=Credentials({"HOME": "/nonexistent"}),
        transport=Transport(timeouts=Timeouts(read_s=3600.0), environ={}),
    )  # fmt: skip


def test_a_stalled_answer_is_abandoned(faulty: FaultyRegistry) -> None:
    release, waits = threading.Event(), threading.Event()

    def stall(request: Request, right: Reply) -> Reply:
        waits.set()
        release.wait(60)
        return right

    faulty.fault("GET", "/manifests/", stall)
    registry = _real(faulty)
    error = _abandoned(registry, lambda: registry.get_manifest("v1"), waits)
    release.set()
    assert isinstance(error, RegistryError) and "stopped" in str(error)
    with pytest.raises(RegistryError, match="stopped"):
        registry.get_manifest("v1")


def test_a_stalled_body_is_abandoned(faulty: FaultyRegistry) -> None:
    release, waits = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield DATA[:1000]
        waits.set()
        release.wait(60)

    faulty.fault("GET", "/blobs/", Reply(length=len(DATA), pieces=pieces()))
    registry = _real(faulty)
    error = _abandoned(registry, lambda: registry.open_blob(blob()).read(), waits)
    release.set()
    assert isinstance(error, RegistryError) and "stopped" in str(error)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_wait_before_another_attempt_is_abandoned(faulty: FaultyRegistry, method: str) -> None:
    waits = threading.Event()

    def busy(request: Request, right: Reply) -> Reply:
        waits.set()
        return Reply(503, headers={"Retry-After": "60"})

    faulty.fault(method, "/blobs/", busy, times=9)
    registry = _real(faulty)
    get = lambda: registry.open_blob(blob())  # noqa: E731
    put = lambda: registry.upload_blob(lambda: io.BytesIO(DATA), blob())  # noqa: E731
    error = _abandoned(registry, get if method == "GET" else put, waits)
    assert isinstance(error, RegistryError) and "stopped" in str(error)
