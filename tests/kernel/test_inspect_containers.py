"""`pycontain inspect`, `container inspect`, `ps -s`, `diff`, `port`: containers of both kinds, running, stopped and never started."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import census
import pytest
from image_cases import member, tar
from staying import PYCONTAIN, SLEEPER, command, run, saying

import pycontain
from pycontain.engine import container_details
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

# the fields of the Engine API, in the order in which docker prints them
FIELDS = [
    "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "Name",
    "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver",
    "Mounts", "Config", "NetworkSettings",
]  # fmt: skip


def document(*words: str) -> dict[str, Any]:
    (found,) = json.loads(command("inspect", *words).stdout)
    return dict(found)


def said(form: str, *names: str) -> str:
    return command("container", "inspect", "-f", form, *names).stdout


def busybox(*more: Any, changes: tuple[str, ...] = (), name: str = "base:1") -> pycontain.Image:
    program = member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    links = [member(f"bin/{each}", b"2", linkname="busybox") for each in ("sh", "sleep", "mkdir", "rm", "ln", "touch")]
    return pycontain.Image.import_tar(io.BytesIO(tar(program, *links, *more)), name, changes=changes)


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_document(roots: Roots, tmp_path: Path) -> None:
    container_id = run(
        "--name", "web", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "-l", "tier=front", "-e", "A=b", "-u", "0:0", "-w", "/tmp",
        "-v", f"{tmp_path}:/here:ro", "--mount", f"type=bind,source={tmp_path},target=/there", "--tmpfs", "/scratch:size=1m",
        "--cap-add", "net_admin", "--cap-drop", "CHOWN", "--read-only", "--security-opt", "no-new-privileges", "--init",
        "--ulimit", "nofile=10:20", "--restart", "on-failure:3", "--log-opt", "max-size=1m", "--stop-timeout", "3",
        "--stop-signal", "USR1", "--hostname", "here", *SLEEPER,
    )  # fmt: skip
    found = document("web")
    directory = detached.directory_of(roots, container_id)
    assert list(found) == FIELDS
    assert (found["Id"], found["Name"], found["Path"], found["Args"][0]) == (container_id, "/web", "sh", "-c")
    state = found["State"]
    assert state["Status"] == "running" and state["Running"] is True and os.path.exists(f"/proc/{state['Pid']}")
    assert state["StartedAt"][:4] == found["Created"][:4] != "0001" and state["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert found["LogPath"] == f"{directory}/log" and os.path.exists(found["LogPath"])
    layers = found["GraphDriver"]["Data"]
    assert layers["UpperDir"] == f"{directory}/layer/upper" and os.path.isdir(layers["WorkDir"]) and layers["LowerDir"]
    config = found["Config"]
    assert (config["Hostname"], config["Image"], config["User"], config["WorkingDir"]) == (
        "here",
        "host",
        "0:0",
        "/tmp",
    )
    assert config["Labels"] == {"tier": "front"} and "A=b" in config["Env"] and config["Cmd"] == list(SLEEPER[1:])
    assert (config["StopSignal"], config["StopTimeout"], config["Tty"], config["OpenStdin"]) == (
        "USR1",
        3,
        False,
        False,
    )
    asked = found["HostConfig"]
    assert (asked["Memory"], asked["MemorySwap"], asked["NanoCpus"], asked["PidsLimit"]) == (
        64 << 20,
        128 << 20,
        500_000_000,
        50,
    )
    assert asked["Binds"] == [f"{tmp_path}:/here:ro"] and asked["Tmpfs"] == {"/scratch": "size=1048576"}
    assert asked["Mounts"] == [{"Type": "bind", "Source": str(tmp_path), "Target": "/there"}]
    assert (asked["CapAdd"], asked["CapDrop"], asked["ReadonlyRootfs"]) == (["CAP_NET_ADMIN"], ["CAP_CHOWN"], True)
    assert asked["SecurityOpt"] == ["no-new-privileges"] and asked["Init"] is True and asked["Privileged"] is False
    assert asked["Ulimits"] == [{"Name": "nofile", "Hard": 20, "Soft": 10}] and asked["NetworkMode"] == "none"
    assert asked["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3} and asked["AutoRemove"] is False
    assert asked["LogConfig"] == {"Type": "json-file", "Config": {"max-size": str(1 << 20)}}
    assert [(each["Destination"], each["RW"]) for each in found["Mounts"]] == [("/here", False), ("/there", True)]
    assert found["NetworkSettings"]["Ports"] == {} == found["NetworkSettings"]["Networks"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}", "running true 0"),
        ("{{.Name}} {{.RestartCount}} {{printf `%T` .HostConfig.Memory}}", "/it 0 int64"),
        ("{{.HostConfig.Memory}} {{.HostConfig.NanoCPUs}} {{.HostConfig.NanoCpus}}", "67108864 0 0"),
        ("{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}};{{end}}", "bind /here true;"),
        ("{{json .Config.Labels}} {{.Config.StopSignal}}{{.Config.StopTimeout}}", '{"a":"b"} <nil>'),
        ('{{index .Config.Labels "a"}} {{.HostConfig.PidsLimit}} {{.HostConfig.CapAdd}}', "b <nil> []"),
        ("{{json .State.Health}}{{json .HostConfig.RestartPolicy}}", 'null{"Name":"no","MaximumRetryCount":0}'),
        ("{{.GraphDriver.Name}} {{len .Args}} {{json .NetworkSettings.Ports}}", "overlay2 2 {}"),
        ("{{.SizeRw}} {{.HostConfig.Init}} {{.HostConfig.Tmpfs}}", "<nil> <nil> map[]"),
        ("{{eq .State.ExitCode 0}} {{if .State.Paused}}paused{{end}}{{.Config.Volumes}}", "true map[]"),
    ],
)
def test_templates(form: str, expected: str, tmp_path: Path) -> None:
    run("--name", "it", "-m", "64m", "-l", "a=b", "-v", f"{tmp_path}:/here", *SLEEPER)
    assert said(form, "it") == expected + "\n"


def test_every_field_is_there_for_templates_and_json_is_the_document() -> None:
    run("--name", "it", "-l", "a=b", *SLEEPER)
    assert json.loads(said("{{json .}}", "it")) == document("it")
    assert json.loads(command("inspect", "-f", "json", "it").stdout) == [document("it")]
    assert 'map has no entry for key "Nope"' in command("inspect", "-f", "{{.Nope}}", "it", code=1).stderr


def test_the_states() -> None:
    form = "{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}} {{.State.Pid}}"
    command("create", "--name", "it", *SLEEPER)
    assert said(form, "it") == "created false false 0 0\n"
    assert said("{{.State.StartedAt}}", "it") == "0001-01-01T00:00:00Z\n"
    command("start", "it")
    saying("it", "up")
    command("pause", "it")
    assert said("{{.State.Status}} {{.State.Running}} {{.State.Paused}}", "it") == "paused true true\n"
    command("unpause", "it")
    command("stop", "it")
    assert said(form, "it") == "exited false false 7 0\n"
    assert not said("{{.State.FinishedAt}}", "it").startswith("0001")


def test_what_failed_and_what_was_killed() -> None:
    command("run", "-d", "--name", "no", "host", "nosuchprogram", code=127)
    assert said("{{.State.Status}} {{.State.Pid}}", "no") == "created 0\n"
    run("--name", "big", "-m", "32m", "--memory-swap", "32m", "host", "python3", "-c", "bytearray(200 << 20)")
    command("wait", "big")
    assert said("{{.State.OOMKilled}} {{.State.ExitCode}}", "big") == "true 137\n"


def test_one_in_the_foreground(roots: Roots) -> None:
    started = subprocess.Popen(
        [*PYCONTAIN, "run", "--name", "front", "-l", "a=b", *SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert started.stdout is not None and started.stdout.readline() == b"up\n"
    try:
        found = document("-s", "front")
        assert (found["Name"], found["State"]["Status"], found["Path"]) == ("/front", "running", "sh")
        assert os.path.exists(f"/proc/{found['State']['Pid']}") and found["Config"]["Labels"] == {"a": "b"}
        assert os.path.isdir(found["GraphDriver"]["Data"]["UpperDir"]) and found["SizeRw"] == 0
        assert found["LogPath"] == "" == found["HostConfig"]["NetworkMode"] and found["Mounts"] == []
        assert command("diff", "front").stdout == ""
    finally:
        command("kill", "front")
        started.communicate(timeout=20)
    assert "No such object: front" in command("inspect", "front", code=1).stderr


def test_containers_come_before_images_and_types_choose() -> None:
    image = busybox(name="same:latest")
    run("--name", "same", "same", "/bin/busybox", "sleep", "1000")
    assert said("{{.Config.Image}}", "same") == "same\n"
    assert command("inspect", "-f", "{{.Image}}", "same").stdout == f"{image.id}\n"
    assert command("inspect", "--type", "image", "-f", "{{.Id}}", "same").stdout == f"{image.id}\n"
    assert command("inspect", "--type", "container", "-f", "{{.Name}}", "same").stdout == "/same\n"
    done = command("inspect", "-f", "{{.Id}}", "same:latest", "same", "nosuch", code=1)
    assert done.stdout.splitlines()[0] == image.id and len(done.stdout.splitlines()[1]) == 64
    assert done.stderr == "Error: No such object: nosuch\n"
    assert command("inspect", "--type", "container", "same:latest", code=1).stderr == (
        "Error: No such container: same:latest\n"
    )
    assert "--size ignored for images" in command("inspect", "-s", "--type", "image", "same").stderr
    assert "unclosed action" in command("container", "inspect", "-f", "{{.Id", "same", code=64).stderr
    command("rm", "-f", "same")
    image.remove()


def test_volumes_of_the_image() -> None:
    image = busybox(changes=("VOLUME /data",))
    run("--name", "it", "base:1", "/bin/sh", "-c", "echo x > /data/x; echo y > /y; sleep 1000")
    (mount,) = document("it")["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["Driver"], mount["RW"]) == ("volume", "/data", "local", True)
    assert census.poll_until(lambda: Path(mount["Source"], "x").is_file())
    assert command("ps", "--format", "{{.LocalVolumes}} {{.Mounts}}").stdout == f"1 {mount['Name'][:14]}…\n"
    assert command("ps", "--no-trunc", "--format", "{{.Mounts}}").stdout == f"{mount['Name']}\n"
    command("rm", "-f", "it")
    image.remove()


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_sizes(roots: Roots) -> None:
    image = busybox()
    size = image.inspect().info.size
    script = "mkdir -p /a/b; printf 12345 > /a/b/x; ln /a/b/x /y; ln -s /bin /bin2; echo up; sleep 1000"
    run("--name", "it", "base:1", "/bin/sh", "-c", script)
    saying("it", "up")
    found = document("-s", "it")
    assert (found["SizeRw"], found["SizeRootFs"]) == (5 + 4, size + 9)
    assert said("{{.SizeRw}}", "it") == "<nil>\n"
    shown = command("ps", "-s").stdout.splitlines()
    assert shown[0].endswith("NAMES     SIZE") and "9B (virtual " in shown[1]
    assert command("ps", "--format", "{{.Size}}").stdout.startswith("9B (virtual ")
    assert '"Size":"0B"' in command("ps", "--format", "json").stdout  # not looked for unless it is asked for
    command("rm", "-f", "it")
    image.remove()


def test_a_layer_that_is_deeper_than_anybody_can_look_and_one_of_links(roots: Roots) -> None:
    """Neither our stack nor our descriptors end there, and nothing outside is counted."""
    script = (
        "import os\nos.symlink('/usr', '/usr2')\nopen('/x', 'w').write('123')\n"
        "for _ in range(3000): os.mkdir('d'); os.chdir('d')\nprint('up', flush=True)\nimport time; time.sleep(1000)"
    )
    run("--name", "it", "host", "python3", "-c", script)
    saying("it", "up")
    assert 3 <= document("-s", "it")["SizeRw"] < 1000
    assert container_details.changes(roots, "it")[-1][1].endswith("x")


# --- changes ----------------------------------------------------------------------------------------------------------


CHANGED = "C /etc\nD /etc/gone\nA /etc/new\nC /etc/old\nA /made\nA /made/x\nD /tree\n"


def test_diff(roots: Roots) -> None:
    files = [member(f"etc/{name}", data=b"x") for name in ("gone", "old", "same")]
    image = busybox(
        member("etc", b"5", mode=0o755), *files, member("tree", b"5", mode=0o755), member("tree/x", data=b"x")
    )
    script = (
        "rm /etc/gone; echo y > /etc/old; touch /etc/new; mkdir /made; touch /made/x; rm -r /tree; echo up; sleep 1000"
    )
    command("create", "--name", "it", "base:1", "/bin/sh", "-c", script)
    assert command("diff", "it").stdout == ""
    command("start", "it")
    saying("it", "up")
    assert command("container", "diff", "it").stdout == CHANGED
    command("stop", "-t", "0", "it")
    assert command("diff", "it").stdout == CHANGED
    command("rm", "it")
    image.remove()


def test_diff_with_ids_of_its_own() -> None:
    run("--name", "it", "--userns", "0:300000:65536", "host", "sh", "-c", "touch /new; echo up; sleep 1000")
    saying("it", "up")
    assert "A /new\n" in command("diff", "it").stdout


def test_diff_where_something_is_mounted_in_the_image(busybox_root: str, tmp_path: Path) -> None:
    """As /tmp or /home of this machine may be, for the image host: overlayfs sees what lies beneath."""
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    (root / "sub").mkdir()
    (root / "sub/old").touch()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(root / "sub")], check=True)
    try:
        run("--name", "it", str(root), "/bin/sh", "-c", "touch /sub/new; rm /sub/old; echo up")
        command("wait", "it")
        assert command("diff", "it").stdout == "C /sub\nA /sub/new\nD /sub/old\n"
    finally:
        subprocess.run(["umount", str(root / "sub")], check=True)


def test_diff_of_names_that_would_steer_a_terminal() -> None:
    run("--name", "it", "host", "python3", "-c", "open(b'/tmp/\\x1b[2J\\xff\\n', 'w'); print('up', flush=True)")
    command("wait", "it")
    assert command("diff", "it").stdout == "C /tmp\nA /tmp/\ufffd[2J\ufffd\ufffd\n"


# --- what is not there --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wrong", "code"),
    [
        (("diff", "nosuch"), "No such container: nosuch", 1),
        (("diff",), "requires 1 argument", 1),
        (("port", "nosuch"), "No such container: nosuch", 1),
        (("container", "inspect", "nosuch"), "Error: No such container: nosuch", 1),
        (("container", "inspect"), "requires at least 1 argument", 1),
        (("inspect", "--type", "network", "x"), "there are container, image and volume", 1),
        (("inspect", "--type", "box", "x"), "unknown type 'box': write container, image or volume", 1),
        (("stats", "nosuch"), "No such container: nosuch", 1),
        (("ps", "--format", "{{.Label}}"), "wrong number of args for Label: want 1 got 0", 1),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], wrong: str, code: int) -> None:
    run(*SLEEPER)
    assert wrong in command(*words, code=code).stderr


def test_ports() -> None:
    run("--name", "it", *SLEEPER)
    assert command("port", "it").stdout == ""
    assert "no public port '80/tcp' published for it" in command("container", "port", "it", "80", code=1).stderr
    assert "no public port '53/udp' published for it" in command("port", "it", "53/udp", code=1).stderr
    assert "invalid port 'http'" in command("port", "it", "http", code=1).stderr


def test_labels_in_lists() -> None:
    run("--name", "it", "-l", "com.example.the-tier=front", *SLEEPER)
    form = 'table {{.Names}}\t{{.Label "com.example.the-tier"}}\t{{.Label "nosuch"}}'
    assert command("ps", "--format", form).stdout == "NAMES     the tier   nosuch\nit        front      \n"
    assert command("ps", "--format", '{{"com.example.the-tier" | .Label | upper}}').stdout == "FRONT\n"
