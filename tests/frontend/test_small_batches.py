"""Batches of few: code of their own, made when such a call comes, with the same meaning."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.compiler.llvm.target import host
from dlc.ir.types import F32
from dlc.runtime.function import Function

NET = """
import nn
model Net {
    c = nn.Conv2d(1, 4, kernel=3)
    output = nn.Dense(400, 3)
    fn scores(x: f32[N, 1, 12, 12]) -> f32[N, 3] = reshape(tanh(c(x)), N, 400) |> output
    step fit(x: f32[N, 1, 12, 12], y: i32[N]) -> f32 {
        loss = softmax_cross_entropy(scores(x), y)
        minimize loss with adam()
        return loss
    }
}
"""

WIDE = """
import nn
model Net {
    a = nn.Dense(64, 64)
    fn scores(x: f32[N, 64]) -> f32[N, 64] = tanh(a(x))
}
"""

UP = """
import nn
model Net {
    c = nn.Conv2d(1, 16, kernel=3, padding=1)
    d = nn.Conv2d(16, 16, kernel=3, padding=1)
    up = nn.ConvTranspose2d(16, 8, kernel=2, stride=2)
    e = nn.Conv2d(8, 8, kernel=3, padding=1)
    step fit(x: f32[N, 1, 32, 32], y: f32[N, 8, 64, 64]) -> f32 {
        loss = mean_squared_error(x |> c |> relu |> d |> relu |> up |> relu |> e, y)
        minimize loss with sgd(lr=0.1)
        return loss
    }
}
"""


@pytest.fixture
def net(tmp_path: Path) -> Any:
    file = tmp_path / "net.dl"
    file.write_text(NET)
    return dlc.load(file).Net(seed=0)


def function_of(net: Any, name: str) -> Function:
    """The runtime's function behind a function of the model."""
    made: Function = getattr(net, name)._function
    return made


def test_few_are_computed_by_code_of_their_own(net: Any) -> None:
    x = np.random.default_rng(0).standard_normal((40, 1, 12, 12)).astype(np.float32)
    many = net.scores(x)
    function = function_of(net, "scores")
    assert function.manifest.batch == "N"
    assert not function._for_few
    limits = [limit for limit, _ in function.manifest.few]
    for count in (limits[-1] + 1, limits[-1], 1, limits[0], 17):
        np.testing.assert_allclose(net.scores(x[:count].copy()), many[:count], rtol=1e-5, atol=1e-6)
        if count == limits[-1] + 1:
            assert not function._for_few
    codes = {function, *function._for_few.values()}
    assert len({code.artifact.object_bytes for code in codes}) == len(limits) + 1
    assert sorted(function._for_few) == sorted(likely for _, likely in function.manifest.few)


def test_some_have_code_of_their_own_where_a_batch_lies_in_the_lanes(tmp_path: Path) -> None:
    """Four pictures in sixteen lanes would be computed as sixteen; rows of a product are as many
    as there are."""
    lanes = host().lanes(F32)
    for text, dims, some in ((NET, (20, 1, 12, 12), lanes >= 16), (WIDE, (20, 64), False)):
        file = tmp_path / "net.dl"
        file.write_text(text)
        net = dlc.load(file).Net(seed=0)
        net.scores(np.zeros(dims, np.float32))
        manifest = function_of(net, "scores").manifest
        assert manifest.few == ((3, 1), (lanes // 4, 4))[:1 + some]
        assert manifest.in_lanes == some or lanes < 16


def test_code_for_four_is_taken_where_it_has_rows(tmp_path: Path) -> None:
    """Copies whose lanes lie along maps are no batch in the lanes."""
    file = tmp_path / "net.dl"
    file.write_text(UP)
    net = dlc.load(file).Net(seed=0)
    net.fit(np.zeros((4, 1, 32, 32), np.float32), np.zeros((4, 8, 64, 64), np.float32))
    function = function_of(net, "fit")
    assert function.manifest.in_lanes
    if len(function.manifest.few) > 1:
        assert not function._for_few[4].manifest.in_lanes


def test_both_codes_share_the_variables(net: Any) -> None:
    """A step for one sees what a step for many has left, and the other way round."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20, 1, 12, 12)).astype(np.float32)
    y = rng.integers(0, 3, 20).astype(np.int32)
    weights = [np.array(net.output.w)]
    for count in (20, 1, 20, 2):
        before = net.fit(x[:count].copy(), y[:count].copy())
        weights.append(np.array(net.output.w))
        assert np.isfinite(before)
    assert all(np.any(a != b) for a, b in pairwise(weights))
    losses = [net.fit(x[:1].copy(), y[:1].copy()) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert function_of(net, "fit")._for_few
