"""Programs, models and functions, each made once: here in memory, and on disk for all processes.

What is kept on disk is found by `keys` alone. Only where it is not found does `elaboration` parse
and check the program, and the compiler run.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlc.frontend import keys, llvm
from dlc.frontend.collector import collector_at_rest
from dlc.frontend.records import INITIALIZER, FunctionRecord, ModelRecord, ProgramRecord
from dlc.runtime import cache as store
from dlc.runtime.artifact import Artifact
from dlc.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from dlc.compiler.options import Options
    from dlc.frontend.elaborate.elaboration import Elaboration
    from dlc.frontend.elaborate.modules import Program
    from dlc.ir.graph import Graph

Record = TypeVar("Record", ProgramRecord, ModelRecord, FunctionRecord)
Arguments = Mapping[str, int | float | bool]


class Build:
    """A program by its path. Without `cached`, all is parsed and checked anew.

    `floats` and `precision` are of `settings`; `device` is where its functions run.
    """

    def __init__(
        self, path: Path, cached: bool = True, floats: str = "f32", precision: str = "f32",
        device: str = "cpu",
    ) -> None:
        self.path = path
        self.cached = cached
        self.floats = floats
        self.precision = precision
        self.device = device

    @cached_property
    def key(self) -> str:
        """What stands for the program's text and the compiler."""
        try:
            return keys.program_key(self.path, self.floats, self.device)
        except OSError:
            self.elaboration.check()  # says what is wrong with the file
            raise

    @cached_property
    def elaboration(self) -> Elaboration:
        """The program, parsed."""
        from dlc.frontend.elaborate.elaboration import Elaboration

        return Elaboration(self.path, floats=self.floats, device=self.device)

    def program(self) -> ProgramRecord:
        """Its models; ProgramError with all that is wrong in the text."""
        return self.record(f"program-{self.key}", ProgramRecord, lambda: self.elaboration.check())

    def model(self, name: str, arguments: Arguments) -> BuiltModel:
        """A model of it, built."""
        return BuiltModel(self, name, arguments)

    def syntax(self) -> str:
        """The syntax tree as text."""
        return self.elaboration.syntax()

    def record(self, key: str, kind: type[Record], make: Callable[[], Record]) -> Record:
        """What is kept under `key`; made, and kept, where there is nothing of use."""
        data = store.get(key) if self.cached else None
        if data is not None:
            try:
                return kind.from_json(json.loads(data))
            except (ValueError, KeyError, TypeError):
                pass
        if self.cached and self.device == "cpu":
            llvm.begin()  # what is kept is run
        with collector_at_rest():
            made = make()
        if self.cached:
            store.put(key, json.dumps(asdict(made)).encode())
        return made


class Built(ABC):
    """A model that is ready to be run: its record, and the code of its functions."""

    name: str
    device = "cpu"

    @property
    @abstractmethod
    def record(self) -> ModelRecord:
        """What it consists of."""

    @abstractmethod
    def graph(self, function: str) -> Graph:
        """The function as the frontend made it."""

    @abstractmethod
    def function(self, name: str) -> FunctionRecord:
        """What is kept of a function that is made for a call, such as `c1.forward{S=2}`."""

    @abstractmethod
    def code_key(self, function: str) -> str:
        """The name under which the function's code is kept."""

    def options(self, function: str) -> Options:
        """What the compiler is told of a function."""
        from dlc.compiler.options import Options

        return Options(hints=_hints(self.record), once=function == INITIALIZER)

    def artifact(self, function: str) -> Artifact:
        """The function's code for this machine, compiled if it never was."""
        self.begin(function)
        return self._begun.pop(function)()

    def begin(self, function: str) -> None:
        """Begins to compile a function that never was: `artifact` waits for it. Most of that goes
        on while this thread does other things."""
        if function not in self._begun:
            self._begun[function] = self._begin(function)

    @cached_property
    def _begun(self) -> dict[str, Callable[[], Artifact]]:
        """What was begun and not asked for yet, by function."""
        return {}

    def artifact_for_few(self, function: str, symbol: str, likely: int) -> Artifact:
        """The same made for so many of a symbol of its types: batches of few want other code."""
        options = self.options(function)
        few = replace(options, hints={**options.hints, symbol: likely})
        key = keys.digest(self.code_key(function), symbol, str(likely))
        return self._compile(function, key, few)()

    def _begin(self, function: str) -> Callable[[], Artifact]:
        return self._compile(function, self.code_key(function), None)

    def _compile(
        self, function: str, key: str, options: Options | None
    ) -> Callable[[], Artifact]:
        found = kept(key)
        if found is not None:
            return lambda: found
        llvm.begin()
        with collector_at_rest():
            from dlc.compiler.pipeline import begin_graph

            wait = begin_graph(self.graph(function), options or self.options(function))

        def finish() -> Artifact:
            code, manifest = wait()
            artifact = Artifact(manifest, code)
            store.put(key, artifact.to_bytes())
            return artifact

        return finish

    def dump(self, function: str, stage: str, target: str = "") -> str:
        """The text of one stage, or of what the pass of that name gives, for a target as in
        `cuda:sm_80` (the machine that this is, if empty)."""
        from dlc.compiler.pipeline import dump_graph

        options = replace(self.options(function), target=target)
        return dump_graph(self.graph(function), stage, options)

    def dump_all(self, function: str, target: str = "") -> Iterator[tuple[str, str]]:
        """Every pass and stage in order, with its text."""
        from dlc.compiler.pipeline import dump_all

        yield from dump_all(self.graph(function), replace(self.options(function), target=target))


class BuiltModel(Built):
    """A model of a file with its arguments."""

    def __init__(self, build: Build, name: str, arguments: Arguments) -> None:
        self.name = name
        self.arguments = arguments
        self._build = build
        self.device = build.device
        self._key = keys.model_key(build.key, name, arguments)
        self._record = build.record(
            f"model-{self._key}",
            ModelRecord,
            lambda: build.elaboration.model(name, arguments).record(),
        )

    @property
    def record(self) -> ModelRecord:
        return self._record

    @property
    def program(self) -> Program:
        """The program that it is of."""
        return self._build.elaboration.program

    def graph(self, function: str) -> Graph:
        return self._build.elaboration.model(self.name, self.arguments).graph(function)

    def function(self, name: str) -> FunctionRecord:
        return self._build.record(
            f"function-{keys.digest(self._key, name)}",
            FunctionRecord,
            lambda: self._build.elaboration.model(self.name, self.arguments).function(name),
        )

    def code_key(self, function: str) -> str:
        return keys.code_key(self._key, function, self._precision(function))

    def options(self, function: str) -> Options:
        return replace(super().options(function), precision=self._precision(function))

    def _precision(self, function: str) -> str:
        """Initial values are of full precision: `orthogonal` is made by products."""
        return "f32" if function == INITIALIZER else self._build.precision


def kept(key: str) -> Artifact | None:
    """Code that is in the cache; what can't be read there is a miss."""
    data = store.get(key)
    if data is None:
        return None
    try:
        return Artifact.from_bytes(data)
    except ArtifactError:
        return None


def _hints(record: ModelRecord) -> dict[str, int]:
    """Likely sizes: a phase's batch, for the symbol in front of what its step is fed."""
    hints: dict[str, int] = {}
    for phase in record.phases:
        for each in record.functions[phase.step].inputs:
            if each.dims and isinstance(each.dims[0], str):
                hints.setdefault(each.dims[0], phase.batch)
    return hints


