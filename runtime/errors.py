"""Errors that the user of a compiled program can mend; each message stands on its own."""

from __future__ import annotations

__all__ = ["ArgumentError", "ArtifactError", "CheckFailed", "CheckpointError", "GpuError",
           "GpuMemoryError", "TooLargeError", "UserError"]


class UserError(Exception):
    """The base of all errors that are not a bug of ours; its text is complete and printable."""


class ArgumentError(UserError, ValueError):
    """A call whose arguments do not fit what the function takes; nothing has run."""


class CheckFailed(UserError):
    """A check inside a compiled function failed; no variable has changed.

    `text` says what was checked (`{value}` in it stands for the offending value), `location` where
    it is written (`file:line:column`, may be empty), `value` is the offending value.
    """

    def __init__(self, function: str, text: str, location: str, value: int) -> None:
        self.text, self.location, self.value = text, location, value
        place = f" ({location})" if location else ""
        said = text.replace("{value}", str(value))
        super().__init__(f"{function}: {said}{place}; no variable has changed")


class TooLargeError(UserError, MemoryError):
    """More memory is asked for than the machine has; nothing was allocated."""


class GpuError(UserError):
    """A GPU that can't be used, or that failed."""


class GpuMemoryError(GpuError, TooLargeError):
    """More memory is asked for than the GPU has; nothing has run."""


class ArtifactError(UserError):
    """Bytes that are no artifact, are damaged, or were made for another version or machine."""


class CheckpointError(UserError):
    """A checkpoint that can't be written, read, or does not fit the model."""
