"""lstm.dl: the cell's equations turn by turn, gradients through time, clipping, and writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.compiler import pipeline
from tests.examples.reference import (
    Array,
    Weights,
    adam_gradients,
    build,
    check_gradients,
    cross_entropy,
    sigmoid,
    weights,
)

VOCABULARY, UNITS = 11, 8
TEXT = np.random.default_rng(5).integers(0, VOCABULARY, (7, 3)).astype(np.int32)


def lstm(w: Weights, xs: Array) -> Array:
    """Hidden values [T, N, units], after Hochreiter and Schmidhuber (1997), with forget gates."""
    h = c = np.zeros((xs.shape[1], UNITS))
    out = []
    for x in xs:
        i, f, o, g = np.split(x @ w["lstm.wx"] + h @ w["lstm.wh"] + w["lstm.b"], 4, axis=-1)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out).reshape(len(xs), xs.shape[1], UNITS)


def scores(w: Weights, text: Array) -> Array:
    hidden = lstm(w, w["embedding.table"][text.astype(int)])
    return np.asarray(hidden @ w["output.w"] + w["output.b"])


def loss(w: Weights) -> float:
    return cross_entropy(scores(w, TEXT[:-1]), TEXT[1:])


@pytest.mark.parametrize("turns", [1, 2, 7])
def test_scores(turns: int) -> None:
    model = build("lstm.dl", "CharModel", vocabulary=VOCABULARY, units=UNITS)
    np.testing.assert_allclose(model.scores(TEXT[:turns]), scores(weights(model), TEXT[:turns]),
                               rtol=1e-4, atol=1e-5)


def test_gradients_through_time_and_their_clipping() -> None:
    model = build("lstm.dl", "CharModel", vocabulary=VOCABULARY, units=UNITS)
    w = {name: value for name, value in weights(model).items() if not name.startswith("fit.")}
    assert float(model.bits_per_character(TEXT)) == pytest.approx(loss(w) / np.log(2), rel=1e-5)
    assert float(model.fit(TEXT)) == pytest.approx(loss(w) / np.log(2), rel=1e-5)
    found = adam_gradients(model, "fit.adam")
    assert found.keys() == w.keys()
    norm = np.sqrt(sum((g**2).sum() for g in found.values()))
    assert norm <= 1 + 1e-5
    way = {name: g / norm for name, g in found.items()}
    # Clipped or not, the gradients point uphill, as steeply as the loss is steep.
    ahead = {name: w[name] + 1e-5 * way[name] for name in w}
    behind = {name: w[name] - 1e-5 * way[name] for name in w}
    steep = (loss(ahead) - loss(behind)) / 2e-5
    assert min(steep, 1.0) == pytest.approx(norm, rel=1e-3)
    check_gradients(loss, w, {name: g * max(steep, 1.0) for name, g in found.items()})


def test_recurrent_weights_are_orthonormal_at_first() -> None:
    wh = weights(build("lstm.dl", "CharModel", vocabulary=VOCABULARY, units=UNITS))["lstm.wh"]
    np.testing.assert_allclose(wh @ wh.T, np.eye(UNITS), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_writes_what_is_likeliest(count: int) -> None:
    """With scores far apart, a draw is the largest."""
    model = build("lstm.dl", "CharModel", vocabulary=VOCABULARY, units=UNITS)
    model.output.w = 1e4 * np.random.default_rng(6).standard_normal((UNITS, VOCABULARY)).astype("f")
    w = weights(model)
    last = TEXT[0]
    sequence = [last]
    for _ in range(count):
        sequence.append(scores(w, np.array(sequence))[-1].argmax(-1).astype(np.int32))
    written = model.write(last, count=count)
    assert written.shape == (count, 3)
    np.testing.assert_array_equal(written, np.array(sequence[1:]).reshape(count, 3))


def test_all_sizes_and_lengths_run_one_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Time steps too: three objects are made, for the initial values, for scores and for fit."""
    monkeypatch.setenv("DLC_CACHE", str(tmp_path))
    made, begin_code = [], pipeline.begin_code
    monkeypatch.setattr(
        pipeline, "begin_code", lambda *a: (made.append(1), begin_code(*a))[1])
    model = build("lstm.dl", "CharModel", vocabulary=VOCABULARY, units=UNITS)
    rng = np.random.default_rng(6)
    for turns, size in ((2, 1), (7, 3), (33, 17), (3, 65)):
        text = rng.integers(0, VOCABULARY, (turns, size)).astype(np.int32)
        expected = scores(weights(model), text)
        np.testing.assert_allclose(model.scores(text), expected, rtol=1e-3, atol=1e-4)
        before = cross_entropy(expected[:-1], text[1:]) / np.log(2)
        assert float(model.fit(text)) == pytest.approx(before, rel=1e-4)
    assert len(made) == 3
    with pytest.raises(dlc.RunError, match=r"T - 1 >= 1(.|\n)*T is 1"):
        model.fit(text[:1])


def test_learns() -> None:
    """A line said over and over is known by heart after a hundred steps."""
    model = build("lstm.dl", "CharModel", vocabulary=VOCABULARY, units=UNITS)
    text = np.tile(np.array([1, 5, 2, 7, 3, 9], np.int32), 4)[:, None].repeat(4, axis=1)
    bits = [float(model.fit(text)) for _ in range(300)]
    assert bits[-1] < 0.5 * bits[0]
