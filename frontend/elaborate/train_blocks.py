"""`train` blocks: their settings checked and made into records; schedules made into graphs.

A setting that is no constant, such as `lr = 0.003 * cosine(progress)`, becomes a function of
`progress` (0 to 1, in the type of the parameter that is set) and `epoch` (an `int`) that is
compiled like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dlc.frontend.elaborate.arguments import assign_arguments
from dlc.frontend.elaborate.arithmetic import as_value, check_number, constant_of, integer_of
from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.models import ENGINE, ModelProgram
from dlc.frontend.elaborate.modules import Program
from dlc.frontend.elaborate.values import Number, Tensor, describe
from dlc.frontend.inputs import KEYS
from dlc.frontend.records import PhaseRecord
from dlc.frontend.text import syntax
from dlc.frontend.training.data import DATA_SETS
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostics, did_you_mean
from dlc.ir.dims import symbol
from dlc.ir.graph import Graph, Param
from dlc.ir.types import BOOL, F32, I64, TensorType, tensor

_SIZE: Final = tensor(I64)  # of an `int`
Settings = dict[str, syntax.Setting]


@dataclass(frozen=True, slots=True)
class Training:
    """The phases of a block, and the schedules that their settings name."""

    phases: tuple[PhaseRecord, ...] = ()
    schedules: Mapping[str, Graph] | None = None


def blocks(program: Program, found: Diagnostics | None = None) -> dict[str, syntax.Train]:
    """The `train` blocks of the main file by the models that they train; a second is an error."""
    trees: dict[str, syntax.Train] = {}
    for tree in program.main.tree.definitions:
        if not isinstance(tree, syntax.Train):
            continue
        first = trees.setdefault(tree.model.text, tree)
        if first is not tree and found is not None:
            found.error(
                "defined-twice", f"`{tree.model.text}` is trained twice", tree.model.span,
                (f"first at {first.model.span}",), "phases stand in one block, one after another",
            )  # fmt: skip
    return trees


def arguments(
    program: Program, block: syntax.Train, found: Diagnostics
) -> dict[str, int | float | bool]:
    """What a block builds its model with: constants by name; errors are added to `found`."""
    name, models = block.model.text, program.models()
    given: dict[str, int | float | bool] = {}
    try:
        if name not in models:
            help = did_you_mean(name, models)
            raise Fault("unknown-model", f"there is no model `{name}`", block.model.span, help=help)
        parameters = models[name][0].parameters
        assigned = assign_arguments(name, parameters, block.arguments, block.model.span)
        frame = Frame(Context(program, ENGINE, found), program.main, "setting", "train")
        for key, argument in assigned.items():
            value = constant_of(frame.evaluate(argument.value))
            if value is None:
                raise Fault("not-constant", f"`{key}` is not a constant number", argument.span)
            given[key] = value
    except Fault as fault:
        found.add(fault.diagnostic)
    except Silent:
        pass
    return given


def training(
    program: Program, block: syntax.Train, model: ModelProgram, found: Diagnostics
) -> Training:
    """What a block says of a model; errors are added to `found`."""
    maker = _Maker(program, model, found, block)
    common = maker.settings(block.settings)
    if block.phases:
        maker.check_names(block.phases)
        phases = [
            maker.phase({**common, **maker.settings(phase.settings)}, phase.name.text, block)
            for phase in block.phases
        ]
    else:
        phases = [maker.phase(common, "", block)]
    return Training(tuple(phase for phase in phases if phase), maker.schedules)


def _functions_of(block: syntax.Train) -> set[str]:
    """The names of the functions that a block runs."""
    settings = (*block.settings, *(s for phase in block.phases for s in phase.settings))
    return {s.value.text for s in settings
            if s.name.text in ("step", "test") and isinstance(s.value, syntax.Name)}


class _Maker:
    def __init__(
        self, program: Program, model: ModelProgram, found: Diagnostics, block: syntax.Train
    ) -> None:
        self.model = model
        self._run = _functions_of(block)
        self.schedules: dict[str, Graph] = {}
        self._program = program
        self._found = found

    def settings(self, given: tuple[syntax.Setting, ...]) -> Settings:
        """By name; a name given twice is an error."""
        found: Settings = {}
        for setting in given:
            first = found.setdefault(setting.name.text, setting)
            if first is not setting:
                self._found.error(
                    "defined-twice", f"`{setting.name.text}` is set twice", setting.name.span,
                    (f"first at {first.name.span}",),
                )  # fmt: skip
        return found

    def check_names(self, phases: tuple[syntax.Phase, ...]) -> None:
        """No two phases have one name: it is part of the names of what they set."""
        seen: dict[str, syntax.Name] = {}
        for phase in phases:
            first = seen.setdefault(phase.name.text, phase.name)
            if first is not phase.name:
                self._found.error("defined-twice", f"there are two phases `{first.text}`",
                                  phase.name.span, (f"first at {first.span}",))

    def phase(self, settings: Settings, name: str, block: syntax.Train) -> PhaseRecord | None:
        """One phase; None after an error."""
        before = len(self._found)
        for key in ("data", "step", "batch", "epochs"):
            if key not in settings:
                self._found.error(
                    "missing-setting", f"`train {block.model.text}` does not set `{key}`",
                    block.model.span,
                )  # fmt: skip
        values = {
            key: self._try(key, setting, name) for key, setting in settings.items() if key in KEYS
        }
        others = {
            key: self._try(key, setting, name)
            for key, setting in settings.items()
            if key not in KEYS
        }
        if len(self._found) > before:
            return None
        return PhaseRecord(
            name, str(values["data"]), str(values["step"]),
            None if "test" not in values else str(values["test"]),
            int(values["batch"] or 0), int(values["epochs"] or 0),
            {key: value for key, value in others.items() if value is not None},
            int(values.get("length") or 0),
        )  # fmt: skip

    def _try(self, key: str, setting: syntax.Setting, phase: str) -> float | str | None:
        try:
            if key == "data":
                return self._data(setting)
            if key in ("step", "test"):
                return self._function(key, setting)
            if key in ("batch", "length", "epochs"):
                return self._count(key, setting)
            return self._parameter(key, setting, phase)
        except Fault as fault:
            self._found.add(fault.diagnostic)
        except Silent:
            pass
        return None

    def _data(self, setting: syntax.Setting) -> str:
        value = setting.value
        if not isinstance(value, syntax.String):
            raise Fault("unknown-data", "`data` is the name of a data set in quotes", value.span)
        if value.value not in DATA_SETS:
            help = did_you_mean(value.value, DATA_SETS) or f"known are {', '.join(DATA_SETS)}"
            raise Fault(
                "unknown-data", f'there is no data set "{value.value}"', value.span, help=help
            )
        return value.value

    def _function(self, key: str, setting: syntax.Setting) -> str:
        value = setting.value
        name = value.text if isinstance(value, syntax.Name) else ""
        steps = self.model.steps
        known = steps if key == "step" else self.model.functions.keys() - steps
        if name not in known:
            kind = "step" if key == "step" else "function that is no step"
            raise Fault(
                "setting-function", f"`{key}` is a {kind} of {self.model.name}", value.span,
                help=did_you_mean(name, known) or f"it has {', '.join(sorted(known)) or 'none'}",
            )  # fmt: skip
        return name

    def _count(self, key: str, setting: syntax.Setting) -> int:
        value = integer_of(self._frame(key).evaluate(setting.value))
        if value is None or value < 1:
            raise Fault("bad-setting", f"`{key}` is a constant integer that is at least 1",
                        setting.value.span)
        return value

    def _parameter(self, key: str, setting: syntax.Setting, phase: str) -> float | str:
        """A number, or the name of the schedule that gives it."""
        span = setting.value.span
        kind = self._kind(key, setting)
        frame = self._frame(key)
        builder = frame.context.builder
        progress = builder.fresh("progress", tensor(kind.dtype if kind.dtype.is_float else F32))
        params = [Param(progress), Param(builder.fresh("epoch", _SIZE), "size")]
        frame.locals |= {"progress": Tensor(progress), "epoch": Number(symbol("epoch"))}
        made = frame.evaluate(setting.value)
        number = constant_of(made)
        if kind is _SIZE and integer_of(made) is None:
            raise Fault("type-mismatch", f"`{key}` is an integer, and the same in a whole run, "
                        f"but this is {describe(made)}", span)
        if isinstance(made, Number) and number is not None:
            return check_number(number, kind.dtype, span)
        if number is not None and isinstance(number, bool) == (kind.dtype is BOOL):
            return number
        value = as_value(frame, made, span, kind.dtype)
        if value.dims or value.dtype is not kind.dtype:
            message = f"`{key}` is {kind}, but this is {describe(made)}"
            raise Fault("type-mismatch", message, span)
        name = ".".join(part for part in ("train", phase, key) if part)
        self.schedules[name] = Graph(name, tuple(params), tuple(builder.nodes), (value,))
        return name

    def _kind(self, key: str, setting: syntax.Setting) -> TensorType:
        """The type of the parameter that a setting names; an error if there is none."""
        functions = self.model.functions
        run = [functions[name] for name in self._run if name in functions] or functions.values()
        params = [p for g in run for p in g.params if p.role in ("in", "size")]
        for param in params:
            if param.value.name == key and param.default is not None:
                return param.value.tensor
        known = [p.value.name for p in params if p.default is not None]
        raise Fault(
            "unknown-setting",
            f"`{key}` is no setting, and no parameter with a default of a function that is run",
            setting.name.span,
            help=did_you_mean(key, [*KEYS, *known]),
        )

    def _frame(self, key: str) -> Frame:
        context = Context(self._program, ENGINE, self._found, name=self.model.name)
        return Frame(context, self._program.main, "setting", f"train.{key}")


