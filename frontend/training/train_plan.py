"""What a training run does: the phases of a `train` block, with the command line's flags over them.

All of it is checked here, before any data is read: that each function's parameters are fed, that
each setting names one, that the data set is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Protocol

from dlc.frontend.errors import user_error
from dlc.frontend.inputs import KEYS, Input
from dlc.frontend.training.data import Field, find
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import did_you_mean


class Schedule(Protocol):
    """A setting that changes as the run goes on."""

    def __call__(self, *, progress: float, epoch: int) -> float:
        """The value at `progress` (0 to 1, the part of the phase that is done) of an epoch."""
        ...


Setting = float | Schedule


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: `epochs` times over the training part with `step`, `test` after each."""

    data: str
    step: str
    test: str | None
    batch: int
    epochs: int
    settings: Mapping[str, Setting] = field(default_factory=dict)
    name: str = ""
    length: int = 0  # of what a data set cuts into windows (a text)
    fields: tuple[Field, ...] = ()  # of its data; known once it is planned


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says instead of the block; None leaves the block's word."""

    epochs: int | None = None
    batch: int | None = None
    length: int | None = None
    settings: Mapping[str, float] = field(default_factory=dict)


Signatures = Mapping[str, Sequence[Input]]


def plan(phases: Sequence[Phase], flags: Flags, signatures: Signatures) -> tuple[Phase, ...]:
    """The phases as they will run; `signatures` are the inputs of the model's functions."""
    inputs = {i.name: i for p in phases for f in _functions(p) for i in _of(f, signatures)}
    for name in flags.settings:
        if name not in inputs:
            settable = [each.name for each in inputs.values() if each.default is not None]
            raise user_error(
                "unknown-setting",
                f"--set {name}: no function of this training run has a parameter `{name}`",
                did_you_mean(name, inputs)
                or f"what can be set is {', '.join(settable) or 'nothing'}",
            )
    return tuple(_planned(phase, flags, signatures) for phase in phases)


def _functions(phase: Phase) -> tuple[str, ...]:
    return (phase.step,) if phase.test is None else (phase.step, phase.test)


def _of(function: str, signatures: Signatures) -> Sequence[Input]:
    if function not in signatures:
        raise user_error(
            "unknown-name",
            f"the model has no function `{function}`",
            did_you_mean(function, signatures) or f"known are {', '.join(signatures)}",
        )
    return signatures[function]


def _planned(phase: Phase, flags: Flags, signatures: Signatures) -> Phase:
    inputs = {i.name: i for f in _functions(phase) for i in _of(f, signatures)}
    settings = {**phase.settings, **{k: v for k, v in flags.settings.items() if k in inputs}}
    for name in settings:
        _check_setting(name, inputs)
    changed = replace(
        phase,
        settings=settings,
        epochs=phase.epochs if flags.epochs is None else flags.epochs,
        batch=phase.batch if flags.batch is None else flags.batch,
        length=phase.length if flags.length is None else flags.length,
    )
    _check_counts(changed)
    wanted = {i.name: i for i in inputs.values() if i.default is None}
    fields = find(phase.data).fields(tuple(wanted.values()), changed.length)
    changed = replace(changed, fields=fields)
    for function in _functions(phase):
        tuple(fed(function, _of(function, signatures), changed))
    return changed


def _check_setting(name: str, inputs: Mapping[str, Input]) -> None:
    if name not in inputs:
        raise user_error(
            "unknown-setting",
            f"`{name}` is no setting: no function of this training run has such a parameter",
            did_you_mean(name, [*inputs, *KEYS]),
        )
    if inputs[name].default is None:
        raise user_error(
            "unknown-setting",
            f"`{name}` can't be set: it has no default, so it is fed from the data",
            notes=(f"declared as {name}: {inputs[name].text}",),
        )


def _check_counts(phase: Phase) -> None:
    for name, value, least in (("batch", phase.batch, 1), ("epochs", phase.epochs, 0)):
        if value < least:
            raise user_error("bad-setting", f"{name} is {value}, but must be at least {least}")
    if find(phase.data).takes_length and phase.length < 2:
        raise user_error(
            "bad-setting",
            f'the data set "{phase.data}" is cut into windows: `length` says how long, at least 2, '
            f"and is {phase.length or 'not set'}",
        )


def fed(function: str, inputs: Sequence[Input], phase: Phase) -> Iterator[str]:
    """The names of the inputs that the data feeds; a field that is missing or unfit is an error."""
    fields = {field.name: field for field in phase.fields}
    for parameter in inputs:
        if parameter.default is not None:
            continue
        found = fields.get(parameter.name)
        if found is None or not parameter.takes(found):
            raise user_error(
                "data-mismatch",
                f'`{function}` can\'t be fed from the data set "{phase.data}"',
                f"the fields of {phase.data} are {', '.join(map(str, fields.values()))}",
                (
                    f"{function} takes {parameter.name}: {parameter.text}",
                    f"the data has {found}" if found else f"the data has no `{parameter.name}`",
                ),
            )
        yield parameter.name
