"""A container engine you can import.

    import pycontain

    r = pycontain.run("host", ["python3", "-c", "print(6 * 7)"], text=True, memory="64m", timeout=2)
    r.stdout, r.exit_code, r.usage.cpu_user_s

Names are loaded when they are first used: ``import pycontain`` itself costs next to nothing.
"""

from __future__ import annotations

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio as aio
    from .container import Container as Container
    from .container import run as run
    from .engine.image import Image as Image
    from .engine.image import images as images
    from .engine.processes import ProcessTable as ProcessTable
    from .engine_container import EngineContainer as EngineContainer
    from .errors import (
        Conflict as Conflict,
    )
    from .errors import (
        ContainerExited as ContainerExited,
    )
    from .errors import (
        ContainerNotFound as ContainerNotFound,
    )
    from .errors import (
        ImageNotFound as ImageNotFound,
    )
    from .errors import (
        InvalidArgument as InvalidArgument,
    )
    from .errors import (
        NotExecutable as NotExecutable,
    )
    from .errors import (
        NotFound as NotFound,
    )
    from .errors import (
        ProgramNotFound as ProgramNotFound,
    )
    from .errors import (
        PycontainError as PycontainError,
    )
    from .errors import (
        RegistryError as RegistryError,
    )
    from .errors import (
        SetupFailed as SetupFailed,
    )
    from .errors import (
        TimeoutExpired as TimeoutExpired,
    )
    from .errors import (
        Unsupported as Unsupported,
    )
    from .errors import (
        VolumeNotFound as VolumeNotFound,
    )
    from .nouns import Engine as Engine
    from .options import bind as bind
    from .options import tmpfs as tmpfs
    from .options import volume as volume
    from .request import Mount as Mount
    from .result import CompletedContainer as CompletedContainer
    from .result import Usage as Usage
    from .streams import DEVNULL as DEVNULL
    from .streams import PIPE as PIPE
    from .streams import STDOUT as STDOUT

_HOME = {
    "Container": "container",
    "run": "container",
    "Image": "engine.image",
    "images": "engine.image",
    "Engine": "nouns",
    "EngineContainer": "engine_container",
    "ProcessTable": "engine.processes",
    "bind": "options",
    "tmpfs": "options",
    "volume": "options",
    "Mount": "request",
    "CompletedContainer": "result",
    "Usage": "result",
    "DEVNULL": "streams",
    "PIPE": "streams",
    "STDOUT": "streams",
    **dict.fromkeys(
        (
            "Conflict",
            "ContainerExited",
            "ContainerNotFound",
            "ImageNotFound",
            "InvalidArgument",
            "NotExecutable",
            "NotFound",
            "ProgramNotFound",
            "PycontainError",
            "RegistryError",
            "SetupFailed",
            "TimeoutExpired",
            "Unsupported",
            "VolumeNotFound",
        ),
        "errors",
    ),
}

__all__ = ["__version__", "aio", *_HOME]


def __getattr__(name: str) -> object:
    import importlib

    if name == "aio":
        return importlib.import_module(".aio", __name__)
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
