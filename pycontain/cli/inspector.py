"""``inspect`` of whatever it is: all that is found in one JSON list, or a template applied to each; then what is not found."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InvalidArgument, PycontainError
from .output import complain, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .gotemplate import Struct, Template

__all__ = ["INSPECT_FORMAT_HELP", "NotThere", "inspect_all"]

INSPECT_FORMAT_HELP = "'json', or a Go template of each: '{{.Id}}' (JSON, indented)"


class NotThere(Exception):
    """Nothing has the name; the message is Docker's."""


def inspect_all(
    names: Sequence[str],
    form: str,
    find: Callable[[str], dict[str, Any]],
    as_typed: Callable[[dict[str, Any]], Struct],
    as_untyped: Callable[[Any], Any],
) -> int:
    """Prints the documents that ``find`` gives, and one line on standard error for each that it does not: 1 then, else 0.

    A template is tried on the typed document and, if it fails, on the plain one, so that ``.ID`` and ``.Id`` are both right.
    Raises: InvalidArgument: the template cannot be parsed; its exit code is 64, as Docker's.
    """
    template = _parsed(form) if form not in ("", "json") else None
    documents: list[dict[str, Any]] = []
    texts: list[str] = []
    errors: list[str] = []
    for name in names:
        try:
            document = find(name)
            if template is not None:
                texts.append(_applied(template, as_typed(document), as_untyped(document)) + "\n")
            documents.append(document)
        except NotThere as error:
            errors.append(str(error))
        except PycontainError as error:
            errors.append(f"pycontain: {error}")
    if template is not None:
        write("".join(texts) or "\n")
    elif form == "json":
        write(json.dumps(documents, ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        write(json.dumps(documents, ensure_ascii=False, indent=4) + "\n")
    for each in errors:
        complain(each)
    return 1 if errors else 0


def _parsed(form: str) -> Template:
    from .gotemplate import TemplateError, parse

    try:
        return parse(form)
    except TemplateError as error:
        refused = InvalidArgument(f"template parsing error: {error}")
        refused.exit_code = 64
        raise refused from None


def _applied(template: Template, typed: Struct, untyped: Any) -> str:
    from .gotemplate import TemplateError

    try:
        return template.execute(typed)
    except TemplateError:
        pass
    try:
        return template.execute(untyped, missing_is_error=True)
    except TemplateError as error:
        raise InvalidArgument(f"template parsing error: {error}") from None
