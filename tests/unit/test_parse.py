"""Values as people write them: tables of good and bad ones, and round trips."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain import parse
from pycontain.errors import InvalidArgument, PycontainError, Unsupported
from pycontain.request import Device, DeviceRate, Mount, RunRequest, Ulimit

GOOD: list[tuple[Callable[..., Any], Any, Any]] = [
    (parse.size, "64m", 64 << 20),
    (parse.size, "64MiB", 64 << 20),
    (parse.size, "64 MB", 64 << 20),
    (parse.size, "1.5g", 3 << 29),
    (parse.size, "512", 512),
    (parse.size, "512b", 512),
    (parse.size, "2T", 2 << 40),
    (parse.size, "0", 0),
    (parse.size, 7, 7),
    (parse.size, "9223372036854775807", (1 << 63) - 1),
    (parse.memory_swap, "-1", -1),
    (parse.memory_swap, "1g", 1 << 30),
    (parse.pids_limit, "0", -1),
    (parse.pids_limit, "-1", -1),
    (parse.pids_limit, "64", 64),
    (parse.cpus, "0.5", 0.5),
    (parse.cpus, "0", 0.0),
    (parse.seconds, "2", 2.0),
    (parse.cpuset, "0-3,5", "0-3,5"),
    (parse.network, "host", "host"),
    (parse.ulimit, "nofile=1024:2048", Ulimit(name="nofile", soft=1024, hard=2048)),
    (parse.ulimit, "core=0", Ulimit(name="core", soft=0, hard=0)),
    (parse.ulimit, "memlock=-1", Ulimit(name="memlock", soft=-1, hard=-1)),
    (parse.ulimit, "RLIMIT_NPROC=5:unlimited", Ulimit(name="nproc", soft=5, hard=-1)),
    (parse.device, "/dev/fuse", Device(source="/dev/fuse", target="/dev/fuse")),
    (parse.device, "/dev/fuse:r", Device(source="/dev/fuse", target="/dev/fuse", access="r")),
    (parse.device, "/dev/fuse:/dev/x", Device(source="/dev/fuse", target="/dev/x")),
    (parse.device, "/dev/fuse:/dev/x:rw", Device(source="/dev/fuse", target="/dev/x", access="rw")),
    (parse.device_bps, "/dev/sda:10mb", DeviceRate(path="/dev/sda", rate=10 << 20)),
    (parse.device_iops, "/dev/sda:1000", DeviceRate(path="/dev/sda", rate=1000)),
    (parse.label, "a=b=c", ("a", "b=c")),
    (parse.label, "a", ("a", "")),
    (parse.sysctl, "net.core.somaxconn=1", ("net.core.somaxconn", "1")),
    (parse.sysctl, "kernel.sem=1 2 3 4", ("kernel.sem", "1 2 3 4")),
    (parse.add_host, "db:10.0.0.2", ("db", "10.0.0.2")),
    (parse.add_host, "db=10.0.0.2", ("db", "10.0.0.2")),
    (parse.add_host, "db:2001:db8::2", ("db", "2001:db8::2")),
    (parse.add_host, "db=[2001:db8::2]", ("db", "2001:db8::2")),
    (parse.user, "1000:users", "1000:users"),
    (parse.name, "web_1.a-b", "web_1.a-b"),
    (parse.hostname, "web-1.example.org", "web-1.example.org"),
    (parse.signal_number, "TERM", 15),
    (parse.signal_number, "SIGterm", 15),
    (parse.signal_number, "9", 9),
    (parse.signal_number, "SIGRTMIN+3", 37),
    (parse.volume, "/a:/b", Mount(type="bind", source="/a", target="/b", create_source=True)),
    (parse.volume, "data:/b/", Mount(type="volume", source="data", target="/b", create_source=True)),
    (
        parse.volume,
        "da.ta:/b:ro,z,nocopy",
        Mount(type="volume", source="da.ta", target="/b", create_source=True, read_only=True, copy=False),
    ),
    (parse.volume, "/b", Mount(type="volume", target="/b", create_source=True, anonymous=True)),
    (parse.mount, "src=data,dst=/b,volume-nocopy", Mount(type="volume", source="data", target="/b", copy=False)),
    (parse.mount, "type=volume,dst=/b,ro", Mount(type="volume", target="/b", anonymous=True, read_only=True)),
    (
        parse.mount,
        "source=data,target=/b,volume-subpath=x/y",
        Mount(type="volume", source="data", target="/b", subpath="x/y"),
    ),
    (
        parse.volume,
        "./a:/b/../c/:ro,Z",
        Mount(type="bind", source="./a", target="/c", read_only=True, create_source=True),
    ),
    (
        parse.volume,
        "/a:/b:rw,rslave,nosuid",
        Mount(type="bind", source="/a", target="/b", create_source=True, options=("rslave", "nosuid")),
    ),
    (parse.mount, "type=bind,src=/a,dst=/b,ro", Mount(type="bind", source="/a", target="/b", read_only=True)),
    (parse.mount, 'type=bind,"source=/a,""b",target=/c', Mount(type="bind", source='/a,"b', target="/c")),
    (
        parse.mount,
        "type=bind,source=/a,destination=/b,readonly=false,bind-propagation=rslave,bind-nonrecursive",
        Mount(type="bind", source="/a", target="/b", options=("rslave", "bind")),
    ),
    (
        parse.mount,
        "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700",
        Mount(type="tmpfs", target="/t", size_bytes=1 << 20, mode=0o700),
    ),
    (parse.tmpfs, "/run", Mount(type="tmpfs", target="/run")),
    (
        parse.tmpfs,
        "/run:size=64m,mode=1777,exec,noexec,uid=5,ro",
        Mount(type="tmpfs", target="/run", size_bytes=64 << 20, mode=0o1777, read_only=True, options=("exec", "uid=5")),
    ),
    (parse.tmpfs, "/run:size=50%", Mount(type="tmpfs", target="/run", options=("size=50%",))),
]


@pytest.mark.parametrize(("parser", "text", "value"), GOOD)
def test_good_value(parser: Callable[..., Any], text: Any, value: Any) -> None:
    assert parser(text) == value


BAD: list[tuple[Callable[..., Any], Any, str]] = [
    (parse.size, "64q", "64m, 1.5g"),
    (parse.size, "", "not a number"),
    (parse.size, "m", "not a number"),
    (parse.size, "1.m", "not a number"),
    (parse.size, ".5m", "not a number"),
    (parse.size, "1e3", "not a number"),
    (parse.size, "1ib", "not a number"),
    (parse.size, "٣m", "not a number"),
    (parse.size, "-5m", "negative"),
    (parse.size, -5, "negative"),
    (parse.size, "9223372036854775808", "above 2**63"),
    (parse.size, True, "neither"),
    (parse.memory_swap, "-2", "negative"),
    (parse.pids_limit, "-2", "out of range"),
    (parse.pids_limit, "many", "whole number"),
    (parse.cpus, "0.001", "from 0.01"),
    (parse.cpus, "nan", "decimal"),
    (parse.cpus, float("nan"), "decimal"),
    (parse.seconds, "0", "above 0"),
    (parse.seconds, "1m", "seconds"),
    (parse.cpuset, "3-1", "no range"),
    (parse.cpuset, "0,", "0-3,5"),
    (parse.ulimit, "nofiles=1", "did you mean nofile?"),
    (parse.ulimit, "nofile", "NAME=SOFT"),
    (parse.ulimit, "nofile=5:4", "above the hard"),
    (parse.ulimit, "nofile=-1:4", "above the hard"),
    (parse.ulimit, "nofile=x", "not a number"),
    (parse.device, "fuse", "/dev/NAME"),
    (parse.device, "/dev/fuse:rx", "letters r, w, m"),
    (parse.device, "/dev/fuse:x:r", "absolute"),
    (parse.device, "/dev/fuse:/a:r:w", "/dev/NAME"),
    (parse.device_bps, "/dev/sda", "a path and a rate"),
    (parse.device_bps, "/dev/sda:0", "above 0"),
    (parse.device_iops, "/dev/sda:1k", "not a count"),
    (parse.label, "=x", "key is empty"),
    (parse.sysctl, "kernel.msgmx=1", "did you mean kernel.msgmax?"),
    (parse.sysctl, "kernel.core_pattern=|x", "whole machine"),
    (parse.sysctl, "vm.swappiness=1", "whole machine"),
    (parse.sysctl, "net..kernel.core_pattern=1", "empty part"),
    (parse.sysctl, "net.ipv4/../../kernel/core_pattern=1", "not allowed"),
    (parse.sysctl, "net.a+b=1", "not allowed"),
    (parse.sysctl, "net.a=1\nx", "line end"),
    (parse.sysctl, "net.core.somaxconn", "no '='"),
    (parse.add_host, "db", "a name and an address"),
    (parse.add_host, "db:10.0.0", "no IP address"),
    (parse.add_host, "a b:10.0.0.1", "a name and an address"),
    (parse.user, "a:b:c", "USER[:GROUP]"),
    (parse.user, "", "USER[:GROUP]"),
    (parse.user, "-1", "not from 0"),
    (parse.user, "4294967295", "not from 0"),
    (parse.name, "a", "1 characters"),
    (parse.name, "../x", "not allowed"),
    (parse.name, "a/b", "not allowed"),
    (parse.hostname, "-a", "not allowed"),
    (parse.hostname, "a" * 65, "65 characters"),
    (parse.signal_number, "TREM", "did you mean TERM?"),
    (parse.signal_number, "0", "signals are 1 to"),
    (parse.signal_number, "99", "signals are 1 to"),
    (parse.volume, "d:/data", "volume name is too short"),
    (parse.volume, "da$ta:/data", "invalid characters for a local volume name"),
    (parse.volume, "data:/data:rslave", "for a directory of the host"),
    (parse.volume, "/a:/b:nocopy", "no option 'nocopy'"),
    (parse.volume, "data:/data:nocpy", "did you mean nocopy?"),
    (parse.mount, "type=volume,source=data,target=/b,bind-propagation=rslave", "belongs to type=bind"),
    (parse.volume, "/a:b", "not an absolute path"),
    (parse.volume, "/a:/b:ro:x", "--mount"),
    (parse.volume, "/a:/b:rslav", "did you mean rslave?"),
    (parse.mount, "type=bnd,source=/a,target=/b", "did you mean bind?"),
    (parse.mount, "source=/a,target=/b", "invalid characters for a local volume name"),
    (parse.mount, "type=bind,target=/b", "no source"),
    (parse.mount, "type=bind,source=/a", "no target"),
    (parse.mount, "type=bind,source=/a,target=/b,tmpfs-size=1m", "belongs to type=tmpfs"),
    (parse.mount, "type=bind,source=/a,taget=/b", "did you mean target?"),
    (parse.mount, "type=bind,source=/a,target=/b,target=/c", "twice"),
    (parse.mount, 'type=bind,"source=/a', "has no end"),
    (parse.mount, "type=tmpfs,target=/b,tmpfs-mode=9", "not octal"),
    (parse.tmpfs, "run", "not an absolute path"),
    (parse.tmpfs, "/run:sise=5m", "did you mean"),
    (parse.tmpfs, "/run:size=500%", "share"),
]


@pytest.mark.parametrize(("parser", "text", "phrase"), BAD)
def test_bad_value(parser: Callable[..., Any], text: Any, phrase: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parser(text)
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parser", "text", "phrase"),
    [
        (parse.network, "bridge", "bridge networks come later; use none or host"),
        (parse.device, "vendor.com/gpu=0", "CDI"),
        (parse.add_host, "x:host-gateway", "host-gateway"),
        (parse.volume, "/a:/b:rshared", "reach the host"),
        (parse.mount, "type=volume,source=data,target=/b,volume-label=x", "pycontain volume create"),
        (parse.mount, "type=volume,source=data,target=/b,volume-driver=nfs", "only volume driver here is local"),
        (lambda text: parse.choice(text, ("host",), later="later"), "container:x", "later; use host"),
    ],
)
def test_value_of_something_later(parser: Callable[[str], object], text: str, phrase: str) -> None:
    with pytest.raises(Unsupported, match=phrase):
        parser(text)


def test_security_options() -> None:
    found = parse.security_opts(["no-new-privileges", "seccomp:unconfined", "systempaths=unconfined", "label=disable"])
    assert found == parse.SecurityOptions(no_new_privileges=True, seccomp="unconfined", masked_paths=False)
    assert parse.security_opts(["no-new-privileges:false", "seccomp=builtin"]) == parse.SecurityOptions()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("no-new-privilege", "did you mean no-new-privileges?"),
        ("seccomp=", "seccomp=unconfined"),
        ("no-new-privileges=maybe", "neither true nor false"),
    ],
)
def test_bad_security_option(text: str, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase.replace("?", r"\?")):
        parse.security_opts([text])


def test_variables_from_the_caller() -> None:
    assert parse.env(["A=b=c", "HOME", "NONE", "E=", "A=d"], {"HOME": "/root"}) == (
        ("A", "d"), ("HOME", "/root"), ("E", ""),
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="name is empty"):
        parse.env(["=x"], {})


def test_env_file_has_dockers_rules() -> None:
    text = '\ufeff# comment\r\n\r\n  A="quoted" # no comment\r\nB\nNONE\nC=\x0cd\n'
    assert parse.env_file(text, {"B": "mine"}) == (("A", '"quoted" # no comment'), ("B", "mine"), ("C", "\x0cd"))


@pytest.mark.parametrize(
    ("text", "phrase"), [("A=1\n=x", "line 2"), ("A b=1", "line 1.*whitespace"), ("\nA\0=1", "line 2.*NUL")]
)
def test_env_file_error_names_the_line(text: str, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase):
        parse.env_file(text, {})


def test_label_file_keeps_a_bare_key() -> None:
    assert parse.label_file("a\nb=c\n") == (("a", ""), ("b", "c"))


@given(st.integers(0, 1 << 62), st.sampled_from(["", "b", "k", "kb", "KiB", "m", "G", "gib", "t"]))
def test_size_round_trip(number: int, unit: str) -> None:
    scale = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}[unit[:1].lower()]
    if number * scale < 1 << 63:
        assert parse.size(f"{number}{unit}") == number * scale


@given(st.text(max_size=30))
def test_every_parser_answers_or_says_why(text: str) -> None:
    for parser in {parser for parser, _, _ in GOOD}:
        try:
            parser(text)
        except PycontainError as error:
            assert len(str(error).splitlines()) == 1


PATH = st.lists(
    st.text(string.ascii_letters + string.digits + "_- .", min_size=1, max_size=8), min_size=1, max_size=4
).map(lambda parts: "/" + "/".join(parts))


@given(PATH, PATH, st.booleans())
def test_volume_round_trip(source: str, target: str, read_only: bool) -> None:
    found = parse.volume(f"{source}:{target}{':ro' if read_only else ''}")
    assert (found.source, found.read_only) == (source, read_only)
    assert found.target.startswith("/") and "//" not in found.target and ".." not in found.target.split("/")
    assert (
        parse.mount(f"type=bind,source={source},target={target},readonly={str(read_only).lower()}").target
        == found.target
    )


# --- contradictions ---------------------------------------------------------------------------------------------------

BIND = Mount(type="bind", source="/a", target="/b")


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"image": ""}, "image is empty"),
        ({"name": "../../etc"}, "not allowed"),
        ({"workdir": "srv"}, "write /srv"),
        ({"memory_bytes": 5 << 20}, "below 6 MB"),
        ({"memory_bytes": 8 << 20, "memory_swap_bytes": 7 << 20}, "-1 for any"),
        ({"memory_swap_bytes": 8 << 20}, "needs --memory"),
        ({"memory_bytes": 8 << 20, "memory_reservation_bytes": 9 << 20}, "above --memory"),
        ({"pids_limit": -2}, "negative"),
        ({"cpus": 0.001}, "out of range"),
        ({"cpu_shares": 1}, "2 to 262144"),
        ({"blkio_weight": 5}, "10 to 1000"),
        ({"oom_score_adj": 1001}, "-1000 to 1000"),
        ({"shm_size_bytes": 0}, "above 0"),
        ({"shm_size_bytes": 1 << 20, "ipc": "host"}, "--shm-size and --ipc=host"),
        ({"hostname": "x", "uts": "host"}, "--hostname and --uts=host"),
        ({"network": "bridge"}, "none or host"),
        ({"network": "host", "sysctls": (("net.core.somaxconn", "1"),)}, "--network=host"),
        ({"ipc": "host", "sysctls": (("kernel.shmmax", "1"),)}, "--ipc=host"),
        ({"sysctls": (("kernel.core_pattern", "|x"),)}, "whole machine"),
        ({"cap_add": ("NET_ADMN",)}, "did you mean CAP_NET_ADMIN?"),
        ({"ulimits": (Ulimit(name="core", soft=5, hard=4),)}, "soft limit"),
        ({"device_read_bps": (DeviceRate(path="/dev/sda", rate=0),)}, "rate"),
        ({"devices": (Device(source="fuse", target="/x"),)}, "absolute"),
        ({"mounts": (BIND, BIND)}, "two mounts"),
        ({"mounts": (Mount(type="tmpfs", target="/"),)}, "root itself"),
        ({"mounts": (Mount(type="tmpfs", target="//"),)}, "root itself"),
        ({"mounts": (Mount(type="tmpfs", target="/a/../proc/sys"),)}, "guards /proc"),
        ({"mounts": (Mount(type="bind", target="/a"),)}, "source is empty"),
        ({"mounts": (Mount(type="volume", target="/a"),)}, "has no name"),
        ({"mounts": (Mount(type="volume", source="../x", target="/a"),)}, "invalid characters"),
        ({"mounts": (Mount(type="volume", source="data", target="/a", subpath="x/../../y"),)}, "leads out"),
        ({"mounts": (Mount(type="volume", source="data", target="/a", subpath="/etc"),)}, "leads out"),
        ({"mounts": (Mount(type="volume", anonymous=True, target="/a", subpath="x"),)}, "nothing at a subpath"),
        ({"mounts": (Mount(type="volume", source="data", target="/proc/sys"),)}, "guards /proc"),
        ({"mounts": (Mount(type="overlay", target="/a"),)}, "bind, volume or tmpfs"),
    ],
)
def test_contradiction(fields: dict[str, Any], phrase: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse.check(RunRequest(**{"image": "host", **fields}))
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"privileged": True, "cap_drop": ("ALL",), "cap_add": ("net_admin",)},
        {"memory_bytes": 64 << 20, "memory_swap_bytes": -1, "pids_limit": -1},
        {"mounts": (BIND, Mount(type="tmpfs", target="/processes", size_bytes=5))},
        {"network": "host", "hostname": "x"},
    ],
)
def test_no_contradiction(fields: dict[str, Any]) -> None:
    parse.check(RunRequest(**{"image": "host", **fields}))


def test_labels_of_security_modules() -> None:
    """Whether the kernel can give them is the Plan's to say."""
    assert parse.security_opts(["apparmor=mine"]).apparmor == "mine"
    assert parse.security_opts(["label=type:x_t", "label=level:s0:c1,c2"]).label == "system_u:system_r:x_t:s0:c1,c2"
    assert parse.security_opts(["label=type:x_t", "label=disable"]).label == ""
    for bad in ("label=kind:x", "label=type:", "apparmor=", "apparmor=two words"):
        with pytest.raises(InvalidArgument, match="invalid security option"):
            parse.security_opts([bad])
