"""What a template can do wrong."""

from __future__ import annotations

from ...errors import InvalidArgument

__all__ = ["CallFailed", "TemplateError"]


class TemplateError(InvalidArgument):
    """The template cannot be parsed, or does not fit its data."""


class CallFailed(Exception):
    """A function refuses its arguments. Never leaves the package: it becomes a TemplateError with the place."""
