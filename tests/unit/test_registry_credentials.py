"""config.json and its kin: found, kept, forgotten; and never shown."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, RegistryError
from pycontain.image.registry.credentials import (
    HUB_KEY,
    Credential,
    Credentials,
    parse_credential_file,
    registry_of_key,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure

SECRET = "s3cr3t-p4ssw0rd"
HELPER = """#!/bin/sh
read -r input || [ -n "$input" ]
echo "$1 $input" >> "$0.log"
case "$1 $input" in
"get has.corp") echo '{"ServerURL":"has.corp","Username":"ann","Secret":"s3cr3t-p4ssw0rd"}' ;;
"get token.corp") echo '{"Username":"<token>","Secret":"s3cr3t-p4ssw0rd"}' ;;
"get broken.corp") echo 's3cr3t-p4ssw0rd' ;;
"get fails.corp") echo 's3cr3t-p4ssw0rd' >&2; echo 's3cr3t-p4ssw0rd'; exit 3 ;;
get*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


def _auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    helper = tmp_path / "bin/docker-credential-fake"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def _write(home: Path, document: object, name: str = ".docker/config.json") -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        (HUB_KEY, "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("r.corp:5000", "r.corp:5000"),
        ("https://r.corp:5000/v1/", "r.corp:5000"),
        ("http://r.corp:5000", "r.corp:5000"),
        ("R.corp:5000", "r.corp:5000"),
        ("r.corp:5000/v2/", "r.corp:5000"),
    ],
)
def test_keys_of_a_registry(home: Path, key: str, domain: str) -> None:
    _write(home, {"auths": {key: {"auth": _auth("ann", "a:b")}}})
    found = Credentials().find(domain)
    assert found and (found.username, found.password) == ("ann", "a:b")
    assert found.basic == "Basic " + _auth("ann", "a:b")
    assert Credentials().find("other.corp") is None


def test_a_repositorys_own_entry_comes_first(home: Path) -> None:
    entries = {"r.corp": "all", "r.corp/team": "team", "r.corp/team/app": "app"}
    _write(home, {"auths": {key: {"auth": _auth(user, "p")} for key, user in entries.items()}})
    users = {path: Credentials().find("r.corp", path) for path in ("x", "team/x", "teams/x", "team/app", "")}
    assert {path: each and each.username for path, each in users.items()} == {
        "x": "all", "team/x": "team", "teams/x": "all", "team/app": "app", "": "all",
    }  # fmt: skip


def test_files_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, user in (("run/containers/auth.json", "run"), ("reg.json", "reg"), (".docker/config.json", "docker")):
        _write(home, {"auths": {"r.corp": {"auth": _auth(user, "p")}}}, name)
    found = []
    for variable, value in (
        ("XDG_RUNTIME_DIR", f"{home}/run"),
        ("REGISTRY_AUTH_FILE", f"{home}/reg.json"),
        ("DOCKER_CONFIG", f"{home}/.docker"),
        ("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"r.corp": {"auth": _auth("inline", "p")}}})),
    ):
        if variable == "XDG_RUNTIME_DIR":
            monkeypatch.setenv("DOCKER_CONFIG", f"{home}/nowhere")
        monkeypatch.setenv(variable, value)
        credential = Credentials().find("r.corp")
        found.append(credential and credential.username)
    assert found == ["run", "reg", "docker", "inline"]


def test_tokens(home: Path) -> None:
    entry = {"auth": _auth("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "idt"}
    _write(home, {"auths": {"a": entry, "b": {"registrytoken": "regt"}, "c": {}, "d": {"auth": ""}}})
    a, b = Credentials().find("a"), Credentials().find("b")
    assert a and (a.identity_token, a.basic, a.username) == ("idt", "", "")
    assert b and b.registry_token == "regt"
    assert Credentials().find("c") is None and Credentials().find("d") is None


def test_helpers_for_one_registry_and_for_all(home: Path) -> None:
    _write(home, {"credHelpers": {"has.corp": "fake"}, "auths": {"has.corp": {"auth": _auth("old", "p")}}})
    found = Credentials().find("has.corp")
    assert found and (found.username, found.password) == ("ann", SECRET)
    _write(home, {"credsStore": "fake", "auths": {"none.corp": {"auth": _auth("file", "p")}}})
    token, fallback = Credentials().find("token.corp"), Credentials().find("none.corp")
    assert token and token.identity_token == SECRET
    assert fallback and fallback.username == "file"


@pytest.mark.parametrize(
    ("helper", "domain", "phrase"),
    [
        ("fake", "broken.corp", "is not a JSON object with Username and Secret"),
        ("fake", "fails.corp", r"failed to get what it has for fails.corp \(exit code 3\)"),
        ("absent", "has.corp", "no such program in PATH"),
        ("../fake", "has.corp", "letters, digits"),
        ("fa/ke", "has.corp", "letters, digits"),
        ("fake; touch x", "has.corp", "letters, digits"),
    ],
)
def test_helpers_that_fail(home: Path, helper: str, domain: str, phrase: str) -> None:
    _write(home, {"credHelpers": {domain: helper}})
    with pytest.raises((RegistryError, InvalidArgument), match=phrase) as caught:
        Credentials().find(domain)
    assert SECRET not in str(caught.value)


def test_a_helper_that_never_answers(home: Path) -> None:
    (home / "bin/docker-credential-fake").write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    _write(home, {"credsStore": "fake"})
    with pytest.raises(RegistryError, match=r"did not answer within 0\.2 s"):
        Credentials(helper_timeout_s=0.2).find("has.corp")


def test_a_helper_is_not_taken_from_the_current_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "bin")
    monkeypatch.setenv("PATH", ".::bin")
    _write(home, {"credsStore": "fake"})
    with pytest.raises(RegistryError, match="no such program"):
        Credentials().find("has.corp")


@pytest.mark.parametrize(
    ("document", "phrase"),
    [
        ({"auths": []}, "auths is not an object"),
        ({"auths": {"r.corp": "x"}}, r"auths\['r.corp'\] is not an object: `pycontain login r.corp` writes it anew"),
        ({"auths": {"r.corp": {"auth": "???" + SECRET}}}, "auth is not base64"),
        ({"auths": {"r.corp": {"auth": base64.b64encode(SECRET.encode()).decode()}}}, "auth is not base64 of USER"),
        ({"auths": {"r.corp": {"auth": base64.b64encode(b"\xff:" + SECRET.encode()).decode()}}}, "auth is not base64"),
        ({"auths": {"r.corp": {"auth": 5}}}, "auth is not a text"),
        ({"credsStore": 5}, "credsStore is not a text"),
        ({"credHelpers": {"r.corp": 5}}, r"credHelpers\['r.corp'\] is not a text"),
    ],
)
def test_broken_files_name_themselves_and_no_secret(home: Path, document: object, phrase: str) -> None:
    path = _write(home, document)
    with pytest.raises(InvalidArgument, match=phrase) as caught:
        Credentials().find("r.corp")
    text = str(caught.value)
    assert str(path) in text and SECRET not in text and base64.b64encode(SECRET.encode()).decode() not in text


def test_a_broken_entry_harms_only_its_registry(home: Path) -> None:
    _write(home, {"auths": {"bad.corp": {"auth": "???"}, "good.corp": {"auth": _auth("ann", "p")}}})
    assert Credentials().find("good.corp")


def test_a_login_leaves_everything_else_alone(home: Path) -> None:
    before = {"HttpHeaders": {"X": "é"}, "auths": {"o.corp": {"auth": "x", "unknown": 1}}, "psFormat": "t", "n": 2**70}
    path = _write(home, before)
    path.chmod(0o644)
    assert Credentials().store("r.corp", Credential(username="ann", password=SECRET)) == str(path)
    after = json.loads(path.read_text())
    assert after.pop("auths") == {"o.corp": {"auth": "x", "unknown": 1}, "r.corp": {"auth": _auth("ann", SECRET)}}
    assert after == {name: value for name, value in before.items() if name != "auths"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["config.json"]


def test_a_first_login_makes_a_private_directory(home: Path) -> None:
    Credentials().store("docker.io", Credential(username="ann", password="p"))
    assert stat.S_IMODE((home / ".docker").stat().st_mode) == 0o700
    assert list(json.loads((home / ".docker/config.json").read_text())["auths"]) == [HUB_KEY]


def test_a_symbolic_link_stays_one(home: Path) -> None:
    real = _write(home, {"auths": {}}, "dotfiles/docker.json")
    (home / ".docker").mkdir()
    (home / ".docker/config.json").symlink_to("../dotfiles/docker.json")
    Credentials().store("r.corp", Credential(username="ann", password="p"))
    assert (home / ".docker/config.json").is_symlink()
    assert "r.corp" in json.loads(real.read_text())["auths"]


def test_a_new_login_replaces_the_entries_of_its_old_names(home: Path) -> None:
    path = _write(home, {"auths": {name: {"auth": "x"} for name in ("https://r.corp/v1/", "r.corp", "r.corp/team")}})
    Credentials().store("r.corp", Credential(identity_token="idt"))
    assert json.loads(path.read_text())["auths"] == {
        "r.corp": {"auth": _auth("", ""), "identitytoken": "idt"}, "r.corp/team": {"auth": "x"},
    }  # fmt: skip
    found = Credentials().find("r.corp")
    assert found and found.identity_token == "idt"


def test_logout(home: Path) -> None:
    assert not Credentials().erase("r.corp") and not (home / ".docker").exists()
    path = _write(home, {"auths": {"https://r.corp": {"auth": "x"}, "o.corp": {"auth": "y"}}, "z": 1})
    assert Credentials().erase("r.corp") and not Credentials().erase("r.corp")
    assert json.loads(path.read_text()) == {"auths": {"o.corp": {"auth": "y"}}, "z": 1}


def test_logins_that_a_helper_keeps(home: Path) -> None:
    path = _write(home, {"credHelpers": {"has.corp": "fake"}, "auths": {"has.corp": {"auth": _auth("old", "p")}}})
    assert Credentials().store("has.corp", Credential(username="ann", password=SECRET)) == "docker-credential-fake"
    assert SECRET not in path.read_text() and json.loads(path.read_text())["auths"] == {}
    assert Credentials().erase("has.corp")
    log = (home / "bin/docker-credential-fake.log").read_text().splitlines()
    assert [line.split()[0] for line in log] == ["store", "get", "erase"]
    assert json.loads(log[0].partition(" ")[2]) == {"ServerURL": "has.corp", "Username": "ann", "Secret": SECRET}


def test_a_login_elsewhere_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _write(home, {"auths": {"r.corp": {"auth": _auth("a", "b")}}}, "auth.json")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(other))
    assert Credentials().is_elsewhere("r.corp") == str(other) and Credentials().is_elsewhere("o.corp") == ""


@pytest.mark.parametrize("document", [b"[]", b"{", b'{"auths": 3}', b'{"auths": {}, "auths": {}}'])
def test_a_file_that_cannot_be_read_is_not_overwritten(home: Path, document: bytes) -> None:
    path = _write(home, {})
    path.write_bytes(document)
    with pytest.raises(InvalidArgument, match=r"config\.json"):
        Credentials().store("r.corp", Credential(username="ann", password=SECRET))
    assert path.read_bytes() == document


def test_logins_at_the_same_time_are_all_kept(home: Path) -> None:
    def login(number: int) -> None:
        Credentials().store(f"r{number}.corp", Credential(username="ann", password="p"))

    threads = [threading.Thread(target=login, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(json.loads((home / ".docker/config.json").read_text())["auths"]) == 8


def test_nothing_shows_a_secret() -> None:
    credential = Credential(username="ann", password=SECRET, identity_token=SECRET, registry_token=SECRET)
    file = parse_credential_file(json.dumps({"auths": {"r": {"auth": _auth("ann", SECRET)}}}).encode(), "f")
    for shown in (repr(credential), str(credential), f"{credential}", repr(file), repr([credential])):
        assert SECRET not in shown and _auth("ann", SECRET) not in shown
    assert set(credential.secrets) == {SECRET, _auth("ann", SECRET)}


@UNHURRIED
@given(st.binary(max_size=300))
def test_any_bytes_are_credentials_or_one_clear_error(data: bytes) -> None:
    try:
        file = parse_credential_file(data, "x.json")
        file.find("r.corp")
    except InvalidArgument as error:
        assert "x.json" in str(error) and "\n" not in str(error)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("a:=/é", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["auths", "r.corp", "auth", "identitytoken", "username", "password", "credsStore"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@UNHURRIED
@given(st.dictionaries(st.sampled_from(["auths", "credHelpers", "credsStore"]), _JSON))
def test_any_document_is_credentials_or_one_clear_error(document: dict[str, object]) -> None:
    try:
        file = parse_credential_file(json.dumps(document).encode(), "x.json")
        found = file.find("r.corp")
        assert found is None or found.secrets
        file.helper_of("r.corp")
    except InvalidArgument as error:
        assert "x.json" in str(error)


@UNHURRIED
@given(st.text(max_size=40))
def test_any_key_names_a_registry(key: str) -> None:
    domain, path = registry_of_key(key)
    assert "/" not in domain and not path.startswith("/")


@UNHURRIED
@given(
    st.text(st.characters(codec="utf-8", exclude_characters=":"), max_size=20),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
)
def test_what_is_kept_is_found(user: str, password: str) -> None:
    document = {"auths": {"r.corp": {"auth": _auth(user, password)}}}
    found = parse_credential_file(json.dumps(document).encode(), "x").find("r.corp")
    assert found == Credential(username=user, password=password)
