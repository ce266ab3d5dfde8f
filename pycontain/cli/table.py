"""Columns as Docker's tabwriter makes them: at least ten wide, three blanks between, the last one not padded."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["align", "display_width", "elastic", "printable"]

_LEAST, _BETWEEN = 10, 3


def align(rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells, of as many in every row."""
    if not rows:
        return ""
    columns = list(zip(*rows, strict=True))
    plain = all("".join(column).isascii() for column in columns)
    widths = [max(_LEAST, max(map(len if plain else display_width, column)) + _BETWEEN) for column in columns]
    if not plain:
        return "".join([_padded(row, widths) for row in rows])
    form = "".join([f"{{:<{width}}}" for width in widths[:-1]]) + "{}\n"
    return "".join([form.format(*row) for row in rows])


def _padded(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell + " " * (width - display_width(cell)) for cell, width in zip(row[:-1], widths, strict=False)]
    return "".join(cells) + row[-1] + "\n"


def elastic(text: str) -> str:
    """Text with tabs: a column is a run of lines that all have a cell there which a tab ends (elastic tabstops).

    Spec: Go's text/tabwriter, "Elastic Tabstops", with the flags that Docker gives it.
    """
    rows = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[0] * (len(row) - 1) for row in rows]
    for column in range(max(map(len, widths))):
        start = 0
        while start < len(rows):
            if column >= len(widths[start]):
                start += 1
                continue
            end = start
            while end < len(rows) and column < len(widths[end]):
                end += 1
            block = range(start, end)
            width = max(_LEAST, max(display_width(rows[at][column]) for at in block) + _BETWEEN)
            for at in block:
                widths[at][column] = width
            start = end
    return "\n".join(_padded(row, width)[:-1] for row, width in zip(rows, widths, strict=True))


def display_width(text: str) -> int:
    """Columns of a terminal: two for each wide character of East Asia."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return len(text) + sum(east_asian_width(char) in "WF" for char in text)


def printable(cells: Iterable[str]) -> list[str]:
    """Cells without characters that would steer a terminal: what an image says of itself is its maker's."""
    return [cell if cell.isprintable() else "".join(map(_shown, cell)) for cell in cells]


def _shown(char: str) -> str:
    return char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"
