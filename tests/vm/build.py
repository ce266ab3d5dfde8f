"""Make the cgroup v2 test VM (kernel, initramfs, root image) or take it from the cache.

    python -m tests.vm.build           make it if it is absent, print its directory
    python -m tests.vm.build --key     print only the cache key (for a CI cache)

The cache is ~/.cache/pycontain/vm/<key> (or $XDG_CACHE_HOME); the key is over these scripts and the
versions of the packages that go in, so an old image is never used for a new recipe. Delete it freely.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm.kernel import BuildError, boot_modules, copy_modules, extract_vmlinux, run_step, write_initramfs

HERE = Path(__file__).resolve().parent
SUITE = "bookworm"
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("python3", "python3-cffi-backend", "python3-pytest", "python3-venv"),
    *("busybox-static", "iproute2", "nftables", "kmod", "util-linux", "procps", "uidmap", "libseccomp2", "strace"),
    *("systemd", "dbus"),  # PID 1 of the machine with vm.systemd on its command line
    *("apparmor", "secilc"),  # compilers of the profiles and the policy that tests load
)
IMAGE_MB = 1024
# What the recipe is made of: a change in any of them is another image.
RECIPE = (
    *("build.py", "kernel.py"),
    *("boot/initrd.sh", "boot/vm-init.sh", "boot/baseline-init.sh"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VmImage:
    """The files of one built VM, all read-only to those who boot it."""

    directory: Path
    built: bool  # False: it came from the cache

    @property
    def vmlinux(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.cpio"

    @property
    def root(self) -> Path:
        return self.directory / "root.ext4"

    @property
    def baseline_initrd(self) -> Path:
        return self.directory / "baseline.cpio"


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "pycontain" / "vm"


def package_versions() -> list[str]:
    """The versions the package index offers now, one "name=version" each.

    A host whose index does not know a package (another distribution) gives "name=unknown": the image is
    then rebuilt for a new recipe only, not for a new package.
    """
    try:
        text = run_step(["apt-cache", "policy", KERNEL, *PACKAGES], why="ask for package versions").decode()
    except BuildError:
        text = ""
    known: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            known[name] = line.split(":", 1)[1].strip()
    return [f"{package}={known.get(package, 'unknown')}" for package in (KERNEL, *PACKAGES)]


def cache_key() -> str:
    digest = hashlib.sha256()
    for name in RECIPE:
        digest.update(name.encode() + b"\0" + (HERE / name).read_bytes() + b"\0")
    for version in package_versions():
        digest.update(version.encode() + b"\0")
    return digest.hexdigest()[:24]


def ensure_image() -> VmImage:
    """The VM for this recipe, built when it is not in the cache. Idempotent; concurrent callers wait.

    Raises: BuildError when it has to be built and cannot be.
    """
    cache = cache_directory()
    final = cache / cache_key()
    # A directory gets its final name only when it is complete, so its presence is enough.
    if final.is_dir():
        return VmImage(directory=final, built=False)
    check_tools()
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / f"{final.name}.lock"):
        if final.is_dir():
            return VmImage(directory=final, built=False)
        scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            product = scratch / "product"
            product.mkdir(mode=0o755)
            _build(scratch, product)
            os.rename(product, final)
        finally:
            remove_tree(scratch)
    return VmImage(directory=final, built=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    # The lock file stays: unlinking it would let two builders lock two different inodes of one name.
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def check_tools() -> None:
    if os.geteuid() != 0:
        raise BuildError("the VM image is not in the cache, and building it needs root (mmdebstrap, file owners)")
    absent = [tool for tool in ("mmdebstrap", "mke2fs", "depmod", "modprobe") if shutil.which(tool) is None]
    if absent:
        raise BuildError(f"not installed: {', '.join(absent)}; run tests/peers/install.sh")


def download_kernel(package: Path, suite: str, argv: list[str], root: Path) -> Path:
    """Makes the tree ``root`` of ``suite`` and unpacks its kernel's package into ``package``; the bzImage. Raises: BuildError.

    The kernel is downloaded through the new tree's own package lists, so that any host distribution can build it, and only
    unpacked: installing one runs boot loader and initramfs hooks.
    """
    package.mkdir()
    download = (
        f'cd "{package}" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && '
        f"real=$(apt-cache depends {KERNEL} | sed -n 's/^ *Depends: \\(linux-image-[0-9]\\)/\\1/p' | head -n 1) && "
        'apt-get -o APT::Sandbox::User=root download "$real"'
    )
    make = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--aptopt=Acquire::Languages { none; }"]
    run_step([*make, *argv, f"--customize-hook={download}", suite, str(root)], why=f"make a tree of {suite}")
    debs = list(package.glob("*.deb"))
    if len(debs) != 1:
        raise BuildError(f"expected one kernel package, found {[deb.name for deb in debs]}")
    run_step(["dpkg-deb", "-x", str(debs[0]), str(package)], why="unpack the kernel package")
    (bzimage,) = (package / "boot").glob("vmlinuz-*")
    return bzimage


def _build(scratch: Path, product: Path) -> None:
    root, package = scratch / "root", scratch / "kernel"
    argv = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
    # Translations and manuals double the number of files, and nobody reads them in there.
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    bzimage = download_kernel(package, SUITE, argv, root)
    extract_vmlinux(bzimage, product / "vmlinux")
    version = copy_modules(package / "lib/modules", root)
    busybox = root / "bin/busybox"
    write_initramfs(
        product / "initrd.cpio",
        busybox=busybox,
        init=HERE / "boot/initrd.sh",
        modules=boot_modules(root, version),
    )
    write_initramfs(product / "baseline.cpio", busybox=busybox, init=HERE / "boot/baseline-init.sh")
    init = root / "sbin/vm-init"
    shutil.copyfile(HERE / "boot/vm-init.sh", init)
    init.chmod(0o755)
    # No journal: the image is thrown away after each run, and its writes are a tenth of the boot.
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=1"]
    argv += ["-m", "0", "-L", "vmroot", "-d", str(root), str(product / "root.ext4"), f"{IMAGE_MB}M"]
    run_step(argv, why="make the root image")
    (product / "contents.txt").write_text("\n".join([f"kernel {version}", *package_versions(), ""]))


def remove_tree(path: Path) -> None:
    """rmtree that refuses to walk through a live mount: below one may be the host's own files."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    below = [line.split()[4] for line in mounts if line.split()[4].startswith(f"{path}/")]
    if below:
        raise BuildError(f"{path} is left: still mounted below it: {', '.join(below)}")
    shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.build", description="Make the cgroup v2 test VM.")
    parser.add_argument("--key", action="store_true", help="print the cache key and end")
    options = parser.parse_args()
    if options.key:
        print(cache_key())
        return 0
    started = time.monotonic()
    try:
        image = ensure_image()
    except BuildError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    print(image.directory)
    print(f"vm: {'built' if image.built else 'cached'} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
