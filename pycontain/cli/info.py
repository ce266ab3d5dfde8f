"""``pycontain info``: this host, and what is stored on it, in Docker's words."""

from __future__ import annotations

import sys

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .output import flush, one_for_errors, write
from .units import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..engine.info import Info
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "document_of", "main", "text_of"]

COMMAND = Command(
    "pycontain info",
    "[OPTIONS]",
    "Describe this host: what is stored on it, what it can limit, and how it keeps containers apart.",
    (
        Option("-f --format", "FORMAT", "'json', or a Go template: '{{.Driver}}'"),
        Option("-h --help", "", "print this"),
    ),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    return one_for_errors(lambda: _info(values, roots))


def _info(values: Values, roots: Roots) -> int:
    from ..engine.info import info

    found = info(roots)
    if not values.format:
        write(text_of(found))
        flush()
        write("".join([f"{each}\n" for each in found.warnings]), sys.stderr)
    elif values.format == "json":
        import json

        write(json.dumps(document_of(found), ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        write(_applied(values.format, document_of(found)) + "\n")
    return 0


def _applied(form: str, document: dict[str, Any]) -> str:
    from .gotemplate import Struct, TemplateError, parse

    try:
        return parse(form).execute(Struct("system.Info", document, aliases={"Id": "ID"}))
    except TemplateError as error:
        refused = InvalidArgument(f"template parsing error: {error}")
        refused.exit_code = 64
        raise refused from None


def text_of(found: Info) -> str:
    lines = [
        "Server:", f" Containers: {found.containers}", f"  Running: {found.running}", f"  Paused: {found.paused}",
        f"  Stopped: {found.stopped}", f" Images: {found.images}", f" Server Version: {found.version}", " Storage Driver: overlay2",
        f"  Backing Filesystem: {found.backing_file_system}", " Logging Driver: json-file", f" Cgroup Driver: {found.cgroup_driver}",
        f" Cgroup Version: {found.cgroup_version}", " Runtimes: pycontain", " Default Runtime: pycontain", " Security Options:",
    ]  # fmt: skip
    for each in found.security:
        name, *more = each.split(",")
        lines.append(f"  {name.removeprefix('name=')}")
        lines += [f"   {key.capitalize()}: {value}" for key, _, value in (pair.partition("=") for pair in more)]
    lines += [
        f" Kernel Version: {found.kernel}", f" Operating System: {found.operating_system}", " OSType: linux",
        f" Architecture: {found.architecture}", f" CPUs: {found.cpus}", f" Total Memory: {binary_size(found.memory_bytes)}",
        f" Name: {found.name}", f" Docker Root Dir: {found.data_root}", f" Run Root: {found.run_root}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def document_of(found: Info) -> dict[str, Any]:
    """By the keys of Docker's API (``GET /info``), those that mean something here."""
    return {
        "ID": "", "Containers": found.containers, "ContainersRunning": found.running, "ContainersPaused": found.paused,
        "ContainersStopped": found.stopped, "Images": found.images, "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", found.backing_file_system]], **dict(found.limits),
        "LoggingDriver": "json-file", "CgroupDriver": found.cgroup_driver, "CgroupVersion": found.cgroup_version,
        "KernelVersion": found.kernel, "OperatingSystem": found.operating_system, "OSVersion": found.os_version, "OSType": "linux",
        "Architecture": found.architecture, "IndexServerAddress": "https://index.docker.io/v1/", "NCPU": found.cpus,
        "MemTotal": found.memory_bytes, "DockerRootDir": found.data_root, "Name": found.name, "Labels": [],
        "ExperimentalBuild": False, "ServerVersion": found.version, "Runtimes": {"pycontain": {}}, "DefaultRuntime": "pycontain",
        "SecurityOptions": list(found.security), "Warnings": list(found.warnings) or None,
    }  # fmt: skip
