"""`dlc dump --stage timing`: each step has its row, in order, and the rows add up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlc.compiler.options import Options
from dlc.compiler.pipeline import passes
from dlc.frontend.commands.cli import main
from tests.frontend.small_mnist import TINY


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with tiny.dl, in which the command runs."""
    (tmp_path / "tiny.dl").write_text(TINY)
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Iterator[dict[str, Any]]:
    """The objects that `dlc dump tiny.dl --json` prints."""
    assert main(["dump", "tiny.dl", "--json", *arguments]) == 0
    yield from map(json.loads, capsys.readouterr().out.splitlines())


def test_each_step_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    program, fit = told(capsys, "--function", "fit", "--stage", "timing")
    assert (program["function"], fit["function"], fit["stage"]) == ("", "fit", "timing")
    rows = [(row["group"], row["name"]) for row in program["rows"] if row["group"] != "import"]
    assert rows == [("program", "key for the cache"), ("program", "read and parse"),
                    ("program", "check")]
    assert [row["name"] for row in fit["rows"] if row["group"] == "pass"] == [
        each.name for each in passes(Options())]
    assert [row["name"] for row in fit["rows"] if row["group"] == "LLVM"] == [
        "parse and verify", "generate code"]
    assert [row["name"] for row in fit["rows"] if row["group"] == "runtime"] == [
        "write the cache", "read the cache", "link"]
    assert any(row["group"] == "verify" for row in fit["rows"])
    for each in (program, fit):
        assert all(row["seconds"] >= 0 for row in each["rows"])
        assert each["elapsed"] > 0
        assert math.isclose(each["seconds"], sum(row["seconds"] for row in each["rows"]))


def test_all_functions_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "tiny.dl", "--stage", "timing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert heads == ["tiny.dl", "scores", "digit", "error_rate", "fit"]
    assert sum(line.split()[-2:] == ["pass", "emit"] for line in lines) == 4


def test_other_stages_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = told(capsys, "--function", "digit")
    assert (shown["function"], shown["stage"]) == ("digit", "graph")
    assert shown["text"].startswith("graph digit")
    (tree,) = told(capsys, "--stage", "syntax")
    assert "Model Tiny" in tree["text"]
