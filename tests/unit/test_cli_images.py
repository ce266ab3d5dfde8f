"""The commands of images over an engine that is made up: what they ask of it, what they print, how they end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pycontain.engine.images import Progress, Removed
from pycontain.errors import Conflict, ImageNotFound, InvalidArgument, Unsupported
from pycontain.image.details import HistoryEntry
from tests.unit.fake_engine import ID, FakeEngine, Run, command, details, fake, info, layer

_FIXTURES = (command, fake)
OTHER = "sha256:" + "f" * 64


# --- lists: the rest is compared with docker's in test_docker_golden.py ------------------------------------------------


def test_rows_of_names_and_digests(fake: FakeEngine, command: Run) -> None:
    digests = (f"app@{ID}", f"app@{OTHER}", f"other/app@{ID}")
    fake.images = [details(info(names=("app:1", "app:2", "plain:1"), digests=digests))]
    form = "{{.Repository}}:{{.Tag}} {{.Digest}}"
    assert command("images", "--format", form).out.splitlines() == [
        f"app:1 {ID}", f"app:1 {OTHER}", f"app:2 {ID}", f"app:2 {OTHER}", "plain:1 <none>", f"other/app:<none> {ID}",
    ]  # fmt: skip
    assert [line.split()[:2] for line in command("images").out.splitlines()[1:]] == [
        ["app", "1"], ["app", "2"], ["plain", "1"], ["other/app", "<none>"],
    ]  # fmt: skip


def test_image_with_only_digests(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info(names=(), digests=(f"app@{ID}",)))]
    for filters, lines in (
        ((), 1),
        (("-f", "dangling=true"), 1),
        (("-f", "dangling=false"), 1),
        (("app",), 1),
        (("nosuch",), 0),
    ):
        assert len(command("images", "-q", *filters).out.splitlines()) == lines, filters


def test_image_of_a_registry_with_a_port_and_no_tag_to_split(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info("localhost:5000/a/b:latest"))]
    assert command("images").out.splitlines()[1].split()[:2] == ["localhost:5000/a/b", "latest"]


def test_until_is_of_images_too(fake: FakeEngine, command: Run) -> None:
    fake.images = [
        details(info("new:1", created="2024-03-10T12:00:00Z")),
        details(info("old:1", created="2020-01-01T00:00:00Z")),
    ]
    assert "old" in command("images", "-f", "until=2022-01-01Z").out
    assert "new" not in command("images", "-f", "until=2022-01-01Z").out
    ended = command("images", "-f", "until=soon")
    assert (ended.code, ended.err) == (1, ended.err) and "invalid filter 'until=soon'" in ended.err


def test_several_bounds_are_all_met(fake: FakeEngine, command: Run) -> None:
    fake.images = [
        details(info(f"y{year}:1", id=f"sha256:{year:064}", created=f"{year}-01-01T00:00:00Z"))
        for year in range(2024, 2018, -1)
    ]
    words = [
        f"--filter={key}=y{year}:1"
        for key, year in (("before", 2024), ("before", 2023), ("since", 2019), ("since", 2020))
    ]
    assert command("images", "--format", "{{.Repository}}", *words).out.split() == ["y2022", "y2021"]


def test_template_for_one_field_more_in_a_table(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info())]
    ended = command("images", "--format", "table {{.Repository}}\\t{{.Nosuch}}")
    assert ended.code == 1 and ended.out == ""
    assert (
        "can't evaluate field Nosuch in type *formatter.imageContext: the fields are Containers, CreatedAt" in ended.err
    )


def test_misspelled_field_names_the_right_one(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info())]
    assert "did you mean Repository?" in command("images", "--format", "{{.Repositry}}").err


def test_image_ls_is_images(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info())]
    lists = [command(*words).out for words in (("images",), ("image", "ls"), ("image", "list"))]
    assert len(set(lists)) == 1
    assert command("image", "ls", "list").err == ""  # `image ls` knows what it is
    assert "did you mean `pycontain image list`" in command("images", "list").err


def test_unusual_texts_of_an_image_are_printed(fake: FakeEngine, command: Run) -> None:
    step = HistoryEntry(created="x", created_by="\x1b[2J\nbad\ud800", comment="\u009b0m")
    fake.images = [
        details(info(labels=(("a", "\ud800"),)), history=(step,), document={"config": {"Labels": {"a": "\ud800"}}})
    ]
    assert "\x1b" not in command("history", "app:1.0").out
    assert command("history", "--format", "{{.CreatedBy}}", "app:1.0").code == 0
    assert command("image", "inspect", "app:1.0").code == 0
    assert command("image", "inspect", "-f", "{{.Config.Labels.a}}", "app:1.0").code == 0


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect_of_an_image_that_is_not_there(fake: FakeEngine, command: Run) -> None:
    ended = command("image", "inspect", "nosuch")
    assert (ended.code, ended.out, ended.err) == (1, "[]\n", "Error: No such image: nosuch\n")
    ended = command("inspect", "nosuch")
    assert (ended.code, ended.out, ended.err) == (1, "[]\n", "Error: No such object: nosuch\n")


def test_inspect_goes_on_after_an_error(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info())]
    ended = command("inspect", "--type", "image", "nosuch", "app:1.0", "other", "-f", "{{.Id}}")
    assert (ended.code, ended.out) == (1, f"{ID}\n")
    assert ended.err == "Error: No such image: nosuch\nError: No such image: other\n"


def test_inspect_names_other_errors(fake: FakeEngine, command: Run) -> None:
    fake.answers("inspect_image", InvalidArgument("ambiguous: 0123"))
    ended = command("image", "inspect", "0123")
    assert (ended.code, ended.out, ended.err) == (1, "[]\n", "pycontain: ambiguous: 0123\n")


def test_inspect_shows_where_the_layers_are(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info(), layers=(layer(1, path="/l/1"), layer(2, path="/l/2"), layer(3, path="/l/3")))]
    driver = json.loads(command("image", "inspect", "app:1.0").out)[0]["GraphDriver"]
    assert driver == {"Data": {"LowerDir": "/l/2:/l/1", "UpperDir": "/l/3"}, "Name": "overlay2"}


def test_inspect_shows_the_parent_and_the_last_name(fake: FakeEngine, command: Run) -> None:
    fake.images = [details(info(), parent=OTHER, tagged=1710074096.25)]
    document = json.loads(command("image", "inspect", "app:1.0").out)[0]
    assert document["Parent"] == OTHER
    assert document["Metadata"] == {"LastTagTime": "2024-03-10T12:34:56.25Z"}
    form = "{{.Metadata.LastTagTime}} {{json .Metadata}}"
    expected = '2024-03-10 12:34:56.25 +0000 UTC {"LastTagTime":"2024-03-10T12:34:56.25Z"}\n'
    assert command("image", "inspect", "-f", form, "app:1.0").out == expected


def test_inspect_of_other_types_is_refused(command: Run) -> None:
    assert "there are container, image and volume" in command("inspect", "--type", "network", "x").err
    assert "unknown type 'imgae'" in command("inspect", "--type", "imgae", "x").err


def test_template_that_cannot_be_parsed_ends_with_64(fake: FakeEngine, command: Run) -> None:
    ended = command("image", "inspect", "-f", "{{.Id", "nosuch")
    assert (ended.code, ended.out) == (64, "")
    assert ended.err == "pycontain: template parsing error: template: :1: unclosed action\n"


# --- names ------------------------------------------------------------------------------------------------------------


def test_tag(fake: FakeEngine, command: Run) -> None:
    fake.answers("tag_image", None)
    assert command("tag", "a", "b:1") == command("image", "tag", "a", "b:1")
    assert fake.calls[0] == ("tag_image", ("/nowhere", "a", "b:1"), {})


def test_error_of_the_engine_ends_with_1(fake: FakeEngine, command: Run) -> None:
    fake.answers("tag_image", ImageNotFound("no such image: a"))
    ended = command("tag", "a", "b")
    assert (ended.code, ended.err) == (1, "pycontain: no such image: a\n")


def test_rmi_goes_on_after_an_error(fake: FakeEngine, command: Run) -> None:
    def remove(root: str, text: str, **options: bool) -> list[Removed]:
        if text == "used":
            raise Conflict("cannot remove used: container c uses it")
        return [Removed(action="Untagged", what=text), Removed(action="Deleted", what=ID)]

    fake.answers("remove_image", remove)
    ended = command("rmi", "used", "app:1.0")
    assert (ended.code, ended.err) == (1, "pycontain: cannot remove used: container c uses it\n")
    assert ended.out == f"Untagged: app:1.0\nDeleted: {ID}\n"
    assert fake.calls[-1] == ("remove_image", ("/nowhere", "app:1.0"), {"force": False, "prune": True})
    command("image", "rm", "-f", "--no-prune", "x")
    assert fake.calls[-1][2] == {"force": True, "prune": False}


@pytest.mark.parametrize(
    ("words", "error", "code"),
    [
        (("rmi", "x"), ImageNotFound("no such image: x"), 1), (("rmi", "-f", "x"), ImageNotFound("no such image: x"), 0),
        (("rmi", "-f", "x"), Conflict("in use"), 1),
    ],
)  # fmt: skip
def test_rmi_of_what_is_not_there(
    words: tuple[str, ...], error: Exception, code: int, fake: FakeEngine, command: Run
) -> None:
    fake.answers("remove_image", error)
    ended = command(*words)
    assert (ended.code, ended.err) == (code, f"pycontain: {error}\n")


# --- registries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "out", "options"),
    [
        (("pull", "debian"), "Using default tag: latest\nx\ndocker.io/library/debian:latest\n", {}),
        (("pull", "debian:12"), "x\ndocker.io/library/debian:12\n", {}),
        (("pull", "-q", "team/app"), "docker.io/team/app:latest\n", {}),
        (("image", "pull", "-a", "r.example:5000/app"), "x\nr.example:5000/app\n", {"all_tags": True}),
        (("pull", "--platform", "linux/arm64", "--disable-content-trust=false", "a:1"), "x\ndocker.io/library/a:1\n",
         {"platform": "linux/arm64"}),
        (("pull", f"debian@{ID}"), f"x\ndocker.io/library/debian@{ID}\n", {}),
        (("push", "debian"), "Using default tag: latest\nx\n", {}),
        (("push", "-q", "debian:12"), "docker.io/library/debian:12\n", {}),
        (("push", "-aq", "debian"), "docker.io/library/debian\n", {"all_tags": True}),
    ],
)  # fmt: skip
def test_pull_and_push(
    words: tuple[str, ...], out: str, options: dict[str, Any], fake: FakeEngine, command: Run
) -> None:
    def transfer(root: str, text: str, *, progress: Any = None, **given: Any) -> Any:
        if progress is not None:
            progress(Progress(layer="", state="x"))
        return info() if "platform" in given else ID

    fake.answers("pull", transfer)
    fake.answers("push", transfer)
    ended = command(*words)
    assert (ended.code, ended.out, ended.err) == (0, out, "")
    name, args, given = fake.calls[-1]
    given.pop("progress")
    assert args == ("/nowhere", words[-1])
    assert given == {"all_tags": False, **({"platform": ""} if name == "pull" else {}), **options}


def test_platform_of_the_environment(fake: FakeEngine, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/riscv64")
    fake.answers("pull", info())
    command("pull", "-q", "a")
    assert fake.calls[-1][2]["platform"] == "linux/riscv64"


@pytest.mark.parametrize("name", ["debian:12", f"debian@{ID}"])
def test_all_tags_of_one_tag(name: str, fake: FakeEngine, command: Run) -> None:
    for verb in ("pull", "push"):
        ended = command(verb, "-a", name)
        assert ended.code == 1 and "tag can't be used with --all-tags/-a" in ended.err


def test_name_that_is_none(command: Run) -> None:
    ended = command("pull", "Bad")
    assert ended.code == 1 and "a repository name must be lowercase" in ended.err and ended.out == ""


def test_search_says_why_not(command: Run) -> None:
    ended = command("search", "nginx")
    assert ended.code == 1 and "search is not supported" in ended.err and "hub.docker.com" in ended.err


# --- manifests --------------------------------------------------------------------------------------------------------

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = b'{"schemaVersion":2,"config":{},"layers":[],"annotations":{"a":"\xc3\xa9"}}'
ARM = {"os": "linux", "architecture": "arm64"}
INDEX = json.dumps({"schemaVersion": 2, "manifests": [{"digest": OTHER, "size": 3, "platform": ARM}]}).encode()


def test_manifest_inspect(fake: FakeEngine, command: Run) -> None:
    fake.answers("manifest_document", (MANIFEST, OCI_MANIFEST))
    ended = command("manifest", "inspect", "--insecure", "app:1")
    assert (
        ended.out
        == '{\n\t"schemaVersion": 2,\n\t"config": {},\n\t"layers": [],\n\t"annotations": {\n\t\t"a": "é"\n\t}\n}\n'
    )
    assert fake.calls == [("manifest_document", ("/nowhere", "app:1"), {"insecure": True})]


def test_manifest_inspect_of_an_index(fake: FakeEngine, command: Run) -> None:
    fake.answers(
        "manifest_document", lambda root, text, **_: (MANIFEST, OCI_MANIFEST) if "@" in text else (INDEX, OCI_INDEX)
    )
    assert command("manifest", "inspect", "app").out.startswith('{\n   "schemaVersion": 2,\n   "manifests": [\n')
    (one,) = json.loads(command("manifest", "inspect", "-v", "app").out)
    assert one["Ref"] == f"docker.io/library/app@{OTHER}"
    assert one["Descriptor"]["platform"] == {"os": "linux", "architecture": "arm64"}
    assert one["OCIManifest"] == json.loads(MANIFEST)


def test_manifest_inspect_verbose_is_dockers(fake: FakeEngine, command: Run) -> None:
    from base64 import b64decode

    golden = json.loads((Path(__file__).parent / "golden/docker/client-28.2.2.json").read_text(encoding="utf-8"))
    case = next(case for case in golden["cases"] if case["argv"][:3] == ["manifest", "inspect", "-v"])
    expected = json.loads(case["stdout"])
    fake.answers("manifest_document", (b64decode(expected["Raw"]), expected["Descriptor"]["mediaType"]))
    del expected["Descriptor"]["platform"]  # docker reads it in the configuration
    assert json.loads(command(*case["argv"]).out) == expected
    plain = next(case for case in golden["cases"] if case["argv"][:3] == ["manifest", "inspect", "--insecure"])
    assert command(*plain["argv"]).out == plain["stdout"]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"a":1,"a":2}', b"\xff", b'{"manifests":[1]}', b'{"manifests":[{"digest":5}]}']
)
def test_manifest_that_is_none(data: bytes, fake: FakeEngine, command: Run) -> None:
    fake.answers("manifest_document", (data, OCI_INDEX))
    ended = command("manifest", "inspect", "-v", "app")
    assert ended.code == 1 and ended.out == "" and ended.err.count("\n") == 1


IN_IMAGE = ["history", "import", "inspect", "load", "ls", "prune", "pull", "push", "rm", "save", "tag", "tree"]

# --- the groups -------------------------------------------------------------------------------------------------------


def test_image_lists_its_commands(command: Run) -> None:
    for words in (("image",), ("image", "--help"), ("help", "image")):
        ended = command(*words)
        assert ended.code == 0
        commands = ended.out.partition("commands:\n")[2].splitlines()
        assert [line.split()[0] for line in commands] == IN_IMAGE


def test_help_of_a_command_of_a_group(command: Run) -> None:
    for words in (("image", "ls", "--help"), ("help", "image", "ls")):
        assert command(*words).out.startswith("usage: pycontain image ls [OPTIONS] [REPOSITORY[:TAG]]\n")


def test_mistake_in_a_group_names_the_command(command: Run) -> None:
    assert "`pycontain image ls --help` lists the options" in command("image", "ls", "-x").err
    ended = command("image", "prnue")
    assert ended.code == 1 and "unknown command 'image prnue': did you mean prune?" in ended.err


@pytest.mark.parametrize(
    ("words", "asks"),
    [
        (("pull", "a"), True), (("image", "pull", "a"), True), (("load",), True), (("import", "a", "b"), True), (("rmi", "a"), True),
        (("image", "rm", "a"), True), (("image", "prune"), True), (("image", "tree", "a"), True), (("commit", "a"), True),
        (("export", "a"), True), (("images",), False), (("image", "ls"), False), (("history", "a"), False), (("inspect", "a"), False),
        (("tag", "a", "b"), False), (("save", "a"), False), (("push", "a"), False), (("search", "a"), False), (("image",), False),
    ],
)  # fmt: skip
def test_who_needs_to_be_root(
    words: tuple[str, ...], asks: bool, fake: FakeEngine, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user's own files need no user namespace; files of other owners in his layers do."""
    from pycontain import rootless

    class Asked(Exception):
        pass

    def enter() -> None:
        raise Asked

    for name in ("pull", "push", "load", "save", "tag_image", "remove_image", "prune_images", "commit", "export"):
        fake.answers(name, Unsupported("not asked"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(rootless, "enter", enter)
    if asks:
        with pytest.raises(Asked):
            command(*words)
    else:
        command(*words)


def test_help_needs_no_root(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycontain import rootless

    def enter() -> None:
        raise Unsupported("no subordinate ids")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(rootless, "enter", enter)
    assert command("image", "pull", "--help").out.startswith("usage: pycontain image pull")
    assert command("pull", "a").err == "pycontain: no subordinate ids\n"
