"""Where programs run: models and functions that are made in Python, and `on "cuda"` in a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from tests.cuda.stand_in import asked, needs_stand_in

pytestmark = [needs_stand_in, pytest.mark.usefixtures("on_stand_in")]
N = dlc.symbol("N")


class Scaled(dlc.Model):
    def __init__(self) -> None:
        self.w = dlc.param(dlc.f32[3], dlc.normal())

    @dlc.fn
    def forward(self, x: dlc.f32[N, 3]) -> dlc.f32[N, 3]:
        return x * self.w


class Net(dlc.Model):
    def __init__(self) -> None:
        self.scaled = Scaled()
        self.dense = dlc.nn.Dense(3, 5)

    @dlc.fn
    def scores(self, x: dlc.f32[N, 3]) -> dlc.f32[N, 5]:
        return dlc.tanh(self.dense(self.scaled(x)))

    @dlc.step
    def fit(self, x: dlc.f32[N, 3], label: dlc.u8[N]) -> dlc.f32:
        loss = dlc.softmax_cross_entropy(self.scores(x), label)
        dlc.minimize(loss, with_=dlc.adam(lr=0.1))
        return loss


@dlc.fn
def squares(x: dlc.f32[N]) -> dlc.f32[N]:
    return x * x


def test_a_model_of_python_trains_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(8, 3)).astype(np.float32), rng.integers(0, 5, 8, np.uint8)
    here, there = Net(seed=2), Net(seed=2, device="cuda")
    launched = asked().count("K")
    np.testing.assert_allclose(there.scores(x), here.scores(x), 1e-5, 1e-6)
    assert asked().count("K") > launched
    expected = here.fit.run(6, batch=4, x=x, label=label)
    np.testing.assert_allclose(there.fit.run(6, batch=4, x=x, label=label), expected, 1e-4)
    np.testing.assert_allclose(there.scaled.w, here.scaled.w, 1e-3, 1e-5)
    there.save(tmp_path / "net.safetensors")
    here.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(there.scaled.w, here.scaled.w)


def test_a_function_of_python_on_a_device() -> None:
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(squares.on("cuda")(dlc.on_gpu(x)), squares(x))
    assert squares.on("cuda") is squares.on("cuda")
    with pytest.raises(dlc.ProgramError, match="device is one of cpu, cuda, not 'tpu'"):
        squares.on("tpu")
    with pytest.raises(dlc.ProgramError, match="device is one of cpu, cuda, not 'tpu'"):
        Net(device="tpu")


def test_blocks_say_where_they_are(tmp_path: Path) -> None:
    file = tmp_path / "f.dl"

    def doubled(name: str, device: str) -> Any:
        block = f'on "{name}" {{ y = x + x }}'
        file.write_text(f"fn f(x: f32[N]) -> f32[N] {{\n{block}\nreturn y\n}}\n")
        return dlc.load(file, device=device).f

    x = np.arange(4, dtype=np.float32)
    for name in ("cuda", "cuda:0"):
        np.testing.assert_array_equal(doubled(name, "cuda")(x), 2 * x)
    for name, device in (("cpu", "cuda"), ("cuda:1", "cuda"), ("cuda", "cpu")):
        with pytest.raises(dlc.ProgramError, match=f'the device "{name}" is not there'):
            doubled(name, device)
