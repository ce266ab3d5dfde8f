"""A client of the faulty registry, with a clock of the test's own: no time passes, and what would have been slept is written down."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from pycontain.image.digest import parse_digest
from pycontain.image.documents import Descriptor
from pycontain.image.names import parse_reference
from pycontain.image.registry.client import Registry
from pycontain.image.registry.credentials import Credentials
from pycontain.image.registry.patience import Patience
from pycontain.image.registry.settings import RegistrySettings
from pycontain.image.registry.transport import Clock, Timeouts, Transport
from tests.registry_faults import FaultyRegistry, digest_of

DATA = bytes(range(256)) * 4096  # 1 MiB
MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
OCI = "application/vnd.oci.image.manifest.v1+json"
SECRET = "s3cr3t-p4ssw0rd"


@dataclass
class TestClock:
    """``slept``: what the client wanted to wait."""

    __test__ = False
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self._sleep, random=lambda: 1.0)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(
    registry: FaultyRegistry, time: TestClock, *, login: str = "", push: bool = False, settings: RegistrySettings | None = None,
    timeouts: Timeouts | None = None, patience: Patience | None = None, token_servers: tuple[tuple[str, str], ...] = (),
    identity: str = "",
) -> Registry:  # fmt: skip
    auths: dict[str, dict[str, str]] = {}
    if login:
        auths[registry.host] = {"auth": base64.b64encode(login.encode()).decode()}
    if identity:
        auths[registry.host] = {"identitytoken": identity}
    return Registry(
        parse_reference(f"{registry.host}/team/app:v1"), push=push,
        settings=settings or RegistrySettings(token_servers=token_servers),
        credentials=Credentials({"HOME": "/nonexistent", "DOCKER_AUTH_CONFIG": json.dumps({"auths": auths})}),
        transport=Transport(clock=time.clock(), timeouts=timeouts, patience=patience, environ={}),
    )  # fmt: skip


def blob(data: bytes = DATA, *, size: int | None = None) -> Descriptor:
    return Descriptor(media_type="x", digest=parse_digest(digest_of(data)), size=len(data) if size is None else size)
