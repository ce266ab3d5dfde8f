"""Output on its way to a stream of the caller's, which others may share."""

from __future__ import annotations

import os
import select

__all__ = ["CHUNK", "put"]

CHUNK = 65536


def put(target: int, data: bytes) -> bool:
    """All of it; False when nobody takes it any more."""
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:  # whoever shares it made it so
            poller = select.poll()
            poller.register(target, select.POLLOUT)
            poller.poll()
        except OSError:  # EIO: a hangup
            return False
    return True
