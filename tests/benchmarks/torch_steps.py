"""Training steps by PyTorch, eager: the peer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from tests.benchmarks import problems


def plain_lenet5(threads: int) -> Callable[[], float]:
    """The plain LeNet-5 with gradient descent, as one would write it for speed."""
    torch.set_num_threads(threads)
    problem = problems.lenet5()
    weights = {name: torch.tensor(v, requires_grad=True) for name, v in problem.weights.items()}
    x = torch.tensor(problem.inputs["x"])
    y = torch.tensor(problem.inputs["y"]).long()
    optimizer = torch.optim.SGD(weights.values(), problems.LEARNING_RATE)

    def scores() -> torch.Tensor:
        maps = torch.tanh(functional.conv2d(x, weights["c1.w"], weights["c1.b"]))
        maps = functional.avg_pool2d(maps, 2)
        maps = torch.tanh(functional.conv2d(maps, weights["c3.w"], weights["c3.b"]))
        maps = functional.avg_pool2d(maps, 2)
        maps = torch.tanh(functional.conv2d(maps, weights["c5.w"], weights["c5.b"]))
        hidden = torch.tanh(maps.flatten(1) @ weights["f6.w"] + weights["f6.b"])
        return hidden @ weights["output.w"] + weights["output.b"]

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(scores(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.item())

    return step


STEPS = {"lenet5": plain_lenet5}
