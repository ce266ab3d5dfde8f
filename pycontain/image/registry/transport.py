"""HTTP to registries: connections, TLS, proxies, time-outs, and one request with its answer. The only user of urllib3 (with
:mod:`.patience`).

Every way in which a request can end without an answer becomes a :class:`.failures.Failure` that says in a few words what
happened. Redirects, passwords and repetitions are decided above, in :mod:`.session`.
"""

from __future__ import annotations

import os
import random
import ssl
import threading
import time

import urllib3
from urllib3 import exceptions as errors

from ..._version import __version__
from ...errors import InvalidArgument, PycontainError, errno_name
from ...record import record
from .failures import Failure
from .patience import Abandoned, Patience, TooSlow, Wanted, pool_classes
from .proxies import proxy_of
from .settings import Trust
from .urls import Url, parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import IO

    Body = bytes | IO[bytes] | Iterable[bytes] | None

__all__ = ["Answer", "Clock", "Timeouts", "Transport"]

_CONNECTIONS = 16  # kept open to one host
_DISCARD_BYTES = 65536
_STOPPED = "stopped"


@record
class Clock:
    """What passes the time; tests give another one."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


@record
class Timeouts:
    """Seconds: to connect (each address of a name; TLS included), and from one byte of an answer to the next."""

    connect_s: float = 15.0
    read_s: float = 60.0


class Answer:
    """An answer whose body is still to be read. Close it, or read it to its end."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: Url) -> None:
        self._response = response
        self.url = url
        self.status = response.status
        self.body = b""  # where it was read as part of the request

    def header(self, name: str) -> str:
        """A header's value, "" without it; several of the name are joined by commas."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getlist(name)

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; fewer only at the end, or where the connection ended. Raises: Failure."""
        try:
            return self._response.read(count, decode_content=False)
        except (errors.HTTPError, OSError, ValueError) as error:
            self._response.close()
            raise _failure(error, self.url) from None

    def read_all(self, limit_bytes: int) -> bytes:
        """The whole body. Raises: Failure: more than the limit, or cut off."""
        try:
            if self.content_length is not None and self.content_length > limit_bytes:
                raise Failure(
                    f"an answer of {self.content_length} bytes, the limit is {limit_bytes}", status=self.status
                )
            parts: list[bytes] = []
            left = limit_bytes + 1
            while left and (part := self.read(left)):
                parts.append(part)
                left -= len(part)
            if not left:
                raise Failure(f"an answer of more than {limit_bytes} bytes", status=self.status)
        except Failure:
            self.close()
            raise
        self._response.release_conn()
        return b"".join(parts)

    @property
    def content_length(self) -> int | None:
        text = self.header("content-length").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def discard(self) -> None:
        """Ends the answer; the connection can be used again when little is left of the body."""
        length = self.content_length
        if length is not None and length <= _DISCARD_BYTES:
            try:
                while self.read(_DISCARD_BYTES):
                    pass
            except Failure:
                pass
            self._response.release_conn()
        else:
            self.close()

    def close(self) -> None:
        """Ends the answer and its connection, unless the body was read to its end."""
        self._response.close()
        self._response.release_conn()


class Transport:
    """The connections to all hosts; for many threads at once."""

    def __init__(
        self, *, timeouts: Timeouts | None = None, clock: Clock | None = None, environ: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock or Clock()
        self._timeouts = timeouts or Timeouts()
        self._environ = os.environ if environ is None else environ
        self._wanted = Wanted()
        self._classes = pool_classes(patience or Patience(clock=self.clock.monotonic), self._wanted)
        self._managers: dict[tuple[str, Trust], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def send(
        self, method: str, url: Url, *, trust: Trust, headers: Mapping[str, str] | None = None, body: Body = None,
        timeouts: Timeouts | None = None,
    ) -> Answer:  # fmt: skip
        """One request, without redirects or repetition. Raises: Failure; InvalidArgument: certificates that are unusable."""
        if self._wanted.ended():
            raise Failure(_STOPPED)
        manager = self._manager(url, trust)
        times = timeouts or self._timeouts
        sent = {"User-Agent": f"pycontain/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
        try:
            response = manager.urlopen(
                method, url.text, body=body, headers=sent, retries=False, redirect=False, preload_content=False,
                decode_content=False, timeout=urllib3.Timeout(connect=times.connect_s, read=times.read_s),
            )  # fmt: skip
        except PycontainError:  # of the body's source
            raise
        except (errors.HTTPError, OSError, ValueError) as error:
            raise _failure(error, url) from None
        return Answer(response, url)

    def pause(self, seconds: float) -> None:
        """Raises: Failure: abandoned before or meanwhile."""
        if self.clock.sleep is time.sleep:
            self._wanted.wait_for_end(seconds)
        else:
            self.clock.sleep(seconds)
        if self._wanted.ended():
            raise Failure(_STOPPED)

    def abandon(self) -> None:
        """For another thread: whoever waits here for an answer, or to try again, ends with a Failure, at once or soon after; and so
        does every request from now on. A connection that is being made takes its time."""
        self._wanted.end()

    def close(self) -> None:
        """Closes what is not in use."""
        with self._lock:
            managers, self._managers = list(self._managers.values()), {}
        for each in managers:
            each.clear()

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _manager(self, url: Url, trust: Trust) -> urllib3.PoolManager:
        proxy = proxy_of(url, self._environ)
        with self._lock:
            found = self._managers.get((proxy, trust))
            if found is None:
                found = self._managers[(proxy, trust)] = self._make_manager(proxy, trust)
            return found

    def _make_manager(self, proxy: str, trust: Trust) -> urllib3.PoolManager:
        context = _context(trust)
        direct = urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context)
        manager = self._make_proxy(proxy, context) if proxy else direct
        manager.pool_classes_by_scheme = self._classes
        return manager

    def _make_proxy(self, proxy: str, context: ssl.SSLContext) -> urllib3.ProxyManager:
        account, _, place = proxy.partition("://")[2].rpartition("@")
        scheme = proxy.partition("://")[0].lower()
        try:
            url = parse_url(f"{scheme}://{place.rstrip('/')}")
        except ValueError as error:
            raise InvalidArgument(
                f"cannot use the proxy of HTTP_PROXY and HTTPS_PROXY: it is {error}: write http://host:port"
            ) from None
        from urllib.parse import unquote

        headers = urllib3.make_headers(proxy_basic_auth=unquote(account)) if account else None
        return urllib3.ProxyManager(url.text, proxy_headers=headers, maxsize=_CONNECTIONS, ssl_context=context)


def _context(trust: Trust) -> ssl.SSLContext:
    if trust.verify:
        context = ssl.create_default_context()  # the system's CAs, or those of $SSL_CERT_FILE
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading the system's CAs takes 10 ms
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in trust.cas:
        try:
            context.load_verify_locations(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidArgument(f"cannot use the CA {path}: {_why(error)}: a PEM file is needed") from None
    for certificate, key in trust.clients:
        try:
            # a passphrase would be asked for on the terminal, in the middle of a pull
            context.load_cert_chain(certificate, key, password=lambda: "")
        except OSError as error:
            raise InvalidArgument(
                f"cannot use the client certificate {certificate} with {key}: {_why(error)}: "
                "PEM files that belong together are needed, the key without a passphrase"
            ) from None
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    return f"{error.strerror} ({errno_name(error.errno or 0)})"


def _failure(error: BaseException, url: Url) -> Failure:
    """In a few words, without what the error's own text may hold (URLs with signatures, a proxy's password)."""
    where = f"{url.host}:{url.port}"
    causes = list(_causes(error))
    if _first(causes, errors.ProxyError):
        return Failure(f"the proxy for {where} failed: {_reason(causes)}", again=True, spoke=False)
    certificate = _first(causes, ssl.SSLCertVerificationError)
    if certificate:
        why = getattr(certificate, "verify_message", "") or "it does not verify"
        hint = f"Put its CA into /etc/docker/certs.d/{url.netloc}/ca.crt"
        return Failure(f"the certificate of {where} is not valid: {why}", hint=hint, spoke=False)
    if _first(causes, Abandoned):
        return Failure(_STOPPED)
    slow = _first(causes, TooSlow)
    if slow:
        return Failure(f"{where} is too slow: {slow}", again=True)
    unknown = _first(causes, errors.NameResolutionError)
    if unknown:
        return Failure(f"the name {url.host} is not known", again="Temporary failure" in str(unknown), spoke=False)
    if _first(causes, errors.NewConnectionError):
        return Failure(f"no connection to {where}: {_reason(causes)}", again=True, spoke=False)
    if _first(causes, errors.ConnectTimeoutError):
        return Failure(f"no connection to {where} in time", again=True, spoke=False)
    if _first(causes, errors.ReadTimeoutError, TimeoutError):
        return Failure(f"no answer from {where} in time", again=True)
    if _first(causes, ssl.SSLError, errors.SSLError):
        return Failure(f"no TLS with {where}: {_reason(causes)}", spoke=False)
    if _first(causes, errors.ProtocolError, errors.IncompleteRead, OSError):
        return Failure(f"{where}: {_reason(causes)}", again=_is_cut(causes))
    return Failure(f"{where}: its answer is not HTTP ({type(error).__name__})", spoke=False)


def _first(causes: list[BaseException], *kinds: type[BaseException]) -> BaseException | None:
    return next((each for each in causes if isinstance(each, kinds)), None)


def _is_cut(causes: list[BaseException]) -> bool:
    """Whether the connection ended, rather than something else than HTTP having come."""
    import http.client as http

    garbage = (
        http.BadStatusLine,
        http.LineTooLong,
        http.UnknownProtocol,
        errors.HeaderParsingError,
        errors.InvalidHeader,
    )
    ended = (http.RemoteDisconnected, ConnectionError)
    return not any(isinstance(each, garbage) and not isinstance(each, ended) for each in causes) and not any(
        type(each) is http.HTTPException for each in causes
    )


def _reason(causes: list[BaseException]) -> str:
    import http.client as http

    for cause in causes:
        if isinstance(cause, http.RemoteDisconnected):
            return "the connection was closed without an answer"
        if isinstance(cause, (http.IncompleteRead, errors.IncompleteRead)):
            return "the connection was closed in the middle of an answer"
        if isinstance(cause, ssl.SSLError):
            return (cause.reason or "the handshake failed").replace("_", " ").lower()
        if isinstance(cause, OSError) and cause.errno:
            return f"{os.strerror(cause.errno)} ({errno_name(cause.errno)})"
    if _is_cut(causes):
        return "the connection was cut"
    return "its answer is not HTTP"


def _causes(error: BaseException) -> Iterable[BaseException]:
    """The error, and what it was made of: urllib3 wraps, by ``from`` or as an argument."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        each = queue.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "original_error", None), getattr(each, "reason", None))
        queue += [cause for cause in (*inner, *each.args) if isinstance(cause, BaseException)]
