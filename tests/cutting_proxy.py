"""A TCP proxy on loopback that ends connections when enough has passed: the network between a client and a real registry."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

__all__ = ["CuttingProxy"]


class CuttingProxy:
    """To ``target`` (host:port). ``cuts``: for each connection in turn, how many bytes may pass in one direction before both
    ends are closed; later connections pass everything. ``upwards``: counts what the client sends, not what it gets.
    ``stalls``: then nothing is closed, and nothing passes any more; ``stalled`` says when that has begun."""

    def __init__(self, target: str, cuts: list[int], *, upwards: bool = False, stalls: bool = False) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._cuts = list(cuts)
        self._upwards = upwards
        self._stalls = stalls
        self.stalled = threading.Event()
        self._sockets: list[socket.socket] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for each in self._sockets:
            _end(each)

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(self._target)
            except OSError:  # the registry has gone: so does who asks for it
                _end(client)
                continue
            self._sockets += [client, server]
            limit = self._cuts.pop(0) if self._cuts else None
            for source, to, counted in ((client, server, self._upwards), (server, client, not self._upwards)):
                threading.Thread(target=self._pass, args=(source, to, limit if counted else None), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, limit: int | None) -> None:
        try:
            while data := source.recv(65536):
                to.sendall(data if limit is None else data[:limit])
                if limit is not None:
                    limit -= len(data)
                    if limit <= 0:
                        self.stalled.set()
                        if self._stalls:
                            return
                        break
        except OSError:
            pass
        _end(source)
        _end(to)


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
