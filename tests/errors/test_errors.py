"""Bad programs, each with the diagnostics that it must give beside it.

`x.dl` is checked as `dlc check` does; what that prints stands in `x.txt`. After a change:
pytest tests/errors --update
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlc.frontend.elaborate.elaboration import Elaboration
from dlc.ir.diagnostics import UserError

FOLDER = Path(__file__).parent
PROGRAMS = sorted(FOLDER.glob("*.dl"))


def diagnostics_of(path: Path) -> str:
    try:
        Elaboration(path).check()
    except UserError as error:
        # Where the library stands in its files is no part of what is tested.
        return re.sub(r"(<\w+\.dl>):\d+:\d+", r"\1", f"{error}\n")
    return "no errors\n"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_bad_program_gives_its_diagnostics(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.with_suffix(".txt")
    found = diagnostics_of(path).replace(str(FOLDER) + "/", "")
    if request.config.getoption("--update", default=False):
        expected.write_text(found)
    assert found.startswith("error[")
    assert found == expected.read_text()


def test_every_expectation_has_its_program() -> None:
    assert {p.stem for p in FOLDER.glob("*.txt")} == {p.stem for p in PROGRAMS}
