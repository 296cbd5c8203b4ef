"""`dlc test`: the `test` blocks of a program, each compiled and run with seed 0."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from dlc.frontend.build import Build
from dlc.frontend.driver import Model
from dlc.frontend.errors import user_error
from dlc.frontend.json_lines import print_json
from dlc.ir.dataclass import dataclass
from dlc.runtime.errors import CheckFailed
from dlc.runtime.errors import UserError as RunError


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test went: `place` (file:line:column) and `message` say what failed."""

    test: str
    passed: bool
    seconds: float
    place: str = ""
    message: str = ""

    def __str__(self) -> str:
        if self.passed:
            return f"passed  {self.test}"
        place = f"{self.place}: " if self.place else ""
        return f"FAILED  {self.test}: {place}{self.message}"


def run(options: argparse.Namespace) -> int:
    """A line for each test; 1 if one fails, or if there is none."""
    build = Build(Path(options.file), floats=options.float)
    build.program()
    tests = build.elaboration.tests()
    names = [t.name for t in tests if options.k is None or options.k in t.name]
    if not names:
        found = ", ".join(f'"{t.name}"' for t in tests) or "no test at all"
        raise user_error("no-tests", f"{options.file} has no test to run", f"it has {found}")
    passed = 0
    for name in names:
        outcome = _run(build, name)
        passed += outcome.passed
        if options.json:
            print_json(asdict(outcome))
        else:
            print(outcome, flush=True)
    counts = {"passed": passed, "failed": len(names) - passed}
    if options.json:
        print_json(counts)
    else:
        print(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    return 0 if passed == len(names) else 1


def _run(build: Build, name: str) -> Outcome:
    from dlc.frontend.elaborate.tested import FUNCTION, MARK

    start = perf_counter()
    try:
        Model(build.model(MARK + name, {}), 0).function(FUNCTION)()
    except CheckFailed as error:
        text = error.text.replace("{value}", str(error.value))
        return Outcome(name, False, perf_counter() - start, error.location, text)
    except RunError as error:
        return Outcome(name, False, perf_counter() - start, "", str(error))
    return Outcome(name, True, perf_counter() - start)
