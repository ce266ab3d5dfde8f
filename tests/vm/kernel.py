"""From Debian's kernel package to what the VM boots: a PVH vmlinux, the modules tests want, initramfs images."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

# Relative to /lib/modules/<version>. Each must exist: a kernel that renamed one would otherwise give a
# VM in which a whole group of tests fails for a reason nobody sees.
MODULES = (
    *(f"kernel/fs/{name}" for name in ("overlayfs", "fuse", "erofs", "squashfs", "btrfs", "xfs")),
    *(f"kernel/net/{name}" for name in ("bridge", "netfilter", "ipv4", "ipv6", "802", "llc", "sched", "core")),
    *(f"kernel/drivers/net/{name}.ko" for name in ("veth", "dummy", "macvlan", "tun", "tap")),
    *("kernel/drivers/net/ipvlan", "kernel/drivers/net/vxlan", "kernel/drivers/virtio", "kernel/drivers/block"),
    *("kernel/lib", "kernel/crypto", "kernel/arch/x86/crypto"),
)
INDEXES = ("modules.builtin", "modules.order", "modules.builtin.modinfo")
# ext4 is built into the cloud kernel; its disk driver is not.
BOOT_MODULES = ("virtio_pci", "virtio_blk")

DECOMPRESSORS = {
    b"\x02\x21\x4c\x18": ("lz4", "-dc", "-"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dc"),
    b"\xfd7zX": ("xz", "-dc"),
    b"\x1f\x8b\x08\x00": ("gzip", "-dc"),
}


class BuildError(Exception):
    """The VM's files could not be made; the message says which step and what to do."""


def run_step(argv: list[str], *, why: str) -> bytes:
    """Run one tool of the build and give its output, or a BuildError with its last words."""
    try:
        # Some of the output is parsed, so it must not be translated.
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(argv, capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        raise BuildError(f"cannot {why}: {argv[0]} is not installed; run tests/peers/install.sh") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-15:]
        raise BuildError(f"cannot {why}: {argv[0]} exited with {done.returncode}:\n" + "\n".join(words))
    return done.stdout


def extract_vmlinux(bzimage: Path, vmlinux: Path) -> None:
    """Unpack the ELF inside a bzImage: booted by its PVH entry it skips the guest's own slow decompression.

    Spec: Documentation/arch/x86/boot.rst (setup_sects 0x1f1, payload_offset 0x248, payload_length 0x24c).
    """
    image = bzimage.read_bytes()
    if image[0x202:0x206] != b"HdrS":
        raise BuildError(f"{bzimage} is no bzImage (no HdrS signature)")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    argv = DECOMPRESSORS.get(payload[:4])
    if argv is None:
        raise BuildError(f"{bzimage}: unknown kernel compression {payload[:4].hex()}")
    # No run_step: the payload ends with its length as four more bytes, at which gzip and zstd complain.
    try:
        elf = subprocess.run(argv, input=payload, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    except FileNotFoundError:
        raise BuildError(f"cannot unpack the kernel: {argv[0]} is not installed") from None
    if elf[:4] != b"\x7fELF":
        raise BuildError(f"{bzimage}: {argv[0]} did not give an ELF image")
    vmlinux.write_bytes(elf)


def copy_modules(package_modules: Path, root: Path) -> str:
    """Copy the modules tests want below root/lib/modules and index them; the kernel's version is returned."""
    (source,) = package_modules.iterdir()
    target = root / "lib/modules" / source.name
    absent = [name for name in (*MODULES, *INDEXES) if not (source / name).exists()]
    if absent:
        raise BuildError(f"kernel {source.name} has no {', '.join(absent)}: adapt MODULES in tests/vm/kernel.py")
    for name in (*MODULES, *INDEXES):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        else:
            shutil.copy2(source / name, target / name)
    # A guest under TCG would spend seconds on inflating what can be inflated here once.
    packed = [str(path) for path in target.rglob("*.ko.xz")]
    if packed:
        run_step(["xz", "-d", *packed], why="unpack kernel modules")
    run_step(["depmod", "-b", str(root), source.name], why="index kernel modules")
    return source.name


def boot_modules(root: Path, version: str) -> list[Path]:
    """The files of BOOT_MODULES and what they depend on, in loading order."""
    ordered: dict[Path, None] = {}
    for module in BOOT_MODULES:
        argv = ["modprobe", "-d", str(root), "-S", version, "--show-depends", module]
        for line in run_step(argv, why=f"find the dependencies of {module}").decode().splitlines():
            word, _, rest = line.partition(" ")
            if word == "insmod":
                ordered[Path(rest.strip())] = None
    return list(ordered)


def write_initramfs(target: Path, *, busybox: Path, init: Path, modules: Iterable[Path] = ()) -> None:
    """Write an uncompressed newc archive: busybox, /init, mount points and modules with their order."""
    modules = list(modules)
    entries: list[tuple[str, int, bytes]] = [
        (name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "proc", "sys", "new", "modules")
    ]
    # The kernel opens this one before devtmpfs exists; without it init has no stdout.
    entries.append(("dev/console", stat.S_IFCHR | 0o600, b""))
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    entries.append(("init", stat.S_IFREG | 0o755, init.read_bytes()))
    entries += [(f"modules/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()) for path in modules]
    order = "".join(f"{path.name}\n" for path in modules).encode()
    entries.append(("modules/order", stat.S_IFREG | 0o644, order))
    with target.open("wb") as out:
        for number, (name, mode, data) in enumerate(entries, start=1):
            out.write(_newc(name, mode, data, number))
        out.write(_newc("TRAILER!!!", 0, b"", 0))


def _newc(name: str, mode: int, data: bytes, inode: int) -> bytes:
    """One cpio record. Spec: Documentation/driver-api/early-userspace/buffer-format.rst."""
    device = (5, 1) if stat.S_ISCHR(mode) else (0, 0)
    raw = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
