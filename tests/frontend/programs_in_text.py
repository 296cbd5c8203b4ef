"""Helpers of the elaborator's tests: programs written in the test, run by the interpreter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.compiler.passes.differentiate import differentiate
from dlc.frontend.build import Build
from dlc.frontend.driver import Program
from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.models import ModelProgram, elaborate, elaborate_functions
from dlc.frontend.elaborate.modules import program_of
from dlc.ir.diagnostics import Diagnostic, UserError
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


class Both:
    """A program run by the interpreter and as compiled code, which must agree."""

    def __init__(self, text: str, model: str = "", seed: int = 0, **arguments: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "program.dl"
            path.write_text(text)
            program = Program(Build(path, cached=False))
            text = text if model else f"{text}\nmodel M {{ }}\n"
            self.reference = Running(text, model or "M", seed, **arguments)
            self.shared = {} if model else functions(text)
            self.compiled = program.model(model, seed=seed, **arguments) if model else program
            for name in self.shared or self.compiled.record.functions:
                _compile(self.compiled, name)
            if model:
                self.compiled.storage()

    def __call__(self, name: str, **inputs: Any) -> Any:
        """Runs a function in both; its result, or several."""
        if self.shared:
            graph = differentiate(self.shared[name])
            wanted = run_graph(graph, [
                self.reference._random() if p.role == "random"
                else inputs.get(p.value.name, p.default) for p in graph.params])
        else:
            wanted = self.reference(name, **inputs)
        found = getattr(self.compiled, name)(**inputs)
        several = found if isinstance(found, tuple) else () if found is None else (found,)
        self._agree(name, several, wanted)
        for key, value in () if self.shared else self.reference.variables.items():
            self._agree(key, (self.compiled.variables[key],), (value,))
        return found

    @staticmethod
    def _agree(what: str, found: Any, wanted: Any) -> None:
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=2e-5, atol=1e-6, err_msg=what)


def _compile(program: Any, name: str) -> None:
    """Compiles a function while its file is there."""
    function = program.functions[name] if hasattr(program, "functions") else program.function(name)
    compile_it = getattr(function, "_compile", None)
    if compile_it is not None:
        compile_it()


def errors(text: str) -> list[Diagnostic]:
    """What is wrong in a program: as it is checked."""
    try:
        check_program(program_of(text))
    except UserError as error:
        return list(error.diagnostics)
    return []


def error(text: str) -> str:
    """The one thing that is wrong in a program: its line and what it says."""
    (found,) = errors(text)
    assert found.span is not None
    said = " | ".join((found.message, *found.notes, found.help))
    return f"{found.span.line}: {said}"


def syntax_errors(text: str) -> list[Diagnostic]:
    """What is wrong in a text that can't be read."""
    try:
        program_of(text)
    except UserError as error:
        return list(error.diagnostics)
    return []
