"""One repository of a registry: its manifests, blobs and tags, here and back.

    with Registry(parse_reference("debian:12")) as debian:
        data, media_type, digest = debian.get_manifest("12")
        with debian.open_blob(descriptor) as blob: ...

A pull asks the mirrors in their order, then the registry; a push only the registry. Every method may be called by many threads
at once; what it returns belongs to one. Errors are ImageNotFound where a registry says that it has no such thing, RegistryError
for all else that happens on the way there, InvalidArgument for what cannot be asked.
Spec: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import threading
from urllib.parse import quote, urlencode

from ...errors import ImageNotFound, InvalidArgument, RegistryError
from ..digest import Digest
from ..documents import Descriptor
from .blobs import BlobReader, Source
from .credentials import Credential, Credentials
from .failures import Failure, failed
from .foreign import foreign_source
from .manifests import (
    TYPES,
    bare_type,
    checked_digest,
    digest_of,
    manifest_type,
    mark_of,
    next_link,
    parse_tags,
    stated_digest,
    wanted_digest,
)
from .session import Session
from .settings import Endpoint, RegistrySettings, load_settings
from .transport import Transport
from .uploads import Upload
from .urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import BinaryIO, TypeVar

    from ..names import ImageName

    T = TypeVar("T")

__all__ = ["MAX_MANIFEST_BYTES", "Registry", "check_login"]

MAX_MANIFEST_BYTES = 4 << 20
_MAX_TAGS_BYTES = 4 << 20
_MAX_PAGES = 1000
_PIECE_BYTES = 65536


class Registry:
    """``name``: a parsed reference; its tag or digest is only for messages. ``push``: for writing, too.

    ``settings``, ``credentials`` and ``transport`` are this host's and this user's, unless they are given; a transport that is
    given can be shared, and is not closed by ``close``.
    """

    def __init__(
        self, name: ImageName, *, push: bool = False, settings: RegistrySettings | None = None,
        credentials: Credentials | None = None, transport: Transport | None = None,
    ) -> None:  # fmt: skip
        self.repository = name.repository
        self.domain = name.domain
        self.path = name.path
        self._settings = settings or load_settings()
        self._credentials = credentials or Credentials()
        self._own_transport = transport is None
        self._transport = transport or Transport()
        self._actions = "pull,push" if push else "pull"
        self._sessions = [self._session(each) for each in self._settings.endpoints(name.domain, name.path, push=push)]
        self._gone: set[int] = set()  # mirrors that did not answer: their index
        self._lock = threading.Lock()

    def get_manifest(self, reference: str, accept: Iterable[str] = TYPES) -> tuple[bytes, str, Digest]:
        """A manifest or index by tag or digest: its bytes, media type and digest, which is computed of the bytes.

        Raises: ImageNotFound, RegistryError, InvalidArgument; Unsupported: an image of schema 1.
        Spec: distribution-spec, "Pulling manifests".
        """
        headers = {"Accept": ", ".join(accept)}
        wanted = wanted_digest(reference)

        def get(session: Session) -> tuple[bytes, str, Digest]:
            answer = session.request(
                "GET", self._manifest_url(session, reference), scopes=self._scopes(session), headers=headers,
                body_limit=MAX_MANIFEST_BYTES,
            )  # fmt: skip
            stated, media_type = answer.header("docker-content-digest"), answer.header("content-type")
            data = answer.body
            digest = checked_digest(data, wanted, stated)
            return data, manifest_type(data, media_type, self._named(reference)), digest

        return self._pull(get, f"cannot pull {self._named(reference)}", self._named(reference), reference)

    def head_manifest(self, reference: str) -> Descriptor | None:
        """What a tag or digest is now, without its bytes; None: there is none.

        Raises: RegistryError, InvalidArgument, Unsupported. Spec: distribution-spec, "Checking if content exists".
        """
        headers = {"Accept": ", ".join(TYPES)}
        wanted = wanted_digest(reference)

        def head(session: Session) -> Descriptor | None:
            answer = session.request(
                "HEAD", self._manifest_url(session, reference), scopes=self._scopes(session), headers=headers
            )
            answer.discard()
            stated, media_type, size = (
                answer.header("docker-content-digest"),
                bare_type(answer.header("content-type")),
                answer.content_length,
            )
            digest = stated_digest(stated)
            if digest is None or media_type not in TYPES or size is None:  # of an older registry: the bytes say it
                return None
            if wanted is not None and digest.algorithm == wanted.algorithm and digest != wanted:
                raise Failure(f"asked for {wanted} it says that it has {digest}")
            return Descriptor(media_type=media_type, digest=wanted or digest, size=size)

        try:
            found = self._pull(head, f"cannot look up {self._named(reference)}", self._named(reference), reference)
            if found is None:
                data, media_type, digest = self.get_manifest(reference)
                found = Descriptor(media_type=media_type, digest=digest, size=len(data))
        except ImageNotFound:
            return None
        return found

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Stores a manifest or index under a tag, or under its digest. Idempotent. The digest of the bytes.

        Raises: RegistryError, InvalidArgument. Spec: distribution-spec, "Pushing Manifests".
        """
        wanted = wanted_digest(reference)
        if len(data) > MAX_MANIFEST_BYTES:
            raise InvalidArgument(
                f"cannot push {self._named(reference)}: {len(data)} bytes, the limit is {MAX_MANIFEST_BYTES}"
            )
        digest = digest_of(data, wanted.algorithm if wanted else "sha256")
        if wanted not in (None, digest):
            raise InvalidArgument(f"cannot push {self._named(reference)}: the bytes have the digest {digest}")

        def put(session: Session) -> Digest:
            answer = session.request(
                "PUT", self._manifest_url(session, reference), scopes=self._scopes(session), body=lambda: _in_pieces(data),
                headers={"Content-Type": media_type, "Content-Length": str(len(data))}, expect=(201, 200, 202),
            )  # fmt: skip
            answer.discard()
            stored = stated_digest(answer.header("docker-content-digest"))
            if stored is not None and stored.algorithm == digest.algorithm and stored != digest:
                raise Failure(f"it has stored {stored} instead of {digest}")
            return digest

        return self._push(put, f"cannot push {self._named(reference)}")

    def delete_manifest(self, digest: Digest) -> None:
        """Raises: ImageNotFound; RegistryError, with status 405 when the registry deletes nothing."""

        def delete(session: Session) -> None:
            scopes = (f"repository:{session.endpoint.repository}:delete",)
            url = self._manifest_url(session, str(digest))
            session.request("DELETE", url, scopes=scopes, expect=(202, 200, 204)).discard()

        named = self._named(str(digest))
        self._push(delete, f"cannot delete {named}", named)

    def open_blob(self, descriptor: Descriptor, *, offset: int = 0, urls: Iterable[str] = ()) -> BlobReader:
        """A blob as a stream, from ``offset`` on. Its length is checked here, its digest by who reads it.

        ``urls``: where a foreign layer is, when the registry has it not; no credentials go there.
        Raises: RegistryError, here and on reading.
        """
        sources = [self._source(session, descriptor.digest) for session in self._order(str(descriptor.digest))]
        sources += [
            foreign_source(
                text,
                registry=self._sessions[-1].endpoint,
                transport=self._transport,
                settings=self._settings,
                credentials=self._credentials,
            )
            for text in urls
        ]
        return BlobReader(descriptor, sources, offset=offset, repository=f"{self.domain}/{self.path}")

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the registry itself has it. Raises: RegistryError: it is there and has another size."""

        def head(session: Session) -> bool:
            url = session.url(f"/v2/{session.endpoint.repository}/blobs/{descriptor.digest}")
            answer = session.request("HEAD", url, scopes=self._scopes(session), expect=(200, 404))
            answer.discard()
            size = answer.content_length
            if answer.status == 200 and size not in (None, descriptor.size):
                raise Failure(f"it has {size} bytes under {descriptor.digest}, which are {descriptor.size}")
            return answer.status == 200

        return self._push(head, f"cannot look for blob {descriptor.digest}")

    def mount_blob(self, digest: Digest, from_repository: str) -> bool:
        """Takes a blob over from another repository of the same registry ("library/debian"): whether that was done.

        Raises: RegistryError. Spec: distribution-spec, "Mounting a blob from another repository".
        """

        def mount(session: Session) -> bool:
            source = self._settings.endpoints(self.domain, from_repository, push=True)[-1].repository
            query = urlencode({"mount": str(digest), "from": source})
            url = session.url(f"/v2/{session.endpoint.repository}/blobs/uploads/?{query}")
            scopes = (*self._scopes(session), f"repository:{source}:pull")
            answer = session.request("POST", url, scopes=scopes, headers={"Content-Length": "0"}, expect=(201, 202))
            answer.discard()
            if answer.status == 202 and answer.header("location"):  # a session for an upload instead: not this way
                try:
                    session.request(
                        "DELETE",
                        session.located(answer),
                        scopes=self._scopes(session),
                        expect=(204, 202, 200, 404),
                        attempts=1,
                    ).discard()
                except Failure:
                    pass
            return answer.status == 201

        return self._push(mount, f"cannot mount blob {digest} from {from_repository}")

    def upload_blob(
        self, open_stream: Callable[[], BinaryIO], descriptor: Descriptor, *, chunk_bytes: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        """Stores a blob: in one request, or in chunks of ``chunk_bytes``. ``open_stream`` may be called again, after a fault.

        ``progress`` gets the number of bytes sent; it can go back. Does not look whether the blob is there already.
        Raises: RegistryError: also when the stream has not ``descriptor.size`` bytes; InvalidArgument: it cannot be read.
        """
        if chunk_bytes is not None and chunk_bytes < 1:
            raise InvalidArgument(f"cannot upload in chunks of {chunk_bytes} bytes: 1 or more")

        def upload(session: Session) -> None:
            Upload(
                session, descriptor, open_stream, scopes=self._scopes(session), chunk_bytes=chunk_bytes, progress=progress,
                exists=lambda: self.has_blob(descriptor),
            ).run()  # fmt: skip

        self._push(upload, f"cannot upload blob {descriptor.digest}")

    def tags(self) -> Iterator[str]:
        """All tags, page by page. Raises: ImageNotFound: no such repository; RegistryError."""
        session = self._sessions[-1]
        url: Url | None = None
        for _ in range(_MAX_PAGES):
            at = url

            def page(session: Session, at: Url | None = at) -> tuple[list[str], Url | None]:
                return self._tags_page(session, at)

            names, url = self._run([session], page, f"cannot list the tags of {self.repository}", self.repository)
            yield from names
            if url is None:
                return
        raise RegistryError(f"cannot list the tags of {self.repository}: more than {_MAX_PAGES} pages")

    def _tags_page(self, session: Session, at: Url | None) -> tuple[list[str], Url | None]:
        url = at or session.url(f"/v2/{session.endpoint.repository}/tags/list?n=1000")
        answer = session.request("GET", url, scopes=self._scopes(session), body_limit=_MAX_TAGS_BYTES)
        link = next_link(answer.headers("link"))
        tags = parse_tags(answer.body)
        if not link or not tags:  # a page without tags that leads to another one leads nowhere
            return tags, None
        following = session.follow(url, link)
        if following.origin != url.origin or following.text == url.text:
            raise Failure(f"the next page of its list would be {following.shown}")
        return tags, following

    def ping(self) -> None:
        """Raises: RegistryError: nobody there, nobody who speaks this protocol, or a login is needed and not right."""

        def get(session: Session) -> None:
            session.request("GET", session.url("/v2/"), scopes=()).discard()

        self._run([self._sessions[-1]], get, f"cannot use the registry {self.domain}")

    def abandon(self) -> None:
        """For another thread, or a handler of an interrupt: every call that waits here ends with RegistryError, soon, and so does
        every later one."""
        self._transport.abandon()

    def close(self) -> None:
        """Ends the connections that are not in use."""
        if self._own_transport:
            self._transport.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _source(self, session: Session, digest: Digest) -> Source:
        return Source(
            name=session.endpoint.name,
            session=session,
            scopes=self._scopes(session),
            url=lambda: session.url(f"/v2/{session.endpoint.repository}/blobs/{digest}"),
            gone=lambda failure: self._note_gone(session, failure),
        )

    def _note_gone(self, session: Session, failure: Failure) -> None:
        """A mirror that did not answer is not asked again by this object: each time would cost its time-outs anew."""
        if session.endpoint.mirror and not failure.status:
            with self._lock:
                self._gone.add(self._sessions.index(session))

    def _session(self, endpoint: Endpoint) -> Session:
        return Session(endpoint, transport=self._transport, settings=self._settings, credentials=self._credentials)

    def _scopes(self, session: Session) -> tuple[str, ...]:
        return (f"repository:{session.endpoint.repository}:{self._actions}",)

    def _manifest_url(self, session: Session, reference: str) -> Url:
        return session.url(f"/v2/{session.endpoint.repository}/manifests/{quote(reference, safe=':')}")

    def _named(self, reference: str) -> str:
        return f"{self.repository}{mark_of(reference)}{reference}"

    def _order(self, reference: str) -> list[Session]:
        """Whom to ask, in order: mirrors that take such references and have not failed to answer, then the registry."""
        unwanted = "tag-only" if mark_of(reference) == "@" else "digest-only"
        with self._lock:
            gone = set(self._gone)
        last = len(self._sessions) - 1
        return [
            session
            for index, session in enumerate(self._sessions)
            if index == last or (index not in gone and session.endpoint.pull != unwanted)
        ]

    def _pull(self, act: Callable[[Session], T], action: str, missing: str, reference: str) -> T:
        return self._run(self._order(reference), act, action, missing, mark=mark_of(reference) + reference)

    def _push(self, act: Callable[[Session], T], action: str, missing: str = "") -> T:
        return self._run([self._sessions[-1]], act, action, missing)

    def _run(
        self, sessions: list[Session], act: Callable[[Session], T], action: str, missing: str = "", *, mark: str = ""
    ) -> T:
        """The first success. Raises: what :func:`.failures.failed` makes of all failures."""
        tried: list[tuple[str, Failure]] = []
        for session in sessions:
            try:
                return act(session)
            except Failure as failure:
                tried.append((f"{session.endpoint.name}{mark}", failure))
                self._note_gone(session, failure)
        raise failed(action, tried, missing=missing)


def check_login(
    domain: str, credential: Credential, *, settings: RegistrySettings | None = None, credentials: Credentials | None = None,
    transport: Transport | None = None,
) -> None:  # fmt: skip
    """Asks the registry ``domain`` ("docker.io", "localhost:5000") whether it takes this login.

    Raises: RegistryError: it does not, or it cannot be asked.
    """
    settings = settings or load_settings()
    used = transport or Transport()
    session = Session(
        settings.endpoint_of(domain),
        transport=used,
        settings=settings,
        credentials=credentials or Credentials(),
        given=credential,
    )
    try:
        session.request("GET", session.url("/v2/")).discard()
    except Failure as failure:
        if failure.denied and failure.hint.startswith("Log in"):
            failure.hint = "Check the user name and the password"
        raise failed(f"cannot log in to {domain}", [(session.endpoint.host, failure)]) from None
    finally:
        if transport is None:
            used.close()


def _in_pieces(data: bytes) -> Iterator[bytes]:
    """A socket's time-out is for all that one call sends."""
    for at in range(0, len(data), _PIECE_BYTES):
        yield data[at : at + _PIECE_BYTES]
