"""`test "…" { … }`: a block that builds models, calls their functions and steps, and asserts.

A test becomes one graph, as if it were a function of a model that holds the models built in it.
"""

from __future__ import annotations

from typing import Final

from dlc.frontend.elaborate.frames import Context, Fault, Frame, Silent
from dlc.frontend.elaborate.models import ENGINE, ModelProgram, elaborate_init, function_graph
from dlc.frontend.elaborate.modules import Module, Program
from dlc.frontend.text import syntax
from dlc.ir.diagnostics import Diagnostics

MARK: Final = "test "  # begins the name of what stands for a model; no model can be called so
FUNCTION: Final = "test"


def blocks(module: Module) -> list[syntax.Test]:
    """The tests of a file, in the order of its text."""
    return [d for d in module.tree.definitions if isinstance(d, syntax.Test)]


def elaborate_test(program: Program, block: syntax.Test) -> ModelProgram:
    """A test of the main file; `UserError` with all that is wrong in it."""
    found = Diagnostics(program.sources)
    made = _elaborate(program, program.main, block, found)
    found.raise_if_any()
    assert made is not None
    return made


def check_tests(program: Program, module: Module, found: Diagnostics) -> None:
    """Adds what is wrong in the tests of a file to `found`."""
    seen: dict[str, syntax.Test] = {}
    for block in blocks(module):
        first = seen.setdefault(block.name, block)
        if first is not block:
            found.error("defined-twice", f'there are two tests "{block.name}"', block.span,
                        (f"first at {first.span}",))
        _elaborate(program, module, block, found)


def _elaborate(
    program: Program, module: Module, block: syntax.Test, found: Diagnostics
) -> ModelProgram | None:
    context = Context(program, ENGINE, found)
    frame = Frame(context, module, "test", FUNCTION)
    try:
        if context.engine.execute(frame, block.body) is not None:
            last = block.body.statements[-1]
            raise Fault("misplaced-return", "a test returns nothing", last.span)
        graph = function_graph(context, FUNCTION, [], ())
    except Fault as fault:
        frame.report(fault)
        return None
    except Silent:
        return None
    variables = tuple(v for model in context.built.values() for v in model.variables())
    variables += tuple(context.optimizer_states.values())
    init = elaborate_init(program, "", variables, found)
    return ModelProgram(f"{MARK}{block.name}", variables, {FUNCTION: graph}, init=init)
