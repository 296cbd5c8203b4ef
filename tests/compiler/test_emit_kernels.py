"""Kernels of every kind as machine code: the tests of kernels again, on the machine itself.

The chunks of a second run go backwards, through a pool: the results must be the same bits.
"""

from __future__ import annotations

import pytest

from dlc.ir.program import Program
from dlc.ir.scalar import Array
from tests.compiler import test_kernels as kernels
from tests.compiler.program_runner import CompiledProgram, Pool
from tests.compiler.test_kernels import (  # noqa: F401
    test_convolution_and_gradients,
    test_convolution_without_a_symbolic_batch,
    test_groups_and_one_dimension,
    test_loss_and_argmax,
    test_matrix_products,
    test_pad_of_a_computed_value_is_one_kernel,
    test_pooling_and_its_gradient,
    test_sums_over_the_batch_are_in_chunks_of_a_tree,
    test_swapped_variables_are_not_overwritten_too_early,
    test_training_step,
    test_values_are_stored_in_blocks_of_the_batch,
    test_views_transposes_and_slices,
)


def _run(program: Program, inputs: dict[str, Array], backwards: bool = False) -> dict[str, Array]:
    return CompiledProgram(program).run(inputs, Pool() if backwards else None)


@pytest.fixture(autouse=True)
def _machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow machine of those tests is replaced by the compiled program."""
    monkeypatch.setattr(kernels, "run_program", _run)
