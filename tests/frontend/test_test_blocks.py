"""`dlc test`: blocks that hold, that do not, and that can't be run at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlc.frontend.commands.cli import main
from dlc.frontend.driver import load

PROGRAM = """
import nn
model Counter {
    state n: i32 = 0
    param w: f32[3] = normal(stddev=1.0)
    step up(by: i32) -> i32 {
        n += by
        if not training { n := 1000 }
        return n
    }
    step learn(x: f32[N, 3]) -> f32 {
        loss = mean((x @ w) ** 2)
        minimize loss with adam(lr=0.1)
        return loss
    }
    fn drawn(x: f32[N]) -> f32[N] = dropout(x, 0.5)
}

test "counts up" {
    a = Counter()
    b = Counter()
    _ = a.up(3)
    assert a.up(4) == 7, "seven"
    assert b.n == 0, "another one"
}

test "learns in a loop" {
    m = Counter()
    x = normal(8, 3)
    first = m.learn(x)
    scan _ in range(30) carry last = first { last = m.learn(x) }
    assert last < 0.5 * first, "the loss falls"
    assert all(m.drawn(ones(5)) == 1.0), "nothing is dropped here"
    m = Counter()
    assert m.n == 0, "built anew"
}

test "fails" {
    m = Counter()
    n = m.up(5)
    print("n is {n}")
    assert n == 5, "five"
    for k in range(3) {
        assert n + k < 7, "it stays small"
    }
}
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "program.dl"
    path.write_text(PROGRAM)
    return path


def test_each_block_has_a_line(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "program.dl"]) == 1
    place = PROGRAM[: PROGRAM.index("assert n + k")].count("\n") + 1
    assert capfd.readouterr().out.splitlines() == [
        "passed  counts up", "passed  learns in a loop", "n is 5",
        f"FAILED  fails: program.dl:{place}:9: it stays small", "2 passed, 1 failed"]


def test_blocks_are_picked_by_name(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "program.dl", "-k", "s up"]) == 0
    assert capfd.readouterr().out.splitlines() == ["passed  counts up", "1 passed"]
    assert main(["test", "program.dl", "-k", "nothing"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "has no test to run" in said.err
    assert '"counts up"' in said.err


def test_json_is_an_object_a_line(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "program.dl", "--json", "-k", "a"]) == 1
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    *tests, last = map(json.loads, lines)
    assert [(t["test"], t["passed"]) for t in tests] == [
        ("learns in a loop", True), ("fails", False)]
    assert tests[1]["message"] == "it stays small"
    assert tests[1]["place"].startswith("program.dl:")
    assert all(t["seconds"] > 0 for t in tests)
    assert last == {"passed": 1, "failed": 1}


@pytest.mark.parametrize(("block", "right"), [
    ("m = Counter()\n return m.n", "a test returns nothing"),
    ("m = Counter(width=3)", "has no parameter `width`"),
    ("x = sum(unknown)", "there is no `unknown`"),
])
def test_what_is_wrong_in_a_block_is_told_before_any_runs(
    program: Path, capfd: pytest.CaptureFixture[str], block: str, right: str
) -> None:
    program.write_text(f"{PROGRAM}\ntest \"more\" {{\n {block}\n}}\n")
    for command in ("test", "check"):
        assert main([command, "program.dl"]) == 1
        said = capfd.readouterr()
        assert right in said.err
        assert "program.dl:" in said.err
        assert "passed" not in said.out


def test_models_of_tests_are_no_models_of_the_program(program: Path) -> None:
    assert list(load(program).models) == ["Counter"]


def test_rule_09_48_tests_of_an_import_are_not_run_and_one_that_never_holds_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part.dl").write_text('fn f() -> f32 = 1.0\ntest "other" { assert 1 > 2, "x" }\n')
    path = tmp_path / "m.dl"
    path.write_text('import "part.dl"\ntest "sizes" {\n x = ones(4)\n assert x.shape[0] == 3, "3"'
                    '\n}\ntest "holds" { assert f() == 1.0, "1" }\n')
    assert main(["check", str(path)]) == 0
    assert main(["test", str(path)]) == 1
    said = capsys.readouterr().out
    assert "FAILED  sizes" in said
    assert "m.dl:4:2: 3" in said
    assert "1 passed, 1 failed" in said
