"""The driver behind `import dlc`: programs, models, functions compiled at their first call.

program = dlc.load("lenet5.dl")
lenet = program.LeNet5(seed=0)
loss = lenet.fit(image=images, label=labels)
lenet.c1.w = numpy.zeros((6, 1, 5, 5), numpy.float32)
lenet.save("lenet5.safetensors")
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc.frontend import gpu
from dlc.frontend.build import Build, Built
from dlc.frontend.errors import user_error
from dlc.frontend.handles import Compiled, Member, Open, VariableView, table
from dlc.frontend.records import (
    INITIALIZER,
    SHARED,
    ConstantRecord,
    ModelRecord,
    ParameterRecord,
    ProgramRecord,
    VariableRecord,
)
from dlc.frontend.settings import FLOATS, PRECISIONS
from dlc.ir.diagnostics import did_you_mean, plural
from dlc.runtime.memory import DTYPES

if TYPE_CHECKING:
    from dlc.frontend.text.syntax import Expr
    from dlc.ir.diagnostics import Span
    from dlc.runtime.function import Function
    from dlc.runtime.variables import Variables

__all__ = ["Compiled", "Model", "Program", "load"]


def load(
    path: str | Path, *, float: str = "f32", precision: str = "f32", device: str = "cpu"
) -> Program:
    """The program in a `.dl` file, checked; ProgramError with all that is wrong in it.

    `float="f64"`: the layers of `nn`, what meets no type, and `float` where nothing binds it are
    f64. `precision="bf16"` (or "f16"): products of f32 take operands rounded to that, and add up in
    f32; weights stay f32. `device="cuda"`: all runs on the GPU, where its variables stay; RunError
    if there is none. There `precision="tf32"` too: products on tensor cores, which round to it.
    """
    for name, value, known in (("float", float, FLOATS), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise user_error("bad-setting", f"{name} is one of {', '.join(known)}, not {value!r}")
    gpu.require(device)
    if precision != "f32":
        from dlc.compiler.options import check_precision

        check_precision(precision, device == gpu.CUDA)
    return Program(Build(Path(path), floats=float, precision=precision, device=device))


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

    @property
    def record(self) -> ProgramRecord:
        """What the file defines."""
        return self._record

    def model(
        self, name: str, /, *positional: int | float | bool, seed: int = 0,
        **arguments: int | float | bool,
    ) -> Model:
        """The model `name`, built with arguments by place and by name; its initial values and
        draws follow `seed`."""
        if name not in self._record.models:
            raise user_error(
                "unknown-model",
                f"{self.path} has no model `{name}`",
                did_you_mean(name, self._record.models)
                or f"it has {', '.join(self._record.models) or 'none'}",
            )
        placed = self._placed(name, positional, arguments)
        return Model(self._build.model(name, {**placed, **arguments}), seed)

    def _placed(
        self, name: str, positional: Sequence[int | float | bool], named: Mapping[str, object]
    ) -> dict[str, int | float | bool]:
        """The arguments by place under their names."""
        known = [parameter.name for parameter in self._record.models[name]]
        if len(positional) > len(known):
            raise user_error(
                "too-many-arguments",
                f"`{name}` takes {plural(len(known), 'argument')}, not {len(positional)}",
                notes=(f"its parameters are ({', '.join(known)})",),
            )
        placed = dict(zip(known, positional, strict=False))
        twice = [key for key in placed if key in named]
        if twice:
            raise user_error("argument-twice", f"`{twice[0]}` is given twice")
        return placed

    @cached_property
    def functions(self) -> Mapping[str, Compiled]:
        """The functions of the file that no model is round, but for those of any rank or type."""
        return {name: self._shared.made_for(name) for name in self._shared.record.functions}

    @cached_property
    def _shared(self) -> Model:
        """The functions with no model round them, as a model without a name."""
        return Model(self._build.model(SHARED, {}), 0)

    @cached_property
    def constants(self) -> Mapping[str, Any]:
        """The `const`s of the file: NumPy arrays, read-only, and scalars; an `int` is Python's."""
        return {name: _constant(each) for name, each in self._record.constants.items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._record.models:
            return partial(self.model, name)
        if name in self.constants:
            return self.constants[name]
        if name in self.functions:
            return self.__dict__.setdefault(name, self.functions[name])  # found at once from now on
        if name in self._shared.record.open:
            return self._shared.open_function(name)
        known = list(self._names())
        near = did_you_mean(name, known)
        hint = f"it has {', '.join(known)}" + (f"; {near}" if near else "")
        raise AttributeError(f"{self.path} has no `{name}`; {hint}", name=name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._names()]

    def _names(self) -> Iterator[str]:
        """What the file defines."""
        yield from (*self._record.models, *self.functions, *self._shared.record.open)
        yield from self.constants

    def __repr__(self) -> str:
        return f"<program {self.path}: {', '.join(self._record.models)}>"


class Model:
    """A model with values: its functions, parts and variables are attributes.

    `net.c1` is a submodel, `net.layers[0]` one of a list, `net.c1.w` a param or state: a NumPy
    array, read-only, a copy of the value now. `net.c1.w = array` stores a copy at once; RunError if
    dtype or shape differ. Functions and steps are called, those of submodels too: `net.c1(x)`.
    """

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
        return self.made_for(name)

    def open_function(self, name: str) -> Compiled | Open:
        """A function of a part, or one of any rank and type; made at once if nothing is open."""
        record = self.record.open[name]
        return Open(self, name, record) if record.names else self.made_for(f"{name}{{}}")

    def made_for(self, name: str) -> Compiled:
        """A function of the model, or one of a part for certain ranks and types, made once:
        `fit`, `c1.forward{S=2}`."""
        if name not in self._functions:
            record = self.record.functions.get(name) or self.built.function(name)
            self._functions[name] = Compiled(self, name, record)
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
        variables = self._empty()
        if self.record.variables:
            self._function(INITIALIZER, variables)()
        variables.random[1] = 0  # calls are counted from the first one that the user makes
        return variables

    def _empty(self) -> Variables:
        """The variables in their plain layout, all zeros."""
        from dlc.runtime.variables import Variables, VariableSpec

        kind = Variables
        if self.built.device == gpu.CUDA:
            from dlc.runtime.cuda.variables import CudaVariables as kind
        variables = kind(self.seed)
        variables.require(
            VariableSpec.make(each.name, each.dtype, each.dims) for each in self.record.variables
        )
        return variables

    def load_function(self, name: str) -> Function:
        """The runtime's function over this model's variables; compiled now, if it never was."""
        if self.built.device == gpu.CUDA:
            return gpu.function(self.built, name, self.storage())
        from dlc.runtime.function import Function

        if self._storage is None and self.record.variables:
            self.built.begin(INITIALIZER)  # both are compiled at the same time
        artifact = self.built.artifact(name)
        batch = artifact.read.batch
        few = partial(self.built.artifact_for_few, name, batch) if batch else None
        return Function(artifact, self.storage(), few=few)

    def _function(self, name: str, variables: Variables) -> Function:
        """A function over other variables."""
        from dlc.runtime.function import Function

        if self.built.device == gpu.CUDA:
            return gpu.function(self.built, name, variables)
        return Function(self.built.artifact(name), variables)

    def member(self, path: str) -> Any:
        """A variable's value, a part, or a part's function; AttributeError if there is none."""
        if path in self.variable_records:
            return self.variables[path]
        if path in self.record.open:
            return self.open_function(path)
        if any(self.names_in(path)):
            return Member(self, path)
        owner, _, name = path.rpartition(".")
        near = did_you_mean(name, list(self.names_in(owner)))
        whose = f"`{owner}` of {self.name}" if owner else self.name
        raise AttributeError(f"{whose} has no `{name}`" + (f"; {near}" if near else ""), name=name)

    def names_in(self, path: str) -> Iterator[str]:
        """The names of what is in a part, or in the model if the path is empty."""
        start = f"{path}." if path else ""
        own = () if path else self.record.functions
        kept = [v.name for v in self.record.variables if not v.kept]
        names = [*kept, *self.record.open, *own]
        yield from dict.fromkeys(
            name[len(start) :].partition(".")[0] for name in names if name.startswith(start)
        )

    def variables_in(self, path: str) -> list[VariableRecord]:
        """The variables of a part."""
        return [v for v in self.record.variables if v.name.startswith(f"{path}.")]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self.record.functions:
            return self.__dict__.setdefault(name, self.function(name))  # found at once from now on
        return self.member(name)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Runs its `forward`; AttributeError for a model that has none."""
        return self.forward(*positional, **named)

    def __setattr__(self, name: str, value: object) -> None:
        self.variables[name] = value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.names_in("")]

    def __repr__(self) -> str:
        return table(f"{self.name}(seed={self.seed})", list(self.record.variables))

    def __dl_syntax__(self, span: Span, whole: bool = False) -> Expr:
        """The model as a part of one that is made in Python, or of its trace."""
        from dlc.frontend.python.loaded import part_syntax

        return part_syntax(self, span)

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


def _constant(record: ConstantRecord) -> Any:
    """A `const` as Python has it."""
    import numpy as np

    if not record.dims and record.dtype in ("int", "bool"):
        return record.numbers[0]
    if record.dtype == "bf16":
        value = np.asarray(record.numbers, np.float32)
    else:
        value = np.asarray(record.numbers, DTYPES[record.dtype])
    value = value.reshape(record.dims)
    value.setflags(write=False)
    return value if record.dims else value[()]
