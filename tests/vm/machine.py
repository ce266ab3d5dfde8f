"""QEMU's command line for our guests: what every one of them shares."""

from __future__ import annotations

import os
from pathlib import Path

# reboot=t (triple fault) with -no-reboot is the quickest way to end the machine, and needs no ACPI events.
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off"


def accelerator() -> str:
    """TCG unless asked otherwise: /dev/kvm can be there and still hang every guest (nested sandboxes)."""
    return os.environ.get("PYCONTAIN_VM_ACCEL", "tcg,thread=multi")


def machine_arguments(
    *, kernel: Path, initrd: Path, memory_mb: int, cpus: int, kernel_arguments: str = ""
) -> list[str]:
    """The argv up to disks and serial ports. ``kernel_arguments`` come after our own.

    q35 with qboot is the quickest machine that boots here: microvm hangs under TCG without a hint of
    the host's TSC rate, and SeaBIOS alone takes longer than the kernel.
    """
    accel = accelerator()
    # -cx16: TCG's cmpxchg16b corrupts the slab allocator of kernels from 6.12 on (QEMU 7.2).
    cpu = "host" if accel.startswith("kvm") else "max,-cx16"
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-M", "q35", "-bios", "qboot.rom", "-accel", accel, "-cpu", cpu),
        *("-smp", str(cpus), "-m", f"{memory_mb}M"),
        *("-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{KERNEL_ARGUMENTS} {kernel_arguments}".rstrip()),
    ]
