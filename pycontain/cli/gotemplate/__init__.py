"""Go's text/template with Docker's functions, for ``--format``: written from the documentation of both.

``parse(text)`` makes a :class:`Template`, ``execute(data)`` its text. Data are dicts, lists, texts, numbers, booleans and None, and
what :mod:`.values` adds to tell a Go struct from a map. Everything that goes wrong is a :class:`TemplateError` with Go's words.
Not there: ``define``, ``template``, ``block``, complex numbers. Time and memory are bounded, whatever the template.

Spec: https://pkg.go.dev/text/template, https://docs.docker.com/engine/cli/formatting/
"""

from __future__ import annotations

from .errors import TemplateError
from .execute import Template, parse
from .functions import Function
from .json_text import json_text
from .values import Duration, Empty, Headers, Int64, NilList, NilMap, NilPointer, Number, Row, Struct, Time

__all__ = [
    "Empty",
    "Function",
    "Headers",
    "Duration",
    "Int64",
    "NilList",
    "NilMap",
    "NilPointer",
    "Number",
    "Row",
    "Struct",
    "Template",
    "TemplateError",
    "Time",
    "json_text",
    "parse",
]
