"""Dims: arithmetic is that of integers, text reads back, equal ones are one object."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlc.ir.dims import (
    Dim,
    at_least,
    ceildiv,
    coefficient,
    evaluate,
    floordiv,
    lower_bound,
    maximum,
    minimum,
    mod,
    substitute,
    symbol,
    symbols,
)
from dlc.ir.dims_text import parse_dim

N, M, H = symbol("N"), symbol("M"), symbol("H")
ENVS = [{"N": n, "M": m, "H": h} for n, m, h in ((1, 1, 1), (2, 3, 5), (7, 4, 9), (28, 1, 64))]
OPERATIONS = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "max": (maximum, max),
    "min": (minimum, min),
}

leaves = st.one_of(st.integers(-9, 9), st.sampled_from([N, M, H]))


def _inner(children: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    divisors = st.one_of(st.integers(1, 7), st.sampled_from([N, M]))
    return st.one_of(
        st.builds(lambda op, a, b: OPERATIONS[op][0](a, b), st.sampled_from(sorted(OPERATIONS)),
                  children, children),
        st.builds(floordiv, children, divisors),
        st.builds(mod, children, divisors),
    )


dims = st.recursive(leaves, _inner, max_leaves=6)
fast = settings(max_examples=150, deadline=None)


@fast
@given(dims)
def test_text_reads_back_to_the_same_object(dim: Dim) -> None:
    again = parse_dim(str(dim))
    assert again == dim
    assert isinstance(dim, int) or again is dim


@fast
@given(dims, dims, st.sampled_from(sorted(OPERATIONS)))
def test_arithmetic_is_that_of_integers(a: Dim, b: Dim, name: str) -> None:
    combine, right = OPERATIONS[name]
    for env in ENVS:
        assert evaluate(combine(a, b), env) == right(evaluate(a, env), evaluate(b, env))


@fast
@given(dims, st.one_of(st.integers(1, 9), st.sampled_from([N, M, 2 * N, N * M, N + 1])))
def test_division_is_that_of_integers(a: Dim, b: Dim) -> None:
    for env in ENVS:
        x, y = evaluate(a, env), evaluate(b, env)
        assert evaluate(floordiv(a, b), env) == x // y
        assert evaluate(mod(a, b), env) == x % y
        assert evaluate(ceildiv(a, b), env) == -(-x // y)


@fast
@given(dims)
def test_bounds_hold(dim: Dim) -> None:
    for env in ENVS:
        assert evaluate(dim, env) >= lower_bound(dim)


@fast
@given(dims, dims)
def test_substitution_is_evaluation_of_parts(dim: Dim, other: Dim) -> None:
    # Divisors are only positive where they were: put in what is at least 1.
    value = maximum(other, 1)
    for env in ENVS:
        inner = {**env, "N": evaluate(value, env)}
        assert evaluate(substitute(dim, {"N": value}), env) == evaluate(dim, inner)


@fast
@given(dims, dims)
def test_a_difference_of_equals_is_zero(a: Dim, b: Dim) -> None:
    assert (a + b) - b == a
    assert a * b - b * a == 0


@pytest.mark.parametrize(("dim", "text"), [
    (N - 4, "N - 4"), (2 * N + 1, "2*N + 1"), (N * N, "N*N"), (-N, "-N"), (-N + M, "M - N"),
    ((N + 2) // 3, "(N + 2) // 3"), (N % 4, "N % 4"), ((N // 2) * 2, "2*(N // 2)"),
    (maximum(M, N - 4), "max(M, N - 4)"), (N * M // N, "M"), ((N * M + H) // M, "(H // M) + N")])
def test_normal_forms(dim: Dim, text: str) -> None:
    assert str(dim) == text


def test_equal_polynomials_are_one_object() -> None:
    assert (N + 1) * (N - 1) is N * N - 1
    assert (N * M) is (M * N)


def test_coefficients() -> None:
    assert coefficient(2 * N * M + 3 * N - M, "N") == 2 * M + 3
    assert coefficient(N * N, "N") is None
    assert coefficient(N // 2, "N") is None
    assert coefficient(M, "N") == 0


def test_what_can_be_proved() -> None:
    assert at_least(N + M - 1, 1)
    assert not at_least(N - M, 0)
    assert maximum(N + 1, N) is N + 1
    assert minimum(N // 2, 0) == 0


def test_symbols() -> None:
    assert symbols(maximum(N // M, H % 2) + 1) == {"N", "M", "H"}
    assert symbols(4) == frozenset()


@pytest.mark.parametrize("text", [
    "", "N +", "(N", "N N", "max(N", "max(N, M", "N ** 2", "é", "* N", "1N"])
def test_bad_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="dim"):
        parse_dim(text)
