"""What a model hands out: its functions, its parts, its variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dlc.frontend.errors import user_error
from dlc.frontend.inputs import SPARSE, Input
from dlc.frontend.matrices import spread
from dlc.frontend.records import FunctionRecord, OpenFunction, VariableRecord
from dlc.ir.diagnostics import did_you_mean
from dlc.runtime.errors import ArgumentError
from dlc.runtime.foreign import NoArray
from dlc.runtime.memory import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlc.frontend.driver import Model
    from dlc.ir.graph import Graph
    from dlc.runtime.function import Function


class Traces(Protocol):
    """What calls a function in a trace of Python."""

    def current(self) -> object:
        """What is traced now, if anything is."""

    def call(
        self, function: Compiled | Open, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        """Expands a function where the trace is."""


traces: Traces | None = None  # nothing can be traced before the part that traces is imported


class Compiled:
    """A function of a model. The first call compiles it, or finds it compiled."""

    def __init__(self, model: Model, name: str, record: FunctionRecord) -> None:
        self.model = model
        self._name = name
        self._record = record
        self._function: Function | None = None
        self._sparse = any(each.dtype.startswith(SPARSE) for each in record.inputs)
        self.__name__ = name

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Its parameters."""
        return self._record.inputs

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Runs it: NumPy arrays and numbers in, NumPy arrays and scalars out."""
        if traces is not None and traces.current() is not None:
            return traces.call(self, positional, named)
        function = self._function or self._compile()
        if self._sparse:
            return function(**spread(self.__name__, self.inputs, positional, named))
        return function(*positional, **named)

    def run(
        self, steps: int, /, batch: int | Mapping[str, int] | None = None, **arguments: Any
    ) -> Any:
        """Runs it `steps` times over consecutive batches of arrays, with the bits of as many calls.

        `losses = net.fit.run(1000, batch=64, image=images, label=labels)`: images[0:64] first, and
        from the start again after the last. Each result is an array with the steps along its first
        axis. A number may be an array with one number for each step. Without `batch`, an array with
        one axis more has a row for each step. `batch={"T": 32}` names the dim that is cut.
        """
        from dlc.frontend.running import run

        if traces is not None and traces.current() is not None:
            raise user_error("misplaced", f"`{self.__name__}.run` can't be traced")
        if self._sparse:
            raise user_error("unsupported", f"`{self.__name__}.run` takes no sparse matrices")
        return run(self._function or self._compile(), self.inputs, steps, batch, arguments)

    def _compile(self) -> Function:
        with self.model.lock:
            if self._function is None:
                self._function = self.model.load_function(self._name)
        return self._function

    @property
    def graph(self) -> Graph:
        """Its Graph, as the frontend made it."""
        return self.model.built.graph(self._name)

    def dump(self, stage: str = "graph") -> str:
        """A stage as text: graph, fused, kernels, memory, loops, llvm, asm, cuda, cubin;
        or after a pass."""
        return self.model.built.dump(self._name, stage)

    def __repr__(self) -> str:
        return f"<{self._record.signature(_path(self.model, self._name))}>"


class Open:
    """A function whose ranks and element types a call decides; compiled once for each choice."""

    def __init__(self, model: Model, name: str, record: OpenFunction) -> None:
        self.model = model
        self._name = name
        self._record = record
        self.__name__ = name

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Runs it: NumPy arrays and numbers in, NumPy arrays and scalars out."""
        if traces is not None and traces.current() is not None:
            return traces.call(self, positional, named)
        return self.at(*positional, **named)(*positional, **named)

    def at(self, *positional: Any, **named: Any) -> Compiled:
        """The function for arguments of these ranks and types: it has `graph` and `dump`."""
        choice = self._choice(positional, named) if self._record.names else {}
        chosen = ",".join(f"{name}={choice[name]}" for name in self._record.names if name in choice)
        return self.model.made_for(f"{self._name}{{{chosen}}}")

    def _choice(self, positional: tuple[Any, ...], named: dict[str, Any]) -> dict[str, object]:
        """What the first argument that has it says of each open name."""
        parameters = self._record.parameters
        given = {each.name: value for each, value in zip(parameters, positional, strict=False)}
        given.update(named)
        choice: dict[str, object] = {}
        for each in parameters:
            value = given.get(each.name)
            if value is None or isinstance(value, bool | int | float):
                continue
            array = value if hasattr(value, "ndim") else np.asarray(value)
            if each.dtype in self._record.names and (name := _type_name(array.dtype)):
                choice.setdefault(each.dtype, name)
            if each.rest:
                choice.setdefault(each.rest, max(array.ndim - each.rank, 0))
        return choice

    def __repr__(self) -> str:
        return f"<{self._record.signature(_path(self.model, self._name))}>"


_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "bf16"}
_TEXTS = {str(dtype): name for dtype, name in _NAMES.items()} | {"bfloat16": "bf16"}


def _type_name(dtype: object) -> str | None:
    """The language's name for an element type of NumPy, or of others: `torch.float32`."""
    return _TEXTS.get(str(dtype).rpartition(".")[2])


def _path(model: Model, name: str) -> str:
    return f"{model.name}.{name}".lstrip(".").partition("{")[0]


class Member:
    """A part of a model, by its path: `net.c1` has the parameter `net.c1.w` and `net.c1.forward`.

    Called, it runs its `forward`. Lists of parts have places: `net.layers[0].w`.
    """

    __slots__ = ("_model", "_path")

    def __init__(self, model: Model, path: str) -> None:
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._model.member(f"{self._path}.{name}")

    def __getitem__(self, index: int) -> Any:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"place {index} of {count} in {self._path} of {self._model.name}")
        return self._model.member(f"{self._path}.{index % count}")

    def __len__(self) -> int:
        """How many parts a list has; TypeError for a part that is no list."""
        names = list(self._model.names_in(self._path))
        if not all(name.isdigit() for name in names):
            raise TypeError(f"{self._path} of {self._model.name} is a model, not a list")
        return len(names)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        return self._model.member(f"{self._path}.forward")(*positional, **named)

    def __setattr__(self, name: str, value: object) -> None:
        self._model.variables[f"{self._path}.{name}"] = value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._model.names_in(self._path)]

    def __repr__(self) -> str:
        return table(f"{self._model.name}.{self._path}", self._model.variables_in(self._path))


class VariableView(MutableMapping[str, "NDArray[Any]"]):
    """The variables of a model by name. Reading gives a copy, which is read-only.

    Setting stores a copy at once, after the dtype and the shape were checked: an array that was
    set or read shares no memory with the model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._model.variable_records:
            raise KeyError(name)
        value = self._model.storage().get(name)
        value.setflags(write=False)
        return value

    def __setitem__(self, name: str, value: object) -> None:
        if name not in self._model.variable_records:
            known = self._model.variable_records
            raise user_error(
                "unknown-name",
                f"{self._model.name} has no variable `{name}`",
                did_you_mean(name, known) or f"it has {', '.join(known)}",
            )
        storage = self._model.storage()
        try:
            array = storage.array_of(value)
        except NoArray as error:
            raise ArgumentError(f"the value for `{name}` {error}") from error
        storage.set(name, array)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a model's variables can't be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.variable_records)

    def __len__(self) -> int:
        return len(self._model.variable_records)

    def __repr__(self) -> str:
        records = self._model.variable_records.values()
        return "{" + ", ".join(f"{each.name}: {each}" for each in records) + "}"


def table(title: str, variables: list[VariableRecord]) -> str:
    """Variables as lines of path, type and count; what optimizers keep is counted alone."""
    shown = [v for v in variables if not v.kept]
    paths = max((len(v.name) for v in shown), default=0)
    types = max((len(str(v)) for v in shown), default=0)
    lines = [
        f"  {v.name:{paths}}  {v!s:{types}}  {v.count:>12,}"
        + ("" if v.role == "param" else f"  {v.role}")
        for v in shown
    ]
    trained = sum(v.count for v in shown if v.role == "param")
    kept = sum(v.count for v in variables if v.kept)
    also = f", {kept:,} kept by optimizers" if kept else ""
    return "\n".join([title, *lines, f"  {trained:,} trained numbers{also}"])
