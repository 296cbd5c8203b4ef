"""docs/language.md: its programs are programs, its rules are whole, tests carry their numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.modules import program_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "language.md").read_text()
PROGRAMS = re.findall(r"^```dl\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", PROGRAMS, ids=range(len(PROGRAMS)))
def test_its_programs_are_well(text: str) -> None:
    check_program(program_of(text))


def test_its_rules_are_numbered_1_to_52() -> None:
    assert len(PROGRAMS) >= 2
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, 53))


def test_each_rule_has_a_test_of_its_number() -> None:
    texts = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    names = re.findall(r"def test_rule_((?:\d\d_)+)", texts)
    tested = {int(number) for name in names for number in name.strip("_").split("_")}
    assert tested == set(range(1, 53))


def test_lines_stay_readable() -> None:
    assert max(map(len, PAGE.splitlines())) <= 140
