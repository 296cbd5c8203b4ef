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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlc.frontend.driver import Compiled, Program, load
    from dlc.frontend.driver import Model as LoadedModel
    from dlc.frontend.gpu import on_gpu
    from dlc.frontend.python.functions import fn, step
    from dlc.frontend.python.loops import cond, scan, while_loop
    from dlc.frontend.python.models import Model, param, state
    from dlc.frontend.python.ops import not_differentiable, register_op
    from dlc.frontend.python.training import check, grad, minimize, where
    from dlc.frontend.python.types import symbol
    from dlc.ir.diagnostics import InternalError
    from dlc.ir.diagnostics import UserError as ProgramError
    from dlc.runtime.errors import UserError as RunError
    from dlc.runtime.pool import set_threads

__version__ = "0.1.0"
__all__ = [
    "Compiled",
    "InternalError",
    "LoadedModel",
    "Model",
    "Program",
    "ProgramError",
    "RunError",
    "check",
    "cond",
    "fn",
    "grad",
    "load",
    "minimize",
    "not_differentiable",
    "on_gpu",
    "param",
    "register_op",
    "scan",
    "set_threads",
    "state",
    "step",
    "symbol",
    "where",
    "while_loop",
]

_HOMES = {
    "Compiled": ("dlc.frontend.driver", "Compiled"),
    "InternalError": ("dlc.ir.diagnostics", "InternalError"),
    "LoadedModel": ("dlc.frontend.driver", "Model"),
    "Model": ("dlc.frontend.python.models", "Model"),
    "Program": ("dlc.frontend.driver", "Program"),
    "ProgramError": ("dlc.ir.diagnostics", "UserError"),
    "RunError": ("dlc.runtime.errors", "UserError"),
    "check": ("dlc.frontend.python.training", "check"),
    "cond": ("dlc.frontend.python.loops", "cond"),
    "scan": ("dlc.frontend.python.loops", "scan"),
    "while_loop": ("dlc.frontend.python.loops", "while_loop"),
    "fn": ("dlc.frontend.python.functions", "fn"),
    "grad": ("dlc.frontend.python.training", "grad"),
    "load": ("dlc.frontend.driver", "load"),
    "minimize": ("dlc.frontend.python.training", "minimize"),
    "not_differentiable": ("dlc.frontend.python.ops", "not_differentiable"),
    "on_gpu": ("dlc.frontend.gpu", "on_gpu"),
    "register_op": ("dlc.frontend.python.ops", "register_op"),
    "param": ("dlc.frontend.python.models", "param"),
    "set_threads": ("dlc.runtime.pool", "set_threads"),
    "state": ("dlc.frontend.python.models", "state"),
    "step": ("dlc.frontend.python.functions", "step"),
    "symbol": ("dlc.frontend.python.types", "symbol"),
    "where": ("dlc.frontend.python.training", "where"),
}
_NOT_HERE = ("frontend", "compiler", "ir", "runtime")  # packages, not words of the language


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, inner = _HOMES[name]
        value = getattr(importlib.import_module(module), inner)
    else:
        value = None if name[0] == "_" or name in _NOT_HERE else _word(name)
        if value is None:
            raise AttributeError(f"module 'dlc' has no attribute {name!r}{_near(name)}", name=name)
    globals()[name] = value
    return value


def _word(name: str) -> Any:
    """A word of the language: a type, a builtin, what the prelude defines, `nn`."""
    types = importlib.import_module("dlc.frontend.python.types")
    library = importlib.import_module("dlc.frontend.python.library")
    return types.TYPES.get(name) or library.find(name)


def _near(name: str) -> str:
    """The nearest name that there is, as a hint."""
    if name[0] == "_":
        return ""
    from dlc.frontend.python import library
    from dlc.ir.diagnostics import did_you_mean

    near = did_you_mean(name, [*_HOMES, *library.names()])
    return f"; {near}" if near else ""


def __dir__() -> list[str]:
    from dlc.frontend.python import library, types

    return sorted({*globals(), *_HOMES, *types.TYPES, *library.names()})
