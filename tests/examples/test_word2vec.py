"""word2vec.dl: the update of skip-gram with negative sampling, pair after pair, and neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.runtime.errors import CheckFailed
from tests.examples.reference import build, sigmoid, weights

WORDS, SIZE, NEGATIVES = 12, 6, 3
RNG = np.random.default_rng(9)


def test_update_is_the_sum_over_pairs() -> None:
    """Mikolov et al. 2013, equation 4: each pair moves three kinds of rows by its own errors."""
    model = build("word2vec.dl", "SkipGram", words=WORDS, size=SIZE, negatives=NEGATIVES)
    assert np.abs(model.near).max() <= 0.5 / SIZE
    model.far = RNG.standard_normal((WORDS, SIZE)).astype(np.float32)
    w = weights(model)
    centre, context = RNG.integers(0, WORDS, (2, 10)).astype(np.int32)
    noise = RNG.integers(0, WORDS, (10, NEGATIVES)).astype(np.int32)
    near, far, loss = w["near"].copy(), w["far"].copy(), 0.0
    for c, o, others in zip(centre, context, noise, strict=True):
        v = w["near"][c]
        for word, label in [(o, 1), *((n, 0) for n in others)]:
            u = w["far"][word]
            share = sigmoid(v @ u)
            loss -= np.log(share if label else 1 - share)
            near[c] += 0.1 * (label - share) * u
            far[word] += 0.1 * (label - share) * v
    given = model.fit(centre=centre, context=context, noise=noise, lr=0.1)
    assert float(given) == pytest.approx(loss / 10, rel=1e-5)
    np.testing.assert_allclose(model.near, near, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.far, far, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 4])
def test_neighbours(count: int) -> None:
    model = build("word2vec.dl", "SkipGram", words=WORDS, size=SIZE, negatives=NEGATIVES)
    near = weights(model)["near"]
    unit = near / np.linalg.norm(near, axis=-1, keepdims=True)
    word = np.array([5, 0, 11], np.int32)
    found = model.nearest(word, count=count)
    np.testing.assert_array_equal(found, np.argsort(-(unit[word] @ unit.T))[:, :count])
    np.testing.assert_array_equal(found[:, 0], word)


def test_a_word_that_is_none() -> None:
    model = build("word2vec.dl", "SkipGram", words=WORDS, size=SIZE, negatives=NEGATIVES)
    before = weights(model)
    centre = np.array([0, WORDS], np.int32)
    with pytest.raises(CheckFailed, match=r"12.*word2vec\.dl:10"):
        model.fit(centre=centre, context=centre[:1].repeat(2),
                  noise=np.zeros((2, NEGATIVES), np.int32))
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_learns() -> None:
    """Words of one circle come near each other, and stay away from those of another."""
    model = build("word2vec.dl", "SkipGram", words=WORDS, size=SIZE, negatives=NEGATIVES)
    rng = np.random.default_rng(12)
    losses = []
    for _ in range(150):
        centre = rng.integers(0, WORDS, 64).astype(np.int32)
        context = (rng.integers(0, 6, 64) + 6 * (centre // 6)).astype(np.int32)
        noise = rng.integers(0, WORDS, (64, NEGATIVES)).astype(np.int32)
        losses.append(float(model.fit(centre=centre, context=context, noise=noise, lr=0.05)))
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:3])
    found = model.nearest(np.arange(WORDS, dtype=np.int32), count=4)
    assert np.mean(found // 6 == np.arange(WORDS)[:, None] // 6) > 0.9
