"""What a config.json may not say in two places at once. Every part of it is valid by itself; paths are the document's.

Pure. Spec: config.md and config-linux.md; where they are silent, what the kernel would refuse later, or what would change
the host instead of the container.
"""

from __future__ import annotations

from .id_mappings import has
from .node import complaint, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .runtime import IDMapping, Namespace, RuntimeSpec

__all__ = ["check"]


def check(spec: RuntimeSpec) -> None:
    """Raises: InvalidArgument."""
    kinds = {namespace.type: namespace for namespace in spec.linux.namespaces}
    _check_needed(spec, kinds)
    _check_time(spec, kinds.get("time"))
    _check_user_namespace(spec, kinds.get("user"))
    _check_ids(spec, kinds.get("user"))
    _check_mounts(spec, kinds.get("user"))
    missing = spec.process.capabilities.effective - spec.process.capabilities.permitted
    if missing:
        raise complaint(
            "process.capabilities.effective", "capabilities that are in permitted too", ", ".join(sorted(missing))
        )


def _check_needed(spec: RuntimeSpec, kinds: dict[str, Namespace]) -> None:
    """What would change the host if the container had no namespace of its own for it."""
    linux = spec.linux
    for path, value, kind in (
        ("hostname", spec.hostname, "uts"),
        ("domainname", spec.domainname, "uts"),
        ("mounts", spec.mounts, "mount"),
        ("linux.maskedPaths", linux.masked_paths, "mount"),
        ("linux.readonlyPaths", linux.readonly_paths, "mount"),
        ("linux.netDevices", linux.net_devices, "network"),
    ):
        if value and kind not in kinds:
            raise complaint(path, f'a namespace of type "{kind}" in linux.namespaces', "none")


def _check_time(spec: RuntimeSpec, namespace: Namespace | None) -> None:
    if spec.linux.time_offsets and (namespace is None or namespace.path):
        found = "none" if namespace is None else f"one to join ({quoted(namespace.path)})"
        raise complaint("linux.timeOffsets", 'a new namespace of type "time" in linux.namespaces', found)


def _check_user_namespace(spec: RuntimeSpec, namespace: Namespace | None) -> None:
    for name, mappings in (("uidMappings", spec.linux.uid_mappings), ("gidMappings", spec.linux.gid_mappings)):
        if namespace is None and mappings:
            raise complaint(f"linux.{name}", 'a namespace of type "user" in linux.namespaces', "none")
        if namespace is not None and not namespace.path and not mappings:
            raise complaint(f"linux.{name}", "mappings for the new user namespace", "none")


def _check_ids(spec: RuntimeSpec, namespace: Namespace | None) -> None:
    """Ids of the process have to exist inside. Those of a namespace to join are known to the kernel only."""
    if namespace is None or namespace.path:
        return
    user = spec.process.user

    def mapped(path: str, number: int, mappings: tuple[IDMapping, ...], where: str) -> None:
        if not has(mappings, number):
            raise complaint(path, f"an id that linux.{where} maps", str(number))

    mapped("process.user.uid", user.uid, spec.linux.uid_mappings, "uidMappings")
    mapped("process.user.gid", user.gid, spec.linux.gid_mappings, "gidMappings")
    for index, gid in enumerate(user.additional_gids):
        mapped(f"process.user.additionalGids[{index}]", gid, spec.linux.gid_mappings, "gidMappings")


def _check_mounts(spec: RuntimeSpec, namespace: Namespace | None) -> None:
    for index, mount in enumerate(spec.mounts):
        word = next((option for option in mount.options if option in ("idmap", "ridmap")), "")
        if word and not mount.uid_mappings and namespace is None:
            raise complaint(
                f"mounts[{index}].uidMappings",
                f'mappings for the option "{word}", or a user namespace with some',
                "none",
            )
