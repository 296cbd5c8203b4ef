"""Tests of kernels and programs again, as CUDA C on a CPU in both orders."""

from __future__ import annotations

import pytest

from dlc.compiler.options import Options
from tests.compiler.random_programs import RandomProgram
from tests.compiler.test_control import (  # noqa: F401
    test_a_loop_of_no_turns_gives_what_it_began_with,
    test_it_gives_what_the_graph_means,
)
from tests.compiler.test_corner_cases import (  # noqa: F401
    test_bools_from_anywhere,
    test_groups_do_not_wait_for_each_other,
    test_half_precision_products,
    test_indices_of_contractions_may_have_any_names,
    test_integers_wrap_and_are_exact,
    test_largest_among_special_numbers,
    test_pads_within_pads,
    test_parts_side_by_side_are_read_many_at_once,
    test_softmax_of_rows_of_infinities,
    test_values_are_not_read_where_the_kernel_writes_them,
    test_variables_that_change_places,
    test_views_of_values_in_which_the_batch_does_not_lead,
    test_zeros_keep_their_signs,
)
from tests.compiler.test_elementwise import (  # noqa: F401
    test_flat,
    test_rows,
    test_rows_of_a_known_size,
)
from tests.compiler.test_indices import (  # noqa: F401
    test_every_dtype_with_every_size,
    test_nothing_at_all,
    test_running_sums,
    test_sorts_of_special_numbers,
)
from tests.compiler.test_products import (  # noqa: F401
    test_convolutions,
    test_one_buffer_may_be_both_operands,
    test_products,
    test_rows_of_texts_are_rows,
    test_sums_go_over_panels,
    test_what_is_cast_is_copied_as_it_is,
)
from tests.compiler.test_rows import (  # noqa: F401
    test_any_axis,
    test_rows_of_any_length,
    test_rows_that_hold_nothing_but_minus_infinity,
    test_the_first_largest_of_a_row,
)
from tests.cuda.compiled import CudaGraph
from tests.cuda.on_cpu import needs_compiler

pytestmark = needs_compiler
MODULES = ("control", "corner_cases", "elementwise", "indices", "products", "rows")


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's code of those tests is replaced by CUDA C."""
    for name in MODULES:
        monkeypatch.setattr(f"tests.compiler.test_{name}.CompiledGraph", CudaGraph)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    program = RandomProgram(seed, steps=6 + 8 * (seed % 3))
    hints = {"N": (64, 1, 1000)[seed % 3]}
    compiled = CudaGraph(program.graph(), Options(hints=hints))
    for n in (1, 37, 70):
        compiled.check(program.arrays(n), rtol=2e-3, atol=2e-3)
