"""A registry in this process that does wrong when it is told to: cuts, lies, stalls, redirects, asks for passwords.

    with FaultyRegistry() as registry:
        registry.add_blob(data)
        registry.fault("GET", "/blobs/", Reply(429, headers={"Retry-After": "7"}), times=2)
        ...
        registry.seen("GET", "/blobs/")      # the requests that came, with their headers

What no fault is set for is answered as a registry answers: manifests, blobs with ranges, uploads in one piece and in chunks,
mounts, tags, tokens. Everything is kept in memory; it listens on a free port of 127.0.0.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

__all__ = ["FaultyRegistry", "Reply", "Request", "digest_of"]

_TLS_HANDSHAKE = b"\x16"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Request:
    """``target`` has the query. ``headers`` have names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)


@dataclass
class Reply:
    """``length``: what Content-Length says, the truth by default, none with -1. ``cut``: the connection ends after so many
    bytes of the body. ``pieces`` replaces the body, ``raw`` (and then ``raw_pieces``) everything."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    cut: int | None = None
    pieces: Iterable[bytes] | None = None
    raw: bytes | None = None
    raw_pieces: Iterable[bytes] = ()
    more_headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class _Fault:
    method: str
    pattern: re.Pattern[str]
    reply: Reply | Callable[[Request, Reply], Reply]
    times: int


class FaultyRegistry:
    """``certificate`` and ``key`` (PEM files): speaks TLS. Attributes may be changed while it runs."""

    def __init__(self, certificate: str = "", key: str = "") -> None:
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.uploads: dict[str, bytes] = {}
        self.user: tuple[str, str] | None = None  # asks for Basic, or, with a realm, for tokens
        self.realm = ""
        self.anonymous_tokens = False
        self.token_uses = 1 << 30  # a token ends after so many requests
        self.tokens: dict[str, int] = {}
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{'https' if self._server.context else 'http'}://{self.host}"

    def add_blob(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def add_manifest(
        self, tag: str, data: bytes, media_type: str = "application/vnd.oci.image.manifest.v1+json"
    ) -> str:
        self.manifests[tag] = self.manifests[digest_of(data)] = (data, media_type)
        return digest_of(data)

    def fault(
        self, method: str, pattern: str, reply: Reply | Callable[[Request, Reply], Reply], *, times: int = 1
    ) -> None:
        """The next ``times`` requests whose target has the pattern get this; a function gets the right answer to change."""
        with self._lock:
            self._faults.append(_Fault(method, re.compile(pattern), reply, times))

    def seen(self, method: str, pattern: str) -> list[Request]:
        with self._lock:
            return [each for each in self.requests if each.method == method and re.search(pattern, each.target)]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            connections = list(self._connections)
        for each in connections:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._server.server_close()

    def __enter__(self) -> FaultyRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            fault = next(
                (
                    each
                    for each in self._faults
                    if each.times and each.method == request.method and each.pattern.search(request.target)
                ),
                None,
            )
            if fault:
                fault.times -= 1
                if isinstance(fault.reply, Reply):
                    return fault.reply
            reply = self._right_answer(request)
        return fault.reply(request, reply) if fault and callable(fault.reply) else reply

    def _right_answer(self, request: Request) -> Reply:
        if request.path == "/token":
            return self._token(request)
        refused = self._refusal(request)
        if refused:
            return refused
        if request.path == "/v2/":
            return Reply()
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags)/(.*)", request.path)
        if not found:
            return _error(404, "NAME_UNKNOWN")
        kind, rest = found.group(2), found.group(3)
        if kind == "manifests":
            return self._manifest(request, rest)
        if kind == "tags":
            tags = [each for each in self.manifests if ":" not in each]
            return Reply(body=json.dumps({"name": found.group(1), "tags": tags}).encode())
        return self._upload(request, found.group(1), rest) if rest.startswith("uploads/") else self._blob(request, rest)

    def _refusal(self, request: Request) -> Reply | None:
        if self.user is None:
            return None
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if self.realm:
            if scheme == "Bearer" and self.tokens.get(value, 0) > 0:
                self.tokens[value] -= 1
                return None
            challenge = f'Bearer realm="{self.realm}",service="faulty"'
        else:
            if scheme == "Basic" and base64.b64decode(value).decode() == ":".join(self.user):
                return None
            challenge = 'Basic realm="faulty"'
        return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})

    def _token(self, request: Request) -> Reply:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        form = parse_qs(request.body.decode(errors="replace"))
        known = (
            self.anonymous_tokens
            or (self.user and scheme == "Basic" and base64.b64decode(value).decode() == ":".join(self.user))
            or (self.user and form.get("refresh_token") == [self.user[1]])
        )
        if not known:
            return _error(401, "UNAUTHORIZED")
        token = f"token{len(self.tokens)}"
        self.tokens[token] = self.token_uses
        return Reply(body=json.dumps({"token": token, "expires_in": 300}).encode())

    def _manifest(self, request: Request, reference: str) -> Reply:
        if request.method == "PUT":
            self.add_manifest(reference, request.body, request.headers.get("content-type", ""))
            return Reply(201, headers={"Docker-Content-Digest": digest_of(request.body)})
        if request.method == "DELETE":
            return Reply(202 if self.manifests.pop(reference, None) else 404)
        if reference not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        data, media_type = self.manifests[reference]
        return Reply(body=data, headers={"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)})

    def _blob(self, request: Request, digest: str) -> Reply:
        data = self.blobs.get(digest)
        if data is None:
            return _error(404, "BLOB_UNKNOWN")
        span = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if span:
            first = int(span.group(1))
            return Reply(206, data[first:], {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"})
        return Reply(body=data)

    def _upload(self, request: Request, repository: str, rest: str) -> Reply:
        if request.method == "POST":
            mounted = request.query.get("mount", [""])[0]
            if mounted in self.blobs:
                return Reply(201, headers={"Location": f"/v2/{repository}/blobs/{mounted}"})
            name = f"upload{len(self.uploads)}"
            self.uploads[name] = b""
            return Reply(202, headers={"Location": f"/v2/{repository}/blobs/uploads/{name}?state=1", "Range": "0-0"})
        name = rest.removeprefix("uploads/")
        if name not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        span = request.headers.get("content-range")
        if span and int(span.partition("-")[0]) != len(self.uploads[name]):
            return self._state(repository, name, 416)
        if request.method == "DELETE":
            del self.uploads[name]
            return Reply(204)
        self.uploads[name] += request.body
        if request.method != "PUT":
            return self._state(repository, name, 202 if request.method == "PATCH" else 204)
        data = self.uploads.pop(name)
        if digest_of(data) != request.query["digest"][0]:
            return _error(400, "DIGEST_INVALID")
        self.add_blob(data)
        return Reply(201, headers={"Docker-Content-Digest": digest_of(data)})

    def _state(self, repository: str, name: str, status: int) -> Reply:
        end = max(0, len(self.uploads[name]) - 1)
        return Reply(
            status, headers={"Location": f"/v2/{repository}/blobs/uploads/{name}?state=2", "Range": f"0-{end}"}
        )


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Reply:
    message = code.replace("_", " ").lower()
    return Reply(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), dict(headers or {}))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, registry: FaultyRegistry, context: ssl.SSLContext | None) -> None:
        self.registry = registry
        self.context = context
        super().__init__(("127.0.0.1", 0), _Connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what half of the tests are about."""


class _Connection(socketserver.BaseRequestHandler):
    """One connection, request after request."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        registry, sock = self.server.registry, self.request
        if self.server.context:
            sock = self.server.context.wrap_socket(sock, server_side=True)
        elif sock.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with registry._lock:
            registry._connections.add(sock)
        try:
            with sock.makefile("rb") as stream:
                while self._one(sock, stream):
                    pass
        finally:
            with registry._lock:
                registry._connections.discard(sock)
            sock.close()

    def _one(self, sock: socket.socket, stream) -> bool:  # type: ignore[no-untyped-def]
        line = stream.readline(65536)
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
        reply = self.server.registry.answer(Request(method, target, headers, body))
        for part in _parts(method, reply):
            sock.sendall(part)
        return reply.raw is None and reply.cut is None and reply.length is None and reply.pieces is None


def _parts(method: str, reply: Reply) -> Iterator[bytes]:
    if reply.raw is not None:
        yield reply.raw
        yield from reply.raw_pieces
        return
    length = len(reply.body) if reply.length is None else reply.length
    lines = [f"HTTP/1.1 {reply.status} Whatever"]
    lines += [f"{name}: {value}" for name, value in (*reply.headers.items(), *reply.more_headers)]
    if length >= 0:
        lines.append(f"Content-Length: {length}")
    else:
        lines.append("Connection: close")
    yield ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if method == "HEAD":
        return
    if reply.pieces is not None:
        yield from reply.pieces
    else:
        yield reply.body if reply.cut is None else reply.body[: reply.cut]
