"""Training steps by dlc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dlc
from tests.benchmarks import problems

EXAMPLES = Path(__file__).parents[2] / "examples"


def plain_lenet5(threads: int) -> Callable[[], float]:
    """`examples/plain_lenet5.dl`, from the problem's weights."""
    problem = problems.lenet5()
    model = dlc.load(EXAMPLES / "plain_lenet5.dl").PlainLeNet5()
    for name, value in problem.weights.items():
        model.variables[name] = value
    fit, inputs = model.fit, problem.inputs
    return lambda: float(fit(**inputs, lr=problems.LEARNING_RATE))


def lenet5_dl(threads: int) -> Callable[[], float]:
    """`examples/lenet5.dl` as it stands, with its table and adamw."""
    inputs = problems.mnist_batch()
    fit = dlc.load(EXAMPLES / "lenet5.dl").LeNet5().fit
    return lambda: float(fit(**inputs))


STEPS = {"lenet5": plain_lenet5, "lenet5.dl": lenet5_dl}
