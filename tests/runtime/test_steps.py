"""Many calls in one: rows, cycles, failures and signals, by compiled code and by Python."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dlc.runtime import ArgumentError, CheckFailed, Function, Variables, pool, steps
from dlc.runtime.steps import Feed, run_steps
from tests.runtime import programs


@pytest.fixture(params=["compiled", "python"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All holds where there is no compiled loop, too."""
    if request.param == "python":
        monkeypatch.setattr(pool, "run_steps", lambda block: False)


def run(function: Function, count: int, each: Mapping[str, Any], **fixed: Any) -> Any:
    return run_steps(function, count, Feed(fixed, each))


def test_each_step_gets_its_row() -> None:
    double = Function(programs.double())
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(run(double, 4, {"x": x}), 2 * x)
    scales = np.array([1, 2, 3, 4], np.float32)
    np.testing.assert_array_equal(run(double, 4, {"x": x, "scale": scales}), x * scales[:, None])
    np.testing.assert_array_equal(
        run(double, 4, {"scale": scales.tolist()}, x=x[0]), x[0] * scales[:, None])
    np.testing.assert_array_equal(run(double, 4, {"x": x.astype(">f4")[:, ::-1]}), 2 * x[:, ::-1])
    assert all(not b.frames for b in double._bindings.values()), "frames of calls stay as they are"


@pytest.mark.parametrize("start", [0, 2])
def test_cycles_begin_again(start: int) -> None:
    double = Function(programs.double())
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    scales = np.arange(8, dtype=np.float32)
    found = run_steps(double, 8, Feed({}, {"scale": scales}, {"x": x}, start))
    expected = [x[(start + i) % 3] * scales[i] for i in range(8)]
    np.testing.assert_array_equal(found, expected)


def test_variables_and_the_number_of_the_call_go_on() -> None:
    variables = Variables()
    count = Function(programs.count(), variables)
    assert count(9) == (0, 0.0)
    old, calls = run(count, 5, {}, limit=9)
    assert (old.tolist(), calls.tolist()) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert (old.dtype, calls.dtype) == (np.int64, np.float32)
    assert variables.random.tolist() == [0, 6]
    assert count(9) == (6, 6.0)


def test_a_step_that_fails_ends_the_run_and_those_before_it_count() -> None:
    variables = Variables()
    count = Function(programs.count(), variables)
    with pytest.raises(CheckFailed, match="steps stays below limit, not 3") as caught:
        run(count, 5, {"limit": np.array([9, 9, 9, 3, 9])})
    assert caught.value.__notes__ == ["This was step 4 of 5; those before it count."]
    assert variables.get("steps") == 3
    assert variables.random.tolist() == [0, 3]


def test_what_lies_in_a_variable_is_copied() -> None:
    variables = Variables()
    learn = Function(programs.add_to_weights(), variables)
    variables.set("w", np.array([1, 2, 3, 4], np.float32))
    assert run(learn, 2, {}, x=variables.storage("w")) is None
    assert variables.get("w").tolist() == [8, 6, 4, 2]  # the x of both steps is what it was


def test_a_slice_ends_in_time_and_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SLICE_NS", 0)
    entered: list[int] = []
    enter = steps._Run._enter
    monkeypatch.setattr(steps._Run, "_enter", lambda *a: (entered.append(1), enter(*a))[1])
    count = Function(programs.count(), Variables())
    assert run(count, 20, {}, limit=99)[0].tolist() == list(range(20))
    assert len(entered) == 20


def test_ctrl_c_ends_a_run_between_two_steps() -> None:
    variables = Variables()
    count = Function(programs.count(), variables)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(count, 20_000_000, {}, limit=10**18)  # some seconds
    timer.join()
    assert variables.get("steps") == variables.random[1] > 0
    assert count(10**18)[0] == variables.random[1] - 1


def test_what_callbacks_raise_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = f"""
define void @dlc_entry(ptr %ctx) {{
{programs.context_loads("pointers")}{programs.pointer_loads("n")}
  %printed = alloca i64
  store i64 1, ptr %printed
  %print.at = getelementptr i8, ptr %ctx, i64 72
  %print = load ptr, ptr %print.at
  %answer = call i64 %print(ptr %printed)
  ret void
}}
"""
    lines: list[str] = []

    def write(text: str) -> None:
        lines.append(text)
        if len(lines) == 3:
            raise BrokenPipeError

    monkeypatch.setattr("builtins.print", write)
    told = Function(programs.make(
        "told", entry, inputs=[programs.tensor("n", "i64")],
        prints=[{"parts": ["here"], "dtypes": [], "ranks": []}]))
    with pytest.raises(BrokenPipeError):
        run(told, 10, {}, n=1)
    assert lines == ["here"] * 3


def test_rows_that_do_not_fit() -> None:
    double = Function(programs.double())
    x = np.zeros((4, 3), np.float32)
    for each, message in (
        ({"x": x[:3]}, "double: `x` has 3 rows, but there are 4 steps"),
        ({"x": np.float32(1)}, "double: `x` has no rows, but there are 4 steps"),
        ({"x": x[:, :, None]}, r"`x` is f32\[4, 3, 1\], but the function takes f32\[N\]"),
        ({"x": x.astype(np.float64)}, r"`x` is f64\[4, 3\], but"),
        ({"x": x, "scale": x}, r"`scale` is f32\[3\], but the function takes f32"),
        ({"x": x, "scale": ["1"] * 4}, "`scale` is '1'"),
        ({"x": x, "y": x}, "no argument `y`"),
        ({"scale": np.zeros(4)}, "missing argument `x`"),
    ):
        with pytest.raises(ArgumentError, match=message):
            run(double, 4, each)
    assert ctypes.sizeof(steps._Block) == 80
