"""``--format`` of a list: a template for each line, ``table TEMPLATE`` with a header, or ``json``."""

from __future__ import annotations

from ..errors import InvalidArgument
from .table import elastic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .gotemplate import Row

__all__ = ["FORMAT_HELP", "formatted"]

FORMAT_HELP = "'table', 'table TEMPLATE', 'json', or a Go template of each line: '{{.ID}}'"


def formatted(form: str, headers: Mapping[str, str], rows: Iterable[Row]) -> str:
    """The lines of ``rows``. A template that does not fit prints none of them, as in Docker. Raises: InvalidArgument."""
    from .gotemplate import Function, Headers, TemplateError, parse

    is_table = form.startswith("table")
    source = "{{json .}}" if form == "json" else form.removeprefix("table").strip(" ") if is_table else form.strip(" ")
    source = source.replace("\\t", "\t").replace("\\n", "\n")
    try:
        template = parse(source)
        body = "".join([template.execute(row) + "\n" for row in rows])
    except TemplateError as error:
        raise InvalidArgument(f"template parsing error: {error}") from None
    if not is_table:
        return body
    titles = Headers(headers, {"Label": Function(_label_title, "string")})
    return elastic(f"{template.execute(titles, header=True)}\n{body}")


def _label_title(name: str) -> str:
    """The column of the label com.example.the-tier is "the tier"."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
