"""What is kept of a program besides code: JSON records, found again without parsing anything.

A `ProgramRecord` says which models a file has and how they are trained; a `ModelRecord` says what
one model, built with certain arguments, consists of: functions with their types, and variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from math import prod
from typing import Any, Final

from dlc.frontend.inputs import Input
from dlc.ir.dataclass import dataclass

SHARED: Final = ""  # stands for a model: the functions of a file that have no model round them
INITIALIZER: Final = "init"  # the function of a model that makes all initial values


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """A function's type; `kind` is `fn`, `step`, or `schedule` for a setting of `train`."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    kind: str = "fn"

    def signature(self, name: str) -> str:
        """As it would be written in the program."""
        inputs = ", ".join(
            f"{i.name}: {i.text}" + ("" if i.default is None else f" = {i.default:g}")
            for i in self.inputs
        )
        outputs = ", ".join(self.outputs)
        result = f"({outputs})" if len(self.outputs) != 1 else outputs
        return f"{self.kind} {name}({inputs}) -> {result}"

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> FunctionRecord:
        """From `dataclasses.asdict` and JSON; KeyError or TypeError for anything else."""
        inputs = tuple(
            Input(**{**each, "dims": tuple(each["dims"]), "sizes": tuple(each["sizes"])})
            for each in fields["inputs"]
        )
        return cls(inputs, tuple(fields["outputs"]), fields["kind"])


@dataclass(frozen=True, slots=True)
class OpenParameter:
    """A parameter whose type may leave things open: `rest` is the `S` of a `*S` among its dims."""

    name: str
    dtype: str
    rank: int  # without the rest
    rest: str
    text: str


@dataclass(frozen=True, slots=True)
class OpenFunction:
    """A function of a part of a model, or one for any rank and type; made when it is called."""

    parameters: tuple[OpenParameter, ...]
    output: str
    kind: str = "fn"
    names: tuple[str, ...] = ()  # `float`, `integer` and rests that a call has to choose

    def signature(self, name: str) -> str:
        """As it would be written in the program."""
        inputs = ", ".join(f"{each.name}: {each.text}" for each in self.parameters)
        return f"{self.kind} {name}({inputs})" + (f" -> {self.output}" if self.output else "")

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> OpenFunction:
        """From `dataclasses.asdict` and JSON; KeyError or TypeError for anything else."""
        return cls(tuple(OpenParameter(**each) for each in fields["parameters"]),
                   fields["output"], fields["kind"], tuple(fields["names"]))


@dataclass(frozen=True, slots=True)
class VariableRecord:
    """A variable: a `param`, a `state`, or what an `optimizer` keeps."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    role: str

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return prod(self.dims)

    @property
    def kept(self) -> bool:
        """Whether it is an optimizer's, and so of no use but to go on training."""
        return self.role == "optimizer"

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.dims))}]" if self.dims else self.dtype


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase of a `train` block; a setting is a number, or the name of a schedule function."""

    name: str
    data: str
    step: str
    test: str | None
    batch: int
    epochs: int
    settings: Mapping[str, float | str] = field(default_factory=dict)
    length: int = 0


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model, built. Functions include schedules, whose names begin with `train.`."""

    functions: Mapping[str, FunctionRecord]
    variables: tuple[VariableRecord, ...]
    phases: tuple[PhaseRecord, ...] = ()
    open: Mapping[str, OpenFunction] = field(default_factory=dict)  # of parts, by path

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ModelRecord:
        """From `dataclasses.asdict` and JSON; KeyError or TypeError for anything else."""
        return cls(
            {name: FunctionRecord.from_json(each) for name, each in fields["functions"].items()},
            tuple(
                VariableRecord(**{**each, "dims": tuple(each["dims"])})
                for each in fields["variables"]
            ),
            tuple(PhaseRecord(**each) for each in fields["phases"]),
            {name: OpenFunction.from_json(each) for name, each in fields["open"].items()},
        )


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """A parameter of a model, given when it is built."""

    name: str
    type: str
    has_default: bool


@dataclass(frozen=True, slots=True)
class ConstantRecord:
    """A `const`: its type, and its numbers in row-major order."""

    dtype: str
    dims: tuple[int, ...]
    numbers: tuple[int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class ProgramRecord:
    """A file: its models with their parameters; for those with a `train` block, what it gives."""

    models: Mapping[str, tuple[ParameterRecord, ...]]
    trained: Mapping[str, Mapping[str, int | float | bool]] = field(default_factory=dict)
    constants: Mapping[str, ConstantRecord] = field(default_factory=dict)

    def buildable(self) -> dict[str, Mapping[str, int | float | bool]]:
        """The models that can be built as the file stands, and what they are built with."""
        return {
            name: self.trained.get(name, {}) for name, parameters in self.models.items()
            if name in self.trained or all(each.has_default for each in parameters)
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ProgramRecord:
        """From `dataclasses.asdict` and JSON; KeyError or TypeError for anything else."""
        models = {
            name: tuple(ParameterRecord(**each) for each in parameters)
            for name, parameters in fields["models"].items()
        }
        trained = {name: dict(given) for name, given in fields["trained"].items()}
        constants = {
            name: ConstantRecord(each["dtype"], tuple(each["dims"]), tuple(each["numbers"]))
            for name, each in fields["constants"].items()
        }
        return cls(models, trained, constants)
