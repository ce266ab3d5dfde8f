"""The built-in image ``host``: this machine's own software as a root filesystem, without its data and secrets.

What is visible is chosen by allowing, wherever the tree permits: of ``/`` only the directories of software, of ``/var``
only ``lib``, of ``/var/lib`` only what package managers keep. ``/etc`` cannot be chosen so (every program has its own
file there), hence a list of known secrets, and a rule for the unknown: an entry directly in ``/etc``, ``/etc/ssh`` or
``/opt`` that other users may not read on the host is not visible inside either.

What remains visible: all of ``/usr`` and ``/opt``, and files deeper in ``/etc`` that are on no list. The image is for
running this machine's tools, not for keeping a hostile program from reading this machine's configuration.

Mounts: an overlay's lower directory does not cross mount points, so other file systems of the host (``/proc``,
``/home`` on its own disk, tmpfs mounts) are not visible; what lies *beneath* a mount point would be, which is why such
directories are hidden by name too. A machine with ``/usr`` or ``/etc`` on a file system of its own cannot be used.
"""

from __future__ import annotations

import os
import stat

from ..errors import Unsupported, errno_name
from .rootfs import DEFAULT_CONFIG, RootFS

__all__ = ["host_root", "host_shown"]

_SOFTWARE = frozenset(("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "var", "nix", "gnu"))
_NEEDED = ("usr", "etc", "bin", "sbin", "lib", "lib64")
_VAR_LIB_NAMES = (
    "alternatives apk apt dictionaries-common dpkg emacsen-common fonts ghostscript git pacman pam python rpm"
    " sgml-base texmf ucf vim xml-core"
)
_MODES = {"/root": 0o700, "/tmp": 0o1777, "/var/tmp": 0o1777, "/lost+found": 0o700, "/etc/ssl/private": 0o700}

# One directory of the host, then the patterns hidden in it. /etc itself is read once and matched by set first.
_ETC_NAMES = (
    "shadow shadow- gshadow gshadow- .pwd.lock machine-id krb5.keytab krb5kdc sudoers sudoers.d fstab crypttab"
    " environment netrc .netrc npmrc pip.conf wgetrc gitconfig docker containerd containers kubernetes rancher cni"
    " letsencrypt acme dehydrated wireguard openvpn swanctl strongswan.d ipsec.secrets ipsec.d ppp netplan iwd"
    " wpa_supplicant tailscale zerotier cloud credstore credstore.encrypted cryptsetup-keys.d luks-keys mysql redis"
    " mongodb postgresql pgbouncer grafana gitlab gitlab-runner vault vault.d consul.d nomad.d salt puppet puppetlabs"
    " chef ansible samba cups sssd munge ceph iscsi snmp nslcd.conf ldap.secret pam_ldap.secret libnss-ldap.secret"
    " rndc.key boto.cfg s3cfg msmtprc ssmtp nullmailer fetchmailrc postfix exim4 dovecot bind amazon google"
    " waagent.conf kea radvd.conf freeradius raddb duo rclone restic borgmatic telegraf prometheus"
)
_ETC_SUFFIXES = (".key", ".keytab", "passwd.client", ".bak")
_BELOW_ETC: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/etc/ssh", ("ssh_host_*_key", "*_key", "*.key")),
    ("/etc/ssl", ("private", "*.key")),
    ("/etc/pki", ("private", "entitlement", "consumer")),
    ("/etc/pki/tls", ("private",)),
    ("/etc/pki/CA", ("private",)),
    ("/etc/apt", ("auth.conf", "auth.conf.d")),
    ("/etc/security", ("opasswd", "*.old")),
    ("/etc/NetworkManager", ("system-connections",)),
    ("/etc/network", ("interfaces", "interfaces.d")),
    ("/etc/apache2", ("*.key", "*htpasswd*")),
    ("/etc/nginx", ("*.key", "*htpasswd*", "ssl")),
    ("/etc/lighttpd", ("*.pem", "*.user")),
    ("/etc/ldap", ("*secret*", "*.key", "slapd.d")),
)


_VAR_LIB = frozenset(_VAR_LIB_NAMES.split())
_ETC = frozenset(_ETC_NAMES.split())


def host_shown() -> RootFS:
    """As :func:`host_root` for an ordinary user, in a user namespace: other mounts lie below ``/``, so the kernel takes
    it for no layer (it would show what they cover). The directories of software are bound in, read-only; what is in them
    is protected by its owner and mode, for root inside is only this user outside."""
    shown, links = [], []
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        if os.path.islink(path):
            links.append((name, os.readlink(path)))
        elif name in _SOFTWARE - {"var"} and os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
            shown.append(path)
    return RootFS(image="host", lower=(), config=DEFAULT_CONFIG, shown=tuple(shown), links=tuple(links))


def host_root(*, data_root: str) -> RootFS:
    """The machine's own root as it is at this moment; nothing is kept between calls, so new secrets are seen.

    Raises: Unsupported: ``/usr`` or ``/etc`` is a mount of its own, or a directory cannot be read.
    """
    dirs: dict[str, int] = {}
    files: list[str] = []
    try:
        top = _hide_all_but("/", _SOFTWARE, dirs, files)
        _check_mounts(top)
        _hide_all_but("/var", frozenset(("lib",)), dirs, files)
        _hide_all_but("/var/lib", _VAR_LIB, dirs, files)
        etc = _hide_private("/etc", dirs, files)
        _hide_private("/opt", dirs, files)
        for directory, patterns in _BELOW_ETC:
            if directory.split("/", 3)[2] in etc and directory not in dirs:
                _hide_matching(directory, patterns, dirs, files)
    except OSError as error:
        raise Unsupported(
            f"cannot use this machine's root as image host: {error.filename}: {error.strerror} "
            f"({errno_name(error.errno or 0)}); run as a user who may read it, or use a directory"
        ) from error
    _hide_data_root(data_root, dirs)
    return RootFS(
        image="host",
        lower=("/",),
        config=DEFAULT_CONFIG,
        hidden_dirs=tuple(sorted(dirs.items())),
        hidden_files=tuple(sorted(files)),
    )


def _hide_all_but(directory: str, visible: frozenset[str], dirs: dict[str, int], files: list[str]) -> set[str]:
    """Hide every entry whose name is not in ``visible``; answers with the visible directories' names."""
    prefix = "/" if directory == "/" else directory + "/"
    shown = set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_symlink():
                    continue  # its target is hidden or not by its own path
                if not entry.is_dir(follow_symlinks=False):
                    files.append(prefix + entry.name)
                elif entry.name in visible:
                    shown.add(entry.name)
                else:
                    path = prefix + entry.name
                    dirs[path] = _MODES.get(path, 0o755)
    except FileNotFoundError:
        return shown
    return shown


def _hide_private(directory: str, dirs: dict[str, int], files: list[str]) -> set[str]:
    """Hide the listed secrets of /etc, and what other users may not read; answers with all directories' names."""
    names = set()
    known: frozenset[str] = _ETC if directory == "/etc" else frozenset()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_symlink():
                    continue
                name = entry.name
                is_dir = entry.is_dir(follow_symlinks=False)
                if is_dir:
                    names.add(name)
                if name in known or name.endswith(_ETC_SUFFIXES) or "secret" in name or "credentials" in name:
                    hidden = True
                else:
                    wanted = stat.S_IXOTH | stat.S_IROTH if is_dir else stat.S_IROTH
                    hidden = entry.stat(follow_symlinks=False).st_mode & wanted != wanted
                if hidden:
                    _hide(f"{directory}/{name}", is_dir, dirs, files)
    except FileNotFoundError:
        return names
    return names


def _hide_matching(directory: str, patterns: tuple[str, ...], dirs: dict[str, int], files: list[str]) -> None:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.is_symlink() and any(_matches(entry.name, each) for each in patterns):
                    _hide(f"{directory}/{entry.name}", entry.is_dir(follow_symlinks=False), dirs, files)
    except (FileNotFoundError, NotADirectoryError):
        return


def _matches(name: str, pattern: str) -> bool:
    """Shell patterns with ``*`` alone; :mod:`fnmatch` would import ``re``, which costs more than this whole module."""
    head, star, rest = pattern.partition("*")
    if not star:
        return name == pattern
    middle, star, tail = rest.rpartition("*")
    if len(name) < len(head) + len(tail) or not name.startswith(head) or not name.endswith(tail):
        return False
    return middle in name[len(head) :]


def _hide(path: str, is_dir: bool, dirs: dict[str, int], files: list[str]) -> None:
    if is_dir:
        dirs[path] = _MODES.get(path, 0o755)
    else:
        files.append(path)


def _hide_data_root(data_root: str, dirs: dict[str, int]) -> None:
    """The data root holds every other image and container; it may have been put anywhere."""
    path = os.path.realpath(data_root)
    parent = path
    while parent != "/":
        if parent in dirs:
            return
        parent = os.path.dirname(parent)
    if os.path.isdir(path):
        dirs[path] = 0o700


def _check_mounts(top: set[str]) -> None:
    root_device = os.stat("/").st_dev
    # A file system of its own has another device; so has a btrfs subvolume, which an overlay does show.
    suspects = [f"/{name}" for name in _NEEDED if name in top and os.lstat(f"/{name}").st_dev != root_device]
    if not suspects:
        return
    with open("/proc/self/mountinfo", "rb") as table:
        mounted = {line.split(b" ", 5)[4].decode("utf-8", "surrogateescape") for line in table}
    for path in suspects:
        if path in mounted:
            raise Unsupported(
                f"cannot use this machine's root as image host: {path} is a mount of its own, which an overlay of / "
                "does not show; copy what you need into a directory and name that (/dir)"
            )
