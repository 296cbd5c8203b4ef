"""The training loop: phases, epochs, batches; test, checkpoint and report after each epoch.

A run is a function of its seed. The order of an epoch's examples depends on seed, phase and epoch
alone, and a checkpoint holds the position in it, so a run that was stopped and goes on gives the
same bits as one that was not.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field
from math import prod
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.inputs import Input
from dlc.frontend.training.data import DataSet, Field, Part
from dlc.frontend.training.train_plan import Phase, Setting, fed
from dlc.ir.dataclass import dataclass
from dlc.ir.types import DTYPES

Array = NDArray[Any]
Record = dict[str, object]


class Runnable(Protocol):
    """A compiled function: named arrays and numbers in, a scalar out."""

    @property
    def inputs(self) -> Sequence[Input]: ...
    def __call__(self, **arguments: Any) -> Any: ...
    def run(self, steps: int, /, **arguments: Any) -> Any:
        """Several calls in one: rows of arguments in, results as arrays out."""


class Trainable(Protocol):
    """What the loop needs of a model."""

    def function(self, name: str) -> Runnable: ...
    def save(self, path: str | Path, *, progress: Mapping[str, object] | None = None) -> None: ...


class Observer(Protocol):
    """Who is told how the run goes."""

    def begin_epoch(self, phase: Phase, epoch: int, examples: int, done: int) -> None: ...
    def stepped(self, examples: int, loss: float) -> None: ...
    def end_epoch(self, record: Record) -> None: ...


@dataclass(slots=True)
class Position:
    """Where a run stands: `batch` batches of `epoch` are done, with this sum of losses."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    history: list[Record] = field(default_factory=list)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Position:
        """The position that `asdict` wrote; KeyError or TypeError for anything else."""
        return cls(**{name: record[name] for name in cls.__slots__})


class Interrupted(Exception):
    """The user stopped the run; all is saved, and `position` says how far it came."""

    def __init__(self, number: int, position: Position) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number
        self.position = position


class StopSignals:
    """Within the block, a first Ctrl-C (or SIGTERM) is only noted; a second one acts as ever."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class Run:
    """A training run in progress. `run()` takes it from `position` to the end."""

    model: Trainable
    phases: Sequence[Phase]
    data: Mapping[tuple[str, tuple[Field, ...]], DataSet]  # by name and fields
    seed: int
    save_to: Path
    observer: Observer
    settings: Mapping[str, object] = field(default_factory=dict)  # kept in the checkpoint
    position: Position = field(default_factory=Position)

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        last = len(self.phases) - 1
        at = self.position
        return at.phase > last or (at.phase == last and at.epoch >= self.phases[last].epochs)

    def run(self) -> list[Record]:
        """Trains; the history, a record an epoch. `Interrupted` after a Ctrl-C, all saved."""
        with StopSignals() as stop:
            for number in range(self.position.phase, len(self.phases)):
                if number > self.position.phase:
                    self.position.phase, self.position.epoch = number, 0
                while self.position.epoch < self.phases[number].epochs:
                    self._epoch(self.phases[number], stop)
                    self.save()
            self.save()
        return self.position.history

    def save(self) -> None:
        """Writes the checkpoint: weights, states, random counter, and where the run stands."""
        record = {"seed": self.seed, **self.settings, "position": asdict(self.position)}
        self.model.save(self.save_to, progress=record)

    def _epoch(self, phase: Phase, stop: StopSignals) -> None:
        at = self.position
        part = self.data[phase.data, phase.fields].train
        done = min(at.batch * phase.batch, part.size)
        self.observer.begin_epoch(phase, at.epoch, part.size, done)
        started = time.perf_counter()
        self._steps(phase, part, stop)
        seconds = time.perf_counter() - started
        record: Record = {"epoch": at.epoch + 1, "loss": at.loss_sum / part.size}
        if phase.name:
            record = {"phase": phase.name, **record}
        if phase.test is not None:
            record[phase.test] = self._test(phase, stop)
        at.history.append(record)
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0
        rate = (part.size - done) / seconds if seconds else 0.0
        self.observer.end_epoch({**record, "seconds": seconds, "examples_per_second": rate})

    def _steps(self, phase: Phase, part: Part, stop: StopSignals) -> None:
        """The batches of the epoch that are left."""
        at = self.position
        step = self.model.function(phase.step)
        order = np.random.default_rng((self.seed, at.phase, at.epoch)).permutation(part.size)
        names = tuple(fed(phase.step, step.inputs, phase))
        batches = Batches(part, [f for f in phase.fields if f.name in names], phase.batch)
        setting = Settings(phase, step)
        total = phase.epochs * batches.count
        pace = Pace()
        while at.batch < batches.count:
            first, count = at.batch, batches.together(at.batch, pace.steps)
            rows = setting.rows([(at.epoch * batches.count + number) / total
                                 for number in range(first, first + count)], at.epoch)
            losses = pace.take(step, count, {**batches.gather(order, first, count), **rows})
            taken = batches.size(first)
            for loss in map(float, losses):
                at.loss_sum += loss * taken
                at.batch += 1
                self.observer.stepped(taken, loss)
            if stop.number:
                self._stop(stop)

    def _test(self, phase: Phase, stop: StopSignals) -> float:
        """The test function's mean over the test part, weighted by batch size."""
        assert phase.test is not None
        at = self.position
        test = self.model.function(phase.test)
        part = self.data[phase.data, phase.fields].test
        names = tuple(fed(phase.test, test.inputs, phase))
        settings = Settings(phase, test).at((at.epoch + 1) / phase.epochs, at.epoch)
        batches = Batches(part, [f for f in phase.fields if f.name in names], phase.batch)
        order = np.arange(part.size)
        total = 0.0
        for number in range(batches.count):
            arrays = {k: rows[0] for k, rows in batches.gather(order, number, 1).items()}
            total += float(test(**arrays, **settings)) * batches.size(number)
            if stop.number:
                self._stop(stop)
        return total / part.size

    def _stop(self, stop: StopSignals) -> None:
        self.save()
        raise Interrupted(stop.number, self.position)


class Pace:
    """How many steps are taken together: as many as fit into some 50 ms, after which Ctrl-C is
    looked for and the progress is shown. What is computed does not depend on it."""

    SECONDS = 0.05
    MOST = 64

    def __init__(self) -> None:
        self.steps = 1

    def take(self, step: Runnable, count: int, arguments: Mapping[str, Any]) -> Any:
        """The results of `count` steps; sets how many are taken next."""
        started = time.perf_counter()
        losses = step.run(count, **arguments)
        seconds = time.perf_counter() - started
        if seconds < self.SECONDS / 2:
            self.steps = min(2 * self.steps, self.MOST)
        elif seconds > self.SECONDS:
            self.steps = max(self.steps // 2, 1)
        return losses


class Batches:
    """Batches of a part, gathered into buffers that are used again and again."""

    LARGEST = 4 << 20  # bytes of one field that are gathered together, but for a single batch

    def __init__(self, part: Part, fields: Sequence[Field], batch: int) -> None:
        self._part = part
        self._batch = min(batch, part.size)
        self._fields = fields
        self.count = -(-part.size // batch)
        sizes = [DTYPES[f.dtype].size * prod(f.dims) * self._batch for f in fields]
        self._most = max(1, int(self.LARGEST // max([1, *sizes])))
        self._buffers: dict[Field, Array] = {}

    def size(self, number: int) -> int:
        """How many examples batch `number` has: the last one is what is left."""
        return min(self._batch, self._part.size - number * self._batch)

    def together(self, first: int, wanted: int) -> int:
        """How many batches from `first` on, at most as many as wanted, have one size."""
        full = self._part.size // self._batch
        return max(1, min(wanted, self._most, full - first))

    def gather(self, order: NDArray[np.int64], first: int, count: int) -> dict[str, Array]:
        """The examples of `count` batches of one size in `order`, a batch a row; valid until the
        next call."""
        start, size = first * self._batch, self.size(first)
        chosen = order[start : start + count * size]
        arrays = {}
        for each in self._fields:
            found = self._buffer(each, len(chosen))
            source: Array = self._part.arrays[each.name]
            if source.dtype == found.dtype:
                # "clip" lets NumPy write into the buffer directly; every index is in range.
                np.take(source, chosen, axis=0, out=found, mode="clip")
            else:
                found[...] = source[chosen]
            rows = found.reshape((count, size, *each.dims))
            # Examples lie along the axis where batches have them.
            arrays[each.name] = np.ascontiguousarray(np.moveaxis(rows, 1, 1 + each.axis))
        return arrays

    def _buffer(self, each: Field, examples: int) -> Array:
        """Room for so many examples."""
        if each not in self._buffers or len(self._buffers[each]) < examples:
            self._buffers[each] = np.empty((examples, *each.dims), DTYPES[each.dtype].numpy)
        return self._buffers[each][:examples]


class Settings:
    """The arguments of a function that are set rather than fed, some by a schedule."""

    def __init__(self, phase: Phase, function: Runnable) -> None:
        names = {parameter.name for parameter in function.inputs}
        chosen = {name: value for name, value in phase.settings.items() if name in names}
        self._fixed = {k: v for k, v in chosen.items() if isinstance(v, int | float)}
        self._changing = dict(_schedules(chosen))

    def at(self, progress: float, epoch: int) -> dict[str, float]:
        """Their values at one call."""
        if not self._changing:
            return self._fixed
        values = {k: s(progress=progress, epoch=epoch) for k, s in self._changing.items()}
        return {**self._fixed, **values}

    def rows(self, progress: Sequence[float], epoch: int) -> dict[str, float | Array]:
        """Their values at several calls, as `run` takes them: an array of what changes."""
        made: dict[str, float | Array] = dict(self._fixed)
        for name, schedule in self._changing.items():
            made[name] = np.array([schedule(progress=p, epoch=epoch) for p in progress])
        return made


def _schedules(settings: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if not isinstance(value, int | float):
            yield name, value
