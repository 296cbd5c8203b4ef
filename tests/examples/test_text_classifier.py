"""text_classifier.dl: a sparse matrix counts as the dense one that it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.examples.reference import Array, Weights, build, check_gradients, cross_entropy, weights

WORDS, CLASSES = 30, 4
RNG = np.random.default_rng(11)
DENSE = RNG.poisson(0.15, (6, WORDS)).astype(np.float64)
LABEL = RNG.integers(0, CLASSES, 6).astype(np.int32)


def coordinates(dense: Array) -> tuple[Array, tuple[Array, Array], tuple[int, int]]:
    """A matrix as its values, their rows and columns, and its shape."""
    rows, columns = np.nonzero(dense)
    return dense[rows, columns].astype(np.float32), (rows, columns), dense.shape


def scores(w: Weights, bag: Array) -> Array:
    return np.asarray(np.maximum(bag @ w["w"], 0) @ w["output.w"] + w["output.b"])


def test_scores() -> None:
    model = build("text_classifier.dl", "BagOfWords", words=WORDS, classes=CLASSES)
    w = weights(model)
    for bag in (DENSE, DENSE[:1], np.zeros((3, WORDS))):
        np.testing.assert_allclose(model.scores(bag=coordinates(bag)), scores(w, bag), rtol=1e-4,
                                   atol=1e-5)


def test_gradients_and_adagrad() -> None:
    """adagrad's first step is against the sign of the gradient; it keeps the squares."""
    model = build("text_classifier.dl", "BagOfWords", words=WORDS, classes=CLASSES)
    before = {n: v for n, v in weights(model).items() if not n.startswith("fit.")}
    loss = float(model.fit(bag=coordinates(DENSE), label=LABEL))
    assert loss == pytest.approx(cross_entropy(scores(before, DENSE), LABEL), rel=1e-5)
    after = weights(model)
    found = {}
    for name in before:
        (state,) = [v for n, v in after.items() if n.startswith(f"fit.adagrad.{name}.")]
        found[name] = np.sqrt(state) * np.sign(before[name] - after[name])
    check_gradients(lambda w: cross_entropy(scores(w, DENSE), LABEL), before, found)
    unused = ~DENSE.any(axis=0)
    assert unused.any()
    np.testing.assert_array_equal(after["w"][unused], before["w"][unused])


def test_learns() -> None:
    model = build("text_classifier.dl", "BagOfWords", words=WORDS, classes=CLASSES)
    losses = [float(model.fit(bag=coordinates(DENSE), label=LABEL)) for _ in range(40)]
    assert losses[-1] < 0.1 * losses[0]


def test_a_word_that_is_none() -> None:
    model = build("text_classifier.dl", "BagOfWords", words=WORDS, classes=CLASSES)
    values, (rows, columns), shape = coordinates(DENSE)
    columns[3] = WORDS
    with pytest.raises(ValueError, match="30"):
        model.fit(bag=(values, (rows, columns), shape), label=LABEL)
