"""Requests to one endpoint of a repository: with credentials, redirects and repetitions.

Credentials go to the endpoint's own scheme, host and port, and nowhere else: not along a redirect, not to an upload location or
a layer's URL on another host. A redirect from https to http is refused, unless the registry is insecure. What may go better next
time (429, 5xx, a connection that was cut) is sent again, a bounded number of times, later each time.
"""

from __future__ import annotations

import threading
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from ...errors import InvalidArgument
from ..documents import parse_json
from .auth import Authenticator
from .failures import Failure, clean_text
from .settings import Endpoint, RegistrySettings, Trust
from .transport import Answer, Timeouts, Transport
from .urls import Url, host_and_port, is_internal, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .credentials import Credential, Credentials
    from .transport import Body

    MakeBody = Callable[[], Body]

__all__ = ["ATTEMPTS", "Session", "retry_after_s"]

ATTEMPTS = 5
_ATTEMPTS_UNHEARD = 3  # when nobody is there: a wrong port should not take long to tell
_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
_MAX_RETRY_AFTER_S = 60.0  # a server that wants more gets an error: nobody waits an hour for a prompt
_MAX_REDIRECTS = 10
_MAX_LOGINS = 2  # for one request: a token that has ended, and one of more scope
_MAX_ERROR_BYTES = 65536
_MAX_TOKEN_BYTES = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_PROBE = Timeouts(connect_s=5.0, read_s=10.0)


class Session:
    """One endpoint, for many threads at once. ``given``: in place of the stored credentials, for a login. ``foreign``: not a
    registry, and its challenges are not answered."""

    def __init__(
        self, endpoint: Endpoint, *, transport: Transport, settings: RegistrySettings, credentials: Credentials,
        given: Credential | None = None, foreign: bool = False,
    ) -> None:  # fmt: skip
        self.endpoint = endpoint
        self._transport = transport
        self._settings = settings
        self._clock = transport.clock
        self._foreign = foreign
        self._base: Url | None = None
        self._lock = threading.Lock()
        self._auth = Authenticator(
            endpoint.domain, endpoint.repository, find=credentials.find, fetch=self._fetch_token,
            clock=transport.clock.monotonic, named=settings.token_servers, given=given,
        )  # fmt: skip

    def url(self, path: str) -> Url:
        """Of ``/v2/...``. Raises: Failure."""
        base = self._root()
        return Url(scheme=base.scheme, host=base.host, port=base.port, target=self.endpoint.prefix + path)

    def located(self, answer: Answer, name: str = "location") -> Url:
        """Where a header of an answer points. Raises: Failure: nowhere, or to http from https."""
        text = answer.header(name)
        if not text:
            raise Failure(f"its answer {answer.status} has no {name.title()}", status=answer.status)
        return self.follow(answer.url, text)

    def request(
        self, method: str, url: Url, *, scopes: tuple[str, ...] = (), headers: Mapping[str, str] | None = None,
        body: MakeBody | None = None, expect: tuple[int, ...] = (200,), attempts: int = ATTEMPTS,
        timeouts: Timeouts | None = None, body_limit: int | None = None,
    ) -> Answer:  # fmt: skip
        """An answer with one of the statuses ``expect``; any other is a Failure. ``body`` makes it anew for each sending.

        ``body_limit``: read the answer's body, of at most so many bytes, as part of the attempt. Raises: Failure.
        """
        tries = 0
        while True:
            tries += 1
            try:
                answer = self._once(method, url, scopes, dict(headers or {}), body, timeouts)
                if answer.status in expect:
                    if body_limit is not None:
                        answer.body = answer.read_all(body_limit)
                    return answer
                raise self.failure_of(answer)
            except Failure as failure:
                most = attempts if failure.spoke else min(attempts, _ATTEMPTS_UNHEARD)
                if tries >= most or not self.may_repeat(failure):
                    raise
                self.wait(tries, failure)

    def may_repeat(self, failure: Failure) -> bool:
        """Whether there is sense in another attempt, and it can be made soon."""
        return failure.again and (failure.retry_after_s or 0.0) <= _MAX_RETRY_AFTER_S

    def wait(self, tries: int, failure: Failure) -> None:
        """Before attempt ``tries`` + 1: twice as long each time, with a part by chance, at least what the server asked.

        Raises: Failure: nobody waits for it any more.
        """
        longest_s = min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** (tries - 1))
        delay_s = longest_s * (0.5 + 0.5 * self._clock.random())
        self._transport.pause(max(delay_s, failure.retry_after_s or 0.0))

    def failure_of(self, answer: Answer, *, token_server: bool = False) -> Failure:
        """What an answer's status and error document say. Ends the answer. Spec: distribution-spec, "Error Codes"."""
        code, message = "", ""
        try:
            code, message = _first_error(answer.read_all(_MAX_ERROR_BYTES))
        except Failure:
            pass
        status = answer.status
        phrase = message or code.replace("_", " ").lower() or _phrase(status)
        reason = clean_text(self._auth.redact(f"{status} {phrase}"))
        later_s = retry_after_s(answer.header("retry-after"), self._clock.wall()) if status in (429, 503) else None
        if later_s is not None and later_s > _MAX_RETRY_AFTER_S:
            reason += f" (it asks to wait {later_s:.0f} s)"
        own = answer.url.origin == self._root().origin and not self._foreign
        hint = self._auth.hint if status in (401, 403) and own else ""
        if status == 429:
            hint = f"Try again later; a login (`pycontain login {self.endpoint.domain}`) often raises the limit"
        where = "" if own or token_server else f"{answer.url.host}: "
        return Failure(
            where + reason, hint=hint, status=status, code=code, again=status in _AGAIN, retry_after_s=later_s
        )

    def _once(
        self, method: str, url: Url, scopes: tuple[str, ...], headers: dict[str, str], body: MakeBody | None,
        timeouts: Timeouts | None,
    ) -> Answer:  # fmt: skip
        root = self._root()
        ours = (
            url.origin == root.origin and not self._foreign
        )  # once it has left, a redirect does not come back with credentials
        logins = 0
        seen: set[tuple[str, str]] = set()
        while True:
            used = self._auth.header(root, scopes) if ours else ""
            sent = {**headers, "Authorization": used} if used else headers
            answer = self._transport.send(
                method, url, trust=self._trust(url), headers=sent, body=body() if body else None, timeouts=timeouts
            )
            if answer.status in _REDIRECTS:
                seen.add((method, url.text))
                method, url = self._redirected(answer, method, body is not None)
                answer.discard()
                if (method, url.text) in seen or len(seen) > _MAX_REDIRECTS:
                    raise Failure(f"it redirects in circles, at last to {url.shown}")
                if method in ("GET", "HEAD"):
                    body = None
                ours = ours and url.origin == root.origin
            elif answer.status == 401 and ours and logins < _MAX_LOGINS:
                logins += 1
                if not self._auth.challenged(root, self._challenges(answer), scopes, used):
                    return answer
                answer.discard()
            else:
                return answer

    def _challenges(self, answer: Answer) -> list[str]:
        """Of a 401, or, where it has none (old gcr.io), of the registry's front door."""
        found = answer.headers("www-authenticate")
        if found or answer.url.target == f"{self.endpoint.prefix}/v2/":
            return found
        url = self.url("/v2/")
        door = self._transport.send("GET", url, trust=self._trust(url))
        found = door.headers("www-authenticate") if door.status == 401 else []
        door.discard()
        return found

    def _redirected(self, answer: Answer, method: str, has_body: bool) -> tuple[str, Url]:
        try:
            url = self.located(answer)
        except Failure:
            answer.close()
            raise
        if answer.status == 303 and method != "HEAD":
            return "GET", url
        if method not in ("GET", "HEAD") and (
            answer.status not in (307, 308) or (has_body and url.origin != answer.url.origin)
        ):
            answer.close()
            raise Failure(f"it redirects a {method} to {url.shown} ({answer.status})", status=answer.status)
        return method, url

    def follow(self, base: Url, reference: str) -> Url:
        """A Location or Link of an answer from ``base``. Raises: Failure."""
        try:
            url = resolve(base, reference)
        except ValueError as error:
            raise Failure(f"it points to {error}") from None
        if self._foreign and is_internal(url.host) and not is_internal(base.host):
            raise Failure(f"it points to {url.shown}, an address inside a network")
        if base.scheme == "https" and url.scheme == "http" and not self.endpoint.insecure:
            behind = url.host == base.host
            raise Failure(
                f"it points from https to {url.shown}, which is plain http",
                hint="Its proxy has to pass on X-Forwarded-Proto" if behind else "",
            )
        return url

    def _trust(self, url: Url) -> Trust:
        own = self._base is not None and url.origin == self._base.origin
        insecure = self.endpoint.insecure if own else self._settings.is_insecure(url.netloc)
        return self._settings.trust(url.netloc, insecure=insecure)

    def _root(self) -> Url:
        """The endpoint's own scheme, host and port. An insecure one is asked once, which of the two it speaks."""
        with self._lock:
            if self._base is None:
                scheme = self.endpoint.scheme or "https"
                url = self._at(scheme)
                if not self.endpoint.scheme and self.endpoint.insecure and not self._speaks_tls(url):
                    url = self._at("http")
                self._base = url
            return self._base

    def _at(self, scheme: str) -> Url:
        try:
            host, port = host_and_port(self.endpoint.host, scheme)
        except ValueError as error:
            raise Failure(f"{self.endpoint.host!r} is {error}") from None
        return Url(scheme=scheme, host=host, port=port, target="/")

    def _speaks_tls(self, url: Url) -> bool:
        door = Url(scheme=url.scheme, host=url.host, port=url.port, target=f"{self.endpoint.prefix}/v2/")
        trust = self._settings.trust(url.netloc, insecure=True)
        try:
            self._transport.send("GET", door, trust=trust, timeouts=_PROBE).discard()
        except Failure:
            return False
        return True

    def _fetch_token(self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """One answer of a token server, repeated as other requests are. A redirect stays on its host."""
        tries = 0
        while True:
            tries += 1
            try:
                answer = self._from_token_server(method, url, headers, body)
                if answer.status == 200:
                    return answer.read_all(_MAX_TOKEN_BYTES)
                failure = self.failure_of(answer, token_server=True)
            except Failure as caught:
                failure = caught
            if tries >= ATTEMPTS or not self.may_repeat(failure):
                raise failure
            self.wait(tries, failure)

    def _from_token_server(self, method: str, url: Url, headers: Mapping[str, str], body: bytes | None) -> Answer:
        for _ in range(_MAX_REDIRECTS):
            answer = self._transport.send(method, url, trust=self._trust(url), headers=headers, body=body)
            if answer.status not in _REDIRECTS:
                return answer
            target = self.located(answer)
            answer.discard()
            if target.origin != url.origin or method != "GET":
                raise Failure(f"it redirects to {target.shown}, where no password is sent")
            url = target
        raise Failure("it redirects in circles")


def retry_after_s(text: str, now_s: float) -> float | None:
    """Seconds from a ``Retry-After`` of seconds or of a date; None: there is none that can be read. Spec: RFC 9110, 10.2.3."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, date.timestamp() - now_s) if date.tzinfo else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _first_error(data: bytes) -> tuple[str, str]:
    """(code, message) of an error document, "" for what is not there."""
    try:
        errors = parse_json(data, "it").get("errors")
    except InvalidArgument:
        return "", ""
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return "", ""
    code, message = first.get("code"), first.get("message")
    return (
        clean_text(code, 60) if isinstance(code, str) else "",
        clean_text(message) if isinstance(message, str) else "",
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "an unknown status"
