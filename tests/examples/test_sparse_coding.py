"""sparse_coding.dl: codes that no one-number change makes better, and a dictionary that learns."""

from __future__ import annotations

import numpy as np
import pytest

from tests.examples.reference import Array, build, weights

PIXELS, ATOMS, PENALTY = 16, 24, 0.1
X = np.random.default_rng(10).standard_normal((5, PIXELS))


def energy(dictionary: Array, a: Array) -> float:
    """Olshausen and Field 1996, equation 2, absolute values as cost: a mean over patches."""
    rest = ((X - a @ dictionary) ** 2).sum(-1).mean() / 2
    return float(rest + PENALTY * np.abs(a).sum(-1).mean())


def descend(dictionary: Array) -> Array:
    """The codes by coordinate descent, which is exact in each coordinate: another road."""
    a = np.zeros((len(X), ATOMS))
    for _ in range(2000):
        for k in range(ATOMS):
            rest = X - a @ dictionary + np.outer(a[:, k], dictionary[k])
            along = rest @ dictionary[k]
            a[:, k] = np.sign(along) * np.maximum(np.abs(along) - PENALTY, 0)
    return a


def test_codes_are_the_best() -> None:
    model = build("sparse_coding.dl", "SparseCoding", pixels=PIXELS, atoms=ATOMS, penalty=PENALTY)
    dictionary = weights(model)["dictionary"]
    np.testing.assert_allclose(np.linalg.norm(dictionary, axis=-1), 1, rtol=1e-6)
    best = descend(dictionary)
    found = model.encode(X.astype(np.float32), tolerance=1e-6)
    assert energy(dictionary, found) <= energy(dictionary, best) * (1 + 1e-4)
    np.testing.assert_allclose(found, best, atol=5e-3)
    np.testing.assert_array_equal(np.abs(found) > 1e-2, np.abs(best) > 1e-2)
    told = float(model.energy(X.astype(np.float32), found))
    assert told == pytest.approx(energy(dictionary, found), rel=1e-5)


def test_a_loose_tolerance_stops_sooner() -> None:
    model = build("sparse_coding.dl", "SparseCoding", pixels=PIXELS, atoms=ATOMS, penalty=PENALTY)
    dictionary = weights(model)["dictionary"]
    loose, tight = (energy(dictionary, model.encode(X.astype(np.float32), tolerance=t))
                    for t in (0.3, 1e-5))
    assert loose > tight * 1.001


def test_a_step_of_learning() -> None:
    """Codes held, the dictionary goes down the slope of the error; rows keep their length 1."""
    model = build("sparse_coding.dl", "SparseCoding", pixels=PIXELS, atoms=ATOMS, penalty=PENALTY)
    dictionary = weights(model)["dictionary"]
    a = np.asarray(model.encode(X.astype(np.float32)), np.float64)
    loss = float(model.learn(X.astype(np.float32), lr=0.5))
    assert loss == pytest.approx(energy(dictionary, a), rel=1e-5)
    moved = dictionary + 0.5 * a.T @ (X - a @ dictionary) / len(X)
    moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
    np.testing.assert_allclose(model.dictionary, moved, rtol=1e-4, atol=1e-5)


def test_learns() -> None:
    model = build("sparse_coding.dl", "SparseCoding", pixels=PIXELS, atoms=ATOMS, penalty=PENALTY)
    losses = [float(model.learn(X.astype(np.float32), lr=0.5)) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
