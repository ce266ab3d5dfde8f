"""``WWW-Authenticate``: what registries send, what nobody should, and anything."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.image.registry.challenges import Challenge, parse_challenges

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12)
QUOTED = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30)


def _one(*headers: str) -> Challenge:
    (found,) = parse_challenges(headers)
    return found


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="Registry Realm"', "basic", {"realm": "Registry Realm"}),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:a/b:pull,push",
            },
        ),
        ("Bearer realm=https://x.example/t , service = s", "bearer", {"realm": "https://x.example/t", "service": "s"}),
        ('bearer REALM="a\\"b\\\\c"', "bearer", {"realm": 'a"b\\c'}),
        ('Bearer realm="a, Basic realm=\\"b\\""', "bearer", {"realm": 'a, Basic realm="b"'}),
        ("Negotiate", "negotiate", {}),
        ("Negotiate YIIabc==", "negotiate", {}),
        ('Bearer ,realm="a",,', "bearer", {"realm": "a"}),
        ('Bearer realm="first",realm="second"', "bearer", {"realm": "first"}),
    ],
)
def test_one_challenge(header: str, scheme: str, parameters: dict[str, str]) -> None:
    found = _one(header)
    assert (found.scheme, {name: found.get(name) for name, _ in found.parameters}) == (scheme, parameters)


def test_several_schemes_in_one_header_and_in_two() -> None:
    joined = parse_challenges(['Negotiate, Bearer realm="a",service="b", Basic realm="c"'])
    assert [(each.scheme, each.get("realm")) for each in joined] == [("negotiate", ""), ("bearer", "a"), ("basic", "c")]
    assert [each.scheme for each in parse_challenges(['Basic realm="c"', 'Bearer realm="a"'])] == ["basic", "bearer"]


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="never closed',
        'Bearer realm="a" service="b"',
        "Bearer realm=,service=x",
        'Bearer realm="a\\',
        '"Bearer" realm="a"',
        'Bearer realm="a",="b"',
        "Bearer=x",
        'Bearer realm=a"b',
    ],
)
def test_what_is_no_challenge(header: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_challenges([header])
    assert "never closed" not in str(caught.value) or "quotation" in str(caught.value)


@pytest.mark.parametrize("headers", [["x" * 20000], ["Basic"] * 20, ["a, " * 1000]])
def test_it_is_bounded(headers: list[str]) -> None:
    with pytest.raises(ValueError, match="challenge"):
        parse_challenges(headers)


@UNHURRIED
@given(
    st.lists(
        st.tuples(TOKEN, st.lists(st.tuples(TOKEN, QUOTED), max_size=4, unique_by=lambda p: p[0].lower())), max_size=4
    )
)
def test_written_as_the_rfc_has_it_it_reads_back(challenges: list[tuple[str, list[tuple[str, str]]]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in parameters)}".rstrip(" ")
        if parameters
        else scheme
        for scheme, parameters in challenges
    )
    expected = [(scheme.lower(), [(n.lower(), v) for n, v in parameters]) for scheme, parameters in challenges]
    assert [(each.scheme, list(each.parameters)) for each in parse_challenges([header])] == expected


@UNHURRIED
@given(st.text(st.sampled_from('Bearr Bsic="\\,;abc/:+~=\t'), max_size=60))
def test_anything_ends_in_challenges_or_a_value_error(header: str) -> None:
    try:
        found = parse_challenges([header])
    except ValueError:
        return
    assert all(each.scheme for each in found)
