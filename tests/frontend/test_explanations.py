"""Every error has a name, an explanation with programs that are true, and a golden test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dlc.frontend.commands.cli import main
from dlc.frontend.elaborate.elaboration import Elaboration
from dlc.frontend.explanations import entries, explanations
from dlc.ir.diagnostics import UserError
from tests.frontend.error_codes import codes

GOLDEN = Path(__file__).parents[1] / "errors"
SHOWN = {name: each for name, each in explanations().items() if each.wrong}
# What no program's text gives in `tests/errors`; the tests of the part named give it.
ELSEWHERE = {
    "bad-op": "python", "cannot-read": "driver", "cannot-resume": "train", "cannot-write": "train",
    "data": "data", "data-mismatch": "train", "misplaced": "python",
    "needs-pygls": "lsp", "no-gpu-compiler": "cuda", "no-tests": "test",
    "nothing-to-train": "train", "too-long": "hostile", "traced-bool": "python",
    "unknown-error": "explain", "unsupported": "python",
}  # fmt: skip


def codes_of(text: str, folder: Path) -> list[str]:
    """The codes of all that `dlc check` says of a program."""
    path = folder / "program.dl"
    path.write_text(text)
    try:
        Elaboration(path).check()
    except UserError as error:
        return [each.code for each in error.diagnostics]
    return []


def test_what_is_raised_is_explained_and_shown_and_what_is_explained_is_raised() -> None:
    raised, unclear = codes()
    golden = "\n".join(path.read_text() for path in GOLDEN.glob("*.txt"))
    tested = set(re.findall(r"^error\[([a-z0-9-]+)\]", golden, re.MULTILINE))
    told = {
        "raised, but not explained in frontend/explained": {
            name: places[0] for name, places in raised.items() if name not in explanations()
        },
        "explained, but never raised": sorted(set(explanations()) - set(raised)),
        "raised, but in no tests/errors/*.txt": sorted(set(raised) - tested - set(ELSEWHERE)),
        "both in tests/errors and listed as tested elsewhere": sorted(tested & set(ELSEWHERE)),
        "a code that is no text in the source": unclear,
    }
    assert {what: which for what, which in told.items() if which} == {}
    assert len(raised) >= 60


def test_an_entry_without_programs_is_one_that_no_text_gives() -> None:
    without = {name for name, each in explanations().items() if not each.wrong}
    assert without <= set(ELSEWHERE) | {"not-utf8", "nul-character"}


@pytest.mark.parametrize("name", SHOWN)
def test_the_wrong_program_has_this_error_alone_and_the_mended_one_none(
    name: str, tmp_path: Path
) -> None:
    assert codes_of(SHOWN[name].wrong, tmp_path) == [name]
    assert codes_of(SHOWN[name].mended, tmp_path) == []


def test_an_entry_with_one_program_is_refused() -> None:
    with pytest.raises(ValueError, match="1 programs"):
        entries("## some-name: a line\n\n```dl\nfn f() -> f32 = 1.0\n```\n")


def test_explain_prints_one_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "integer-division"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("integer-division: `/` of integers\n")
    assert "Wrong:\n\n    fn f(k: i32[N]) -> i32[N] = k / 2\n" in shown
    assert "Mended:\n\n    fn f(k: i32[N]) -> i32[N] = k // 2\n" in shown
    assert shown.count("Mended:") == shown.count("Wrong:") == 1
    assert main(["explain", "integer-division", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"name", "line", "text", "wrong", "mended"}


def test_explain_alone_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(explanations())
    assert main(["explain", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {name: each.line for name, each in explanations().items()}


def test_explain_of_an_unknown_name_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "integer-divsion"]) == 1
    shown = capsys.readouterr().err
    assert "error[unknown-error]" in shown
    assert "did you mean `integer-division`?" in shown
