"""The VM baseline of the start-up benchmark: what a whole machine costs where a container would do.

    python -m tests.vm.baseline [RUNS]

The smallest guest that proves itself: q35, qboot, an uncompressed kernel, a busybox initramfs whose init
runs true and ends the machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from tests.vm.build import ensure_image
from tests.vm.kernel import BuildError
from tests.vm.machine import machine_arguments
from tests.vm.run import VmError, VmTimeout, VmUnavailable


def boot_once(*, timeout: float = 60) -> float:
    """Boot to userspace, run true, power off; the seconds from starting QEMU to its end.

    The first call may build the image (not counted). Raises: VmUnavailable, VmTimeout, VmError.
    """
    if shutil.which("qemu-system-x86_64") is None:
        raise VmUnavailable("qemu-system-x86_64 is not installed; run tests/peers/install.sh")
    try:
        image = ensure_image()
    except BuildError as error:
        raise VmUnavailable(str(error)) from error
    argv = machine_arguments(kernel=image.vmlinux, initrd=image.baseline_initrd, memory_mb=128, cpus=1)
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [*argv, "-serial", "stdio"], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VmTimeout(f"no end after {timeout:g} s", (error.stdout or b"").decode(errors="replace")) from error
    elapsed_s = time.perf_counter() - started
    console = done.stdout.decode(errors="replace")
    if done.returncode != 0 or "VM-BASELINE-OK" not in console:
        words = done.stderr.decode(errors="replace").strip()
        raise VmError(f"userspace was not reached (QEMU exit status {done.returncode}) {words}", console)
    return elapsed_s


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    try:
        for _ in range(runs):
            print(f"{boot_once():.2f} s")
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
