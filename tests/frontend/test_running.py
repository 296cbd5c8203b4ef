"""`fit.run`: the bits of as many calls, whatever the batches; arguments that can't be run over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 255, (10, 5)).astype(np.uint8)
N = dlc.symbol("N")
X = np.zeros(5, np.float32)
LABELS = RNG.integers(0, 3, 10).astype(np.int32)
TEXT = """import nn
model Net {
    dense = nn.Dense(5, 3)
    state seen: i32 = 0
    step fit(image: u8[N, 5], label: i32[N], lr: f32 = 0.1, rate: f32 = 0.3) -> f32 {
        loss = softmax_cross_entropy(dense(dropout(f32(image) / 255.0, rate)), label)
        minimize loss with adam(lr=lr)
        seen := seen + 1
        return loss
    }
    step turned(text: i32[T, N], weights: f32[T]) -> (f32, i32) {
        seen := seen + sum(text)
        return sum(f32(text) * reshape(weights, T, 1)), seen
    }
    fn scores(image: u8[N, 5]) -> f32[N, 3] = dense(f32(image))
    fn twice(image: u8[2 * M, 5], x: f32[M]) -> f32 = sum(f32(image)) + sum(x)
    fn checked(x: f32[N]) -> f32 {
        assert min(x) > 0.0, "x is positive"
        return sum(x)
    }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dlc.Program:
    path: Path = tmp_path_factory.mktemp("running") / "net.dl"
    path.write_text(TEXT)
    return dlc.load(path)


def calls(net: Any, count: int, batch: int, **settings: Any) -> list[Any]:
    """Single calls over consecutive batches, the last of a pass with what is left."""
    starts = list(range(0, len(IMAGES), batch))
    losses = []
    for at in range(count):
        part = slice(starts[at % len(starts)], starts[at % len(starts)] + batch)
        given = {k: v[at] if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        losses.append(net.fit(image=IMAGES[part], label=LABELS[part], **given))
    return losses


def state(net: Any) -> list[bytes]:
    return [net.variables[name].tobytes() for name in net.variables] + [
        net.storage().random.tobytes()]


@pytest.mark.parametrize("batch", [1, 5, 3, 4, 10, 99])
@pytest.mark.parametrize("count", [1, 3, 11])
def test_the_bits_are_those_of_single_calls(program: dlc.Program, batch: int, count: int) -> None:
    one, other = program.Net(seed=1), program.Net(seed=1)
    rates = np.linspace(0.01, 0.2, count, dtype=np.float32)
    losses = one.fit.run(count, batch=batch, image=IMAGES, label=LABELS, lr=rates, rate=0.5)
    expected = calls(other, count, batch, lr=rates, rate=0.5)
    assert losses.tobytes() == np.array(expected, np.float32).tobytes()
    assert state(one) == state(other)
    more = one.fit.run(2, batch=batch, image=IMAGES, label=LABELS)
    assert more.tolist() == calls(other, 2, batch)


def test_rows_for_each_step(program: dlc.Program) -> None:
    one, other = program.Net(seed=1), program.Net(seed=1)
    images, labels = IMAGES.reshape(5, 2, 5), LABELS.reshape(5, 2)
    losses = one.fit.run(5, image=images, label=labels)
    assert losses.tolist() == [other.fit(*pair) for pair in zip(images, labels, strict=True)]
    same = one.fit.run(3, image=IMAGES, label=LABELS)
    assert same.tolist() == [other.fit(IMAGES, LABELS) for _ in range(3)]
    assert state(one) == state(other)


def test_any_dim_may_count_the_examples(program: dlc.Program) -> None:
    one, other = program.Net(), program.Net()
    text = RNG.integers(0, 9, (4, 6)).astype(np.int32)
    weights = np.arange(4, dtype=np.float32)
    sums, seen = one.turned.run(4, batch={"N": 4}, text=text, weights=weights)
    for at in range(4):
        part = text[:, :4] if at % 2 == 0 else text[:, 4:]
        assert (sums[at], seen[at]) == other.turned(part, weights)
    sums, seen = one.turned.run(3, batch=2, text=text, weights=weights)  # T stands in front
    for at in range(3):
        part = slice(2 * (at % 2), 2 * (at % 2) + 2)
        assert (sums[at], seen[at]) == other.turned(text[part], weights[part])


def test_results_with_dims(program: dlc.Program) -> None:
    net = program.Net()
    found = net.scores.run(3, batch=5, image=IMAGES)
    assert found.shape == (3, 5, 3)
    np.testing.assert_array_equal(found[2], net.scores(IMAGES[:5]))
    with pytest.raises(dlc.RunError, match="the last of 10 examples make a batch smaller than 4"):
        net.scores.run(3, batch=4, image=IMAGES)


def test_a_model_made_in_python(program: dlc.Program) -> None:
    class Line(dlc.Model):
        def __init__(self) -> None:
            self.w = dlc.param(dlc.f32[2], dlc.zeros())

        @dlc.step
        def fit(self, x: dlc.f32[N, 2], y: dlc.f32[N]) -> dlc.f32:
            loss = dlc.mean((x @ self.w - y) ** 2)
            dlc.minimize(loss, with_=dlc.sgd(lr=0.3))
            return loss

    x = RNG.standard_normal((40, 2)).astype(np.float32)
    y = x @ np.array([2, -1], np.float32)
    line = Line()
    losses = line.fit.run(100, batch=16, x=x, y=y)
    assert losses.shape == (100,)
    assert losses[-1] < 1e-6 < losses[0]
    np.testing.assert_allclose(line.w, [2, -1], atol=1e-3)


def test_a_failed_check_says_its_step(program: dlc.Program) -> None:
    x = np.array([1, 2, 3, -4, 5], np.float32)
    with pytest.raises(dlc.RunError, match="x is positive") as caught:
        program.Net().checked.run(5, batch=1, x=x)
    assert "step 4 of 5" in caught.value.__notes__[0]


@pytest.mark.parametrize(("steps", "arguments", "message"), [
    (0, {}, "fit: runs a number of steps, not 0"),
    (2.0, {}, "fit: runs a number of steps, not 2.0"),
    (2, {"batch": 0}, "fit: a batch has a number of examples, not 0"),
    (2, {"batch": {"N": 1, "M": 2}}, "`batch` names one symbol"),
    (2, {"batch": {"K": 4}}, "fit: no argument has examples along K"),
    (2, {"label": LABELS[:9]}, "fit: the number of examples differs: 10 in `image`, 9 in `label`"),
    (2, {"label": LABELS[:, None]}, r"`label` is i32\[10, 1\], but the function takes i32\[N\]"),
    (2, {"label": LABELS.astype(np.int64)}, r"`label` is i64\["),
    (2, {"lr": np.zeros(3, np.float32)}, "fit: `lr` has 3 rows, but there are 2 steps"),
    (2, {"wrong": 1}, "there is no argument `wrong`"),
    (2, {"image": IMAGES[:0], "label": LABELS[:0]}, "no argument has examples along N"),
])
def test_what_can_not_be_run(
    program: dlc.Program, steps: Any, arguments: dict[str, Any], message: str
) -> None:
    given = {"batch": 5, "image": IMAGES, "label": LABELS, **arguments}
    with pytest.raises(dlc.RunError, match=message):
        program.Net().fit.run(steps, **given)


def test_dims_made_of_the_symbol_can_not_be_cut(program: dlc.Program) -> None:
    with pytest.raises(dlc.RunError, match="twice: no symbol stands in front"):
        program.Net().twice.run(2, batch=2, image=IMAGES, x=X)
    with pytest.raises(dlc.RunError, match="twice: a dim is made of M"):
        program.Net().twice.run(2, batch={"M": 2}, image=IMAGES, x=X)


def test_errors_that_point_at_no_data(program: dlc.Program) -> None:
    @dlc.fn
    def traced(image: dlc.u8[N, 5]) -> dlc.f32:
        return dlc.sum(program.Net().scores.run(1, image=image))

    with pytest.raises(dlc.ProgramError, match="can't be traced"):
        traced(IMAGES)
