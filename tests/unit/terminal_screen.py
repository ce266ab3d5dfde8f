"""A terminal for tests: what a program's output looks like on a screen of a certain size, with what has scrolled away."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import threading

__all__ = ["Pty", "Terminal"]


class Terminal:
    """Understands what the program under test uses: line ends, cursor up, erase line, colours. Anything else is an error."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.lines: list[list[str]] = [[]]
        self.row = 0
        self.column = 0
        self.escapes: set[str] = set()

    @property
    def text(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.lines]

    def feed(self, data: str) -> Terminal:
        at = 0
        while at < len(data):
            if data.startswith("\x1b[", at):
                end = at + 2
                while not data[end].isalpha():
                    end += 1
                self._escape(data[at + 2 : end], data[end])
                at = end + 1
                continue
            self._character(data[at])
            at += 1
        return self

    def _character(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down()
        else:
            assert char.isprintable(), repr(char)
            if self.column == self.width:  # a terminal wraps when the next one comes
                self._down()
                self.column = 0
            line = self.lines[self.row]
            line += [" "] * (self.column + 1 - len(line))
            line[self.column] = char
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def _escape(self, parameter: str, final: str) -> None:
        self.escapes.add(parameter + final)
        if final == "A":
            self.row = max(self.row - int(parameter or 1), len(self.lines) - self.height, 0)
        elif final == "K":
            assert parameter == "2"
            self.lines[self.row] = []
        else:
            assert final == "m", f"ESC[{parameter}{final}"


class Pty:
    """A pseudo-terminal whose output is read all the time; ``output`` is what came so far."""

    def __init__(self, width: int, height: int) -> None:
        self.master, self.slave = os.openpty()
        self.resize(width, height)
        self.stdout = os.fdopen(os.dup(self.slave), "w", encoding="utf-8")
        self._data = bytearray()
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # nobody has the other side open
                data = b""
            with self._arrived:
                self._data += data
                self._arrived.notify_all()
            if not data:
                return

    def wait_for(self, text: str, seconds: float = 30) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: text.encode() in self._data, seconds), bytes(self._data)

    def close(self) -> str:
        """Ends it; the whole output, with the terminal's own line ends."""
        self.stdout.close()
        os.close(self.slave)
        self._reader.join(30)
        os.close(self.master)
        return self._data.decode()
