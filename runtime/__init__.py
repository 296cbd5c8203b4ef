"""What is left when the compiler is gone: loads artifacts, holds variables, calls.

The names below are imported when they are first used, since some of them need NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlc.runtime.artifact import Artifact
    from dlc.runtime.errors import (
        ArgumentError,
        ArtifactError,
        CheckFailed,
        CheckpointError,
        UserError,
    )
    from dlc.runtime.function import Function
    from dlc.runtime.variables import Variables

__all__ = [
    "ArgumentError",
    "Artifact",
    "ArtifactError",
    "CheckFailed",
    "CheckpointError",
    "Function",
    "UserError",
    "Variables",
]

_HOMES = {"Artifact": "artifact", "Function": "function", "Variables": "variables"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    return getattr(module, name)
