"""dlc, a deep-learning compiler: the public face.

    import dlc
    lenet = dlc.load("lenet5.dl").LeNet5(seed=0)
    loss = lenet.fit(image=images, label=labels)

Importing this package loads none of the heavy parts; each name comes at its first use.
`ProgramError` is raised for what is wrong in a program or a setting, `RunError` for what is wrong
in a call, a checkpoint or an artifact.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlc.frontend.driver import Compiled, Model, Program, load
    from dlc.ir.diagnostics import InternalError
    from dlc.ir.diagnostics import UserError as ProgramError
    from dlc.runtime.errors import UserError as RunError
    from dlc.runtime.pool import set_threads

__version__ = "0.1.0"
__all__ = [
    "Compiled",
    "InternalError",
    "Model",
    "Program",
    "ProgramError",
    "RunError",
    "load",
    "set_threads",
]

_HOMES = {
    "Compiled": ("dlc.frontend.driver", "Compiled"),
    "InternalError": ("dlc.ir.diagnostics", "InternalError"),
    "Model": ("dlc.frontend.driver", "Model"),
    "Program": ("dlc.frontend.driver", "Program"),
    "ProgramError": ("dlc.ir.diagnostics", "UserError"),
    "RunError": ("dlc.runtime.errors", "UserError"),
    "load": ("dlc.frontend.driver", "load"),
    "set_threads": ("dlc.runtime.pool", "set_threads"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dlc' has no attribute {name!r}")
    module, inner = _HOMES[name]
    value: object = getattr(importlib.import_module(module), inner)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
