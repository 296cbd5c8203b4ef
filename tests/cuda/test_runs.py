"""Many steps in one call on a GPU, over the stand-in driver, whose streams do all as late as they
may: numbers are those of as many calls, and the host does nothing between steps."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.runtime.cuda import repeat
from dlc.runtime.cuda.device import device
from dlc.runtime.errors import CheckFailed
from tests.cuda.stand_in import asked, needs_stand_in, number

pytestmark = [needs_stand_in, pytest.mark.usefixtures("on_stand_in")]
PROGRAM = """
model Net {
    param w: f32[4, 3] = zeros(4, 3)
    state steps: i32 = 0
    step fit(x: f32[N, 4], y: u8[N], lr: f32 = 0.1) -> (f32, f32[3]) {
        loss = softmax_cross_entropy(dropout(x, 0.25) @ w, y)
        steps += 1
        minimize loss with sgd(lr=lr)
        return loss, sum(w, axis=0)
    }
    step picked(x: f32[M, 4], at: i32[N]) -> f32 {
        steps += 1
        loss = mean(x[at] @ w)
        minimize loss with sgd(lr=0.5)
        return loss
    }
    step halved(x: f32[N, 4]) -> f32 {
        while s > 1.0 carry s = sum(x * x) {
            s = s / 2.0
        }
        loss = mean(x @ w + stop_gradient(s) * w[0, 0])
        minimize loss with sgd(lr=0.5)
        return loss
    }
}
"""


@pytest.fixture
def net(tmp_path: Path, on_stand_in: None) -> Any:
    (tmp_path / "f.dl").write_text(PROGRAM)
    return lambda: dlc.load(tmp_path / "f.dl", device="cuda").Net(seed=1)


def data(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 4)).astype(np.float32), rng.integers(0, 3, count, np.uint8)


def stepped(net: Any, x: Any, y: Any, steps: int, batch: int, rates: Any) -> list[Any]:
    """The same by calls."""
    starts = range(0, len(x), batch)
    found = []
    for step in range(steps):
        start = starts[step % len(starts)]
        found.append(net.fit(x[start : start + batch], y[start : start + batch], rates[step]))
    return [np.stack(each) for each in zip(*found, strict=True)]


@pytest.mark.parametrize("count", [12, 14])
@pytest.mark.parametrize("place", ["host", "gpu", "parts"])
def test_a_run_has_the_bits_of_calls(
    net: Any, count: int, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data(count)
    rates = np.linspace(0.1, 0.4, 11, dtype=np.float32)
    here, there = net(), net()
    expected = stepped(here, x, y, 11, 4, rates)
    if place == "gpu":
        x, y = dlc.on_gpu(x), dlc.on_gpu(y)
    if place == "parts":
        monkeypatch.setattr(repeat, "placed_rows", lambda function, rows: dict(rows))
        monkeypatch.setattr("dlc.runtime.cuda.function.placed_rows", lambda f, rows: rows)
        monkeypatch.setattr(repeat, "PART_BYTES", 150)
    found = there.fit.run(11, batch=4, x=x, y=y, lr=rates)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(here.w, there.w)
    assert there.steps == 11
    after = [float(each.fit(*data(4))[0]) for each in (here, there)]  # the same draws come next
    assert after[0] == after[1]


def test_a_step_is_one_launch_of_a_graph(net: Any) -> None:
    """Steps are launched one after another, with nothing between."""
    x, y = data(40)
    made = net()
    made.fit.run(4, batch=4, x=x, y=y)
    begun = len(asked())
    made.fit.run(10, batch=4, x=x, y=y)
    assert "G" * 10 in asked()[begun:]
    assert asked()[begun:].count("G") == 10
    begun = len(asked())
    made.fit.run(1000, batch=4, x=x, y=y)
    told = asked()[begun:]
    assert told.count("G") == 1000
    assert len(told) - 1000 < 1000  # passes over the data have a note each


def test_data_that_have_no_room_come_in_parts(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the steps of the part before run: they are on the stream before it is copied."""
    x, y = data(4000)
    here, there = net(), net()
    expected = stepped(here, x, y, 10, 400, np.full(10, 0.1, np.float32))
    there.fit(x[:400], y[:400])  # all is there but the data
    there = net()
    monkeypatch.setattr(repeat, "PART_BYTES", 2 * 400 * 17)
    gc.collect()
    with device() as gpu:
        gpu._drop_spare(0)  # what other tests left, where all data would have room
    number("memory").value = number("used").value + 2 * x.nbytes - 1
    begun = len(asked())
    found = there.fit.run(10, batch=400, x=x, y=y)
    told = asked()[begun:]
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(here.w, there.w)
    assert told.count("GG") == 5
    _, between, *_ = told.split("GG")
    assert between.count("C") == 3  # two arrays and a note
    assert "S" not in between  # nobody waits for the steps before


def test_a_check_ends_a_run(net: Any) -> None:
    x, _ = data(8)
    at = np.zeros((6, 2), np.int32)
    at[3, 1] = 8
    here, there = net(), net()
    for step in range(3):
        here.picked(x, at[step])
    with pytest.raises(CheckFailed, match="8") as caught:
        there.picked.run(6, x=x, at=at)
    assert caught.value.__notes__ == ["This was step 4 of 6; those before it count."]
    np.testing.assert_array_equal(here.w, there.w)
    assert there.steps == 3
    there.picked.run(3, x=x, at=at[:3])
    assert there.steps == 6


def test_what_the_host_decides_is_decided_in_each_step(net: Any) -> None:
    x, _ = data(12)
    here, there = net(), net()
    expected = [here.halved(x[start : start + 4]) for start in (0, 4, 8, 0, 4)]
    np.testing.assert_array_equal(there.halved.run(5, batch=4, x=x), expected)
    np.testing.assert_array_equal(here.w, there.w)


def test_a_step_with_checks_is_one_graph(net: Any) -> None:
    x, _ = data(8)
    at = np.array([1, 7], np.int32)
    made = net()
    for _ in range(3):
        made.picked(x, at)
    begun = len(asked())
    made.picked(x, at)
    assert asked()[begun:] == "GS"
