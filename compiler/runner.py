"""The one runner of passes: it runs, verifies, times and shows; nothing else calls a pass.

A pass takes a program of one level to a program of the same or of a lower level. A level knows
how to verify a program and how to print it. What a pass changed is told to an observer (dumps,
timings).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import InternalError, UserError
from dlc.ir.graph import Graph

Verification = Literal["each", "ends", "never"]


@dataclass(frozen=True, slots=True)
class Level:
    """A stage of a program: its name, how a program of it is verified, and printed."""

    name: str
    verify: Callable[[Any], object]
    text: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Pass:
    """A step from `level_in` to `level_out`. `reason` says why it stands where it stands."""

    name: str
    run: Callable[[Any], Any]
    level_in: Level
    level_out: Level
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What an observer is told of a pass that ran."""

    name: str
    seconds: float
    before: object
    after: object
    level: Level
    verify_seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether the program is another one now (places aside)."""
        return self.after is not self.before and self.after != self.before

    def text(self) -> str:
        """The program after the pass, or `(unchanged)`."""
        return self.level.text(self.after) if self.changed else "(unchanged)"


Observer = Callable[[Step], None]


def _verify_graph(graph: Graph) -> None:
    from dlc.ir.verify import verify

    verify(graph)


def _graph_text(graph: Graph) -> str:
    from dlc.ir.text import print_graph

    return print_graph(graph)


GRAPH = Level("graph", _verify_graph, _graph_text)


def run_passes(
    passes: Sequence[Pass],
    program: object,
    *,
    verify: Verification = "ends",
    observer: Observer | None = None,
) -> Any:
    """Runs `passes` in order on `program` and returns what the last one gives.

    `verify` says which results are checked: of each pass, of the first and the last, or none. A
    fault of a pass, or a result that does not verify, is an `InternalError` that names the pass
    and holds its input as text; a `UserError` goes through as it is.
    """
    for at, step in enumerate(passes):
        check = verify == "each" or (verify == "ends" and at in (0, len(passes) - 1))
        program = _run(step, program, check, observer)
    return program


def _run(step: Pass, program: object, check: bool, observer: Observer | None) -> object:
    start = time.perf_counter()
    try:
        after = step.run(program)
        seconds = time.perf_counter() - start
        verified = 0.0
        if check:
            step.level_out.verify(after)
            verified = time.perf_counter() - start - seconds
    except (UserError, InternalError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise InternalError(message, step.name, _dump(step, program)) from error
    if observer is not None:
        observer(Step(step.name, seconds, program, after, step.level_out, verified))
    return after


def _dump(step: Pass, program: object) -> str:
    """The input of a pass that failed, as text as far as it can be printed."""
    try:
        return step.level_in.text(program)
    except Exception as error:
        return f"(the input of {step.name} can't be printed: {error})"
