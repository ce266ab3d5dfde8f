"""The registries that other tests start: what they answer with and without a password and TLS, and that they end."""

from __future__ import annotations

import base64
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests import registries

pytestmark = pytest.mark.clients


def _status(registry: registries.DebianRegistry, password: str = "") -> int:
    request = urllib.request.Request(f"{registry.url}/v2/")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"ann:{password}".encode()).decode())
    context = ssl.create_default_context(cafile=str(registry.ca)) if registry.ca else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("tls", [False, True])
def test_a_registry_answers_and_ends(tmp_path: Path, tls: bool) -> None:
    with registries.start(tmp_path, tls=tls) as registry:
        assert _status(registry) == 200
    assert registry.process.returncode is not None


@pytest.mark.parametrize("tls", [False, True])
def test_htpasswd_lets_only_its_user_in(tmp_path: Path, tls: bool) -> None:
    with registries.start(tmp_path, tls=tls, htpasswd=("ann", "secret")) as registry:
        assert [_status(registry), _status(registry, "wrong"), _status(registry, "secret")] == [401, 401, 200]
