"""`dlc train`: settings, data, the run, and what is said about it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dlc.frontend.driver import Model, Program, load
from dlc.frontend.errors import user_error
from dlc.frontend.records import PhaseRecord
from dlc.frontend.training import data
from dlc.frontend.training.train import Interrupted, Position, Run
from dlc.frontend.training.train_plan import Flags, Phase, Schedule, Setting, plan
from dlc.frontend.training.train_report import Report
from dlc.ir.diagnostics import did_you_mean

_BUILT_WITH: Final = {"float": "f32", "precision": "f32"}  # flags of the program: what is usual


def run(options: argparse.Namespace) -> int:
    """Trains, tests and saves; 130 after Ctrl-C, with all that is needed to go on saved."""
    program = load(options.file, float=options.float, precision=options.precision,
                   device=options.device)
    name = _model_name(program, options.model)
    model = program.model(name, seed=options.seed or 0, **program.trained[name])
    started = Start(model, options)
    save_to = _save_path(options, name)
    wanted = dict.fromkeys((p.data, p.fields) for p in started.phases)
    sets = {(source, fields): data.load(source, program.path, options.data, fields)
            for source, fields in wanted}
    report = Report(data.find(started.phases[0].data).unit, options.json)
    training = Run(
        model, started.phases, sets, started.seed, save_to, report,
        started.settings, started.position,
    )  # fmt: skip
    if training.done:
        print(f"all {started.phases[-1].epochs} epochs are done; --epochs asks for more",
              file=sys.stderr)  # fmt: skip
    try:
        history = training.run()
    except Interrupted as stop:
        report.close()
        return _tell_stop(stop, options, save_to)
    finally:
        report.close()
    last = history[-1] if history else {}
    report.summary({**last, "seed": started.seed, "saved": str(save_to)})
    return 0


class Start:
    """Where a run begins: at the start, or where the checkpoint of `--resume` stands."""

    def __init__(self, model: Model, options: argparse.Namespace) -> None:
        kept: Mapping[str, Any] = {}
        self.position = Position()
        if options.resume is not None:
            kept = self._resume(model, options)
        self.seed = int(kept.get("seed", options.seed or 0))
        given = {"epochs": options.epochs, "batch": options.batch, "length": options.length,
                 "set": dict(options.set)}
        flags = {
            name: value if value not in (None, {}) else kept.get("flags", {}).get(name, value)
            for name, value in given.items()
        }
        built = {name: getattr(options, name) for name in _BUILT_WITH}
        self.settings = {"flags": flags, "built": built}
        signatures = {name: each.inputs for name, each in model.record.functions.items()}
        phases = [_phase(each, model) for each in model.record.phases]
        chosen = Flags(flags["epochs"], flags["batch"], flags["length"], flags["set"])
        self.phases = plan(phases, chosen, signatures)

    def _resume(self, model: Model, options: argparse.Namespace) -> Mapping[str, Any]:
        """Loads the checkpoint; what it says of the run that it was made by."""
        kept = model.load(options.resume)
        if "position" not in kept:
            raise user_error(
                "cannot-resume",
                f"{options.resume} was not made by `dlc train`: it does not say how far it came",
            )
        try:
            self.position = Position.from_json(kept["position"])
        except (KeyError, TypeError) as error:
            raise user_error("cannot-resume", f"{options.resume} is damaged: {error!r}") from None
        flags = kept.get("flags", {})
        before = {"seed": kept.get("seed", 0), "batch": flags.get("batch"),
                  "length": flags.get("length")}
        for name, value in before.items():
            given = getattr(options, name)
            if given is not None and given != value:
                raise user_error(
                    "cannot-resume",
                    f"--{name} {given}: {options.resume} was made with {_said(value)}, and goes on "
                    "with it",
                    f"leave --{name} out",
                )
        _same_build(kept.get("built", {}), options)
        return kept


def _same_build(before: Mapping[str, Any], options: argparse.Namespace) -> None:
    """An error if a checkpoint is of a run whose program was built otherwise: it could not be gone
    on with to the same bits."""
    for name, usual in _BUILT_WITH.items():
        made, given = before.get(name, usual), getattr(options, name)
        if made != given:
            raise user_error("cannot-resume", f"{options.resume} was made with --{name} {made}, "
                             f"not {given}", f"--{name} {made} goes on with it")


def _said(value: object) -> str:
    return "the program's own" if value is None else str(value)


def _model_name(program: Program, chosen: str | None) -> str:
    """The model to train."""
    known = program.trained
    if chosen is not None and chosen not in known:
        raise user_error(
            "unknown-name",
            f"{program.path} has no `train {chosen}`",
            did_you_mean(chosen, known) or f"it trains {', '.join(known) or 'nothing'}",
        )
    if not known:
        raise user_error(
            "nothing-to-train",
            f"{program.path} has no `train` block",
            'e.g. train Model { data = "mnist", step = fit, epochs = 3 }',
        )
    if chosen is None and len(known) > 1:
        raise user_error(
            "bad-setting", f"{program.path} trains {', '.join(known)}", "--model says which"
        )
    return chosen or next(iter(known))


def _phase(record: PhaseRecord, model: Model) -> Phase:
    settings: dict[str, Setting] = {
        name: model_schedule(model, value) if isinstance(value, str) else value
        for name, value in record.settings.items()
    }
    return Phase(
        record.data, record.step, record.test, record.batch, record.epochs, settings, record.name,
        record.length,
    )  # fmt: skip


def model_schedule(model: Model, name: str) -> Schedule:
    """A setting that a compiled function of `progress` and `epoch` gives."""
    function = model.function(name)
    takes = {each.name for each in function.inputs}

    def schedule(*, progress: float, epoch: int) -> float:
        values = {"progress": progress, "epoch": epoch}
        return float(function(**{k: v for k, v in values.items() if k in takes}))

    return schedule


def _save_path(options: argparse.Namespace, model: str) -> Path:
    """Where the weights go; said now if they can't, not after hours."""
    path = Path(options.save or options.resume or f"{model}.safetensors")
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise user_error("cannot-write", f"can't save to {path}: {problem}")
    if not os.access(path.parent, os.W_OK):
        raise user_error("cannot-write", f"can't save to {path}: {path.parent} is read-only")
    return path


def _tell_stop(stop: Interrupted, options: argparse.Namespace, saved: Path) -> int:
    """How far it came, and how to go on."""
    words = ["dlc", "train", options.file, "--resume", str(saved)]
    for name in ("model", "data", "threads"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    for name, usual in _BUILT_WITH.items():
        if getattr(options, name) != usual:
            words += [f"--{name}", getattr(options, name)]
    at = stop.position
    print(
        f"stopped in epoch {at.epoch + 1}, after {at.batch} of its batches; saved to {saved}\n"
        f"go on with: {shlex.join(words)}",
        file=sys.stderr,
    )
    return 128 + stop.number
