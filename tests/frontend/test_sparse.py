"""Sparse matrices: given as SciPy's or as arrays, multiplied, never made dense unless asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.runtime.errors import ArgumentError
from tests.frontend.programs_in_text import Running

RANDOM = np.random.default_rng(7)
PROGRAMS = Path(__file__).parents[2] / "examples"


class Coordinates:
    """What the compiler asks of a matrix of SciPy."""

    def __init__(self, whole: Any, dtype: Any = np.int32) -> None:
        rows, columns = np.nonzero(whole)
        self.coordinates = SimpleNamespace(
            row=rows.astype(dtype), col=columns.astype(dtype), data=whole[rows, columns],
            shape=whole.shape)

    def tocoo(self) -> Any:
        return self.coordinates


def whole_matrix(rows: int, columns: int) -> Any:
    whole = RANDOM.normal(size=(rows, columns)).astype(np.float32)
    return np.where(RANDOM.random((rows, columns)) < 0.3, whole, 0)


def parts(name: str, whole: Any) -> dict[str, Any]:
    """The parameters of a graph that a matrix is."""
    found = Coordinates(whole).coordinates
    return {f"{name}.rows": found.row, f"{name}.columns": found.col, f"{name}.values": found.data,
            f"{name}.height": whole.shape[0], f"{name}.width": whole.shape[1]}


@pytest.mark.parametrize(("expression", "dims", "result", "expected"), [
    ("s @ d", "M, K", "N, K", lambda s, d: s @ d),
    ("s.T @ d", "N, K", "M, K", lambda s, d: s.T @ d),
    ("s @ d", "M", "N", lambda s, d: s @ d),
    ("(s * 2.5) @ d", "M, K", "N, K", lambda s, d: 2.5 * s @ d),
    ("(sum(d) * s).T.T @ d", "M, K", "N, K", lambda s, d: d.sum() * s @ d),
    ("dense(s) * d", "N, M", "N, M", lambda s, d: s * d),
    ("dense(s.T) + d", "M, N", "M, N", lambda s, d: s.T + d),
], ids=lambda v: v if isinstance(v, str) else "")
def test_rule_52_products_mean_those_of_the_dense_matrix(
    expression: str, dims: str, result: str, expected: Any
) -> None:
    sizes = {"N": 5, "M": 7, "K": 3}
    d = RANDOM.normal(size=[sizes[each] for each in dims.split(", ")]).astype(np.float32)
    s = whole_matrix(5, 7)
    model = Running(f"""
model M {{
    fn value(s: sparse f32[N, M], d: f32[{dims}]) -> f32[{result}] = {expression}
    fn slope(s: sparse f32[N, M], d: f32[{dims}]) -> f32[{dims}] = grad(sum({expression}), d)
}}
""")
    given = {**parts("s", s), **sizes, "d": d}
    (found,) = model("value", **given)
    np.testing.assert_allclose(found, expected(s, d), rtol=1e-4, atol=1e-5)
    (slope,) = model("slope", **given)
    step = np.zeros_like(d)
    step.flat[2] = 0.5  # all are at most quadratic in d: their middle difference is exact
    middle = expected(s, d + step).sum() - expected(s, d - step).sum()
    assert slope.flat[2] == pytest.approx(middle, rel=1e-3, abs=1e-4)


def bags(count: int) -> tuple[Any, Any]:
    """Bags of 90 words, most of which tell the class, and the classes."""
    label = RANDOM.integers(0, 3, count).astype(np.int32)
    bag = np.zeros((count, 90), np.float32)
    for row, own in enumerate(label):
        np.add.at(bag[row], RANDOM.integers(own * 25, own * 25 + 25, 8), 1)
        np.add.at(bag[row], RANDOM.integers(0, 90, 3), 1)
    return bag, label


def test_a_classifier_of_bags_of_words_trains_compiled_once_for_all_sizes() -> None:
    model = dlc.load(PROGRAMS / "text_classifier.dl").BagOfWords(words=90, classes=3)
    assert repr(model.fit) == "<step BagOfWords.fit(bag: sparse f32[N, 90], label: i32[N]) -> f32>"
    compiled = set()
    for turn in range(40):
        bag, label = bags(12 + turn)
        loss = model.fit(Coordinates(bag, np.int64), label=label)
        compiled.add(id(model.fit._function))
    assert len(compiled) == 1
    assert loss < 0.2
    bag, label = bags(200)
    scores = model.scores(bag=Coordinates(bag))
    assert np.mean(scores.argmax(1) == label) > 0.95
    hidden = np.maximum(bag @ model.w, 0) @ model.output.w + model.output.b
    np.testing.assert_allclose(scores, hidden, rtol=1e-4, atol=1e-5)
    nothing = (np.zeros(0, np.float32), (np.zeros(0, np.int32),) * 2, (4, 90))
    np.testing.assert_allclose(model.scores(nothing), np.tile(model.output.b, (4, 1)))


def test_matrices_of_scipy() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    model = dlc.load(PROGRAMS / "text_classifier.dl").BagOfWords(words=90, classes=3)
    bag, _ = bags(6)
    wanted = model.scores(Coordinates(bag))
    for kind in ("csr_array", "csc_matrix", "coo_array"):
        given = getattr(scipy_sparse, kind)(bag)
        np.testing.assert_allclose(model.scores(given), wanted, rtol=1e-5)


@pytest.mark.parametrize(("matrix", "said"), [
    ((np.ones(2), ([0, 1], [0, 1]), (4, 90)), "has values f64[2]"),
    ((np.ones(2, "f"), ([0.0, 1.0], [0, 1]), (4, 90)), "rows f64[2]"),
    ((np.ones(2, "f"), ([0, 1, 2], [0, 1]), (4, 90)), "rows i64[3]"),
    ((np.ones(2, "f"), ([0, 4], [0, 1]), (4, 90)), "row 4 of argument `bag` is out of range: it "
     "has 4 rows"),
    ((np.ones(2, "f"), ([0, 1], [0, -1]), (4, 90)), "column -1 of argument `bag` is out of range"),
    ((np.ones(2, "f"), ([0, 1], [0, 1]), (4, 91)), "bag has 90 columns"),
    ((np.ones(2, "f"), ([0, 1], [0, 1]), (3, 90)), "bag has N rows"),
    (np.zeros((4, 90), "f"), "a matrix of scipy.sparse, or (values, (rows, columns), shape)"),
    (None, "a matrix of scipy.sparse"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_no_such_matrix_is_an_error(matrix: Any, said: str) -> None:
    model = dlc.load(PROGRAMS / "text_classifier.dl").BagOfWords(words=90, classes=3)
    with pytest.raises(ArgumentError) as found:
        model.fit(bag=matrix, label=np.zeros(4, np.int32))
    assert said in str(found.value)


def test_missing_doubled_and_too_many_arguments_are_errors() -> None:
    model = dlc.load(PROGRAMS / "text_classifier.dl").BagOfWords(words=90, classes=3)
    bag, label = bags(4)
    matrix = Coordinates(bag)
    with pytest.raises(ArgumentError, match=r"missing argument `bag` \(sparse f32\[N, 90\]\)"):
        model.fit(label=label)
    with pytest.raises(ArgumentError, match="`bag` is given twice"):
        model.fit(matrix, label, bag=matrix)
    with pytest.raises(ArgumentError, match="takes 2 arguments"):
        model.fit(matrix, label, label)
    with pytest.raises(ArgumentError, match="there is no argument `lable`"):
        model.fit(matrix, lable=label)
