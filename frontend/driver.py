"""The driver behind `import dlc`: programs, models, functions compiled at their first call.

program = dlc.load("lenet5.dl")
lenet = program.LeNet5(seed=0)
loss = lenet.fit(image=images, label=labels)
lenet.c1.w = numpy.zeros((6, 1, 5, 5), numpy.float32)
lenet.save("lenet5.safetensors")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc.frontend.build import Build, Built
from dlc.frontend.errors import user_error
from dlc.frontend.records import SHARED, ModelRecord, ParameterRecord
from dlc.frontend.training.train_plan import Input
from dlc.ir.diagnostics import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlc.ir.graph import Graph
    from dlc.runtime.function import Function
    from dlc.runtime.variables import Variables

INITIALIZER = "init"


def load(path: str | Path) -> Program:
    """The program in a `.dl` file, checked; ProgramError with all that is wrong in it."""
    return Program(Build(Path(path)))


class Program:
    """A checked file. Its models are attributes: calling one builds it."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._record = build.program()

    @property
    def path(self) -> Path:
        """The file."""
        return self._build.path

    @property
    def models(self) -> Mapping[str, Sequence[ParameterRecord]]:
        """The models of the file with their parameters."""
        return self._record.models

    @property
    def trained(self) -> Mapping[str, Mapping[str, int | float | bool]]:
        """The models that a `train` block names, with the arguments that it builds them with."""
        return self._record.trained

    def model(self, name: str, *, seed: int = 0, **arguments: int | float | bool) -> Model:
        """The model `name`, built with `arguments`; its initial values and draws follow `seed`."""
        if name not in self._record.models:
            raise user_error(
                "unknown-name",
                f"{self.path} has no model `{name}`",
                did_you_mean(name, self._record.models)
                or f"it has {', '.join(self._record.models) or 'none'}",
            )
        return Model(self._build.model(name, arguments), seed)

    @cached_property
    def functions(self) -> Mapping[str, Compiled]:
        """The functions of the file that no model is round, except those for any number type."""
        shared = Model(self._build.model(SHARED, {}), 0)
        return {name: shared.function(name) for name in shared.record.functions}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._record.models:
            return partial(self.model, name)
        if name in self.functions:
            return self.functions[name]
        known = ", ".join([*self._record.models, *self.functions])
        raise AttributeError(f"{self.path} has no `{name}`; it has {known}", name=name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._record.models, *self.functions]

    def __repr__(self) -> str:
        return f"<program {self.path}: {', '.join(self._record.models)}>"


class Compiled:
    """A function of a model. The first call compiles it, or finds it compiled."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._record = model.record.functions[name]
        self._function: Function | None = None
        self.__name__ = name

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Its parameters."""
        return self._record.inputs

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Runs it: NumPy arrays and numbers in, NumPy arrays and scalars out."""
        return (self._function or self._compile())(*positional, **named)

    def _compile(self) -> Function:
        with self._model.lock:
            if self._function is None:
                self._function = self._model.load_function(self._name)
        return self._function

    @property
    def graph(self) -> Graph:
        """Its Graph, as the frontend made it."""
        return self._model.built.graph(self._name)

    def dump(self, stage: str = "graph") -> str:
        """A stage as text: graph, fused, kernels, llvm, asm, or the name of a pass."""
        return self._model.built.dump(self._name, stage)

    def __repr__(self) -> str:
        path = f"{self._model.name}.{self._name}".lstrip(".")
        return f"<{self._record.signature(path)}>"


class Member:
    """A part of a model, by its path: `net.c1` has the parameter `net.c1.w`."""

    __slots__ = ("_model", "_path")

    def __init__(self, model: Model, path: str) -> None:
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Any:
        return self._model.member(f"{self._path}.{name}")

    def __getitem__(self, index: int) -> Any:
        return self._model.member(f"{self._path}[{index}]")

    def __setattr__(self, name: str, value: object) -> None:
        self._model.variables[f"{self._path}.{name}"] = value

    def __repr__(self) -> str:
        return f"<{self._path} of {self._model.name}>"


class VariableView(MutableMapping[str, "NDArray[Any]"]):
    """The variables of a model by name. Reading gives a copy, which is read-only."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._model.variable_records:
            raise KeyError(name)
        value = self._model.storage().get(name)
        value.setflags(write=False)
        return value

    def __setitem__(self, name: str, value: object) -> None:
        import numpy as np

        if name not in self._model.variable_records:
            known = self._model.variable_records
            raise user_error(
                "unknown-name",
                f"{self._model.name} has no variable `{name}`",
                did_you_mean(name, known) or f"it has {', '.join(known)}",
            )
        self._model.storage().set(name, np.asarray(value))

    def __delitem__(self, name: str) -> None:
        raise TypeError("a model's variables can't be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.variable_records)

    def __len__(self) -> int:
        return len(self._model.variable_records)

    def __repr__(self) -> str:
        records = self._model.variable_records.values()
        return "{" + ", ".join(f"{each.name}: {each}" for each in records) + "}"


class Model:
    """A model with values: its functions, parts and parameters are attributes."""

    def __init__(self, built: Built, seed: int) -> None:
        self.__dict__.update(
            built=built,
            name=built.name,
            seed=seed,
            record=built.record,
            variable_records={each.name: each for each in built.record.variables},
            lock=threading.RLock(),
            _functions={},
            _storage=None,
        )

    if TYPE_CHECKING:
        built: Built
        name: str
        seed: int
        record: ModelRecord
        variable_records: Mapping[str, Any]
        lock: threading.RLock
        _functions: dict[str, Compiled]
        _storage: Variables | None

    def function(self, name: str) -> Compiled:
        """The function `name`; ProgramError if there is none."""
        if name not in self.record.functions:
            known = [name for name in self.record.functions if "." not in name]
            raise user_error(
                "unknown-name",
                f"{self.name} has no function `{name}`",
                did_you_mean(name, known) or f"it has {', '.join(known)}",
            )
        if name not in self._functions:
            self._functions[name] = Compiled(self, name)
        return self._functions[name]

    @property
    def variables(self) -> VariableView:
        """All variables by name: parameters, states, and what optimizers keep."""
        return VariableView(self)

    def storage(self) -> Variables:
        """The runtime's variables, with their initial values if nothing else was loaded."""
        with self.lock:
            if self._storage is None:
                self.__dict__["_storage"] = self._initialize()
            assert self._storage is not None
            return self._storage

    def _initialize(self) -> Variables:
        from dlc.runtime.function import Function

        variables = self._empty()
        if self.record.variables:
            Function(self.built.artifact(INITIALIZER), variables)()
        variables.random[1] = 0  # calls are counted from the first one that the user makes
        return variables

    def _empty(self) -> Variables:
        """The variables in their plain layout, all zeros."""
        from dlc.runtime.variables import Variables, VariableSpec

        variables = Variables(self.seed)
        variables.require(
            VariableSpec.make(each.name, each.dtype, each.dims) for each in self.record.variables
        )
        return variables

    def load_function(self, name: str) -> Function:
        """The runtime's function over this model's variables; compiled now, if it never was."""
        from dlc.runtime.function import Function

        return Function(self.built.artifact(name), self.storage())

    def member(self, path: str) -> Any:
        """A parameter's value, a part, or a part's variable; AttributeError if there is none."""
        if path in self.variable_records:
            return self.variables[path]
        starts = (f"{path}.", f"{path}[")
        if any(name.startswith(starts) for name in self.variable_records):
            return Member(self, path)
        raise AttributeError(f"{self.name} has no `{path}`", name=path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self.record.functions:
            return self.function(name)
        return self.member(name)

    def __setattr__(self, name: str, value: object) -> None:
        self.variables[name] = value

    def __dir__(self) -> list[str]:
        parts = {name.partition(".")[0] for name in self.variable_records}
        return [*super().__dir__(), *parts, *self.record.functions]

    def __repr__(self) -> str:
        functions = ", ".join(name for name in self.record.functions if "." not in name)
        return f"<model {self.name}: {len(self.variable_records)} variables, {functions}>"

    def save(self, path: str | Path, *, progress: Mapping[str, object] | None = None) -> None:
        """Writes a checkpoint: all variables, the random counter, and where a training stands."""
        from dlc.runtime import checkpoint

        checkpoint.save(path, self.storage(), model=self.name, progress=progress)

    def load(self, path: str | Path) -> Mapping[str, Any]:
        """Takes all values from a checkpoint of this model; the progress that it holds.

        A file of another writer, that holds weights alone, leaves the rest at its initial values.
        RunError lists all that does not fit; nothing has changed then.
        """
        from dlc.runtime import checkpoint

        found = checkpoint.load(path)
        whole = found.random is not None
        names = None if whole else [v.name for v in self.record.variables if not v.kept]
        with self.lock:
            target = self._storage or (self._empty() if whole else self._initialize())
            checkpoint.restore(found, target, names=names, source=str(path))
            self.__dict__["_storage"] = target
        return found.progress
