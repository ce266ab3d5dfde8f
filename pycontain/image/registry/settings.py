"""What this host's files say about registries, read once: mirrors, insecure registries, certificates, blocked ones.

Both families of files count. containers': ``$CONTAINERS_REGISTRIES_CONF``, else ``~/.config/containers/registries.conf``, else
``/etc/containers/registries.conf``, and then ``registries.conf.d/*.conf`` of /etc/containers and ~/.config/containers. Docker's:
``/etc/docker/daemon.json`` and ``~/.config/docker/daemon.json`` (rootless), together. Certificates of a registry are in the
directory HOST[:PORT] of ``certs.d`` beside each: ``*.crt`` are CAs, ``*.cert`` with ``*.key`` of the same name a client's.
``$SSL_CERT_FILE`` replaces the system's CAs, as OpenSSL has it. ``$XDG_CONFIG_HOME`` counts where ~/.config is written here.

A registry on this machine (localhost, 127.0.0.0/8) is insecure unless it has a CA there: https is tried first, then http.
"""

from __future__ import annotations

import ipaddress
import os

from ...errors import InvalidArgument, RegistryError, errno_name
from ...record import record
from .daemon_json import DaemonSettings, Network, parse_daemon_json
from .realms import parse_token_servers
from .registries_conf import Rule, matching_rule, merge_rules, parse_registries_conf, rewritten
from .urls import Url, host_and_port, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Endpoint", "RegistrySettings", "SettingsPaths", "Trust", "load_settings", "settings_paths"]

_MAX_FILE_BYTES = 4 << 20
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_HOST = "registry-1.docker.io"


@record
class Trust:
    """How a host proves who it is, and we to it. Paths of PEM files; ``clients`` are (certificate, key)."""

    verify: bool = True
    cas: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()


@record
class Endpoint:
    """One place where a repository is asked for. ``name`` is what the user calls it: "docker.io/library/debian".

    ``host`` is ``host[:port]``; ``prefix`` the path above ``/v2/``; ``scheme`` "" is https, and http where ``insecure``.
    ``pull``: for which references, as in registries.conf; ``domain`` has the credentials.
    """

    name: str
    host: str
    repository: str
    insecure: bool = False
    scheme: str = ""
    prefix: str = ""
    mirror: bool = False
    pull: str = "all"

    @property
    def domain(self) -> str:
        return self.name.partition("/")[0]


@record
class RegistrySettings:
    """``cas``: CA files in place of the system's. ``token_servers``: see :mod:`.realms`, rule 3e."""

    rules: tuple[Rule, ...] = ()
    hub_mirrors: tuple[Url, ...] = ()
    insecure_hosts: frozenset[str] = frozenset()
    insecure_networks: tuple[Network, ...] = ()
    certificate_dirs: tuple[str, ...] = ()
    token_servers: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""

    def endpoints(self, domain: str, path: str, *, push: bool = False) -> tuple[Endpoint, ...]:
        """Where ``domain/path`` is asked for, in order: mirrors, unless it is for a push, and the registry itself last.

        Raises: RegistryError: the registry is blocked.
        """
        repository = f"{domain}/{path}"
        rule = matching_rule(self.rules, repository)
        own = self._endpoint(
            rewritten(rule, rule.location, repository) if rule else repository, rule is not None and rule.insecure
        )
        if rule and rule.blocked:
            raise RegistryError(f"cannot use {repository}: {rule.source} says that {rule.prefix} is blocked")
        if push:
            return (own,)
        found: list[Endpoint] = []
        for mirror in rule.mirrors if rule else ():
            location = rewritten(rule, mirror.location, repository) if rule else ""
            found.append(self._endpoint(location, mirror.insecure, mirror=True, pull=mirror.pull))
        if domain in _HUB and not (rule and rule.location and own.host != _HUB_HOST):
            found += [self._hub_mirror(url, path) for url in self.hub_mirrors]
        return (*found, own)

    def endpoint_of(self, domain: str) -> Endpoint:
        """The registry itself, without a repository: for a login."""
        return self.endpoints(domain, "library", push=True)[-1]

    def trust(self, host: str, *, insecure: bool = False) -> Trust:
        """``host`` is ``host[:port]``, the port left out where it is 443. Reads the names in certs.d.

        Raises: InvalidArgument: a client's certificate without its key, a directory that cannot be read.
        """
        cas: list[str] = [self.ca_file] if self.ca_file else []
        clients: list[tuple[str, str]] = []
        for directory in (f"{each}/{host}" for each in self.certificate_dirs):
            own_cas, own_clients = _certificates(directory)
            cas += own_cas
            clients += own_clients
        return Trust(verify=not insecure, cas=tuple(cas), clients=tuple(clients))

    def is_insecure(self, host: str) -> bool:
        """Whether ``host[:port]`` need not prove who it is, and may be spoken to by http."""
        try:
            name, _ = host_and_port(host, "https")
        except ValueError:
            return False
        if {host.lower(), name} & self.insecure_hosts:
            return True
        if is_loopback(name):
            return not any(_certificates(f"{each}/{host}")[0] for each in self.certificate_dirs)
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return any(address in network for network in self.insecure_networks)

    def _endpoint(self, repository: str, insecure: bool, *, mirror: bool = False, pull: str = "all") -> Endpoint:
        domain, _, path = repository.partition("/")
        host = _HUB_HOST if domain in _HUB else domain
        return Endpoint(
            name=f"docker.io/{path}" if domain in _HUB else repository, host=host, repository=path,
            insecure=insecure or self.is_insecure(host), mirror=mirror, pull=pull,
        )  # fmt: skip

    def _hub_mirror(self, url: Url, path: str) -> Endpoint:
        return Endpoint(
            name=f"{url.netloc}/{path}", host=url.netloc, repository=path, scheme=url.scheme, mirror=True,
            insecure=url.scheme == "http" or self.is_insecure(url.netloc), prefix=url.target.rstrip("/"),
        )  # fmt: skip


@record
class SettingsPaths:
    """Files that need not exist; ``named`` is one that must, since the user named it. Later ones count more."""

    named: str = ""
    registries: tuple[str, ...] = ()
    drop_ins: tuple[str, ...] = ()
    daemons: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


def settings_paths(environ: Mapping[str, str]) -> SettingsPaths:
    """The places of this user. Pure."""
    home = environ.get("HOME", "")
    own = environ.get("XDG_CONFIG_HOME", "")
    if not own.startswith("/"):
        own = f"{home}/.config" if home.startswith("/") else ""
    bases = ("/etc", own) if own else ("/etc",)
    return SettingsPaths(
        named=environ.get("CONTAINERS_REGISTRIES_CONF", ""),
        registries=tuple(f"{each}/containers/registries.conf" for each in reversed(bases)),
        drop_ins=tuple(f"{each}/containers/registries.conf.d" for each in bases),
        daemons=tuple(f"{each}/docker/daemon.json" for each in reversed(bases)),
        certificates=tuple(f"{each}/{family}/certs.d" for each in bases for family in ("docker", "containers")),
    )


def load_settings(environ: Mapping[str, str] | None = None, paths: SettingsPaths | None = None) -> RegistrySettings:
    """Reads the files. Raises: InvalidArgument: names the file, and the field."""
    environ = os.environ if environ is None else environ
    paths = paths or settings_paths(environ)
    daemons = [parse_daemon_json(*each) for each in _readable(paths.daemons)]
    ca_file = environ.get("SSL_CERT_FILE", "")
    if ca_file and not os.path.exists(ca_file):
        raise InvalidArgument(f"cannot use $SSL_CERT_FILE: {ca_file}: no such file: unset it, or name a file of CAs")
    try:
        token_servers = parse_token_servers(environ.get("PYCONTAIN_TOKEN_SERVERS", ""))
    except ValueError as error:
        raise InvalidArgument(f"cannot use $PYCONTAIN_TOKEN_SERVERS: {error}") from None
    return RegistrySettings(
        rules=merge_rules(parse_registries_conf(*each) for each in _registries_files(paths)),
        hub_mirrors=tuple(url for each in daemons for url in each.mirrors), insecure_hosts=_hosts(daemons),
        insecure_networks=tuple(network for each in daemons for network in each.insecure_networks),
        certificate_dirs=paths.certificates, token_servers=token_servers, ca_file=ca_file,
    )  # fmt: skip


def _hosts(daemons: Iterable[DaemonSettings]) -> frozenset[str]:
    return frozenset(host for each in daemons for host in each.insecure_hosts)


def _registries_files(paths: SettingsPaths) -> list[tuple[bytes, str]]:
    named = [(_read(paths.named), paths.named)] if paths.named else []
    found = named or _existing(paths.registries)[:1]
    for directory in paths.drop_ins:
        names = [name for name in _names(directory) if name.endswith(".conf")]
        found += _existing(f"{directory}/{name}" for name in names)
    return found


def _existing(paths: Iterable[str]) -> list[tuple[bytes, str]]:
    return [(_read(path), path) for path in paths if os.path.exists(path)]


def _readable(paths: Iterable[str]) -> list[tuple[bytes, str]]:
    """Docker's file can be root's alone, and has nothing to say to a user then: what it allows is only allowed to root."""
    return [(_read(path), path) for path in paths if os.access(path, os.R_OK)]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror} ({errno_name(error.errno or 0)})") from None
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidArgument(f"cannot read {path}: more than {_MAX_FILE_BYTES} bytes")
    return data


def _names(directory: str, *, secret: bool = False) -> list[str]:
    """``secret``: a directory that may be root's alone; to others it is empty, as containers' tools have it."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if secret and isinstance(error, PermissionError):
            return []
        raise InvalidArgument(f"cannot read {directory}: {error.strerror} ({errno_name(error.errno or 0)})") from None


def _certificates(directory: str) -> tuple[list[str], list[tuple[str, str]]]:
    names = _names(directory, secret=True)
    cas = [f"{directory}/{name}" for name in names if name.endswith(".crt")]
    clients: list[tuple[str, str]] = []
    for name in (each for each in names if each.endswith(".cert")):
        key = name.removesuffix(".cert") + ".key"
        if key not in names:
            raise InvalidArgument(f"cannot use {directory}/{name}: its key, {key}, is not beside it")
        clients.append((f"{directory}/{name}", f"{directory}/{key}"))
    for name in (each for each in names if each.endswith(".key")):
        if name.removesuffix(".key") + ".cert" not in names:
            raise InvalidArgument(
                f"cannot use {directory}/{name}: its certificate, {name.removesuffix('.key')}.cert, is not beside it: "
                "CAs end in .crt, client certificates in .cert"
            )
    return cas, clients
