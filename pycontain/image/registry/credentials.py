"""Who we are to a registry: what ``docker login``, ``podman login`` and credential helpers have kept, and how it is kept.

Looked for, in this order: ``$DOCKER_AUTH_CONFIG`` (the document itself), ``config.json`` of ``$DOCKER_CONFIG`` or ~/.docker,
``$REGISTRY_AUTH_FILE``, ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``. In each, a helper named by
``credHelpers`` for the registry comes first, then ``credsStore``, then ``auths``. Stored and erased is in config.json only.

No message, log or ``repr`` of this module has a password, a token or an encoded form of one in it.
Spec: Docker's config.json; containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import os

from ...errors import InvalidArgument, errno_name
from ...record import record
from ..documents import parse_json
from . import credential_helpers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["HUB_KEY", "Credential", "CredentialFile", "Credentials", "parse_credential_file", "registry_of_key"]

HUB_KEY = "https://index.docker.io/v1/"
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_MAX_FILE_BYTES = 4 << 20
_TOKEN_USER = ("<token>", "00000000-0000-0000-0000-000000000000")


@record
class Credential:
    """A user name and password; or an identity token, to be exchanged; or a registry token, to be sent as it is."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credential(username={self.username!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header; "" without a password. Spec: RFC 7617, with UTF-8."""
        return f"Basic {self._encoded}" if self.password else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown to anybody."""
        found = (self.password, self._encoded if self.password else "", self.identity_token, self.registry_token)
        return tuple(each for each in found if each)

    @property
    def _encoded(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@record
class CredentialFile:
    """A parsed config.json or auth.json. ``auths`` are the entries as they are: one that is broken harms only its registry."""

    source: str
    auths: tuple[tuple[str, Any], ...] = ()
    helpers: tuple[tuple[str, str], ...] = ()
    store: str = ""

    def __repr__(self) -> str:
        return f"CredentialFile({self.source!r}, {len(self.auths)} entries)"

    def helper_of(self, domain: str) -> str:
        """The name of the helper for a registry, "" without one."""
        for key, name in self.helpers:
            if registry_of_key(key) == (domain, ""):
                return name
        return self.store

    def find(self, domain: str, path: str = "") -> Credential | None:
        """The entry of the longest key that covers ``domain/path``. Raises: InvalidArgument: the entry is broken."""
        best: tuple[int, str, Any] | None = None
        for key, entry in self.auths:
            registry, scope = registry_of_key(key)
            covers = registry == domain and (not scope or f"{path}/".startswith(f"{scope}/"))
            if covers and entry and (best is None or len(scope) > best[0]):
                best = (len(scope), key, entry)
        return _credential(best[2], best[1], self.source) if best else None


def registry_of_key(key: str) -> tuple[str, str]:
    """A key of ``auths`` as (registry, path): ``https://index.docker.io/v1/``, ``registry.example.org``, ``quay.io/team``.

    The path after a scheme is no repository: old Docker wrote the URL of its API version 1.
    """
    text = key.strip()
    for scheme in ("https://", "http://"):
        if text.lower().startswith(scheme):
            host = text[len(scheme) :].partition("/")[0].lower()
            return ("docker.io" if host in _HUB else host, "")
    host, _, path = text.partition("/")
    host = host.lower()
    if host in _HUB:
        return "docker.io", "" if path.strip("/") in ("v1", "v2") else path.strip("/")
    return host, "" if path.strip("/") in ("v1", "v2") else path.strip("/")


def parse_credential_file(data: bytes, source: str) -> CredentialFile:
    """Raises: InvalidArgument: names the file and the field, never a value."""
    if not data.strip():
        return CredentialFile(source=source)
    document = parse_json(data, source)
    auths = _object(document, "auths", source)
    helpers = _object(document, "credHelpers", source)
    store = document.get("credsStore") or ""
    if not isinstance(store, str):
        raise InvalidArgument(f"cannot use {source}: credsStore is not a text")
    for key, name in helpers.items():
        if not isinstance(name, str):
            raise InvalidArgument(f"cannot use {source}: credHelpers[{key[:160]!r}] is not a text")
    return CredentialFile(source=source, auths=tuple(auths.items()), helpers=tuple(helpers.items()), store=store)


class Credentials:
    """What one user has. Files are read when first asked for, and once; ``store`` and ``erase`` read anew."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, helper_timeout_s: float = 60.0) -> None:
        self._environ = os.environ if environ is None else environ
        self._helper_timeout_s = helper_timeout_s
        self._files: list[CredentialFile] | None = None

    @property
    def path(self) -> str:
        """Docker's config.json of this user, where a login is kept."""
        directory = self._environ.get("DOCKER_CONFIG") or f"{self._home()}/.docker"
        return f"{directory.rstrip('/')}/config.json"

    def find(self, domain: str, path: str = "") -> Credential | None:
        """For a repository of a registry ("docker.io", "library/debian").

        Raises: InvalidArgument: a file or the registry's entry cannot be read; RegistryError: a helper failed.
        """
        domain = registry_of_key(domain)[0]
        if self._files is None:
            self._files = self._read_all()
        for file in self._files:
            helper = file.helper_of(domain)
            found = self._from_helper(helper, domain) if helper else None
            found = found or file.find(domain, path)
            if found:
                return found
        return None

    def store(self, domain: str, credential: Credential) -> str:
        """Keeps a login: where it is now, a helper's name or a file's path; a file has it unencrypted.

        Raises: InvalidArgument: config.json cannot be read or written; RegistryError: the helper failed.
        """
        from . import config_file

        domain = registry_of_key(domain)[0]
        self._files = None
        with config_file.editing(self.path) as config:
            helper = parse_credential_file(config.data, self.path).helper_of(domain)
            if helper:
                secret = credential.identity_token or credential.password
                username = "<token>" if credential.identity_token else credential.username
                credential_helpers.store(helper, _key(domain), username, secret, timeout_s=self._helper_timeout_s)
                # a password beside the helper's would stay readable, as a leftover of a login before it
                config.replace_entry(domain, _key(domain), None)
                return credential_helpers.program_name(helper)
            config.replace_entry(domain, _key(domain), _entry(credential))
            return self.path

    def erase(self, domain: str) -> bool:
        """Forgets a login: whether there was one. Raises: as :meth:`store`."""
        from . import config_file

        domain = registry_of_key(domain)[0]
        self._files = None
        if not os.path.exists(self.path):
            return False
        with config_file.editing(self.path) as config:
            helper = parse_credential_file(config.data, self.path).helper_of(domain)
            erased = False
            if helper:
                erased = self._from_helper(helper, domain) is not None
                credential_helpers.erase(helper, _key(domain), timeout_s=self._helper_timeout_s)
            return config.replace_entry(domain, _key(domain), None) or erased

    def is_elsewhere(self, domain: str) -> str:
        """A file other than config.json in which a login for the registry is still kept, or "" ."""
        domain = registry_of_key(domain)[0]
        for file in self._read_all():
            if file.source != self.path and (file.helper_of(domain) or file.find(domain)):
                return file.source
        return ""

    def _from_helper(self, helper: str, domain: str) -> Credential | None:
        found = credential_helpers.get(helper, _key(domain), timeout_s=self._helper_timeout_s)
        if found is None:
            return None
        username, secret = found
        if username == "<token>":
            return Credential(identity_token=secret)
        return Credential(username=username, password=secret)

    def _read_all(self) -> list[CredentialFile]:
        files: list[CredentialFile] = []
        inline = self._environ.get("DOCKER_AUTH_CONFIG", "")
        if inline:
            files.append(parse_credential_file(inline.encode(errors="surrogateescape"), "$DOCKER_AUTH_CONFIG"))
        for path in self._paths():
            data = _read(path)
            if data is not None:
                files.append(parse_credential_file(data, path))
        return files

    def _paths(self) -> list[str]:
        own = self._environ.get("XDG_CONFIG_HOME") or f"{self._home()}/.config"
        runtime = self._environ.get("XDG_RUNTIME_DIR", "")
        found = [self.path, self._environ.get("REGISTRY_AUTH_FILE", "")]
        found += [f"{runtime}/containers/auth.json" if runtime else "", f"{own}/containers/auth.json"]
        return list(dict.fromkeys(each for each in found if each))

    def _home(self) -> str:
        home = self._environ.get("HOME", "")
        if not home.startswith("/"):
            import pwd

            try:
                home = pwd.getpwuid(os.geteuid()).pw_dir
            except KeyError:
                home = "/"
        return home.rstrip("/")


def _credential(entry: Any, key: str, source: str) -> Credential | None:
    """Raises: InvalidArgument."""
    where = f"cannot use {source}: auths[{key[:160]!r}]"
    remedy = f"`pycontain login {registry_of_key(key)[0][:160]}` writes it anew"
    if not isinstance(entry, dict):
        raise InvalidArgument(f"{where} is not an object: {remedy}")
    texts = {name: entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken", "registrytoken")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise InvalidArgument(f"{where}.{name} is not a text: {remedy}")
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        try:
            decoded = base64.b64decode(texts["auth"], validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidArgument(f"{where}.auth is not base64 of USER:PASSWORD: {remedy}") from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise InvalidArgument(f"{where}.auth is not base64 of USER:PASSWORD: {remedy}")
        password = password.rstrip("\0")  # as Docker has it
    made = Credential(
        username="" if username in _TOKEN_USER and texts["identitytoken"] else username, password=password,
        identity_token=texts["identitytoken"], registry_token=texts["registrytoken"],
    )  # fmt: skip
    return made if made.secrets else None


def _entry(credential: Credential) -> dict[str, str]:
    auth = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
    entry = {"auth": auth}
    if credential.identity_token:
        entry["identitytoken"] = credential.identity_token
    return entry


def _key(domain: str) -> str:
    return HUB_KEY if domain == "docker.io" else domain


def _object(document: dict[str, Any], key: str, source: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"cannot use {source}: {key} is not an object")
    return value


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror} ({errno_name(error.errno or 0)})") from None
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidArgument(f"cannot read {path}: more than {_MAX_FILE_BYTES} bytes")
    return data
