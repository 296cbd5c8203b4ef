"""Minimum cuts against all cuts of small graphs."""

from __future__ import annotations

import itertools
import random

import pytest

from dlc.compiler.rewriting.min_cut import MinCut


def test_the_narrowest_place() -> None:
    cut = MinCut[str]()
    for name, cost in (("p", 8), ("x", 4), ("a", 4), ("b", 4), ("c", 4)):
        cut.value(name, cost)
    cut.begin("p")
    for operand, reader in (("p", "x"), ("x", "a"), ("x", "b"), ("x", "c")):
        cut.read(operand, reader)
    for name in "abc":
        cut.end(name)
    assert cut.solve() == ({"x"}, {"a", "b", "c"})


def test_of_equal_cuts_the_one_that_computes_least() -> None:
    cut = MinCut[str]()
    for name in "abc":
        cut.value(name, 4)
    cut.begin("a")
    cut.read("a", "b")
    cut.read("b", "c")
    cut.end("c")
    assert cut.solve() == ({"c"}, set())


def test_what_costs_nothing_is_kept() -> None:
    cut = MinCut[str]()
    cut.value("a", 0)
    cut.value("b", 4)
    cut.begin("a")
    cut.read("a", "b")
    cut.end("b")
    kept, again = cut.solve()
    assert again == {"b"}
    assert kept <= {"a"}


@pytest.mark.parametrize("seed", range(100))
def test_no_set_of_values_is_cheaper(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(2, 8)
    costs = [chance.randint(0, 9) for _ in range(count)]
    reads = [(a, b) for a, b in itertools.combinations(range(count), 2) if chance.random() < 0.4]
    fixed = {v for v in range(count) if chance.random() < 0.3 or all(b != v for _, b in reads)}
    wanted = [v for v in range(count) if chance.random() < 0.5] or [count - 1]
    cut = MinCut[int]()
    for value, cost in enumerate(costs):
        cut.value(value, cost)
    for value in fixed:
        cut.begin(value)
    for a, b in reads:
        cut.read(a, b)
    for value in wanted:
        cut.end(value)
    kept, again = cut.solve()

    def can_make(value: int, given: set[int]) -> bool:
        """Whether a value is given, or follows from what is."""
        if value in given:
            return True
        return value not in fixed and all(can_make(a, given) for a, b in reads if b == value)

    sets = (set(s) for k in range(count + 1) for s in itertools.combinations(range(count), k))
    least = min(sum(costs[v] for v in s) for s in sets if all(can_make(w, s) for w in wanted))
    free = {v for v in range(count) if costs[v] == 0}
    assert sum(costs[v] for v in kept) == least
    assert all(can_make(w, kept | free) for w in wanted)
    assert all(can_make(v, kept | free) and v not in fixed for v in again)
