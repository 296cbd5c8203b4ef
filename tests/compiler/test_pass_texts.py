"""Passes on texts: each file of `passes/` is named after a pass and holds cases.

A case is a line `// what it shows`, a graph, a line `=>`, and the graph that the pass makes of it.
Cases are split by `// -----`. `pytest --update` writes what the passes make now.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dlc.compiler.options import Options
from dlc.compiler.passes.chain_products import chain_products
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_common import eliminate_common
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.fold_constants import fold_constants
from dlc.compiler.passes.gather_products import gather_products
from dlc.compiler.passes.hoist_from_loops import hoist_from_loops
from dlc.compiler.passes.inline import inline
from dlc.compiler.passes.lower_precision import lower_precision
from dlc.compiler.passes.rematerialise import rematerialise
from dlc.compiler.passes.simplify import simplify
from dlc.compiler.passes.sink_constants import sink_constants
from dlc.compiler.passes.turn_operands import turn_operands
from dlc.ir.graph import Graph
from dlc.ir.parse import parse_graph
from dlc.ir.text import print_graph
from dlc.ir.verify import verify

FOLDER = Path(__file__).parent / "passes"
SPLIT = "// -----\n"


def verified(graph: Graph) -> Graph:
    """The same graph, which must be valid before what nobody reads is dropped."""
    verify(graph)
    return graph


PASSES: dict[str, Callable[[Graph], Graph]] = {
    "chain_products": lambda graph: eliminate_dead(verified(chain_products(graph, Options()))),
    "differentiate": differentiate,
    "eliminate_common": eliminate_common,
    "eliminate_dead": eliminate_dead,
    "fold_constants": fold_constants,
    "gather_products": lambda graph: eliminate_dead(verified(gather_products(graph, Options()))),
    "hoist_from_loops": lambda graph: eliminate_dead(verified(hoist_from_loops(graph))),
    "inline": inline,
    "lower_precision": lambda graph: lower_precision(graph, Options(precision="bf16")),
    "rematerialise": lambda graph: eliminate_dead(verified(rematerialise(graph, Options()))),
    "sink_constants": sink_constants,
    # hoist_from_loops and rules leave what nobody reads now behind; what stays is easier to read.
    "turn_operands": lambda graph: eliminate_dead(verified(turn_operands(graph, Options()))),
    "simplify": lambda graph: eliminate_dead(simplify(graph)),
}


def cases(name: str) -> list[str]:
    return (FOLDER / f"{name}.txt").read_text().split(SPLIT)


def parts(case: str) -> tuple[str, str, str]:
    """The title, the input and the expected output."""
    title, _, rest = case.strip().partition("\n")
    before, _, after = rest.partition("\n=>")
    return title, before, after.strip()


CASES = [(name, at) for name in PASSES for at in range(len(cases(name)))]


@pytest.mark.parametrize(
    ("name", "at"), CASES, ids=[f"{n}: {parts(cases(n)[at])[0][3:]}" for n, at in CASES]
)
def test_pass(name: str, at: int, update: bool) -> None:
    title, before, expected = parts(cases(name)[at])
    assert title.startswith("// ")
    found = print_graph(PASSES[name](parse_graph(before))).strip()
    if update:
        whole = cases(name)
        whole[at] = f"{title}\n{before.strip()}\n=>\n{found}\n"
        (FOLDER / f"{name}.txt").write_text(SPLIT.join(whole))
        return
    assert found == expected


def test_every_pass_has_texts() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_a_second_run_changes_nothing(name: str) -> None:
    for case in cases(name):
        after = PASSES[name](parse_graph(parts(case)[1]))
        assert PASSES[name](after) == after
