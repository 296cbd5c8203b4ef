"""The library's layers, functions and optimizers give PyTorch's numbers, gradients too.

Layers and functions are run by the interpreter, and as compiled code.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from dlc.ir.types import DTYPES
from tests.frontend.programs_in_text import Both, Running
from tests.frontend.reference_cases import (
    FOLDER,
    FUNCTIONS,
    LAYERS,
    OPTIMIZERS,
    RECURRENT,
    STEPS,
    Case,
    optimizer_program,
)


@cache
def recorded(file: str) -> dict[str, Any]:
    with np.load(FOLDER / f"{file}.npz") as found:
        return dict(found)


def check(case: Case, file: str) -> None:
    numbers = {key.removeprefix(f"{case.name}/"): value for key, value in recorded(file).items()
               if key.startswith(f"{case.name}/")}
    both = Both(case.program(), "M")
    inputs = {name: numbers[f"given/{name}"] for name in case.inputs}
    for name in case.params:
        both.compiled.variables[name] = both.reference.variables[name] = numbers[f"given/{name}"]
    for result in (*both.reference("run", **inputs), both.compiled.run(**inputs)):
        np.testing.assert_allclose(result, numbers["result"], rtol=1e-4, atol=2e-5)
    seed = numbers["seed"]
    compiled = both.compiled.slopes(**inputs, seed=seed)
    compiled = compiled if isinstance(compiled, tuple) else (compiled,)
    for slopes in (both.reference("slopes", **inputs, seed=seed), compiled):
        for name, slope in zip(case.differentiated(), slopes, strict=True):
            np.testing.assert_allclose(
                slope, numbers[f"gradient/{name}"], rtol=1e-3, atol=5e-5, err_msg=name)


@pytest.mark.parametrize("case", LAYERS + RECURRENT, ids=lambda c: c.name)
def test_a_layer_gives_the_recorded_numbers(case: Case) -> None:
    check(case, "layers")


@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda c: c.name)
def test_a_function_gives_the_recorded_numbers(case: Case) -> None:
    check(case, "functions")


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_recorded_steps(name: str, dtype: str) -> None:
    numbers, kind = recorded("optimizers"), DTYPES[dtype].numpy
    model = Running(optimizer_program(OPTIMIZERS[name], dtype))
    model.variables["w"] = numbers["start"].astype(kind)
    near = {"rtol": 1e-2, "atol": 1e-2} if dtype == "f16" else {"rtol": 1e-5, "atol": 1e-6}
    for gradient, value in zip(numbers["gradients"], numbers[f"{name}/values"], strict=True):
        model("fit", g=gradient.astype(kind))
        np.testing.assert_allclose(model.variables["w"], value, **near)


def test_lion_takes_the_steps_of_its_paper() -> None:
    """Algorithm 2 of Chen et al. 2023."""
    numbers = recorded("optimizers")
    model = Running(optimizer_program("lion(lr=0.01, decay=0.1)"))
    w, m = numbers["start"], np.zeros((3, 4), np.float32)
    model.variables["w"] = w
    assert len(numbers["gradients"]) == STEPS
    for g in numbers["gradients"]:
        w = w - 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * w)
        m = 0.99 * m + 0.01 * g
        model("fit", g=g)
        np.testing.assert_allclose(model.variables["w"], w, rtol=1e-5, atol=1e-6)


def test_the_recorded_files_are_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*.npz")) < 300_000
