"""Debian's ``docker-registry`` on a free loopback port, for one test: plain, with htpasswd, with TLS of a CA of its own.

    with registries.start(tmp_path, tls=True, htpasswd=("ann", "secret")) as registry:
        registry.host      # "127.0.0.1:41233"
        registry.url       # "https://127.0.0.1:41233"
        registry.ca        # Path of the CA's certificate; None without TLS

It ends with ``stop()`` (the ``with`` block calls it), and with the thread that started it, whatever happens to that.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

__all__ = ["Certificates", "DebianRegistry", "make_certificates", "start"]

_START_S = 30.0
_BCRYPT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass
class DebianRegistry:
    """A running registry. ``storage`` is its own directory of blobs, for tests that damage or count them."""

    process: subprocess.Popen[str]
    storage: Path
    ca: Path | None
    host: str = ""
    _lines: list[str] = field(default_factory=list)
    _listening: threading.Event = field(default_factory=threading.Event)
    _reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://{self.host}"

    def log(self) -> str:
        """What it has printed, the access log included (a request's line comes after its answer)."""
        return "".join(self._lines)

    def stop(self) -> None:
        """End it and wait for that; a second call does nothing."""
        if self.process.poll() is None:
            self.process.kill()  # its storage belongs to the test: there is nothing to save
        self.process.wait()
        if self._reader is not None:
            self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> DebianRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_it_listens(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(_START_S) or not self.host:
            self.stop()
            raise AssertionError(f"docker-registry did not start:\n{self.log()}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            _, found, rest = line.partition('msg="listening on ')
            if found and not self.host:  # its own words are the only ones that know the port
                self.host = rest.partition('"')[0].partition(",")[0]
                self._listening.set()
        self._listening.set()  # it has ended


def start(
    directory: Path, *, tls: bool = False, htpasswd: tuple[str, str] | None = None, extra: str = "",
    client_ca: Path | None = None,
) -> DebianRegistry:  # fmt: skip
    """A registry that keeps its blobs in a new directory below ``directory``; deletion is allowed.

    ``htpasswd`` is (user, password); ``extra`` are lines for the end of its configuration (YAML). With ``client_ca`` and
    ``tls``, clients need a certificate of that CA.
    Skips the test where Debian's package is not installed.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (tests/peers/install.sh)")
    own = Path(tempfile.mkdtemp(prefix="registry-", dir=directory))
    lines = [
        "version: 0.1",
        "log: {level: info, formatter: text}",
        f"storage: {{filesystem: {{rootdirectory: {own}/storage}}, delete: {{enabled: true}}}}",
        "http:",
        '  addr: "127.0.0.1:0"',
        f"  secret: {secrets.token_hex(16)}",
    ]
    certificates = make_certificates(own) if tls else None
    if certificates:
        clients = f", clientcas: [{client_ca}]" if client_ca else ""
        lines.append(f"  tls: {{certificate: {certificates.certificate}, key: {certificates.key}{clients}}}")
    if htpasswd:
        (own / "htpasswd").write_text(f"{htpasswd[0]}:{_bcrypt(htpasswd[1])}\n")
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {own}/htpasswd}}}}")
    (own / "config.yml").write_text("\n".join([*lines, extra]) + "\n")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", program, "serve", str(own / "config.yml")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")},
    )  # fmt: skip
    registry = DebianRegistry(process, own / "storage", certificates.ca if certificates else None)
    registry._wait_until_it_listens()
    return registry


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """PEM files: a CA, and a certificate that it signed for ``localhost`` and 127.0.0.1, with its key."""

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path, *, name: str = "server") -> Certificates:
    """Made by openssl, valid from now for a day."""
    made = Certificates(
        ca=directory / f"{name}-ca.crt", ca_key=directory / f"{name}-ca.key",
        certificate=directory / f"{name}.crt", key=directory / f"{name}.key",
    )  # fmt: skip
    new = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
        "-days",
        "1",
    )
    _openssl(
        *new, "-subj", f"/CN=CA of {name}", "-keyout", str(made.ca_key), "-out", str(made.ca),
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    _openssl(
        *new, "-CA", str(made.ca), "-CAkey", str(made.ca_key), "-subj", f"/CN={name}", "-keyout", str(made.key),
        "-out", str(made.certificate), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth,clientAuth",
    )  # fmt: skip
    return made


def _openssl(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def _bcrypt(password: str) -> str:
    """The only kind of line that docker-registry takes; Debian's libc has it, Python's hashlib has not."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    salt = "".join(secrets.choice(_BCRYPT) for _ in range(21)) + "u"  # 128 bits: the last letter has only 2 of its 6
    made: bytes | None = crypt(password.encode(), f"$2b$05${salt}".encode())
    assert made is not None and made.startswith(b"$2b$"), "this host's libcrypt has no bcrypt"
    return made.decode()
