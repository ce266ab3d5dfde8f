"""What an owner has taken for its containers in the run root, names and blocks of user ids: links that name the owner.

They are good as long as the owner lives; whoever wants the same finds out, and takes away those of the dead.
"""

from __future__ import annotations

import fcntl
import os

from ..errors import Conflict, SetupFailed, errno_name
from .held import is_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .roots import Roots

__all__ = ["Reservations", "holder_of_name"]


def _lives(roots: Roots, owner: str) -> bool:
    return is_held(f"{roots.data_root}/ephemeral/{owner}.lock")


def holder_of_name(roots: Roots, name: str) -> str:
    """The id of the container in the foreground of a living process that has the name; "" when none has."""
    try:
        owner, _, held_id = os.readlink(f"{roots.run_root}/names/{name}").partition("/")
    except OSError:
        return ""
    return held_id if _lives(roots, owner) else ""


class Reservations:
    """Those of one owner, and the clearing away of others'."""

    def __init__(self, roots: Roots, owner: str) -> None:
        self._roots = roots
        self._owner = owner
        self._names: set[str] = set()

    # --- names --------------------------------------------------------------------------------------------------------

    def reserve_name(self, name: str, container_id: str) -> None:
        """Raises Conflict when a container has the name. The reservation is a lock that dies with us."""
        directory = f"{self._roots.run_root}/names"
        try:
            os.makedirs(directory, 0o755, exist_ok=True)
            self._reserve_name(name, f"{directory}/{name}", f"{self._owner}/{container_id}")
            # ours first, then the look at theirs, who do it the other way round: so never both of us have it
            if os.path.lexists(f"{self._roots.data_root}/containers/names/{name}"):
                self._check_detached(name)
        except OSError as e:
            raise SetupFailed(
                f"cannot reserve the name {name!r} in the run root {self._roots.run_root}: {e.strerror} "
                f"({errno_name(e.errno or 0)}). Give a --run-root that this user may write to, or leave out --name",
                step="name", errno=e.errno or 0,
            ) from None  # fmt: skip

    def _check_detached(self, name: str) -> None:
        from .names import holder_of

        held_id = holder_of(self._roots, name)
        if held_id:
            self.release_name(name)
            raise Conflict(
                f"the name {name!r} is already in use by container {held_id[:12]}. Remove or rename that container, or choose another name"
            )

    def _reserve_name(self, name: str, path: str, target: str) -> None:
        for _ in range(8):
            try:
                os.symlink(target, path)
                self._names.add(name)
                return
            except FileExistsError:
                pass
            try:
                owner, _, held_id = os.readlink(path).partition("/")
            except FileNotFoundError:
                continue
            if _lives(self._roots, owner):
                raise Conflict(
                    f"the name {name!r} is already in use by container {held_id[:12]}. Stop that container, or choose another name"
                )
            self._forget_if_dead(path)
        raise Conflict(f"the name {name!r} is being taken by others at this moment: try again")

    def release_name(self, name: str) -> None:
        self._names.discard(name)
        try:
            os.unlink(f"{self._roots.run_root}/names/{name}")
        except FileNotFoundError:
            pass

    def release_names(self) -> None:
        for name in list(self._names):
            self.release_name(name)

    # --- the dead -----------------------------------------------------------------------------------------------------

    def _directories(self) -> tuple[str, str]:
        return f"{self._roots.run_root}/names", f"{self._roots.run_root}/userns"

    def forget_dead(self) -> None:
        """Takes away what the dead had: a guardian knows none of it."""
        for directory in self._directories():
            if os.path.isdir(directory):
                self.forget_dead_in(directory)

    def forget_dead_in(self, directory: str) -> None:
        for name in os.listdir(directory):
            self._forget_if_dead(f"{directory}/{name}")

    def _forget_if_dead(self, path: str) -> None:
        """Removes the link ``path`` when its owner is dead. Looked at again under a lock: of two that find it dead at
        once, the slower one would remove the quicker one's new reservation."""
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            if not _lives(self._roots, os.readlink(path).partition("/")[0]):
                os.unlink(path)
        except FileNotFoundError:
            pass  # released meanwhile
        finally:
            os.close(directory)

    def forget_all_of(self, owner: str) -> None:
        for directory in self._directories():
            try:
                names = os.listdir(directory)
            except FileNotFoundError:
                continue
            for name in names:
                try:
                    if os.readlink(f"{directory}/{name}").startswith(owner + "/"):
                        os.unlink(f"{directory}/{name}")
                except OSError:
                    pass  # released meanwhile
