"""The table of workloads holds: dlc computes what NumPy does in f64, FLOPs are those counted."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import contest, with_dlc, with_numpy
from tests.benchmarks.gpu_rows import ROWS
from tests.benchmarks.mathematics import MATHEMATICS
from tests.benchmarks.shapes import LEARNING_RATE, PROGRAMS, Workload, taps, trained
from tests.benchmarks.workloads import BROADER, SEVEN, WORKLOADS, find

KNOWN = [x for x in WORKLOADS.values() if x.mathematics in MATHEMATICS]


def named(workload: Workload) -> str:
    return workload.name


def test_the_table_is_complete() -> None:
    """All that is written is measured, and names are those of one workload."""
    assert {x.mathematics for x in WORKLOADS.values()} - set(MATHEMATICS) == {"lenet5.dl"}
    of_a_gpu = {row.workload.mathematics for row in ROWS.values()}
    assert {x.mathematics for x in WORKLOADS.values()} | of_a_gpu >= set(MATHEMATICS)
    assert len(SEVEN) == 7
    assert not set(SEVEN) & set(BROADER)
    assert all(x.asked for x in SEVEN.values())
    sources = "".join(file.read_text() for file in PROGRAMS.parent.glob("*.py"))
    assert [file.name for file in PROGRAMS.glob("*.dl") if file.name not in sources] == []


@pytest.mark.parametrize("workload", KNOWN, ids=named)
def test_dlc_computes_what_numpy_does_in_f64(workload: Workload) -> None:
    """The loss of the first step, or all outputs."""
    found = with_dlc.Run(workload).call()
    expected = with_numpy.reference(workload)
    parts = found if isinstance(found, tuple) else (found,)
    for ours, theirs in zip(parts, expected, strict=True):
        assert contest.difference("output 0", theirs, np.asarray(ours)) <= 1


@pytest.mark.parametrize("workload", KNOWN, ids=named)
def test_flops_are_of_the_products_that_run(workload: Workload) -> None:
    assert sum(x.macs for x in workload.products) == with_numpy.forward_macs(workload)


@pytest.mark.parametrize(
    "workload", [x for x in KNOWN if x.kind == "step"], ids=named
)
def test_weights_are_those_of_the_model(workload: Workload) -> None:
    """Names and shapes: a weight that the table forgets would not be the same for all."""
    variables = with_dlc.Run(workload).model.variables
    shapes = {name: np.shape(variables[name]) for name in variables}
    assert {name: drawn.shape for name, drawn in workload.weights.items()} == shapes


def test_steps_train() -> None:
    """What is compared after some steps is what gradient descent adds."""
    workload = SEVEN["mlp"]
    ours, theirs = with_dlc.Run(workload), with_numpy.Run(workload)
    before = workload.draw()[0]
    losses = [[float(run.call()) for _ in range(3)] for run in (ours, theirs)]
    assert contest.difference("losses", *map(np.array, losses)) <= 1
    assert losses[0][2] < losses[0][0]
    for name, value in ours.trained().items():
        added = value - before[name], theirs.trained()[name] - before[name]
        assert np.abs(added[0]).max() > 0
        assert contest.difference(name, *added) <= 1
        assert contest.difference(name, added[0], added[1] * 1.1) > 1
    assert LEARNING_RATE == 0.01  # as in the programs


def test_gemm_of_any_size() -> None:
    found = find("gemm13")
    assert found is not None
    assert found.flops == 2 * 13**3
    assert find("gemm0") is None
    assert find("gemma") is None


def test_taps_are_pairs_that_lie_in_the_input() -> None:
    assert taps(5, 3) == 9
    assert taps(5, 3, padding=1) == 13
    assert taps(5, 3, stride=2, padding=1) == 2 + 3 + 2


def test_the_first_input_needs_no_gradient() -> None:
    assert [x.gradients for x in trained(1, 2)] == [1, 2]
    assert [x.gradients for x in trained(1, 2, of_data=False)] == [2, 2]
