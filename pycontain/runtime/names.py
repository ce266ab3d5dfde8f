"""Names of containers that stay: links in the data root, each to the id of the container that has the name."""

from __future__ import annotations

import fcntl
import os
import random

from ..errors import Conflict
from ..image.workspace import make_data_dir, release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .roots import Roots

__all__ = ["forget", "forget_stale", "holder_of", "random_name", "reserve"]

_LEFT = """\
able amber apt blithe bold brave brisk bright calm clear clever cosy crisp deft eager early easy fair fleet fond frank
free fresh glad golden grand happy hardy hazel jolly keen kind lively loyal lucid lucky mellow merry mild neat nimble
noble polite proud quick quiet rapid ready robust rosy shrewd silver sincere smart snug sober spry steady stoic sturdy
sunny swift tidy tranquil trim trusty upbeat urban vivid warm wise witty zesty
"""
_RIGHT = """\
acorn alder anchor aspen badger barge beacon beaver birch bobbin brook cairn canal cedar clover cobalt comet compass
copper coral cove cricket crane cypress dahlia delta dingo dune egret elm ember falcon fern finch fjord flint gannet
glacier grove gull harbor hazel heron holly inlet iris jetty juniper kestrel kiwi lagoon larch lark lemur linden lotus
lynx maple marten meadow merlin mesa moss newt oak oriole osprey otter pebble pine plover poplar quail quartz raven reef
ridge robin rowan sable sage schooner sparrow spruce summit teal thistle tundra vale walnut willow wren yew
"""


def random_name() -> str:
    """Two words: ``calm_heron``."""
    return f"{random.choice(_LEFT.split())}_{random.choice(_RIGHT.split())}"


def holder_of(roots: Roots, name: str) -> str:
    """The id of the container that has the name; "" when none has, or only one that is no more."""
    try:
        container_id = os.readlink(f"{roots.data_root}/containers/names/{name}")
    except OSError:
        return ""
    return container_id if os.path.isdir(f"{roots.data_root}/containers/{container_id}") else ""


def reserve(roots: Roots, name: str, container_id: str) -> None:
    """The container's directory is there before. Raises: Conflict: another one that stays has the name."""
    directory = f"{roots.data_root}/containers/names"
    make_data_dir(directory)
    path = f"{directory}/{name}"
    while True:
        try:
            os.symlink(container_id, path)
            return
        except FileExistsError:
            pass
        held_id = holder_of(roots, name)
        if held_id == container_id:
            return  # left by a rename that was killed
        if held_id:
            raise Conflict(
                f"the name {name!r} is already in use by container {held_id[:12]}. Remove or rename that container, or choose another name"
            )
        _forget_stale(roots, directory, name)


def forget(roots: Roots, name: str, container_id: str) -> None:
    """Takes the name away, if it is this container's."""
    path = f"{roots.data_root}/containers/names/{name}"
    try:
        if os.readlink(path) == container_id:
            os.unlink(path)
    except FileNotFoundError:
        pass


def forget_stale(roots: Roots) -> None:
    """Takes away the names of containers that are no more: a monitor that has removed its own does not know what it is called."""
    directory = f"{roots.data_root}/containers/names"
    names = os.listdir(directory)
    if len(names) < len(os.listdir(f"{roots.data_root}/containers")):  # which has `names` beside the containers
        return
    for name in names:
        if not holder_of(roots, name):
            _forget_stale(roots, directory, name)


def _forget_stale(roots: Roots, directory: str, name: str) -> None:
    """Looked at again under a lock: of two that find it stale at once, the slower one would remove the quicker one's."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(f"{directory}/{name}") and not holder_of(roots, name):
            os.unlink(f"{directory}/{name}")
    except FileNotFoundError:
        pass  # by whoever has removed its container, without the lock
    finally:
        release(fd)
