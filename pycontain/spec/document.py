"""config.json, the document of an OCI bundle, as a RuntimeSpec.

Spec: opencontainers/runtime-spec 1.0 to 1.3, config.md and config-linux.md. Unknown members are ignored, and so are the
sections of other platforms: the specification says MUST. Known ones are read strictly: a wrong type, a value that is out of
range, unknown to the kernel's interface or at odds with another is an error with its place, what was expected and what was
found. Where the versions differ the later one counts, because it describes what the runtimes do.
"""

from __future__ import annotations

import os
import posixpath
import stat
from errno import ENOENT, ENOTDIR

from ..errors import InvalidArgument, NotFound, errno_name
from ..parse import quote
from .contradictions import check
from .linux_document import parse_linux
from .mount_document import parse_mounts
from .node import MAX_BYTES, Node, Whole, read
from .process_document import parse_environment, parse_process
from .runtime import Hook, Hooks, Root, RuntimeSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["load_bundle", "parse_config"]

_SECONDS = Whole(1, 2**63 - 1, "an integer of seconds")
_HOST_NAME_MAX = 64


def parse_config(source: bytes | str, *, bundle: str = "", warn: Callable[[str], None] | None = None) -> RuntimeSpec:
    """The document's content, checked as far as that can be done without looking at the host.

    A relative root and relative sources of binds are below ``bundle``, an absolute directory; without it they stay as they
    are. ``ociVersion`` has to be a semantic version of major 1. Its minor is not looked at, since the specification promises
    that what was written for an earlier 1.x means the same in a later one, and what only a later one knows is an unknown
    member here; runc and crun do not look at the version at all.

    ``warn`` gets one line for what the specification wants logged and not refused: a capability that does not exist (left
    out then), a relative mount destination. Without it an unknown capability is an error, as it was in 1.0.

    Raises:
        InvalidArgument: one line, ``config.json: PLACE: expected ..., found ...``.
    """
    if bundle and not bundle.startswith("/"):
        raise InvalidArgument(f"invalid bundle {quote(bundle)}: expected an absolute path")
    top = read(source)
    version = _version(top.child("ociVersion"))
    spec = RuntimeSpec(
        oci_version=version,
        process=parse_process(top.child("process"), warn),
        root=_root(top.child("root"), bundle),
        hostname=_host_name(top, "hostname"),
        domainname=_host_name(top, "domainname"),
        mounts=parse_mounts(top, bundle, warn),
        hooks=_hooks(top.child("hooks")),
        annotations=tuple((key, item.as_text()) for key, item in top.entries("annotations")),
        linux=parse_linux(top.child("linux")),
    )
    check(spec)
    return spec


def load_bundle(directory: str, *, warn: Callable[[str], None] | None = None) -> RuntimeSpec:
    """``directory``/config.json by :func:`parse_config`, with ``directory`` as its bundle.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it cannot be read, is not a regular file, or its content is refused.
    """
    if "\0" in directory:
        raise InvalidArgument(f"invalid bundle {quote(directory)}: it has a NUL byte")
    bundle = os.path.abspath(directory)
    path = os.path.join(bundle, "config.json")
    try:
        # a FIFO must not make us wait for who may never write
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidArgument(f"cannot read {quote(path)}: it is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                source = file.read(MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        why = f"cannot read {quote(path)}: {error.strerror} ({errno_name(number)})"
        if number in (ENOENT, ENOTDIR):
            raise NotFound(f"{why}: a bundle is a directory with a config.json in it") from None
        raise InvalidArgument(why) from None
    return parse_config(source, bundle=bundle, warn=warn)


def _version(node: Node) -> str:
    text = node.as_text("a semantic version such as 1.2.0")
    if not _is_semantic(text):
        raise node.bad("a semantic version such as 1.2.0")
    if not text.startswith("1."):
        raise node.bad("a version 1.x of the specification")
    return text


def _is_semantic(text: str) -> bool:
    rest, plus, build = text.partition("+")
    core, dash, pre = rest.partition("-")
    numbers = core.split(".")
    words = pre.split(".") if dash else []
    marks = build.split(".") if plus else []
    plain = all(word and word.isascii() and word.replace("-", "0").isalnum() for word in words + marks)
    numeric = [*numbers, *(word for word in words if word.isdigit())]
    return (
        len(text) <= 128
        and len(numbers) == 3
        and plain
        and all(n.isascii() and n.isdigit() and (n == "0" or n[0] != "0") for n in numeric)
    )


def _root(node: Node, bundle: str) -> Root:
    node.as_object("an object with the path of the root filesystem")
    path = node.child("path").as_filled("the path of the root filesystem")
    if bundle and not path.startswith("/"):
        path = posixpath.join(bundle, path)
    return Root(path=path, readonly=bool(node.flag("readonly")))


def _host_name(top: Node, name: str) -> str:
    text = top.text(name)
    if len(text.encode()) > _HOST_NAME_MAX:
        raise top.child(name).bad(f"a name of at most {_HOST_NAME_MAX} bytes")
    return text


def _hooks(node: Node) -> Hooks:
    def hooks(name: str) -> tuple[Hook, ...]:
        return tuple(_hook(item) for item in node.items(name))

    return Hooks(
        prestart=hooks("prestart"),
        create_runtime=hooks("createRuntime"),
        create_container=hooks("createContainer"),
        start_container=hooks("startContainer"),
        poststart=hooks("poststart"),
        poststop=hooks("poststop"),
    )


def _hook(node: Node) -> Hook:
    return Hook(
        path=node.child("path").as_path(),
        args=node.texts("args"),
        env=parse_environment(node),
        timeout=node.whole("timeout", _SECONDS),
    )
