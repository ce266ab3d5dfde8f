"""A kernel older than the VM's own, for the same root image: Debian 11's 5.10, with its modules on a disk of their own.

Its key is over this recipe and the name of the suite, not the package's version: that suite has ended, and what was fetched once stays.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm.build import HERE, KERNEL, VmImage, cache_directory, check_tools, download_kernel, locked, remove_tree
from tests.vm.kernel import BuildError, boot_modules, copy_modules, extract_vmlinux, run_step, write_initramfs

SUITE = "bullseye"
RECIPE = ("old_kernel.py", "kernel.py", "boot/initrd.sh")
MODULES_MB = 64


class KernelGone(BuildError):
    """The package index does not have this suite any more, and no cache has its kernel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OldKernel:
    directory: Path

    @property
    def vmlinux(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.cpio"

    @property
    def modules(self) -> Path:
        return self.directory / "modules.ext4"


def ensure_old_kernel(image: VmImage) -> OldKernel:
    """The kernel, built when it is not in the cache; ``image`` lends its busybox. Raises: KernelGone, BuildError."""
    digest = hashlib.sha256(SUITE.encode())
    for name in RECIPE:
        digest.update(name.encode() + b"\0" + (HERE / name).read_bytes() + b"\0")
    final = cache_directory() / f"{SUITE}-{digest.hexdigest()[:24]}"
    if final.is_dir():
        return OldKernel(directory=final)
    check_tools()
    final.parent.mkdir(parents=True, exist_ok=True)
    with locked(final.parent / f"{final.name}.lock"):
        if not final.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=final.parent))
            try:
                (scratch / "product").mkdir(mode=0o755)
                _build(image, scratch, scratch / "product")
                os.rename(scratch / "product", final)
            finally:
                remove_tree(scratch)
    return OldKernel(directory=final)


def _build(image: VmImage, scratch: Path, product: Path) -> None:
    package, modules = scratch / "kernel", scratch / "modules"
    try:
        bzimage = download_kernel(package, SUITE, ["--variant=custom"], scratch / "root")
    except BuildError as error:
        if "does not have a Release file" in str(error) or "404" in str(error):
            raise KernelGone(f"the package index has no {SUITE} any more, which had {KERNEL} 5.10") from error
        raise
    extract_vmlinux(bzimage, product / "vmlinux")
    version = copy_modules(package / "lib/modules", modules)
    busybox = scratch / "busybox"
    run_step(["debugfs", "-R", f"dump /usr/bin/busybox {busybox}", str(image.root)], why="take busybox from the image")
    write_initramfs(
        product / "initrd.cpio", busybox=busybox, init=HERE / "boot/initrd.sh", modules=boot_modules(modules, version)
    )
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0"]
    argv += ["-d", str(modules / "lib/modules"), str(product / "modules.ext4"), f"{MODULES_MB}M"]
    run_step(argv, why="make the disk of modules")
    shutil.rmtree(modules)
