"""The training loop on a stand-in for a model: order, batches, settings, stopping and going on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.frontend.errors import UserError
from dlc.frontend.inputs import Input
from dlc.frontend.training import train
from dlc.frontend.training.data import DATA_SETS, DataSet, Field, Kind, Part
from dlc.frontend.training.train import Batches, Interrupted, Pace, Position, Run
from dlc.frontend.training.train_plan import Flags, Phase, plan

EXAMPLES = 50
X = Input("x", "f32", ("N",), None, "f32[N]")
LR = Input("lr", "f32", (), 0.5, "f32")


class Function:
    """A Python function in the place of a compiled one."""

    def __init__(self, inputs: tuple[Input, ...], body: Callable[..., float]) -> None:
        self.inputs = inputs
        self._body = body

    def __call__(self, **arguments: Any) -> float:
        return self._body(**arguments)

    def run(self, steps: int, /, **arguments: Any) -> np.ndarray:
        """Single calls, with a row of every array each."""
        return np.array([
            self(**{k: v[at] if isinstance(v, np.ndarray) else v for k, v in arguments.items()})
            for at in range(steps)])


class StandIn:
    """One weight, pulled to each batch's mean in turn, so that it depends on all that happened."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.seen: list[list[float]] = []
        self.rates: list[float] = []
        self.saved: dict[str, Any] = {}
        self.stop_after = -1

    def function(self, name: str) -> Function:
        return {"fit": Function((X, LR), self._fit), "error": Function((X,), self._error)}[name]

    def _fit(self, x: np.ndarray, lr: float = 0.5) -> float:
        self.seen.append(x.tolist())
        self.rates.append(lr)
        loss = abs(float(x.mean()) - self.weight)
        self.weight += lr * (float(x.mean()) - self.weight)
        if len(self.seen) == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    def _error(self, x: np.ndarray) -> float:
        return float(x.mean())

    def save(self, path: str | Path, *, progress: Mapping[str, object] | None = None) -> None:
        self.saved = json.loads(json.dumps({"weight": self.weight, "progress": progress}))


class Silent:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, object]] = []

    def begin_epoch(self, *_: object) -> None: ...
    def stepped(self, *_: object) -> None: ...
    def end_epoch(self, record: Mapping[str, object]) -> None:
        self.records.append(record)


def numbers(count: int) -> Part:
    return Part({"x": np.arange(count, dtype=np.float32)})


FIELDS = (Field("x", "f32", ()),)
DATA = {("numbers", FIELDS): DataSet("numbers", numbers(EXAMPLES), numbers(7))}
PHASE = Phase("numbers", "fit", "error", 8, 3, fields=FIELDS)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind("numbers", lambda wanted, length: FIELDS,
                lambda folder, fields: DATA["numbers", fields], "nothing", "numbers")
    monkeypatch.setattr("dlc.frontend.training.data.DATA_SETS", {**DATA_SETS, "numbers": kind})


def run(model: StandIn, *phases: Phase, position: Position | None = None, seed: int = 0) -> Run:
    started = position or Position()
    return Run(model, phases, DATA, seed, Path("unused"), Silent(), position=started)


def test_rule_47_every_example_once_an_epoch_in_a_new_order() -> None:
    model = StandIn()
    run(model, PHASE).run()
    assert [len(batch) for batch in model.seen] == [8, 8, 8, 8, 8, 8, 2] * 3
    epochs = [[x for batch in model.seen[i : i + 7] for x in batch] for i in (0, 7, 14)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(EXAMPLES))
        assert epoch != sorted(epoch)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_along_the_axis_of_the_field() -> None:
    part = Part({"text": np.arange(35, dtype=np.uint8).reshape(7, 5)})
    batches = Batches(part, [Field("text", "i32", (5,), axis=1)], 3)
    for number in range(3):
        got = batches.gather(np.arange(7)[::-1], number, 1)["text"][0]
        assert got.dtype == np.int32
        assert got.flags.c_contiguous
        chosen = np.arange(7)[::-1][3 * number : 3 * number + 3]
        np.testing.assert_array_equal(got, part.arrays["text"][chosen].T)


def test_batches_of_one_size_are_gathered_together() -> None:
    part = Part({"x": np.arange(23, dtype=np.float32), "text": np.arange(46).reshape(23, 2)})
    fields = [Field("x", "f32", ()), Field("text", "i32", (2,), axis=1)]
    batches, order = Batches(part, fields, 4), np.random.default_rng(0).permutation(23)
    assert [batches.together(first, 4) for first in range(6)] == [4, 4, 3, 2, 1, 1]
    for first, count in ((0, 3), (3, 2), (5, 1)):
        together = {k: v.copy() for k, v in batches.gather(order, first, count).items()}
        assert together["x"].shape == (count, batches.size(first))
        for at in range(count):
            alone = batches.gather(order, first + at, 1)
            for name, rows in together.items():
                np.testing.assert_array_equal(rows[at], alone[name][0])
    huge = Batches(part, [Field("x", "f32", (Batches.LARGEST // 32,))], 4)
    assert huge.together(0, 64) == 2


def test_the_pace_follows_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(train.time, "perf_counter", lambda: clock[0])
    seconds = [0.001] * 7 + [0.2, 0.2, 0.03]

    def wait(x: np.ndarray) -> float:
        clock[0] += float(x)
        return 0.0

    pace, taken = Pace(), []
    for each in seconds:
        taken.append(pace.steps)
        pace.take(Function((), wait), 1, {"x": np.array([each])})
    assert taken == [1, 2, 4, 8, 16, 32, 64, 64, 32, 16]
    assert pace.steps == 16


def test_the_order_is_the_seeds() -> None:
    models = [StandIn(), StandIn(), StandIn()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        run(model, PHASE, seed=seed).run()
    assert models[0].seen == models[1].seen != models[2].seen


def test_rule_47_the_test_is_a_mean_weighted_by_batch_size() -> None:
    history = run(StandIn(), Phase("numbers", "fit", "error", 4, 1, fields=FIELDS)).run()
    assert history[0]["error"] == 3.0  # of 0..6, whose batches 0..3 and 4..6 have means 1.5 and 5


def test_the_loss_is_weighted_too() -> None:
    phase = Phase("numbers", "fit", None, 8, 1, {"lr": 0.0}, fields=FIELDS)
    (record,) = run(StandIn(), phase).run()
    assert record["loss"] == pytest.approx(np.arange(EXAMPLES).mean())
    assert set(record) == {"epoch", "loss"}


def test_rule_46_settings_and_schedules() -> None:
    model = StandIn()

    def schedule(*, progress: float, epoch: int) -> float:
        return 1 - progress if epoch else 100.0

    run(model, Phase("numbers", "fit", None, 25, 2, {"lr": schedule}, fields=FIELDS)).run()
    assert model.rates == [100.0, 100.0, 0.5, 0.25]


@pytest.mark.parametrize("after", [1, 3, 7, 8, 20, 21])
def test_stopped_and_resumed_is_as_if_never_stopped(after: int) -> None:
    phases = (PHASE, Phase("numbers", "fit", "error", 5, 2, name="second", fields=FIELDS))
    whole = StandIn()
    expected = run(whole, *phases).run()
    model = StandIn()
    model.stop_after = after
    with pytest.raises(Interrupted) as caught:
        run(model, *phases).run()
    assert caught.value.number == signal.SIGINT
    position = Position.from_json(model.saved["progress"]["position"])
    resumed = StandIn()
    resumed.weight = model.saved["weight"]
    assert run(resumed, *phases, position=position).run() == expected
    assert model.seen + resumed.seen == whole.seen
    assert resumed.weight == whole.weight
    assert resumed.saved == whole.saved


def test_the_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    run(StandIn(), PHASE).run()
    assert signal.getsignal(signal.SIGINT) is before


SIGNATURES = {"fit": (X, LR), "error": (X,)}


def test_flags_over_the_block() -> None:
    (phase,) = plan([PHASE], Flags(1, 16, settings={"lr": 0.25}), SIGNATURES)
    assert (phase.epochs, phase.batch, phase.settings) == (1, 16, {"lr": 0.25})
    assert plan([PHASE], Flags(), SIGNATURES) == (PHASE,)


@pytest.mark.parametrize(
    ("phase", "flags", "message"),
    [
        (PHASE, Flags(settings={"lt": 1}), r"--set lt(.|\n)*did you mean `lr`"),
        (PHASE, Flags(settings={"x": 1}), r"`x` can't be set(.|\n)*x: f32\[N\]"),
        (PHASE, Flags(batch=0), "batch is 0, but must be at least 1"),
        (PHASE, Flags(epochs=-1), "epochs is -1"),
        (Phase("numbers", "fitt", None, 8, 1), Flags(), r"no function `fitt`(.|\n)*`fit`"),
        (Phase("mnist", "fit", None, 8, 1), Flags(), "the data has no `x`"),
        (Phase("mnits", "fit", None, 8, 1), Flags(), 'no data set "mnits"'),
        (Phase("numbers", "fit", None, 8, 1, {"epoch": 1}), Flags(), r"`epochs`"),
    ],
)
def test_refuses_what_does_not_fit(phase: Phase, flags: Flags, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan([phase], flags, SIGNATURES)


@pytest.mark.parametrize(
    "unfit",
    [
        Input("x", "f64", ("N",), None, "f64[N]"),
        Input("x", "f32", ("N", 1), None, "f32[N, 1]"),
        Input("x", "f32", (), None, "f32"),
        Input("x", "f32", (8,), None, "f32[8]"),
    ],
)
def test_refuses_a_field_of_another_type(unfit: Input) -> None:
    with pytest.raises(UserError) as caught:
        plan([PHASE], Flags(), {"fit": (unfit,), "error": (X,)})
    assert f"fit takes x: {unfit.text}" in str(caught.value)
    assert "the data has x: f32[N]" in str(caught.value)


def test_a_finished_run_can_be_given_more_epochs() -> None:
    whole, model = StandIn(), StandIn()
    expected = run(whole, Phase("numbers", "fit", "error", 8, 4, fields=FIELDS)).run()
    run(model, PHASE).run()
    position = Position.from_json(model.saved["progress"]["position"])
    longer = run(model, Phase("numbers", "fit", "error", 8, 4, fields=FIELDS), position=position)
    assert longer.run() == expected
    assert model.weight == whole.weight
