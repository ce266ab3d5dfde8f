"""registries.conf, daemon.json, certs.d: where a repository is asked for, and by what right."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, RegistryError
from pycontain.image.registry.daemon_json import parse_daemon_json
from pycontain.image.registry.proxies import proxy_of
from pycontain.image.registry.registries_conf import matching_rule, merge_rules, parse_registries_conf
from pycontain.image.registry.settings import Endpoint, RegistrySettings, SettingsPaths, load_settings, settings_paths
from pycontain.image.registry.urls import parse_url

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure

CONF = """
unqualified-search-registries = ["quay.io"]
short-name-mode = "enforcing"

[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.corp:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.corp"
pull-from-mirror = "digest-only"

[[registry]]
prefix = "docker.io/team"
location = "team.corp/t"

[[registry]]
prefix = "*.example.org"
insecure = true

[[registry]]
location = "gone.example.com"
blocked = true

[[registry]]
location = "quay.io/only"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.quay.corp"
"""


def _settings(conf: str = CONF, daemon: dict[str, object] | None = None) -> RegistrySettings:
    parsed = parse_daemon_json(json.dumps(daemon or {}).encode(), "daemon.json")
    return RegistrySettings(
        rules=parse_registries_conf(conf.encode(), "r.conf"), hub_mirrors=parsed.mirrors,
        insecure_hosts=frozenset(parsed.insecure_hosts), insecure_networks=parsed.insecure_networks,
    )  # fmt: skip


def _asked(settings: RegistrySettings, domain: str, path: str) -> list[tuple[str, str, bool, str]]:
    return [(each.host, each.repository, each.insecure, each.pull) for each in settings.endpoints(domain, path)]


def test_docker_hub_through_its_mirrors() -> None:
    assert _asked(_settings(), "docker.io", "library/debian") == [
        ("mirror.corp:5000", "hub/library/debian", True, "all"),
        ("second.corp", "library/debian", False, "digest-only"),
        ("registry-1.docker.io", "library/debian", False, "all"),
    ]


def test_a_push_goes_to_the_registry_itself() -> None:
    (own,) = _settings(daemon={"registry-mirrors": ["https://m"]}).endpoints("docker.io", "library/debian", push=True)
    assert (own.host, own.name, own.domain, own.mirror) == (
        "registry-1.docker.io", "docker.io/library/debian", "docker.io", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "path", "host", "repository", "insecure"),
    [
        ("docker.io", "team/app", "team.corp", "t/app", False),
        ("docker.io", "teams/app", "registry-1.docker.io", "teams/app", False),
        ("a.example.org", "x", "a.example.org", "x", True),
        ("A.Example.ORG:5000", "x", "A.Example.ORG:5000", "x", True),
        ("example.org", "x", "example.org", "x", False),
        ("badexample.org", "x", "badexample.org", "x", False),
        ("quay.io", "other", "quay.io", "other", False),
    ],
)
def test_the_longest_prefix_decides(domain: str, path: str, host: str, repository: str, insecure: bool) -> None:
    assert _asked(_settings(), domain, path)[-1][:3] == (host, repository, insecure)


def test_a_blocked_registry_names_the_file() -> None:
    with pytest.raises(RegistryError, match=r"cannot use gone.example.com/x: r.conf says .* blocked"):
        _settings().endpoints("gone.example.com", "x")


def test_mirrors_by_digest_only() -> None:
    assert [each[3] for each in _asked(_settings(), "quay.io", "only/a")] == ["digest-only", "all"]


def test_docker_mirrors_are_for_docker_hub_only() -> None:
    settings = _settings("", {"registry-mirrors": ["https://m.corp/base/", "http://plain.corp:8080"]})
    hub = settings.endpoints("docker.io", "a/b")
    assert [(each.host, each.scheme, each.prefix, each.insecure) for each in hub] == [
        ("m.corp", "https", "/base", False),
        ("plain.corp:8080", "http", "", True),
        ("registry-1.docker.io", "", "", False),
    ]
    assert len(settings.endpoints("quay.io", "a/b")) == 1


@pytest.mark.parametrize(
    ("host", "insecure"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.8.9.1:5000", True),
        ("reg.corp:5000", True),
        ("REG.corp:5000", True),
        ("reg.corp", False),
        ("anyport.corp:1", True),
        ("10.1.2.3:80", True),
        ("11.1.2.3", False),
        ("localhost.evil.net", False),
        ("127.0.0.1.evil.net", False),
        ("not a host", False),
    ],
)
def test_who_is_insecure(host: str, insecure: bool) -> None:
    daemon: dict[str, object] = {"insecure-registries": ["reg.corp:5000", "http://anyport.corp", "10.0.0.0/8"]}
    assert _settings("", daemon).is_insecure(host) is insecure


def test_a_local_registry_with_a_ca_is_a_secure_one(tmp_path: Path) -> None:
    settings = RegistrySettings(certificate_dirs=(str(tmp_path),))
    assert settings.is_insecure("127.0.0.1:5000")
    (tmp_path / "127.0.0.1:5000").mkdir()
    (tmp_path / "127.0.0.1:5000/ca.crt").write_text("")
    assert not settings.is_insecure("127.0.0.1:5000") and settings.is_insecure("127.0.0.1:5001")


@pytest.mark.parametrize(
    ("conf", "phrase"),
    [
        ("[[registry]", "line 1"),
        ("registry = 3", "registry is not a list of tables"),
        ("[registry]\nlocation='a'", "registry is not a list of tables"),
        ("[[registry]]\n", r"registry\[0\] has neither prefix nor location"),
        ("[[registry]]\nlocation = 5", r"registry\[0\].location: a text"),
        ("[[registry]]\nlocation = 'https://x'", r"registry\[0\].location: 'https://x' is not host"),
        ("[[registry]]\nlocation = 'a'\ninsecure = 'yes'", r"registry\[0\].insecure: true or false"),
        ("[[registry]]\nprefix = 'a'", r"registry\[0\] has no location"),
        ("[[registry]]\nprefix = '*'", r"registry\[0\].prefix"),
        ("[[registry]]\nprefix = '*.a/b'", r"registry\[0\].prefix"),
        ("[[registry]]\nlocation='a'\n[[registry.mirror]]\n", r"registry\[0\].mirror\[0\] has no location"),
        (
            "[[registry]]\nlocation='a'\n[[registry.mirror]]\nlocation='b'\npull-from-mirror='x'",
            "all, digest-only, tag-only",
        ),
        (
            "[[registry]]\nlocation='a'\nmirror-by-digest-only=true\n"
            "[[registry.mirror]]\nlocation='b'\npull-from-mirror='all'",
            "contradicts",
        ),
        ("[[registry]]\nlocation='a'\n[[registry]]\nprefix='a'\nlocation='b'", "same prefix, a"),
        ("[registries.insecure]\nregistries=['a']", "version 1"),
    ],
)
def test_a_bad_file_names_itself_and_the_field(conf: str, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase) as caught:
        parse_registries_conf(conf.encode(), "/etc/r.conf")
    assert "/etc/r.conf" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "phrase"),
    [
        (b"{", "daemon.json"),
        (b"[]", "a JSON object"),
        (b'{"insecure-registries": "a"}', "insecure-registries is not a list"),
        (b'{"insecure-registries": ["a b"]}', r"insecure-registries\[0\]: 'a b' is neither"),
        (b'{"insecure-registries": ["10.0.0.0/99"]}', "neither host"),
        (b'{"registry-mirrors": ["m.corp"]}', r"registry-mirrors\[0\] is a URL that is neither http"),
        (b'{"registry-mirrors": ["https://u:p@m.corp"]}', "user name"),
    ],
)
def test_a_bad_daemon_json(document: bytes, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase) as caught:
        parse_daemon_json(document, "/etc/docker/daemon.json")
    assert "/etc/docker/daemon.json" in str(caught.value) and "u:p" not in str(caught.value)


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_one_clear_error(data: bytes) -> None:
    for parse in (parse_registries_conf, parse_daemon_json):
        try:
            parse(data, "x.conf")
        except InvalidArgument as error:
            assert "x.conf" in str(error)


_LINES = st.lists(
    st.sampled_from(
        [
            "[[registry]]",
            "[[registry.mirror]]",
            'location="a.b/c"',
            'prefix="*.x"',
            "insecure=true",
            'prefix="d"',
            "x=1",
        ]
    ),
    max_size=12,
)


@UNHURRIED
@given(_LINES)
def test_any_tables_are_rules_that_match_something(lines: list[str]) -> None:
    try:
        rules = parse_registries_conf("\n".join(lines).encode(), "x.conf")
    except InvalidArgument:
        return
    for rule in rules:
        name = rule.prefix.replace("*", "host") + "/repository"
        assert matching_rule([rule], name) == rule


def test_files_of_system_and_user(tmp_path: Path) -> None:
    etc, home = tmp_path / "etc", tmp_path / "home"
    for path, text in {
        etc / "containers/registries.conf": "[[registry]]\nlocation='sys.corp'\ninsecure=true\n",
        home / "containers/registries.conf": "[[registry]]\nlocation='own.corp'\ninsecure=true\n",
        etc / "containers/registries.conf.d/10-a.conf": "[[registry]]\nlocation='drop.corp'\nblocked=true\n",
        home / "containers/registries.conf.d/10-a.conf": "[[registry]]\nlocation='drop.corp'\ninsecure=true\n",
        etc / "containers/registries.conf.d/readme.txt": "not read",
        etc / "docker/daemon.json": '{"insecure-registries": ["d.corp"], "log-driver": "x"}',
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    paths = settings_paths({"XDG_CONFIG_HOME": str(home)})

    def moved(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{tmp_path}{each}" if each.startswith("/etc/") else each for each in names)

    settings = load_settings(
        {},
        SettingsPaths(
            registries=moved(paths.registries),
            drop_ins=moved(paths.drop_ins),
            daemons=moved(paths.daemons),
            certificates=moved(paths.certificates),
        ),
    )
    assert [(rule.prefix, rule.insecure, rule.blocked) for rule in settings.rules] == [
        ("own.corp", True, False),
        ("drop.corp", True, False),
    ]
    assert settings.is_insecure("d.corp")


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="No such file"):
        load_settings({"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "absent")})
    with pytest.raises(InvalidArgument, match="SSL_CERT_FILE"):
        load_settings({"SSL_CERT_FILE": str(tmp_path / "absent")}, SettingsPaths())
    with pytest.raises(InvalidArgument, match="PYCONTAIN_TOKEN_SERVERS"):
        load_settings({"PYCONTAIN_TOKEN_SERVERS": "nonsense"}, SettingsPaths())


def test_client_certificates_are_pairs(tmp_path: Path) -> None:
    settings = RegistrySettings(certificate_dirs=(str(tmp_path),))
    host = tmp_path / "r.corp"
    host.mkdir()
    for name in ("ca.crt", "me.cert", "me.key"):
        (host / name).write_text("")
    trust = settings.trust("r.corp")
    assert (trust.verify, trust.cas, trust.clients) == (
        True, (f"{host}/ca.crt",), ((f"{host}/me.cert", f"{host}/me.key"),),
    )  # fmt: skip
    (host / "me.key").unlink()
    with pytest.raises(InvalidArgument, match=r"its key, me\.key, is not beside it"):
        settings.trust("r.corp")
    os.rename(host / "me.cert", host / "other.key")
    with pytest.raises(InvalidArgument, match=r"its certificate, other\.cert"):
        settings.trust("r.corp")


def test_rules_of_later_files_replace_earlier_ones() -> None:
    first = parse_registries_conf(b"[[registry]]\nlocation='a'\n[[registry]]\nlocation='b'\n", "1")
    second = parse_registries_conf(b"[[registry]]\nlocation='a'\nblocked=true\n", "2")
    assert [(rule.prefix, rule.source) for rule in merge_rules([first, second])] == [("a", "2"), ("b", "1")]


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://a.org", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.org", {"https_proxy": "p:1"}, "http://p:1"),
        ("http://a.org", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("http://a.org", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://127.0.0.1:5000", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://localhost:5000", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://a.org", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.org, a.org"}, ""),
        ("https://x.a.org", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.org"}, ""),
        ("https://a.org", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".a.org"}, "http://p:1"),
        ("https://xa.org", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.org"}, "http://p:1"),
        ("https://10.1.1.1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://a.org:444", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.org:443"}, "http://p:1"),
        ("https://a.org", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, ""),
        ("http://a.org", {"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}, ""),
    ],
)
def test_which_proxy(url: str, environ: dict[str, str], proxy: str) -> None:
    assert proxy_of(parse_url(url), environ) == proxy


def test_an_endpoint_is_named_as_the_user_knows_it() -> None:
    assert (
        Endpoint(name="docker.io/library/x", host="registry-1.docker.io", repository="library/x").domain == "docker.io"
    )
