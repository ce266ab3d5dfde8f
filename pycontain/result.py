"""What a run leaves: how it ended, what it said, what it used."""

from __future__ import annotations

from .record import factory, record

__all__ = ["CompletedContainer", "Outcome", "Usage"]


@record
class Usage:
    """What the container used, all its processes together, from its cgroups' own counters.

    ``None`` where this host has no controller that counts it. CPU time falls back to the kernel's accounting of the
    reaped process tree. Seconds and bytes. ``io_*``: what reached block devices. The last three are of the moment: None once it
    has ended. ``memory_bytes`` is counted as ``docker stats`` does, without files' pages that the kernel can give back; its limit
    is never more than the machine has; ``pids``: processes and threads.
    """

    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    memory_peak_bytes: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    wall_s: float = 0.0
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None

    @property
    def cpu_s(self) -> float:
        return self.cpu_user_s + self.cpu_system_s


@record
class Outcome:
    """How a container ended. ``exit_code`` is 128 + n after signal n, as in a shell; ``signal`` is n, else None."""

    exit_code: int
    signal: int | None = None
    oom_killed: bool = False
    usage: Usage = Usage()
    phases: dict[str, float] = factory(default_factory=dict)  # seconds: plan, spawn, run, reap


@record
class CompletedContainer:
    """The result of :func:`pycontain.run`, shaped like :class:`subprocess.CompletedProcess`.

    ``stdout`` and ``stderr`` are None when they were not captured, bytes, or str with ``text=True``.
    """

    args: tuple[str, ...]
    image: str
    id: str
    exit_code: int
    signal: int | None = None
    oom_killed: bool = False
    timed_out: bool = False
    stdout: bytes | str | None = None
    stderr: bytes | str | None = None
    usage: Usage = Usage()
    phases: dict[str, float] = factory(default_factory=dict)

    @property
    def returncode(self) -> int:
        """``exit_code`` by subprocess's name."""
        return self.exit_code

    def check_returncode(self) -> None:
        """Raises ContainerExited unless the exit code is 0."""
        if self.exit_code == 0:
            return
        from .errors import ContainerExited

        what = self.args[0] if self.args else self.image
        if self.oom_killed:
            how = "was killed: out of memory"
        elif self.signal is not None:
            import signal

            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            how = f"was killed by {name}"
        else:
            how = f"exited with status {self.exit_code}"
        raise ContainerExited(f"{what!r} {how} (container {self.id[:12]})", self)
