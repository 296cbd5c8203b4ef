"""The user's errors that point at no line of a program: data, files, settings."""

from __future__ import annotations

from collections.abc import Iterable

from dlc.ir.diagnostics import Diagnostic, UserError

__all__ = ["UserError", "user_error"]


def user_error(code: str, message: str, help: str = "", notes: Iterable[str] = ()) -> UserError:
    """An error to raise; `help` says what would be right, `notes` are lines of evidence."""
    return UserError((Diagnostic(code, message, None, tuple(notes), help),))
