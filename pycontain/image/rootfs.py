"""A root filesystem that a container can be started on: overlay lower directories and the image's configuration."""

from __future__ import annotations

from ..record import record

__all__ = ["DEFAULT_CONFIG", "DEFAULT_PATH", "Healthcheck", "ImageConfig", "RootFS"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@record
class Healthcheck:
    """``test``: ("CMD", word...), ("CMD-SHELL", text) or ("NONE",). Times in nanoseconds; 0, and an empty test: unset."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@record
class ImageConfig:
    """The part of the OCI image configuration that shapes a process (image-spec config.md, "Properties", `config`)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # "NAME=value"
    working_dir: str = ""
    user: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()  # of shell forms; (): /bin/sh -c


DEFAULT_CONFIG = ImageConfig(env=("PATH=" + DEFAULT_PATH,), cmd=("/bin/sh",), working_dir="/")
"""Of what has no configuration of its own: a directory, and the built-in image ``host``."""


@record
class RootFS:
    """``lower`` are absolute directories, topmost first, ready to be overlay lower directories.

    ``shown``: directories of this machine that are bound in, read-only, and ``links``, (name, target) in the root: how the
    image ``host`` is made where the kernel takes no layer of ``/`` (in a user namespace); ``lower`` is empty then.
    ``hidden_dirs`` and ``hidden_files`` are absolute paths inside that must appear as an empty directory (with the mode
    given) and as absent: only the built-in image ``host`` has any.
    """

    image: str
    lower: tuple[str, ...]
    config: ImageConfig = ImageConfig()
    hidden_dirs: tuple[tuple[str, int], ...] = ()
    hidden_files: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    image_id: str = ""  # "sha256:..." of the configuration; "" for a directory and for host
    platform: str = ""  # "linux/amd64"; "" for what has no configuration

    @property
    def files(self) -> tuple[str, ...]:
        """Where its files can be read before it starts: its layers, or this machine itself."""
        return self.lower or ("/",)
