"""The engine's functions over images that a test makes up, and command lines run as the program does."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pycontain.cli import main as cli
from pycontain.engine import images as engine
from pycontain.errors import ImageNotFound, PycontainError
from pycontain.image.details import ImageDetails, LayerInfo
from pycontain.image.digest import parse_digest
from pycontain.image.documents import OCI_LAYER, OCI_MANIFEST, Descriptor
from pycontain.image.records import ImageInfo
from pycontain.image.rootfs import ImageConfig

ID = "sha256:" + "0123456789abcdef" * 4


@dataclass
class Ended:
    code: int
    out: str
    err: str


def info(name: str = "app:1.0", **more: Any) -> ImageInfo:
    fields: dict[str, Any] = {
        "id": ID, "names": (name,) if name else (), "digests": (), "created": "2024-03-10T12:34:56Z", "size": 1234567, **more,
    }  # fmt: skip
    return ImageInfo(**fields)


def layer(number: int = 1, size: int = 1000, path: str = "/nowhere") -> LayerInfo:
    digest = f"sha256:{number:064x}"
    return LayerInfo(
        diff_id=digest, size=size, path=path, descriptor=Descriptor(media_type=OCI_LAYER, digest=parse_digest(digest), size=size)
    )  # fmt: skip


def details(of: ImageInfo, **more: Any) -> ImageDetails:
    fields: dict[str, Any] = {
        "info": of, "config": ImageConfig(), "document": {},
        "manifest": Descriptor(media_type=OCI_MANIFEST, digest=parse_digest(ID), size=1), "layers": (), "history": (),
        "architecture": "amd64", "os": "linux", **more,
    }  # fmt: skip
    return ImageDetails(**fields)


@dataclass
class FakeEngine:
    """What the commands see; ``calls``: what they asked for, (function, its arguments)."""

    images: list[ImageDetails] = field(default_factory=list)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
        monkeypatch.setattr(engine, "list_images", lambda root: [each.info for each in self.images])
        monkeypatch.setattr(engine, "inspect_image", lambda root, text: self.find(text))
        monkeypatch.setattr(engine, "find_image", lambda root, text: self.find(text).info)
        self._patch = monkeypatch.setattr
        return self

    def find(self, text: str) -> ImageDetails:
        for each in self.images:
            names = (*each.info.names, *each.info.digests, each.info.id, each.info.id[7:], each.info.id[7:19])
            if text in names or f"{text}:latest" in names:
                return each
        raise ImageNotFound(f"no such image: {text}")

    def answers(self, name: str, answer: Any) -> None:
        """``answer``: a value, an error, or a function of the call's arguments."""

        def called(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            if isinstance(answer, PycontainError):
                raise answer
            return answer(*args, **options) if callable(answer) else answer

        self._patch(engine, name, called)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """No images; as root, as far as the command line asks; in UTC."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return FakeEngine().install(monkeypatch)


class _Stream(io.TextIOWrapper):
    terminal = False

    def isatty(self) -> bool:
        return self.terminal


def run(
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    stdin: str | bytes = "",
    data_root: str = "/nowhere",
    terminal: bool = False,
) -> Ended:
    """A command line as ``pycontain`` runs it: what it printed, and how it ended."""
    out, err = _Stream(io.BytesIO(), "utf-8"), io.StringIO()
    source = _Stream(io.BytesIO(stdin if isinstance(stdin, bytes) else stdin.encode()), "utf-8")
    source.terminal = out.terminal = terminal
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "stdin", source)
        code = _code(["--data-root", data_root, "--run-root", "/nowhere/run", *words], err)
        out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return Ended(code, buffer.getvalue().decode("utf-8", "replace"), err.getvalue())


def _code(words: list[str], err: io.StringIO) -> int:
    try:
        return cli.main(words)
    except PycontainError as error:
        err.write(f"pycontain: {error}\n")
        return error.exit_code
    except SystemExit as ended:
        return int(ended.code or 0)


Run = Callable[..., Ended]


@pytest.fixture
def command(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``command("images", "-q")`` over the fixture ``fake``."""
    return lambda *words, **options: run(monkeypatch, *words, **options)
