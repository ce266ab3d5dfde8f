"""Records what docker itself answers, for test_docker_golden.py: ``python tests/unit/record_docker.py`` (root).

Needs Debian's dockerd and docker-registry (tests/peers/install.sh), and a docker client; a newer client than the daemon is
better, since --format and its like are the client's. The images are made here, in inputs(); nothing is pulled from elsewhere.
Everything runs in namespaces of its own and ends with this process.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Container
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "golden/docker"
CREATED = "2024-03-10T12:34:56.789012345Z"


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive(config: dict[str, Any], layers: list[bytes], names: list[str]) -> bytes:
    """A docker archive of one image."""
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}" for layer in layers]}
    document = json.dumps(config).encode()
    name = f"{sha256(document).hexdigest()}.json"
    paths = [f"{i}/layer.tar" for i in range(len(layers))]
    files = dict(zip(paths, layers, strict=True))
    files[name] = document
    files["manifest.json"] = json.dumps([{"Config": name, "RepoTags": names or None, "Layers": paths}]).encode()
    return tar_of(files)


def step(created_by: str, *, empty: bool = False, **more: Any) -> dict[str, Any]:
    return {"created": CREATED, "created_by": created_by, **({"empty_layer": True} if empty else {}), **more}


def inputs() -> list[bytes]:
    """The images: several names and layers, one without a name, one that says nothing, another architecture, odd texts."""
    app = {
        "created": CREATED, "author": "Ann <ann@example.org>", "architecture": "amd64", "os": "linux",
        "docker_version": "24.0.7",
        "config": {
            "Env": ["PATH=/bin:/usr/bin", "A=b c"], "Cmd": ["serve", "--port", "80"], "Entrypoint": ["/entry"],
            "User": "app:app", "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
            "Labels": {"com.example.tier": "web", "stage": "prod", "empty": "", "html": "<a href='x'>&</a>"},
            "StopSignal": "SIGQUIT", "OnBuild": None,
        },
        "history": [
            step("/bin/sh -c #(nop) ADD file:0123456789abcdef0123456789abcdef0123456789abcdef in / "),
            step("/bin/sh -c #(nop)  ENV A=b c", empty=True),
            step("RUN /bin/sh -c echo one\ttwo && echo größer als fünfundvierzig Zeichen, 漢字", comment="buildkit.dockerfile.v0"),
            step('CMD ["serve" "--port" "80"]', empty=True, comment="buildkit.dockerfile.v0"),
            step("COPY . /srv # buildkit", created="1999-12-31T23:59:59Z"),
        ],
    }  # fmt: skip
    debian = {
        "created": "2023-11-21T05:21:18.104837432Z", "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["bash"], "Labels": {"stage": "test"}},
        "history": [step("/bin/sh -c #(nop) ADD file:9deb26e1dbc258df4 in / "), step('/bin/sh -c #(nop)  CMD ["bash"]', empty=True)],
    }  # fmt: skip
    nameless = {
        "created": "2022-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "history": [step("x")],
    }
    silent = {"architecture": "amd64", "os": "linux"}
    arm = {
        "created": "2021-06-30T22:00:00+02:00", "author": "Bob", "comment": "Imported from -", "architecture": "arm", "variant": "v7",
        "os": "linux",
        "config": {"Labels": {"stage": "prod"}},
        "history": [step("", comment="Imported from -")],
    }  # fmt: skip
    future = {
        "created": "2099-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": None,
        "history": [step("y")],
    }
    return [
        archive(app, [tar_of({"a": b"x" * 1_234_567}), tar_of({"b": b"y" * 999}), tar_of({"c": b""})],
                ["app:1.0", "app:latest", "localhost:5000/team/app:1.0"]),
        archive(debian, [tar_of({"d": b"z" * 72_800_000})], ["debian:12"]),
        archive(nameless, [tar_of({"e": b"e" * 1000})], []),
        archive(silent, [tar_of({"f": b"f" * 10})], ["tiny:v1"]),
        archive(arm, [tar_of({"g": b"g" * 999_999})], ["team/arm:v7"]),
        archive(future, [tar_of({"h": b"h" * 1_073_741})], ["future:soon"]),
    ]  # fmt: skip


# one command a line, as to a shell; those that change something come last, and build on one another
CASES = r"""
images
images -a
images -q
images -q --no-trunc
images --no-trunc
images --digests
images --digests --no-trunc
images app
images app:1.0
images 'app:*'
images '*/*'
images nosuch
images ls
images localhost:5000/team/app
images a b
images --format json
images --format table
images --format raw
images --format raw --digests
images --format raw -q
images --format '{{json .}}'
images --format '{{.ID}} {{.Repository}}:{{.Tag}}'
images --format 'table {{.ID}}\t{{.Size}}'
images --format 'table {{.ID}}\t{{.Repository}}\n{{.Tag}}'
images --format 'table {{.Repository}}' --digests
images --format 'table {{json .Tag}} {{upper .Tag}}'
images --format 'table {{.Nosuch}}'
images --format '{{.Nosuch}}'
images --format '{{.Containers}} {{.SharedSize}} {{.UniqueSize}} {{.CreatedAt}} {{.CreatedSince}} {{.Digest}}'
images --format '{{.ID'
images --format '{{nosuch .ID}}'
images --format '}} {{end}}'
images --format ''
images --format plain
images --format '{{if eq .Tag "v1"}}{{.Repository}}{{end}}'
images --format '{{range split .Repository "/"}}[{{.}}]{{end}}'
images --format '{{pad .Tag 2 3}}|{{truncate .ID 4}}|{{title .Tag}}|{{len .ID}}|{{slice .ID 2 4}}|{{printf "%-8s|" .Tag}}'
images --format 'table\t{{.ID}}'
images --format 'tableau {{.ID}}'
images --format '{{println .Tag}}'
images --format '{{.ID.Foo}}'
images --filter dangling=true
images --filter dangling=false
images -f dangling=x
images -f label=stage
images -f label=stage=prod
images -f label=stage=prod -f label=com.example.tier=web
images -f label=nosuch
images -f before=app:1.0
images -f since=debian:12
images -f since=debian:12 -f before=future:soon
images -f before=nosuch
images -f reference=app
images -f 'reference=*:v*'
images -f 'reference=[ad]*'
images -f 'reference=['
images -f reference=app -f reference=tiny
images -f reference=debian app
images -f foo=bar
images -f foo
images -f =x
images -f ''
images -f Label=stage
images -f until=2023-01-01
images --nosuch
images -x
images --format
images -f dangling=1
images --filter=dangling=true -q
images -aq
images --format '{{.Tag}}' -q
images --format table -q
images --format pretty
history app:1.0
history --no-trunc app:1.0
history -q app:1.0
history -q --no-trunc app:1.0
history -H=false app:1.0
history --human=false --no-trunc app:1.0
history --format json app:1.0
history --format '{{.ID}}: {{.CreatedBy}}' app:1.0
history --format 'table {{.Comment}}\t{{.CreatedAt}}' app:1.0
history --format '{{.Nosuch}}' app:1.0
history tiny:v1
history debian:12
history nosuch
history
history a b
history --format '{{.CreatedSince}}' -H=false app:1.0
history team/arm:v7
history --format '{{' app:1.0
image inspect app:1.0
image inspect tiny:v1
image inspect future:soon
image inspect team/arm:v7
image inspect app:1.0 tiny:v1
image inspect nosuch
image inspect nosuch tiny:v1
image inspect Bad
image inspect
image inspect --format json tiny:v1
image inspect --format json tiny:v1 debian:12
image inspect -f '{{.Id}}' tiny:v1
image inspect -f '{{.ID}}' tiny:v1 nosuch
image inspect -f '{{.Config.Env}}' app:1.0
image inspect -f '{{json .Config.Labels}}' app:1.0
image inspect -f '{{index .Config.Labels "stage"}}' app:1.0
image inspect -f '{{.Config.Labels.nosuch}}' app:1.0
image inspect -f '{{.Config.Nosuch}}' app:1.0
image inspect -f '{{.Nosuch}}' app:1.0
image inspect -f '{{.Nosuch.More}}' app:1.0
image inspect -f '{{range .RootFS.Layers}}{{.}} {{end}}' app:1.0
image inspect -f '{{.Size}} {{.Os}}/{{.Architecture}}{{.Variant}}' team/arm:v7
image inspect -f '{{json .RootFS.Layers}}' app:1.0
image inspect -f '{{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.Volumes}}' tiny:v1
image inspect -f '{{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.Volumes}}' app:1.0
image inspect -f '{{join .Config.Cmd " "}}' app:1.0
image inspect -f '{{if .Config.User}}u{{else}}r{{end}}' app:1.0
image inspect -f '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}' app:1.0
image inspect -f '{{.Created}} {{.Metadata.LastTagTime}}' nosuch
image inspect -f '{{' app:1.0
image inspect -f '{{json .}}' tiny:v1
image inspect -f '{{json .Config}}' team/arm:v7
image inspect -f '{{.RepoTags}} {{.RepoDigests}} {{len .RepoTags}}' tiny:v1
image inspect -f '{{(index .RepoTags 0)}}' app:1.0
image inspect -f '{{index .RepoTags 9}}' app:1.0
image inspect -f '{{.GraphDriver.Name}}' app:1.0
image inspect -f '{{.RootFS.Type}}' app:1.0
image inspect -f '{{.Config.ExposedPorts}}' app:1.0
image inspect -f '' tiny:v1
image inspect -f 'table {{.ID}}' tiny:v1
image inspect -f '{{.Os}}\t{{.Id}}' tiny:v1
image inspect -f '{{json .Config.Cmd}}' tiny:v1
image inspect -f '{{eq .Size 10}} {{gt .Size 5}} {{eq .Os "linux"}}' tiny:v1
image inspect -f '{{eq .Size "x"}}' tiny:v1
image inspect -f '{{.Config.Healthcheck}}' app:1.0
image inspect -f '{{html (index .Config.Labels "html")}} {{index .Config.Labels "html" | json}}' app:1.0
image inspect -f '{{.Size.Foo}}' tiny:v1
image inspect -f '{{printf "%d|%v|%q|%T" .Size .Os .Os .Size}}' tiny:v1
image inspect -f '{{.Parent}}|{{.Comment}}|{{.Author}}|{{.DockerVersion}}' app:1.0
image inspect -f '{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$e}}{{end}}' app:1.0
image inspect -f '{{with .Config.User}}{{.}}{{end}}' app:1.0
inspect --type image tiny:v1 -f '{{.Id}}'
inspect --type image nosuch
inspect --type nosuch tiny:v1
inspect nosuch
inspect
inspect -f '{{.Id}}' nosuch
tag
tag tiny:v1
tag nosuch x
tag tiny:v1 Bad
tag tiny:v1 tiny:v2
tag tiny:v1 x@sha256:0000000000000000000000000000000000000000000000000000000000000000
images tiny
rmi
rmi nosuch
rmi nosuch tiny:v2
rmi -f nosuch
rmi Bad
rmi tiny:v1
rmi app:1.0 app:1.0
image rm --no-prune future:soon
save
save nosuch
save -o /nosuch/dir/file debian:12
save -o /dev/null debian:12
save -o / debian:12
load -i /nosuch
load x
load -q -i TINY
load -i TINY
load -i NAMELESS
load -i BROKEN
export
export nosuch
commit
commit nosuch
commit a b c
import
import /nosuch
import -m why -c 'CMD ["x"]' BASE imported:v1
import BASE
import BASE Bad
import -c 'NOSUCH x' BASE y
history --format '{{.Comment}}|{{.CreatedBy}}|{{.Size}}' imported:v1
image prune -f --filter label=x
image prune -f --filter foo=x
image prune -f --filter until=x
image prune
image prune -f
image prune -a
image prune -f extra
image prune -af --filter 'label!=stage'
image prune -af --filter until=2022-01-01T00:00:00Z
image
image nosuch
search
manifest inspect nosuch.invalid/x
pull
pull Bad
pull localhost:5000/team/nosuch:1
pull -a localhost:5000/team/app:1.0
push nosuch
push
rmi localhost:5000/team/app:1.0
rmi -f app:latest
pull localhost:5000/team/app:1.0
pull localhost:5000/team/app:1.0
pull -q localhost:5000/team/app:1.0
images --digests
push localhost:5000/team/app:1.0
push -q localhost:5000/team/app:1.0
tag localhost:5000/team/app:1.0 localhost:5000/team/app
push localhost:5000/team/app
pull localhost:5000/team/app
push -a localhost:5000/team/app
pull -a localhost:5000/team/app
tag localhost:5000/team/app localhost:5000/other/app
push localhost:5000/other/app
manifest inspect --insecure localhost:5000/team/app:1.0
manifest inspect -v --insecure localhost:5000/team/app:1.0
images --format '{{.Repository}}:{{.Tag}} {{.Digest}}'
images --format '{{.Repository}}'
rmi debian@sha256:0000000000000000000000000000000000000000000000000000000000000000
"""


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Dockerd:
    """A dockerd and a registry on its loopback, in namespaces that end with this process."""

    def __init__(self, place: Path) -> None:
        self.socket = place / "docker.sock"
        self._environment = {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "HOME": str(place), "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(place / "client"), "DOCKER_BUILDKIT": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        (place / "registry.yml").write_text(
            f"version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {place}/registry}}\nhttp: {{addr: '127.0.0.1:5000'}}\n"
        )
        script = (
            "ip link set lo up; mount --make-rshared /; "
            f"docker-registry serve {place}/registry.yml >{place}/registry.log 2>&1 </dev/null & "
            f"dockerd --bridge none --iptables=false --ip-forward=false --data-root {place}/data --exec-root {place}/exec "
            f"--pidfile {place}/pid -H unix://{self.socket} >{place}/log 2>&1 </dev/null & read -r _"
        )
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
            stdin=subprocess.PIPE, env=self._environment,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self._answers():
            time.sleep(0.1)
        self._place = place

    def _answers(self) -> bool:
        try:
            return bool(self.api("/_ping") or True)
        except OSError:
            return False

    def api(self, path: str) -> Any:
        connection = Unix(str(self.socket))
        connection.request("GET", path)
        body = connection.getresponse().read()
        return json.loads(body) if body.startswith((b"{", b"[")) else None

    def run(self, client: str, words: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        # `manifest inspect` is the client's own request, so it runs beside the registry
        inside = ["nsenter", "--net", "--target", self._child(), "--"] if words[0] == "manifest" else []
        return subprocess.run(
            [*inside, client, *words], input=stdin, capture_output=True, env=self._environment, timeout=60
        )

    def _child(self) -> str:
        return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def case_of(daemon: Dockerd, client: str, words: list[str], files: Container[str], place: Path) -> dict[str, Any]:
    done = daemon.run(client, [str(place / word) if word in files else word for word in words], b"n\n")
    return {"argv": words, "code": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


def record(client: str, target: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="golden-docker-", dir="/dev/shm"))
    archives = inputs()
    files = {
        "TINY": archives[3],
        "NAMELESS": archives[2],
        "BROKEN": b"not a tar" * 100,
        "BASE": tar_of({"base": b"base\n"}),
    }
    for name, data in files.items():
        (place / name).write_bytes(data)
    daemon = Dockerd(place)
    try:
        for each in archives:
            done = daemon.run(client, ["load"], each)
            assert done.returncode == 0, done
        pushed = daemon.run(client, ["push", "localhost:5000/team/app:1.0"])
        assert pushed.returncode == 0, pushed
        images = []
        for each in daemon.api("/images/json"):
            one = f"/images/{each['Id']}"
            images.append({"inspect": daemon.api(f"{one}/json"), "history": daemon.api(f"{one}/history")})
        now = int(time.time())
        cases = [case_of(daemon, client, shlex.split(line), files, place) for line in CASES.strip().splitlines()]
        versions = daemon.run(
            client, ["version", "--format", "{{.Client.Version}} {{.Server.Version}}"]
        ).stdout.decode()
        document = {
            "client": versions.split()[0],
            "server": versions.split()[1],
            "now": now,
            "images": images,
            "cases": cases,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False).replace(str(place), "PLACE")
        (HERE / target).write_text(text + "\n", encoding="utf-8")
    finally:
        daemon.close()
        if f" {place}" not in Path("/proc/self/mountinfo").read_text():
            shutil.rmtree(place)


if __name__ == "__main__":
    for path in sys.argv[1:] or ["/usr/bin/docker"]:
        name = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
        record(path, f"client-{name.split('+')[0].rstrip(',')}.json")
