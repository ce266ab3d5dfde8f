"""Answers to a registry's challenges: Basic, or Bearer with a token that its token server gives for a password.

Where a password may go is decided in :mod:`.realms`. Spec: Docker's registry token authentication ("Token Authentication
Specification", "Oauth2 Token Authentication"); RFC 7617; RFC 6750.
"""

from __future__ import annotations

import threading
from urllib.parse import quote, quote_plus, urlencode

from ...errors import InvalidArgument, PycontainError
from ...record import record
from ..documents import parse_json
from .challenges import Challenge, parse_challenges
from .credentials import Credential
from .failures import Failure, clean_text
from .realms import may_have_password, realm_url
from .urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Fetch = Callable[[str, Url, Mapping[str, str], bytes | None], bytes]

__all__ = ["Authenticator", "parse_token"]

_CLIENT = "pycontain"
_LEAST_S = 60  # what a token is good for, when its server does not say: as the specification has it
_EARLY_S = 10.0  # before it ends: a request takes its time
_MAX_SCOPES = 8
_MAX_SCOPE = 512


@record
class _Token:
    header: str
    until_s: float


class Authenticator:
    """The credentials of one registry, for requests to that registry only; for many threads at once.

    ``fetch(method, url, headers, body)`` asks a token server, without redirects to another host. ``domain`` and ``path`` find
    the credentials; ``named`` are the token servers of :mod:`.realms`, rule 3e; ``given`` replaces what is stored, for a login.
    """

    def __init__(
        self, domain: str, path: str, *, find: Callable[[str, str], Credential | None], fetch: Fetch,
        clock: Callable[[], float], named: Iterable[tuple[str, str]] = (), given: Credential | None = None,
    ) -> None:  # fmt: skip
        self._domain = domain
        self._path = path
        self._find = find
        self._fetch = fetch
        self._clock = clock
        self._named = tuple(named)
        self._credential = given
        self._looked = given is not None
        self._challenge: Challenge | None = None
        self._extra: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._secrets: set[str] = set(given.secrets) if given else set()
        self._note = ""
        self._lock = threading.RLock()  # held while a token is fetched: the other threads want the same one

    def header(self, registry: Url, scopes: tuple[str, ...]) -> str:
        """The ``Authorization`` for a request, "" when none is known to be needed. Raises: Failure."""
        with self._lock:
            if self._challenge is None:
                return ""
            if self._challenge.scheme == "basic":
                return self._own().basic
            return self._bearer(registry, self._challenge, scopes)

    def challenged(self, registry: Url, headers: Iterable[str], scopes: tuple[str, ...], used: str) -> bool:
        """Takes up the 401 of a request that was sent with ``used``: whether it is worth sending again. Raises: Failure."""
        with self._lock:
            known = self._tokens.get(scopes)
            if known and used != known.header and known.until_s > self._clock():
                return True  # another thread has renewed it meanwhile
            self._tokens.pop(scopes, None)
            chosen = self._choose(headers)
            if chosen is None:
                return False
            self._challenge = chosen
            self._extra[scopes] = _scopes(chosen.get("scope"))
            return self.header(registry, scopes) not in ("", used)

    @property
    def hint(self) -> str:
        """What to do about a refusal."""
        with self._lock:
            self._own()
            return self._note or f"Log in with `pycontain login {self._domain}`"

    def redact(self, text: str) -> str:
        """A server's words without what we sent to it: some repeat a request in their error."""
        with self._lock:
            for secret in sorted(self._secrets, key=len, reverse=True):
                for form in (secret, quote(secret, safe=""), quote_plus(secret)):
                    text = text.replace(form, "***")
        return text

    def _choose(self, headers: Iterable[str]) -> Challenge | None:
        try:
            offered = parse_challenges(headers)
        except ValueError as error:
            raise Failure(f"it asks for a login in a way that cannot be read: {error}", status=401) from None
        for scheme in ("bearer", "basic"):
            for each in offered:
                if each.scheme == scheme:
                    return each
        if offered:
            names = ", ".join(sorted({clean_text(each.scheme, 40) for each in offered}))
            raise Failure(f"it asks for a login by {names}; Bearer and Basic are known", status=401)
        return None

    def _own(self) -> Credential:
        """Ours, or an empty one. A broken file or helper does not keep public images from us: it is told on a refusal."""
        if not self._looked:
            self._looked = True
            try:
                self._credential = self._find(self._domain, self._path)
            except PycontainError as error:
                self._note = f"The login for {self._domain} could not be read: {error}"
            if self._credential:
                self._secrets.update(self._credential.secrets)
        return self._credential or Credential()

    def _bearer(self, registry: Url, challenge: Challenge, scopes: tuple[str, ...]) -> str:
        known = self._tokens.get(scopes)
        if known and known.until_s > self._clock():
            return known.header
        own = self._own()
        if own.registry_token:
            return f"Bearer {own.registry_token}"
        try:
            realm = realm_url(challenge.get("realm"), registry, self._domain.lower(), self._named)
        except ValueError as error:
            raise Failure(f"{error}; nothing is sent there", status=401) from None
        if own.secrets and not may_have_password(realm, registry, self._domain.lower(), self._named):
            self._note = (
                f"The password for {self._domain} was not sent to {realm.netloc}, which is another host. If that is its token "
                f"server, set PYCONTAIN_TOKEN_SERVERS={self._domain}={realm.netloc}"
            )
            own = Credential()
        token, lifetime_s = self._ask(realm, challenge.get("service"), self._wanted(scopes), own)
        self._secrets.add(token)
        made = _Token(header=f"Bearer {token}", until_s=self._clock() + max(lifetime_s, _LEAST_S) - _EARLY_S)
        self._tokens[scopes] = made
        return made.header

    def _wanted(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """What the request needs, and what the registry says that it needs."""
        return tuple(dict.fromkeys((*scopes, *self._extra.get(scopes, ()))))

    def _ask(self, realm: Url, service: str, scopes: tuple[str, ...], own: Credential) -> tuple[str, float]:
        headers: dict[str, str] = {}
        body = None
        if own.identity_token:
            form = [("grant_type", "refresh_token"), ("service", service), ("client_id", _CLIENT)]
            form += [("scope", " ".join(scopes)), ("refresh_token", own.identity_token)]
            body = urlencode(form).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            url, method = realm, "POST"
        else:
            query = [("service", service)] if service else []
            query += [("scope", each) for each in scopes]
            if own.password:
                query += [("account", own.username), ("client_id", _CLIENT)]
                headers["Authorization"] = own.basic
            url, method = realm.with_query(urlencode(query)) if query else realm, "GET"
        try:
            data = self._fetch(method, url, headers, body)
            return parse_token(data)
        except ValueError as error:
            raise Failure(f"its token server {realm.host} sent {error}") from None
        except Failure as failure:
            failure.reason = self.redact(f"its token server {realm.host}: {failure.reason}")
            if failure.denied:
                failure.hint = self.hint
            else:
                failure.status, failure.code = 0, ""  # its 404 is not the registry's
            raise


def parse_token(data: bytes) -> tuple[str, float]:
    """A token server's answer: the token, and how many seconds it is good for (0: not said).

    Raises: ValueError: part of a sentence, without the token.
    """
    try:
        document = parse_json(data, "it")
    except InvalidArgument:
        raise ValueError("something else than a JSON object") from None
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token:
        raise ValueError("no token")
    if not token.isascii() or any(char <= " " or char == "\x7f" for char in token):
        raise ValueError("a token with characters that none can have")
    lifetime = document.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or not 0 < lifetime < 1e9:
        return token, 0.0
    return token, float(lifetime)


def _scopes(text: str) -> tuple[str, ...]:
    words = [
        each for each in text.split(" ") if each and len(each) <= _MAX_SCOPE and each.isascii() and each.isprintable()
    ]
    return tuple(words[:_MAX_SCOPES])
