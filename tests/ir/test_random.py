"""The generator against published vectors, and what is drawn with it."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.ops import OPS
from dlc.ir.ops.random import philox
from dlc.ir.scalar import Array, NumpyBuilder

# From the file kat_vectors of Random123: key, counter, result.
PUBLISHED = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0xA4093822, 0x299F31D0), (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("key", "counter", "right"), PUBLISHED)
def test_published_vectors(
    key: tuple[int, int], counter: tuple[int, int, int, int], right: tuple[int, ...]
) -> None:
    k0, k1 = (np.array([word]) for word in key)
    c0, c1, c2, c3 = (np.array([word]) for word in counter)
    found = philox(NumpyBuilder(), (k0, k1), (c0, c1, c2, c3))
    assert tuple(int(word[0]) for word in found) == right


def draw(name: str, seed: int = 1, call: int = 0, place: int = 0, count: int = 100_000) -> Array:
    op = OPS[name]
    assert op.formula is not None
    elements = np.arange(count)
    given = (np.full(count, seed), np.full(count, call), elements)
    return np.asarray(op.formula(NumpyBuilder(), {"place": place}, *given))


def test_the_key_and_the_counter_are_wired_as_the_paper_says() -> None:
    words = philox(NumpyBuilder(), (np.array([5]), np.array([7])),
                   (np.array([3]), np.array([2]), np.array([11]), np.array([13])))
    op = OPS["random_uniform"]
    assert op.formula is not None
    found = op.formula(NumpyBuilder(), {"place": 13}, np.array([5 + (7 << 32)]), np.array([11]),
                       np.array([3 + (2 << 32)]))
    assert float(np.asarray(found)[0]) == (int(words[0][0]) >> 8) * 2.0**-24


def test_uniform_lies_in_its_interval() -> None:
    x = draw("random_uniform")
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() < 1
    counts, _ = np.histogram(x, 20, (0, 1))
    assert np.abs(counts - x.size / 20).max() < 5 * np.sqrt(x.size / 20)


def test_normal_has_its_moments() -> None:
    x = draw("random_normal").astype(np.float64)
    bound = 5 / np.sqrt(x.size)
    assert abs(x.mean()) < bound
    assert abs((x**2).mean() - 1) < bound * np.sqrt(2)
    assert abs((x**3).mean()) < bound * np.sqrt(15)
    assert abs((x**4).mean() - 3) < bound * np.sqrt(96)


@pytest.mark.parametrize("changed", [{"seed": 2}, {"call": 1}, {"place": 1}, {"seed": 2**40}])
def test_draws_differ_with_seed_call_and_place(changed: dict[str, int]) -> None:
    x, y = draw("random_normal"), draw("random_normal", **changed)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.02


def test_a_seed_of_a_turn_is_two_words_of_the_generator() -> None:
    third = np.array([11 ^ (1 << 31)])
    words = philox(NumpyBuilder(), (np.array([5]), np.array([7])),
                   (np.array([3]), np.array([2]), third, np.array([13])))
    formula = OPS["random_seed"].formula
    assert formula is not None
    found = np.asarray(formula(NumpyBuilder(), {"place": 13}, np.array([5 + (7 << 32)]),
                               np.array([11]), np.array([3 + (2 << 32)])))
    assert found.dtype == np.int64
    assert int(found[0]) & (2**64 - 1) == int(words[0][0]) | (int(words[1][0]) << 32)


def test_the_turns_of_a_loop_draw_numbers_of_their_own() -> None:
    seeds = draw("random_seed", count=50)
    assert len(set(seeds.tolist())) == 50
    rows = np.stack([draw("random_uniform", seed=int(seed), count=2000) for seed in seeds])
    assert np.abs(rows.mean(axis=0) - 0.5).max() < 0.25
    between = np.corrcoef(rows)[np.triu_indices(50, 1)]
    assert np.abs(between).max() < 0.12
    assert not np.intersect1d(draw("random_seed", count=50, call=1), seeds).size
