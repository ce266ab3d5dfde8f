"""Run a command as root in the cgroup v2 test VM.

    python -m tests.vm.run [--add PATH]... [--out DIR] [--timeout S] -- CMD...

CMD runs by sh in /job, where each --add PATH stands under its own name; what it leaves in /job/out lands
in --out. The exit status is CMD's. The VM's own failures never look like CMD's: they end with 240 (no VM
here), 241 (timed out), 242 (died or failed), with a line that starts with "vm:".
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.vm.build import VmImage, ensure_image
from tests.vm.kernel import BuildError
from tests.vm.machine import machine_arguments
from tests.vm.old_kernel import KernelGone, OldKernel, ensure_old_kernel

CONSOLE_TAIL = 25


class VmError(Exception):
    """The VM failed, not the command in it. `console` is the machine's console so far."""

    exit_status = 242

    def __init__(self, message: str, console: str = "") -> None:
        tail = "\n".join(console.splitlines()[-CONSOLE_TAIL:])
        super().__init__(f"{message}\n--- last console lines ---\n{tail}" if tail else message)
        self.console = console


class VmUnavailable(VmError):
    """There is no VM on this host: QEMU is missing, or the image cannot be built."""

    exit_status = 240


class VmOldKernelGone(VmUnavailable):
    """Nobody offers the old kernel any more."""


class VmTimeout(VmError):
    """The command (or the boot) did not end in time; the VM was killed."""

    exit_status = 241


@dataclass(frozen=True, kw_only=True, slots=True)
class VmResult:
    exit_code: int
    output_dir: Path  # what the command left in /job/out: files and directories, no links
    output: str  # the command's stdout and stderr, free of kernel messages
    console: str  # kernel, guest scripts


def run_in_vm(
    command: str | Sequence[str],
    *,
    add: Sequence[str | os.PathLike[str]] = (),
    timeout: float = 300,
    output_dir: str | os.PathLike[str] | None = None,
    memory_mb: int = 2048,
    cpus: int = 2,
    result_mb: int = 256,
    echo: bool = False,
    systemd: bool = False,
    kernel_arguments: str = "",
    old_kernel: bool = False,
) -> VmResult:
    """Boot the VM, run one shell command (or argv) in it, bring its results back.

    systemd: as a service of systemd, which is PID 1 then. kernel_arguments: after our own. old_kernel: with
    tests.vm.old_kernel's instead of the image's; raises VmOldKernelGone where it is not to be had.

    add: files and directories put into /job by their base name. output_dir: made when None, and then the
    caller's to remove. timeout: seconds, of boot and command together. echo: copy the command's output to
    stdout as it comes.

    Raises: VmUnavailable, VmTimeout, VmError. A command that fails raises nothing: see exit_code.
    """
    image = _image()
    kernel = _old_kernel(image) if old_kernel else None
    made_here = output_dir is None
    results = Path(tempfile.mkdtemp(prefix="pycontain-vm-out.") if output_dir is None else output_dir)
    results.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="pycontain-vm."))
    try:
        _write_job(work / "job.tar", command, add)
        for name, size_mb in (("results.img", result_mb), ("scratch.img", 512)):
            with (work / name).open("wb") as disk:
                disk.truncate(size_mb << 20)
        words = " ".join(word for word in ("vm.systemd" if systemd else "", kernel_arguments) if word)
        status, timed_out = _boot(
            image, work, memory_mb=memory_mb, cpus=cpus, timeout=timeout, echo=echo, kernel_arguments=words, kernel=kernel
        )  # fmt: skip
        console = _text(work / "console")
        if timed_out:
            raise VmTimeout(f"no end after {timeout:g} s; output so far:\n{_text(work / 'output')}", console)
        failed = [line for line in console.splitlines() if "VM-FAILED" in line]
        if status != 0 or failed:
            why = failed[-1] if failed else f"QEMU exit status {status}: {_text(work / 'qemu.err').strip()}"
            raise VmError(f"the machine ended without a result ({why})", console)
        try:
            exit_code = _read_results(work / "results.img", work / "unpacked", results)
        except (tarfile.TarError, OSError, ValueError) as error:
            raise VmError(f"the machine ended without a readable result ({error})", console) from error
        return VmResult(exit_code=exit_code, output_dir=results, output=_text(work / "output"), console=console)
    except BaseException:
        if made_here:
            shutil.rmtree(results, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_guest_tests(
    package_dir: str | os.PathLike[str],
    *,
    tests: str | os.PathLike[str] = "tests",
    suite: str = "guest",
    pytest_args: Sequence[str] = (),
    timeout: float = 1800,
    output_dir: str | os.PathLike[str] | None = None,
    echo: bool = False,
) -> VmResult:
    """Run tests/vm/<suite> by pytest inside the VM, once: pytest costs seconds there, so a session fixture calls this.

    package_dir: a directory that is put on PYTHONPATH, holding the pycontain package with its compiled
    (abi3) extension and whatever it imports. junit.xml in output_dir has the single results.
    """
    name = Path(package_dir).resolve().name
    if name == "tests":
        raise ValueError("package_dir must not be named tests: both stand side by side in /job")
    argv = ["python3", "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "--junitxml=/job/out/junit.xml"]
    # /var/tmp: the image "host" needs a run root on another file system than / before Linux 6.15, and layers lie on a disk:
    # a tmpfs cannot be id-mapped before 6.3
    disk = "mkfs.ext4 -q -E lazy_itable_init=1 /dev/vdd && mount /dev/vdd /var/tmp && chmod 1777 /var/tmp"
    setting = f"{disk} && PYTHONPATH=/job/{shlex.quote(name)}:/job:/job/tests/kernel"
    command = f"{setting} {shlex.join([*argv, *pytest_args, f'tests/vm/{suite}'])}"
    return run_in_vm(
        command, add=[package_dir, tests], timeout=timeout, output_dir=output_dir, echo=echo,
        systemd=suite == "systemd", kernel_arguments="security=selinux" if suite == "selinux" else "",
        old_kernel=suite == "old",
    )  # fmt: skip


def _image() -> VmImage:
    if shutil.which("qemu-system-x86_64") is None:
        raise VmUnavailable("qemu-system-x86_64 is not installed; run tests/peers/install.sh")
    try:
        return ensure_image()
    except BuildError as error:
        raise VmUnavailable(str(error)) from error


def _old_kernel(image: VmImage) -> OldKernel:
    try:
        return ensure_old_kernel(image)
    except KernelGone as error:
        raise VmOldKernelGone(str(error)) from error
    except BuildError as error:
        raise VmUnavailable(str(error)) from error


def _write_job(target: Path, command: str | Sequence[str], add: Sequence[str | os.PathLike[str]]) -> None:
    script = command if isinstance(command, str) else shlex.join(command)

    def from_root(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        # Byte code of another Python is weight; other owners would be strangers in the guest.
        if Path(info.name).name == "__pycache__":
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        return info

    with tarfile.open(target, "w") as job:
        for path in add:
            job.add(path, arcname=Path(path).resolve().name, filter=from_root)
        info = tarfile.TarInfo("job.sh")
        data = f"{script}\n".encode()
        info.size = len(data)
        job.addfile(info, io.BytesIO(data))


def _boot(
    image: VmImage,
    work: Path,
    *,
    memory_mb: int,
    cpus: int,
    timeout: float,
    echo: bool,
    kernel_arguments: str,
    kernel: OldKernel | None,
) -> tuple[int | None, bool]:
    """Run QEMU to its end; its exit status and whether it had to be killed."""
    disks: list[str] = []
    files = [
        ("root", image.root, "snapshot=on"),
        ("job", work / "job.tar", "readonly=on"),
        ("results", work / "results.img", "cache=unsafe"),
        ("scratch", work / "scratch.img", "cache=unsafe"),
    ]
    if kernel is not None:
        files.append(("modules", kernel.modules, "readonly=on"))
    for name, path, options in files:
        # QEMU reads a comma in a value as the next option, unless it is doubled.
        disks += ["-drive", f"if=none,id={name},file={str(path).replace(',', ',,')},format=raw,{options}"]
        disks += ["-device", f"virtio-blk-pci,drive={name}"]
    argv = machine_arguments(
        kernel=(kernel or image).vmlinux, initrd=(kernel or image).initrd, memory_mb=memory_mb, cpus=cpus,
        kernel_arguments=kernel_arguments,
    )  # fmt: skip
    argv += ["-serial", f"file:{work / 'console'}", "-serial", "stdio", *disks]
    with (work / "output").open("wb") as sink, (work / "qemu.err").open("wb") as errors:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        reader = threading.Thread(target=_copy, args=(process.stdout, sink, echo), daemon=True)
        reader.start()
        try:
            return process.wait(timeout), False
        except subprocess.TimeoutExpired:
            return None, True
        finally:
            # Also on KeyboardInterrupt: a guest that nobody waits for burns a CPU for good.
            process.kill()
            process.wait()
            reader.join()
            process.stdout.close()


def _copy(source: io.BufferedIOBase, sink: io.BufferedWriter, echo: bool) -> None:
    while chunk := source.read1(65536):
        sink.write(chunk)
        if echo:
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()


def _read_results(disk: Path, unpacked: Path, results: Path) -> int:
    # The guest ran hostile code as root, so files and directories only: without links nothing can lead out.
    # Not tarfile's "data" filter: Debian 12's own Python is older than it.
    with tarfile.open(disk) as archive:
        for member in archive:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts:
                raise ValueError(f"a result leaves its directory: {member.name}")
            if member.isdir():
                (unpacked / place).mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                content = archive.extractfile(member)
                assert content is not None  # only links and directories have none
                (unpacked / place).parent.mkdir(parents=True, exist_ok=True)
                with content, (unpacked / place).open("wb") as target:
                    shutil.copyfileobj(content, target)
    if not (unpacked / "exit_code").exists():
        raise ValueError("nothing on the result disk: the guest crashed, or the job ended the machine")
    exit_code = int((unpacked / "exit_code").read_text())
    shutil.copytree(unpacked / "out", results, dirs_exist_ok=True)
    return exit_code


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--add", action="append", default=[], metavar="PATH", help="put PATH into /job")
    parser.add_argument("--out", metavar="DIR", help="keep /job/out here (default: dropped)")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds, boot included (300)")
    parser.add_argument("--memory-mb", type=int, default=2048, metavar="MB", help="the guest's memory (2048)")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="the guest's CPUs (2)")
    parser.add_argument("--console", action="store_true", help="print the guest's console to stderr at the end")
    parser.add_argument("command", nargs="+", metavar="CMD", help="one word: a shell script; more: an argv")
    options = parser.parse_args()
    command: list[str] = options.command
    try:
        result = run_in_vm(
            command[0] if len(command) == 1 else command,
            add=options.add,
            timeout=options.timeout,
            output_dir=options.out,
            memory_mb=options.memory_mb,
            cpus=options.cpus,
            echo=True,
        )
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return error.exit_status
    if options.out is None:
        shutil.rmtree(result.output_dir, ignore_errors=True)
    if options.console:
        print(result.console, file=sys.stderr)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
