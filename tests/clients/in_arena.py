"""Runs a command where podman, runc and dockerd work on a hybrid host: namespaces and cgroups of its own, gone with it.

    python -m tests.clients.in_arena COMMAND [ARGUMENT...]

$ARENA is the name that cgroups are to have. The command's end, or SIGTERM to this program, ends everything in it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bench import arena


def main() -> int:
    if os.environ.get(arena.MARK) is None:
        return arena.run_inside("tests.clients.in_arena", sys.argv[1:])
    place = arena.enter("plain")
    return subprocess.run(sys.argv[1:], env={**os.environ, "ARENA": place.token}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
