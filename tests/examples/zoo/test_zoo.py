"""examples/zoo: losses and params after some steps are PyTorch's, for batches of several sizes."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from dlc.frontend.driver import Model
from dlc.runtime.errors import UserError
from tests.examples.reference import build, log_softmax
from tests.examples.zoo.cases import FOLDER, MODELS, inputs, weights

STEPS = {"wgan": "judge"}


@cache
def recorded() -> dict[str, Any]:
    with np.load(FOLDER / "zoo.npz") as found:
        return dict(found)


def model_of(program: str) -> Model:
    """A model with the weights that the numbers were recorded with."""
    model = build(f"zoo/{program}.dl", MODELS[program])
    shapes = {name: model.variables[name].shape
              for name, each in model.variable_records.items() if each.role == "param"}
    model.variables.update(weights(shapes))
    return model


@pytest.mark.parametrize("program", MODELS)
def test_a_program_learns_as_recorded(program: str) -> None:
    model = model_of(program)
    step = model.function(STEPS.get(program, "fit"))
    losses = [float(step(**given)) for given in inputs(program)]
    np.testing.assert_allclose(losses, recorded()[f"{program}/losses"], rtol=1e-4)
    names = sorted(n for n, each in model.variable_records.items() if each.role == "param")
    params = np.concatenate([model.variables[name].ravel() for name in names])
    np.testing.assert_allclose(params, recorded()[f"{program}/params"], rtol=1e-3, atol=5e-4)


def test_what_the_decoder_writes_with_its_cache_is_likeliest_without_it() -> None:
    """The loss of what was written is the least of all texts that differ in one word."""
    model = model_of("decoder")
    first = np.array([3, 8, 0], "i4")
    text = np.concatenate([first[None], model.write(first, count=5)]).T
    for place in range(1, 6):
        # The last word of a prefix is the only one that these losses differ by.
        given = text[0, :place][None]
        found = []
        for word in range(11):
            after = np.append(text[0, 1:place], word)[None].astype("i4")
            found.append(float(model_of("decoder").fit(text=given, next=after)))
        assert int(np.argmin(found)) == text[0, place]


def test_the_likeliest_way_is_the_best_of_all() -> None:
    model = model_of("hmm")
    w = {name: np.array(model.variables[name], np.float64) for name in ("first", "moves", "shows")}
    first, moves, shows = (log_softmax(w[name]) for name in ("first", "moves", "shows"))
    seen = np.random.default_rng(3).integers(0, 5, (4, 3)).astype("i4")

    def likely(way: tuple[int, ...], column: int) -> float:
        shown = sum(shows[h, s] for h, s in zip(way, seen[:, column], strict=True))
        return float(first[way[0]] + shown + sum(moves[a, b] for a, b in pairwise(way)))

    found = model.viterbi(seen)
    for column in range(3):
        best = max(product(range(4), repeat=4), key=lambda way: likely(way, column))
        assert tuple(found[:, column]) == best


def test_a_picture_that_does_not_halve_twice_is_refused_at_the_call() -> None:
    with pytest.raises(UserError, match="multiple of 2"):
        model_of("unet").logits(np.zeros((1, 1, 8, 6), "f4"))


def test_adversaries_play_by_turns() -> None:
    model = model_of("wgan")
    before = {name: model.variables[name] for name in ("critic.c1.w", "generator.c1.w")}
    losses = model.fit(real=inputs("wgan")[-1]["real"], turns=2)
    assert np.isfinite(losses).all()
    assert all((model.variables[name] != value).any() for name, value in before.items())
