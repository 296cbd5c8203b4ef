"""Hostile programs: deep, long, huge, or no text at all. Each ends in a diagnostic, and soon."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.modules import read_program
from dlc.ir.diagnostics import UserError
from dlc.runtime.errors import TooLargeError
from tests.frontend import fuzz

HEAD = "fn f(x: f32[N]) -> f32[N] = "
BLOCK = "fn f(x: f32[N]) -> f32[N] {\n"
N = 100_000
DEEP = {
    "brackets": HEAD + "(" * N + "x" + ")" * N,
    "lists": HEAD + "[" * N + "x" + "]" * N,
    "minus": HEAD + "-" * N + "x",
    "not": "fn f(x: bool[N]) -> bool[N] = " + "not " * N + "x",
    "sum": HEAD + "x" + " + x" * N,
    "power": HEAD + "x" + " ** 2" * N,
    "choices": HEAD + "x if true else " * N + "x",
    "pipes": HEAD + "x" + " |> relu" * N,
    "indices": HEAD + "x" + "[:]" * N,
    "members": HEAD + "x" + ".a" * N,
    "comparisons": HEAD + "x" + " < x" * N,
    "arguments": HEAD + "f(" + "x, " * N + ")",
    "blocks": BLOCK + "if true {\n" * N + "}\n" * N + "return x\n}",
    "else if": BLOCK + "if true { }" + " else if true { }" * N + "\nreturn x\n}",
    "statements": BLOCK + "x = x + 1.0\n" * N + "return x\n}",
    "definitions": "".join(f"fn g{i}(x: f32[N]) -> f32[N] = x\n" for i in range(30_000)),
    "wrong definitions": "".join(f"fn g{i}(x: f32) -> f32 = x x\n" for i in range(30_000)),
    "calls of calls": "fn g0(x: f32) -> f32 = x\n"
    + "".join(f"fn g{i}(x: f32) -> f32 = g{i - 1}(x) + g{i - 1}(x)\n" for i in range(1, 60)),
    "a long name": f"fn {'f' * 10_000}(x: f32[N]) -> f32[N] = x + {'g' * 10_000}",
    "long names": f"fn {'f' * N}(x: f32[N]) -> f32[N] = x + {'f' * N}g",
    "a long number": HEAD + "x * " + "9" * N,
    "a long text": BLOCK + '    assert 1 > 2, "' + "t" * N + '"\n    return x\n}',
    "symbols": "fn f(" + ", ".join(f"x{i}: f32[N{i}]" for i in range(5000)) + ") -> f32 = 1.0 + y",
    "a long dim": "fn f(x: f32[N, M]) -> f32[" + "(N + M) * " * 90 + "1] = x",
}
RUN = """
import json, resource, sys, time
from pathlib import Path
from dlc.frontend.elaborate.elaboration import Elaboration
from dlc.ir.diagnostics import UserError
said = []
start = time.process_time()
try:
    Elaboration(Path(sys.argv[1])).check()
except UserError as error:
    said = [each.code for each in error.diagnostics]
    str(error)
seconds = time.process_time() - start
# What a process used at most counts that of the one it was forked from; this is of its own program.
status = Path("/proc/self/status")
peak = (int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists()
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps([said, seconds, peak * 1024]))
"""


def limits() -> None:
    """Of the child: a crash by one of them fails the test."""
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def checked(path: Path) -> list[str]:
    """What `dlc check` finds, in a process with limits; within the time and memory allowed."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(path)], capture_output=True, text=True, timeout=120,
        preexec_fn=limits, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    said, seconds, memory = json.loads(ran.stdout)
    assert seconds < fuzz.SECONDS
    assert memory < fuzz.BYTES
    assert isinstance(said, list)
    return said


def said_of(text: str | bytes, folder: Path) -> list[str]:
    """The codes that a program gets, here and now."""
    path = folder / "program.dl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    try:
        check_program(read_program(path, path.name))
    except UserError as error:
        return [each.code for each in error.diagnostics]
    return []


@pytest.mark.parametrize("name", DEEP)
def test_what_is_deep_or_long_is_refused_soon(name: str, tmp_path: Path) -> None:
    path = tmp_path / "program.dl"
    path.write_text(DEEP[name] + "\n")
    assert checked(path)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fn f(x: f32[9223372036854775808]) -> f32 = sum(x)", "tensor-size"),
        ("fn f(x: f32[-1]) -> f32[-1] = x", "zero-size"),
        ("fn f(x: f32[N]) -> f32[N, 4294967296, 4294967296] = zeros(N, 4294967296, 4294967296)",
         "tensor-size"),
        ("model M { param w: f32[4294967296, 4294967296] = zeros() }", "tensor-size"),
        (HEAD + "x * 1e999", "number-range"),
        (HEAD + "x * " + "9" * 400, "integer-range"),
        ("fn größe(x: f32) -> f32 = x", "foreign-character"),
        ("fn f(x: f32[N]) -> f32[N] = \u202ex", "foreign-character"),
        (b"fn f(x: f32) -> f32 = \xff", "not-utf8"),
        (b"fn f(x: f32) -> f32 = \xed\xa0\x80", "not-utf8"),
        (b"fn f(x: f32) -> f32 = \0x", "nul-character"),
        ("", "empty"),
        ("# nothing", "empty"),
        ('import "program.dl"', "import-cycle"),
        ('import "../program.dl"', "import-outside"),
        ('import "/etc/passwd"', "import-outside"),
        ('import "."', "unknown-import"),
        ("model M { param w: f32[500000, 500000] = zeros() }", "tensor-size"),
        ("fn f(x: f32[N]) -> f32 = sum(zeros(500000, 500000))", "tensor-size"),
        ("fn f(x: f32[500000, 1], y: f32[1, 500000]) -> f32 = sum(x * y)", "tensor-size"),
    ],
)  # fmt: skip
def test_what_is_hostile_is_named(text: str | bytes, code: str, tmp_path: Path) -> None:
    assert code in said_of(text, tmp_path)


def test_a_link_does_not_lead_an_import_out_of_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside.dl"
    inside.mkdir()
    outside.write_text("fn secret() -> f32 = 1.0\n")
    (inside / "link.dl").symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path)
    (inside / "circle.dl").symlink_to(inside / "circle.dl")
    assert said_of('import "link.dl"\n', inside) == ["import-outside"]
    assert said_of('import "folder/outside.dl"\n', inside) == ["import-outside"]
    assert said_of('import "circle.dl"\n', inside) in (["unknown-import"], ["import-outside"])
    (inside / "within.dl").symlink_to(inside / "real.dl")
    (inside / "real.dl").write_text("fn g(x: f32) -> f32 = x\n")
    assert said_of('import "within.dl"\nfn f(x: f32) -> f32 = g(x)\n', inside) == []


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + HEAD.encode() + b"x\n",
        HEAD.encode() + b"x\r\n\r\n",
        HEAD.encode() + b"\t x",
        HEAD.encode() + b"x",
    ],
    ids=["BOM", "CRLF", "tab", "no newline"],
)
def test_odd_but_good_texts_are_read(text: bytes, tmp_path: Path) -> None:
    assert said_of(text, tmp_path) == []


HUGE = """
model M {
    param w: f32[SIDE, SIDE] = zeros()
    fn f(x: f32[K]) -> f32[K, K] = x[:, None] * x[None, :]
    fn g(x: f32[K]) -> f32 = sum((x[:, None] * x[None, :]) @ (x[:, None] * x[None, :]))
}
"""


def test_more_memory_than_the_machine_has_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    side = 1 + math.isqrt(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    path = tmp_path / "huge.dl"
    path.write_text(HUGE.replace("SIDE", str(side)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLargeError, match="bytes of memory, and the machine has"):
        _ = dlc.load(path).M().variables["w"]
    path.write_text(HUGE.replace("SIDE", "1"))
    model = dlc.load(path).M()
    x = np.ones(side, np.float32)
    for function in (model.f, model.g):
        with pytest.raises(TooLargeError, match="bytes of memory, and the machine has"):
            function(x=x)
    assert model.f(x=x[:3]).shape == (3, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


def test_names_of_a_program_do_not_reach_the_code_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "names.dl"
    names = ["define", "main", "memcpy", "llvm", "i32", "null", "_", "__", "x" * 3000]
    legal = [name for name in names if name != "i32"]
    body = "\n".join(f"    {name} = exp({name} + x)" for name in legal if name != "main")
    path.write_text(
        "fn main(" + ", ".join(f"{name}: f32[N]" for name in [*legal, "x"] if name != "main")
        + ") -> f32[N] {\n" + body + "\n    return define + memcpy + llvm + null + _ + __\n}\n"
    )  # fmt: skip
    for stage in ("llvm", "asm"):
        text = dlc.load(path).main.dump(stage)
        assert "x" * 3000 not in text
        code = [re.sub(r'c?"[^"]*"', "", line).partition(";")[0] for line in text.splitlines()]
        assert not [line for line in code if re.search(r"@(main|memcpy|define|null)\b", line)]


def test_programs_that_nobody_would_write() -> None:
    checker = fuzz.run(cases=200, number=20240611)
    assert checker.broken == []
    assert checker.count == 200


def test_the_fuzzer_finds_what_breaks_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr(fuzz, "check_program", broken)
    checker = fuzz.Checker()
    checker.check(b"fn f(x: f32) -> f32 = x\n")
    assert [said for _, said in checker.broken] == ["RecursionError: deep"]
