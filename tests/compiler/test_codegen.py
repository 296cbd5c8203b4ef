"""Code generation in parts and threads: the same results as in one, errors and forks included."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.compiler import pipeline
from dlc.compiler.levels import Compiled
from dlc.compiler.llvm import codegen, program
from dlc.compiler.llvm.target import CODE_LEVEL, Target, compile_module, host, new_machine
from dlc.frontend import driver
from dlc.ir.diagnostics import InternalError
from dlc.runtime import jit
from dlc.runtime.artifact import Artifact
from dlc.runtime.elf import Unlinkable, members
from dlc.runtime.function import Function

MODEL = "examples/plain_lenet5.dl"


def trained(part: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[bytes]]:
    """How many objects a step is made of, and its loss and variables after two steps."""
    monkeypatch.setattr(program, "PART", part)
    model = driver.load(MODEL).model("PlainLeNet5", seed=0)
    graph, options = model.built.graph("fit"), model.built.options("fit")
    code, manifest = pipeline.compile_graph(graph, options)
    fit = Function(Artifact(manifest, code), model.storage())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 1, 32, 32)).astype(np.float32)
    losses = [fit(x, np.array([1, 2, 3], np.int32)) for _ in range(2)]
    values: list[Any] = [*losses, *(model.storage().get(name) for name in model.storage())]
    return len(members(code)), [each.tobytes() for each in values]


def test_parts_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    one, whole = trained(10**9, monkeypatch)
    many, parts = trained(200, monkeypatch)
    assert one == 1
    assert many > 5
    assert parts == whole


TEXTS = ("define i64 @one(i64 %x) { %y = add i64 %x, 1 ret i64 %y }",
         "declare i64 @one(i64)\n"
         "define i64 @two(i64 %x) { %y = call i64 @one(i64 %x) %z = call i64 @one(i64 %y) "
         "ret i64 %z }\n@of = global ptr @one")


def module(*parts: str) -> Compiled:
    return Compiled("", {}, tuple(f'target triple = "{host().triple}"\n{part}' for part in parts))


def test_llvm_links_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    code = codegen.begin_code(module(*TEXTS), host())()
    assert len(members(code)) == 2
    from dlc.runtime import elf

    def refuse(*given: object) -> None:
        raise Unlinkable("for a test")

    for linker in ("dlc", "LLVM: for a test"):
        loaded = jit.load(code, ["two"])
        if sys.platform == "linux":
            assert loaded.linker == linker
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
        assert kind(loaded.address("two"))(40) == 42
        monkeypatch.setattr(elf, "link", refuse)


def test_what_is_told_is_of_all_parts() -> None:
    told: list[tuple[str, float]] = []
    wait = codegen.begin_code(module(*TEXTS), host(), lambda *each: told.append(each))
    assert told == []
    wait()
    assert [name for name, _ in told] == ["parse and verify", "generate code"]
    assert all(seconds > 0 for _, seconds in told)


def test_parts_begin_before_the_rest_is_there() -> None:
    begun = codegen.Begun(host())
    made = module(*TEXTS)
    begun.begin(made.parts[0])
    (job,) = begun._jobs.values()
    code = codegen.begin_code(made, host(), None, begun)()
    assert code == codegen.begin_code(made, host())()
    assert not begun._jobs
    assert job.emitting > 0


def test_large_modules_tell_their_parts_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PART", 300)
    model = driver.load(MODEL).model("PlainLeNet5", seed=0)
    options = pipeline._for_target(model.built.options("fit"))
    told: list[str] = []
    made = pipeline._run(model.built.graph("fit"), options, None, told.append)
    assert 1 < len(told) < len(made.parts)
    assert list(made.parts[: len(told)]) == told
    assert sum(part.count("define void @kernel") for part in made.parts) == made.text.count(
        "define internal void @kernel")


def test_an_error_is_raised_where_the_code_is_waited_for() -> None:
    wait = codegen.begin_code(module(TEXTS[0], "define nonsense"), host())
    with pytest.raises(InternalError, match="llvm"):
        wait()
    assert not codegen._waiting
    assert not codegen._claimed


FORK = """
import os, sys
from dlc.compiler.llvm import codegen
from tests.compiler.test_codegen import TEXTS, module
from dlc.compiler.llvm.target import CODE_LEVEL, Target, compile_module, host, new_machine
waits = [codegen.begin_code(module(*TEXTS), host()) for _ in range(8)]
child = os.fork()
codes = [wait() for wait in waits]
again = codegen.begin_code(module(*TEXTS), host())()
well = set(codes) == {again}
if child == 0:
    os._exit(0 if well else 1)
print(well, os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_fork_finds_llvm_at_rest() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=100,
                          cwd=Path(__file__).parents[2], check=False)
    assert (done.stdout, done.returncode) == ("True 0\n", 0), done.stderr


STRIDES = """
define void @strides(ptr %x, i64 %n, i64 %s) {
start:
  br label %loop
loop:
  %i = phi i64 [0, %start], [%next, %loop]
  %at = mul i64 %i, %s
  %place = getelementptr float, ptr %x, i64 %at
  store float 1.0, ptr %place
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def test_llvm_says_the_same_of_this_machine_to_all() -> None:
    import llvmlite.binding as llvm

    assert host() == Target(llvm.get_default_triple(), llvm.get_host_cpu_name(),
                            llvm.get_host_cpu_features().flatten())


def test_no_machine_of_an_unknown_kind() -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        new_machine(Target("nowhere-at-all", "", ""))


def test_others_find_llvm_as_it_was() -> None:
    import llvmlite.binding as llvm

    def usual() -> bytes:
        module = llvm.parse_assembly(text, llvm.create_context())
        return bytes(machine.emit_object(module))

    text = f'target triple = "{host().triple}"\n{STRIDES}'
    compile_module(text, host())  # makes LLVM know this machine
    machine = llvm.Target.from_triple(host().triple).create_target_machine(
        cpu=host().cpu, features=host().features, opt=CODE_LEVEL, reloc="pic", codemodel="small")
    before = usual()
    assert compile_module(text, host()) != before  # or the test shows nothing
    assert usual() == before


def test_jobs_leave_no_threads() -> None:
    codegen.begin_code(module(*TEXTS), host())()
    for thread in list(codegen._helpers):
        thread.join(30)
    assert not codegen._helpers


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_who_waits_compiles_what_no_other_thread_does(
    cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    by: list[int] = []
    compile_one = codegen._Job._compile

    def noted(job: Any) -> None:
        by.append(threading.get_ident())
        compile_one(job)

    monkeypatch.setattr(codegen._Job, "_compile", noted)
    monkeypatch.setattr(codegen, "_cpus", lambda: cpus)
    waits = [codegen.begin_code(module(*TEXTS), host()) for _ in range(6)]
    assert len(codegen._helpers) < cpus
    assert len({wait() for wait in waits}) == 1
    assert len(by) == 6 * len(TEXTS)
    if cpus == 1:
        assert set(by) == {threading.get_ident()}
