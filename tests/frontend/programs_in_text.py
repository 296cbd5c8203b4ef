"""Helpers of the elaborator's tests: programs written in the test, run by the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.compiler.passes.differentiate import differentiate
from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.models import ModelProgram, elaborate, elaborate_functions
from dlc.frontend.elaborate.modules import program_of
from dlc.ir.graph import Graph
from dlc.ir.interpret import run_graph

Array = NDArray[Any]


def functions(text: str) -> dict[str, Graph]:
    """The graphs of the functions that `text` defines, which is checked too."""
    program = program_of(text)
    check_program(program)
    return elaborate_functions(program)


def evaluate(expression: str, signature: str, result: str, *inputs: Any) -> Array:
    """What `fn f(signature) -> result = expression` gives."""
    graph = functions(f"fn f({signature}) -> {result} = {expression}\n")["f"]
    return run_graph(differentiate(graph), inputs)[0]


class Running:
    """A model whose functions are run by the interpreter; its variables change as it goes."""

    def __init__(self, text: str, model: str = "M", seed: int = 0, **arguments: Any) -> None:
        program = program_of(text)
        check_program(program)
        self.program: ModelProgram = elaborate(program, model, arguments)
        self.call = 0
        self.seed = seed
        init = self.program.init
        made = run_graph(init, [
            self._random() if p.role == "random"
            else np.zeros([int(d) for d in p.value.dims], p.value.dtype.numpy)
            for p in init.params])
        self.variables = dict(zip((n for n, _ in init.updates), made, strict=True))

    def _random(self) -> Array:
        return np.array([self.seed, self.call], np.int64)

    def __call__(self, name: str, **inputs: Any) -> tuple[Array, ...]:
        """Runs a function; its results."""
        graph = self.program.functions[name]
        values = []
        for param in graph.params:
            key = param.value.name
            if param.role in ("in", "size"):
                values.append(inputs.get(key, param.default))
            else:
                values.append(self._random() if param.role == "random" else self.variables[key])
        out = run_graph(differentiate(graph), values)
        count = len(graph.results)
        self.variables.update(zip((n for n, _ in graph.updates), out[count:], strict=True))
        self.call += 1
        return out[:count]
