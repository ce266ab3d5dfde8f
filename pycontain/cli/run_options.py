"""The options of ``pycontain run``: Docker's names, one line each. What makes a request of them is in run.py."""

from __future__ import annotations

from .arguments import Command, Option

__all__ = ["COMMAND"]

_OPTIONS = (
    Option("--add-host", "HOST:ADDRESS", "add a line to /etc/hosts; HOST=ADDRESS as well", repeat=True),
    Option("--annotation", "KEY=VALUE", "add an OCI annotation", repeat=True),
    Option("-a --attach", "STREAM", "attach only stdin, stdout or stderr; repeat it (stdout and stderr)", repeat=True),
    Option("--blkio-weight", "N", "weight of the block I/O, 10 to 1000 (0: the host's)"),
    Option("--cap-add", "NAME", "add a capability, or ALL", repeat=True),
    Option("--cap-drop", "NAME", "drop a capability, or ALL", repeat=True),
    Option("--cgroupns", "MODE", "cgroup namespace: private or host (private)"),
    Option("--cidfile", "FILE", "write the container's id to a new FILE"),
    Option("-c --cpu-shares", "N", "weight of the CPU time, 2 to 262144 (0: the host's, 1024)"),
    Option("--cpus", "N", "at most N CPUs' worth of time, from 0.01 (0: no limit)"),
    Option("--cpuset-cpus", "LIST", "run on these CPUs only: 0-3,5 (all)"),
    Option("-d --detach", "", "leave it running, and print its id"),
    Option("--detach-keys", "KEYS", "with -d: as with Docker, without meaning; `pycontain attach --detach-keys`"),
    Option("--device", "NODE[:INSIDE][:rwm]", "make a device node usable inside", repeat=True),
    Option("--device-read-bps", "NODE:SIZE", "at most SIZE bytes a second read from a device", repeat=True),
    Option("--device-read-iops", "NODE:COUNT", "at most COUNT reads a second from a device", repeat=True),
    Option("--device-write-bps", "NODE:SIZE", "at most SIZE bytes a second written to a device", repeat=True),
    Option("--device-write-iops", "NODE:COUNT", "at most COUNT writes a second to a device", repeat=True),
    Option("--domainname", "NAME", "NIS domain name inside (none)"),
    Option("--entrypoint", "PROGRAM", "instead of the image's entrypoint; empty: none"),
    Option("-e --env", "NAME[=VALUE]", "set a variable; without a value, pass yours on", repeat=True),
    Option("--env-file", "FILE", "set variables from lines NAME=VALUE", repeat=True),
    Option("--explain", "", "print the system calls of the start and their reasons; run nothing"),
    Option("--format", "FORMAT", "with --explain: text or json (text)"),
    Option("--gidmap", "CONTAINER:HOST:SIZE", "group ids of a user namespace of its own (--userns)", repeat=True),
    Option("--group-add", "GROUP", "add a supplementary group, by name or number", repeat=True),
    Option("--help", "", "print this"),
    Option("-h --hostname", "NAME", "host name inside (the first 12 digits of the id)"),
    Option("--init", "", "run a small init as process 1, which forwards signals and reaps"),
    Option("-i --interactive", "", "pass standard input on (it is empty otherwise)"),
    Option("--ipc", "MODE", "IPC namespace: private, host or none (private)"),
    Option("-l --label", "KEY[=VALUE]", "set a label", repeat=True),
    Option("--label-file", "FILE", "set labels from lines KEY=VALUE", repeat=True),
    Option("--log-driver", "DRIVER", "with -d: json-file, or none (json-file)"),
    Option("--log-opt", "KEY=VALUE", "with -d: max-size=SIZE, max-file=COUNT (no limit, 1)", repeat=True),
    Option("-m --memory", "SIZE", "at most SIZE bytes of memory, from 6m: 64m, 1.5g (0: no limit)"),
    Option("--memory-reservation", "SIZE", "bytes that it may keep when memory is short (none)"),
    Option("--memory-swap", "SIZE", "bytes of memory and swap together, -1: no limit (twice --memory)"),
    Option("--mount", "KEY=VALUE,...", "type=bind,source=,target=[,readonly] or type=tmpfs,target=", repeat=True),
    Option("--name", "NAME", "the container's name (its id)"),
    Option("--network", "MODE", "none: only loopback; host: the host's (none)", aliases=("--net",)),
    Option("--oom-score-adj", "N", "who dies first when the host is out of memory, -1000 to 1000 (0)"),
    Option("--pid", "MODE", "PID namespace: private or host (private)"),
    Option("--pids-limit", "N", "at most N processes and threads, -1: no limit (-1)"),
    Option("--platform", "OS/ARCH[/VARIANT]", "of the image: linux/arm64 ($DOCKER_DEFAULT_PLATFORM, or this machine's)"),
    Option("--privileged", "", "all capabilities and devices, nothing masked: no protection"),
    Option("--pull", "WHEN", "ask the registry for the image: missing, always or never (missing)"),
    Option("-q --quiet", "", "do not tell how far a pull is"),
    Option("--read-only", "", "the root cannot be written to; mounts can"),
    Option("--restart", "POLICY", "with -d: no, on-failure[:N], always or unless-stopped (no)"),
    Option("--rm", "", "remove the container when it ends (always so, without -d)"),
    Option("--rootfs", "DIR", "this directory is the root; the first word is then the program"),
    Option("--security-opt", "OPTION", "no-new-privileges, seccomp=FILE, apparmor=NAME, label=type:T, ...", repeat=True),
    Option("--shm-size", "SIZE", "size of /dev/shm in bytes: 64m, 1g (64m)"),
    Option("--stop-signal", "SIGNAL", "what asks it to end: TERM, SIGQUIT, 3 (SIGTERM)"),
    Option("--stop-timeout", "SECONDS", "with -d: between the stop signal and SIGKILL, -1: for ever (10)"),
    Option("--sysctl", "NAME=VALUE", "set a kernel setting that a namespace has for itself", repeat=True),
    Option("--time", "", "with --explain: run it and add microseconds"),
    Option("--timeout", "SECONDS", "kill it after this time, exit code 124 (no limit)"),
    Option("--tmpfs", "TARGET[:OPTIONS]", "mount a tmpfs: /run:size=64m,mode=1777 (nosuid,nodev,noexec)", repeat=True),
    Option("-t --tty", "", "give it a terminal; with -i, yours"),
    Option("--uidmap", "CONTAINER:HOST:SIZE", "user ids of a user namespace of its own (--userns)", repeat=True),
    Option("--ulimit", "NAME=SOFT[:HARD]", "limit of each process: nofile=1024:2048, -1: no limit", repeat=True),
    Option("-u --user", "USER[:GROUP]", "run as this user, by name or number (the image's, or root)"),
    Option("--userns", "MODE", "user namespace: host, auto[:size=N], keep-id, or CONTAINER:HOST:SIZE,... (host)"),
    Option("--uts", "MODE", "UTS namespace, with the host name: private or host (private)"),
    Option("-v --volume", "SOURCE:TARGET[:ro]", "mount a directory or file of the host", repeat=True),
    Option("-w --workdir", "DIR", "working directory inside (the image's, or /)"),
)  # fmt: skip

_LIFE = "it comes later; leave out {}"
_NETWORK = "bridge networks come later; leave it out, and use --network none or host"
_LATER = {
    "--no-healthcheck": _LIFE.format("--no-healthcheck"),
    **{f"--health-{name}": _LIFE.format(f"--health-{name}") for name in ("cmd", "interval", "retries", "timeout")},
    **dict.fromkeys(("-p", "--publish", "-P", "--publish-all", "--expose", "--ip", "--ip6", "--link"), _NETWORK),
    **dict.fromkeys(
        ("--dns", "--dns-option", "--dns-search", "--network-alias", "--net-alias", "--mac-address"), _NETWORK
    ),
    "--cpu-period": "write --cpus N: N CPUs' worth of time",
    "--cpu-quota": "write --cpus N: N CPUs' worth of time",
    "--cpuset-mems": "it comes later; leave it out",
    "--cgroup-parent": "it comes later; leave it out",
    "--gpus": "it comes later; write --device for each node",
    "--volumes-from": "named volumes come later; write -v SOURCE:TARGET for each",
}

COMMAND = Command(
    "pycontain run",
    "[OPTIONS] IMAGE [PROGRAM] [ARGUMENT...]",
    "Run a program in a new container. IMAGE: a name (pulled if missing), an id, /dir, ./dir, oci:DIR[:REF], or host (this system).",
    _OPTIONS,
    later=_LATER,
)
