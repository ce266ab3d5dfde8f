"""--format's templates against what Go's own text/template makes of them, and against what nobody would write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.cli import gotemplate
from pycontain.cli.gotemplate import (
    Empty,
    Function,
    Int64,
    NilList,
    NilMap,
    NilPointer,
    Number,
    Row,
    Struct,
    TemplateError,
)

# recorded with Go 1.27: text/template with Docker's functions, each text list and text map a []string and a map[string]string
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden/gotemplate.json").read_text(encoding="utf-8"))
DATA = GOLDEN["data"]


def made(text: str, data: Any = DATA, **options: Any) -> str:
    return gotemplate.parse(text).execute(data, **options)


@pytest.mark.parametrize(("text", "missing_is_error", "expected"), GOLDEN["cases"], ids=range(len(GOLDEN["cases"])))
def test_as_go(text: str, missing_is_error: bool, expected: dict[str, str]) -> None:
    try:
        result = {"out": made(text, missing_is_error=missing_is_error)}
    except TemplateError as error:
        result = {"err": str(error)}
    assert result == expected, text


IMAGE = Struct(
    "*image.Inspect",
    {
        "Id": "sha256:1", "Size": Int64(5), "Config": Struct("*Config", {"Cmd": NilList(), "Labels": NilMap()}, optional=("Cmd",)),
        "Health": NilPointer("*Health"), "Ports": {"80/tcp": Empty()}, "Variant": "",
    },
    aliases={"ID": "Id"}, optional=("Variant",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.ID}} {{.Id}} {{.Size}} {{printf `%T` .Size}}", "sha256:1 sha256:1 5 int64"),
        ("{{.Config.Cmd}} {{.Config.Labels}} {{.Health}} {{.Ports}}", "[] map[] <nil> map[80/tcp:{}]"),
        ("{{json .}}", '{"Id":"sha256:1","Size":5,"Config":{"Labels":null},"Health":null,"Ports":{"80/tcp":{}}}'),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}{{len .Config.Labels}}{{.Variant}}", "none0"),
        ("{{if .Config}}yes{{end}}{{if .Health}}no{{end}}{{.Config}}", "yes{[] map[]}"),
        ("{{eq .Size 5}} {{eq .Config.Labels nil}}", "true true"),
        ("{{.Config.Labels.x}}", "<no value>"),
    ],
)
def test_structs(text: str, expected: str) -> None:
    assert made(text, IMAGE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{{.Idd}}",
            ':1:2: executing "" at <.Idd>: can\'t evaluate field Idd in type *image.Inspect: did you mean Id?',
        ),
        ("{{.Zzzz}}", "in type *image.Inspect: the fields are Config, Health, Id, Ports, Size, Variant"),
        ("{{.Config.Entry}}", "can't evaluate field Entry in type *Config"),
        ("{{.Health.Test}}", "nil pointer evaluating *Health.Test"),
        ("{{.Size.X}}", "can't evaluate field X in type int64"),
        ("{{.ID 1}}", "ID has arguments but cannot be invoked as function"),
        ("{{range .}}{{end}}", "range can't iterate over"),
        ("{{len .}}", "error calling len: len of type *image.Inspect"),
        ("{{define `x`}}{{end}}", "{{define}} is not supported"),
        ("{{1i}}", "complex numbers are not supported"),
        ("x" * 100_001, "at most 100000 are allowed"),
    ],
)
def test_errors_of_our_own(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        made(text, IMAGE)
    assert message in str(caught.value)
    assert str(caught.value).startswith("template: :1:")


def test_row_is_alphabetical_and_safe_in_html() -> None:
    row = Row("*row", {"Tag": "<none>", "ID": "1&2"})
    assert made("{{json .}}", row) == r'{"ID":"1\u00262","Tag":"\u003cnone\u003e"}'
    assert made("{{json .Tag}}", row) == '"<none>"'


LABELED = Row("*row", {"ID": "1"}, methods={"Label": Function(lambda name: {"a": "front"}.get(name, ""), "string")})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{.Label "a"}}|{{.Label "nosuch"}}|{{$.Label "a"}}', "front||front"),
        ('{{"a" | .Label | upper}} {{printf "%s" (.Label "a")}} {{(.Label "a") | len}}', "FRONT front 5"),
        ('{{if .Label "a"}}yes{{end}} {{json .}}', 'yes {"ID":"1"}'),
    ],
)
def test_methods(text: str, expected: str) -> None:
    assert made(text, LABELED) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Label}}", "at <.Label>: wrong number of args for Label: want 1 got 0"),
        ('{{.Label "a" "b"}}', "wrong number of args for Label: want 1 got 2"),
        ("{{.Label 1}}", "expected string; found 1"),
        ('{{.ID "a"}}', "ID has arguments but cannot be invoked as function"),
        ('{{(.Label "a").More}}', "can't evaluate field More in type string"),
    ],
)
def test_wrong_arguments_of_methods(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(message)):
        made(text, LABELED)


def test_json_is_gos() -> None:
    odd = {
        "b": [1.0, 1e21, 1e-7, 0.000001, 12345678.9, -0.0],
        "a": "\u2028\x7f\ud800/é\x01",
        "n": Number("1.50"),
        "l": NilList(),
    }
    assert gotemplate.json_text(odd) == (
        '{"a":"\\u2028\x7f\ufffd\ufffd\ufffd/é\\u0001","b":[1,1e+21,1e-7,0.000001,12345678.9,-0],"l":null,"n":1.50}'
    )
    with pytest.raises(ValueError, match="unsupported value"):
        gotemplate.json_text(float("inf"))


def test_header_keeps_the_names_of_columns() -> None:
    headers = {"ID": "IMAGE ID", "Tag": "TAG"}
    text = "{{lower .ID}}|{{json .Tag}}|{{truncate .ID 2}}|{{join .ID `,`}}|{{pad .Tag 1 1}}|{{.Nosuch}}"
    assert made(text, headers, header=True) == "IMAGE ID|TAG|IMAGE ID|IMAGE ID| TAG |<no value>"
    assert made("a {{json .}} b", headers, header=True) == "a "


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{{range 1000000000}}{{end}}",
        "{{range .L}}" * 50 + "x" + "{{end}}" * 50,
        "{{$x := `0123456789`}}" + "{{$x = printf `%s%s` $x $x}}" * 60,
        "{{$x := `0123456789`}}" + "{{$x = join (split $x ``) $x}}" * 20,
        "{{$x := `0123456789`}}" + "{{$x = pad $x 1000000 1000000}}" * 20,
        "{{pad `x` 1000000000 1}}",
        "{{printf `" + "%[1]1000000d" * 100 + "` 1}}",
        "{{$x := split `" + "a" * 1000 + "` ``}}" + ("{{$x = split (join $x `" + "b" * 1000 + "`) ``}}") * 10,
        "{{range $i, $x := 5}}{{end}}",
        "{{" + "(" * 1000 + "1" + ")" * 1000 + "}}",
        "{{if true}}" * 1000 + "{{end}}" * 1000,
        "{{if true}}" + "{{else if true}}" * 1000 + "{{end}}",
        "{{" + "9" * 5000 + "}}",
        "{{index .L " + "9" * 18 + "}}",
    ],
    ids=range(14),
)
def test_what_would_not_end_is_an_error(text: str) -> None:
    with pytest.raises(TemplateError):
        made(text)


def test_deep_data_is_not_the_end_of_python() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert "[...]" in made("{{.}}", deep)
    with pytest.raises(TemplateError, match="too many levels"):
        made("{{json .}}", deep)


_PIECES = st.sampled_from(
    [
        "{{", "}}", "{{-", "-}}", " ", "\n", ".", ".Name", ".L", ".Labels", ".Nil", "$", "$x", ":=", "=", "|", "(", ")", '"a"', "`b`",
        "'c'", "1", "-1", "2.5", "0x1f", "true", "nil", "if", "else", "end", "range", "with", "break", "continue", "define", "text",
        "len", "index", "slice", "eq", "lt", "and", "or", "not", "print", "printf", '"%d%5s%[2]*q"', "json", "upper", "split", "join",
        "pad", "truncate", "title", "html", "js", "urlquery", ",", "{{end}}", "{{else}}", "{{range .L}}", "{{if .}}", "\ud800", "é", "\x00",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=30).map("".join) | st.text(max_size=60).map(lambda text: "{{" + text + "}}"))
def test_never_anything_but_a_template_error(text: str) -> None:
    try:
        assert isinstance(made(text), str)
    except TemplateError as error:
        assert "\n" not in str(error).replace(text, "") or "\n" in text


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_CALLS = [
    "{{.}}", "{{json .}}", "{{len .}}", "{{index . 0}}", "{{slice . 1 2}}", "{{eq . .}}", "{{lt . 1}}",
    "{{range $k, $v := .}}{{$k}}{{$v}}{{end}}",
    "{{html .}}{{js .}}{{urlquery .}}", "{{printf `%v %+v %#v %d %s %q %x %T %8.3f %t %c %U` . . . . . . . . . . . .}}", "{{join . `,`}}",
    "{{.a.b}}", "{{title .}}", "{{upper .}}", "{{split . `x`}}", "{{if .}}y{{else}}n{{end}}", "{{with .}}{{.}}{{end}}", "{{print . .}}",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(_VALUES)
def test_any_data_is_shown_or_refused(value: Any) -> None:
    for text in _CALLS:
        try:
            assert isinstance(made(text, value), str)
        except TemplateError as error:
            assert str(error).startswith("template: :1:")
