"""The runner of passes: order, verification, observers, faults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.compiler.runner import GRAPH, Level, Pass, Step, run_passes
from dlc.ir.diagnostics import Diagnostic, InternalError, UserError


def verify(program: object) -> None:
    if program == "bad":
        raise ValueError("this is bad")


TEXT = Level("text", verify, lambda program: f"<{program}>")
UPPER = Pass("upper", str.upper, TEXT, TEXT)
SAME = Pass("same", lambda program: program, TEXT, TEXT)
SPOIL = Pass("spoil", lambda program: "bad", TEXT, TEXT)
MEND = Pass("mend", lambda program: "good", TEXT, TEXT)


def failing(error: Exception) -> Pass:
    def run(program: str) -> str:
        raise error

    return Pass("fail", run, TEXT, TEXT)


def test_passes_run_in_order_and_are_shown() -> None:
    steps: list[Step] = []
    assert run_passes((SAME, UPPER), "abc", observer=steps.append) == "ABC"
    assert [step.name for step in steps] == ["same", "upper"]
    assert [step.text() for step in steps] == ["(unchanged)", "<ABC>"]
    assert all(step.seconds >= 0 for step in steps)


def test_what_is_verified() -> None:
    passes = (SAME, SPOIL, MEND)
    assert run_passes(passes, "abc", verify="never") == "good"
    assert run_passes(passes, "abc", verify="ends") == "good"
    with pytest.raises(InternalError) as error:
        run_passes(passes, "abc", verify="each")
    assert error.value.stage == "spoil"
    assert error.value.dump == "<abc>"
    with pytest.raises(InternalError, match="this is bad"):
        run_passes((SAME, SPOIL), "abc", verify="ends")


def test_a_fault_names_its_pass_and_holds_its_input() -> None:
    with pytest.raises(InternalError, match="KeyError") as error:
        run_passes((UPPER, failing(KeyError("x"))), "abc")
    assert (error.value.stage, error.value.dump) == ("fail", "<ABC>")


def test_an_input_that_does_not_print_is_said_so() -> None:
    def text(program: object) -> str:
        raise RuntimeError("no")

    step = replace(failing(KeyError("x")), level_in=Level("text", verify, text))
    with pytest.raises(InternalError) as error:
        run_passes((step,), "abc")
    assert "can't be printed: no" in error.value.dump


def test_errors_of_the_user_go_through() -> None:
    wrong = UserError([Diagnostic("no-gradient", "no gradient")])
    with pytest.raises(UserError) as error:
        run_passes((failing(wrong),), "abc")
    assert error.value is wrong


def test_the_graph_level_prints() -> None:
    from dlc.ir.graph import Graph

    assert GRAPH.text(Graph("f", (), (), ())).startswith("graph f()")
