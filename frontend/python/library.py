"""What the language has by itself, as Python names: builtins, the prelude, `nn`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dlc.frontend.elaborate.builtin_table import BUILTINS
from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.models import ENGINE
from dlc.frontend.elaborate.modules import LIBRARY, Module, Program, program_of
from dlc.frontend.elaborate.names import value_of
from dlc.frontend.elaborate.values import Builtin, Value
from dlc.frontend.python import places
from dlc.frontend.python.trace import leaf
from dlc.frontend.python.values import Operand, arguments_of
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Span, did_you_mean

__all__ = ["ENGINE", "Chosen", "Definition", "Package", "find", "names", "python_program"]

CONSTANTS = {"inf": math.inf, "nan": math.nan, "pi": math.pi}


@cache
def _library() -> Program:
    """The standard library: all its modules, imported by name."""
    modules = sorted(path.stem for path in LIBRARY.glob("*.dl") if path.stem != "prelude")
    return program_of("\n".join(f"import {name}" for name in modules), "<library>")


@cache
def python_module() -> Module:
    """The module in which all that Python defines stands: it has the standard library."""
    span = Span("<python>", 1, 1, 1, 1)
    module = Module("python", Path("<python>"), syntax.File(span, None, ()))
    module.packages.update(_library().main.packages)
    return module


def python_program(definitions: Mapping[str, syntax.Function]) -> Program:
    """A program without text of its own: `definitions` are its functions, as Python made them."""
    library = _library()
    main = Module("python", Path("<python>"), python_module().tree, False, dict(definitions),
                  python_module().packages)
    return Program(main, library.prelude, places.PythonSources(library.sources),
                   library.modules)


class Definition(Operand):
    """A function, model or optimizer of the library. In a trace a call is expanded there.

    Elsewhere a call stands for what it will be: an initial value, or a submodel.
    """

    __slots__ = ("__name__", "_definition", "_module")

    def __init__(self, name: str, definition: Any = None, module: Module | None = None) -> None:
        self.__name__ = name
        self._definition = definition
        self._module = module

    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        return leaf(span, self._find)

    def _find(self, frame: Frame) -> Value:
        if self._definition is None:
            return Builtin(self.__name__)
        assert self._module is not None
        return value_of(frame, self._definition, self._module)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if isinstance(self._definition, syntax.Optimizer):
            span = places.here()
            return Chosen(syntax.Call(span, self.__dl_syntax__(span),
                                      arguments_of(arguments, named, span)))
        return super().__call__(*arguments, **named)

    def __repr__(self) -> str:
        return f"<{self.__name__} of the language>"


class Chosen:
    """An optimizer with its settings, to stand after `with_=`."""

    __slots__ = ("call",)

    def __init__(self, call: syntax.Call) -> None:
        self.call = call


class Package:
    """A module of the library: `dlc.nn`."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Definition:
        if name not in self._module.definitions:
            near = did_you_mean(name, self._module.definitions)
            raise AttributeError(f"the module `{self._module.name}` has no `{name}`"
                                 + (f"; {near}" if near else ""), name=name)
        return Definition(f"{self._module.name}.{name}", self._module.definitions[name],
                          self._module)

    def __dir__(self) -> list[str]:
        return sorted(self._module.definitions)

    def __repr__(self) -> str:
        return f"<the module {self._module.name} of the language>"


def find(name: str) -> Any:
    """What the library calls `name`; None if nothing."""
    library = _library()
    if name in library.main.packages:
        return Package(library.main.packages[name])
    found = library.prelude.find(name)
    if found is not None:
        return Definition(name, *found)
    if name in CONSTANTS:
        return CONSTANTS[name]
    return Definition(name) if name in BUILTINS else None


def names() -> Iterator[str]:
    """All that `find` knows."""
    library = _library()
    yield from (*library.main.packages, *library.prelude.definitions, *CONSTANTS, *BUILTINS)
