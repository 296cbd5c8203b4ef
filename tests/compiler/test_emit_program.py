"""Hand-written programs, run through `dlc_entry` and `dlc_layout` with a context."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.compiler.llvm.target import emit_assembly, target
from dlc.compiler.options import Options
from dlc.compiler.passes.emit import dim_json, emit
from dlc.compiler.passes.plan_memory import offsets, plan_memory, planned
from dlc.ir.dims import Dim, ceildiv, floordiv, maximum, minimum, symbol
from dlc.ir.graph import Condition, Loc
from dlc.ir.kernel import Buffer, Kernel, Layout
from dlc.ir.loops import (
    Apply,
    Const,
    For,
    Load,
    LoopFunction,
    Mask,
    Pointer,
    Statement,
    Store,
)
from dlc.ir.program import BufferKind, Check, Commit, Launch, Program, ProgramBuffer
from dlc.ir.schedule import Schedule
from dlc.ir.types import BOOL, F32, I64, DType
from tests.compiler.program_runner import CompiledProgram, Pool

N, i, chunk = symbol("N"), symbol("i"), symbol("chunk")
Array = np.ndarray[Any, Any]


def _function(name: str, body: tuple[Statement, ...], pointers: str | dict[str, DType],
              symbols: tuple[str, ...] = ("N",), chunks: Dim = 1) -> LoopFunction:
    if isinstance(pointers, str):
        pointers = dict.fromkeys(pointers, F32)
    made = tuple(Pointer(name, dtype, True) for name, dtype in pointers.items())
    return LoopFunction(name, symbols, made, chunks, body)


def _kernel(function: LoopFunction, roles: tuple[str, ...]) -> Kernel:
    params = tuple(Buffer(p.name, p.dtype, (N,), role)  # type: ignore[arg-type]
                   for p, role in zip(function.pointers, roles, strict=True))
    return Kernel(function.name, function.symbols, params, (), (), ())


SIZE = 32  # elements a chunk
# z = x + y, in chunks of SIZE
ADD = _function("add", (For("i", chunk * SIZE, minimum(N, chunk * SIZE + SIZE), (
    Mask("m", i, N, 16), Load("a", "x", i, F32, 16, "m"), Load("b", "y", i, F32, 16, "m"),
    Apply("c", "add", ("a", "b"), F32, F32, 16), Store("z", i, "c", F32, 16, "m")), 16),),
    "xyz", chunks=ceildiv(N, SIZE))
# ok = x[0] > 0
POSITIVE = _function("positive", (
    Load("a", "x", 0, F32), Const("zero", 0, F32), Apply("c", "gt", ("a", "zero"), BOOL, F32),
    Store("ok", 0, "c", BOOL)), {"x": F32, "ok": BOOL}, ())


def _buffer(name: str, kind: BufferKind = "temp", dtype: DType = F32, dims: tuple[Dim, ...] = (N,),
            **more: Any) -> ProgramBuffer:
    return ProgramBuffer(name, dtype, dims, kind, Layout(), **more)


def _sums() -> Program:
    """out = ((x + x) + x) + x, through two temps, one of them under another name."""
    buffers = (_buffer("x", "in"), _buffer("t"), _buffer("u"), _buffer("out", "out"),
               _buffer("t2", dims=(N, 1), alias_of="t"))
    steps = (Launch("add", ("x", "x", "t"), (N,)), Launch("add", ("t2", "x", "u"), (N,)),
             Launch("add", ("u", "x", "out"), (N,), "", (Loc("a.dl", 3, 9),)))
    return Program("sums", ("N",), buffers, steps, (_kernel(ADD, ("in", "in", "out")),),
                   (("add", Schedule("", (), cost=70)),), (ADD,))


@pytest.mark.parametrize("n", [1, 31, 32, 33, 1000])
def test_launches_and_temps(n: int) -> None:
    x, out = np.arange(n, dtype=np.float32), np.zeros(n, np.float32)
    CompiledProgram(_sums())(x, out, dims=(n,))
    np.testing.assert_array_equal(out, 4 * x)


def test_chunks_go_to_the_pool() -> None:
    pool = Pool()
    x, out = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    compiled = CompiledProgram(_sums())
    compiled(x, out, dims=(100,), pool=pool)
    np.testing.assert_array_equal(out, 4 * x)
    assert pool.seen == [(4, 70)] * 3
    assert (pool.takes, pool.owned) == (1, False)
    compiled(x, out, dims=(20,), pool=pool)
    assert len(pool.seen) == 3


@pytest.mark.parametrize("n", [0, 1, 17, 5000])
def test_the_layout_is_the_plan(n: int) -> None:
    compiled = CompiledProgram(_sums())
    found = offsets(compiled.program, {"N": n})
    expected = [found[""], *(found[b.name] for b in planned(compiled.program))]
    assert compiled.offsets(n).tolist() == expected


def _checked() -> Program:
    """var += x once x[0] > 0."""
    buffers = (_buffer("x", "in", default=2.5), _buffer("w.a", "var", dims=(8,)),
               _buffer("w.b", "var", dims=(8,)), _buffer("ok", dtype=BOOL, dims=()))
    steps = (Launch("positive", ("x", "ok"), ()),
             Check("ok", 1, "x is positive", (Loc("a.dl", 3, 9, Loc("b.dl", 1, 1)),)), Commit(),
             Launch("add", ("x", "w.a", "w.b"), (8,)))
    kernels = (_kernel(POSITIVE, ("in", "out")), _kernel(ADD, ("in", "in", "inout")))
    return Program("checked", ("N",), buffers, steps, kernels, (), (POSITIVE, ADD),
                   (Condition(N, ">=", 8, "N >= 8"),))


def test_checks_stop_before_the_commit() -> None:
    compiled = CompiledProgram(_checked())
    x, a = np.full(8, -1, np.float32), np.full(8, 5, np.float32)
    b = np.zeros(8, np.float32)
    compiled(x, a, b, dims=(8,))
    assert compiled.status.tolist() == [1, 0]
    assert not b.any()
    compiled.status[:] = 0
    compiled(-x, a, b, dims=(8,))
    assert compiled.status.tolist() == [0, 0]
    assert (b == 6).all()


def test_manifest() -> None:
    found = CompiledProgram(_checked()).module.manifest
    assert found["symbols"] == ["N"]
    assert found["inputs"] == [
        {"name": "x", "dtype": "f32", "dims": ["N"], "text": "f32[N]", "default": 2.5}]
    assert found["outputs"] == []
    assert found["variables"] == [
        {"name": "w.a", "dtype": "f32", "dims": [8], "digits": None, "read": True,
         "written": False},
        {"name": "w.b", "dtype": "f32", "dims": [8], "digits": None, "read": True,
         "written": True}]
    assert (found["buffers"], found["offsets"], found["random"]) == (3, 2, False)
    assert found["conditions"] == [{"lhs": "N", "op": ">=", "rhs": 8, "text": "N >= 8"}]
    assert found["checks"] == [{"text": "x is positive", "location": "a.dl:3:9"}]
    assert [each["name"] for each in found["launches"]] == [  # type: ignore[attr-defined]
        "positive", "add"]


def test_dims_in_the_manifest() -> None:
    assert dim_json(4 - N) == ["+", ["-", 0, "N"], 4]
    assert dim_json(N * N * 3 - 1) == ["-", ["*", ["*", 3, "N"], "N"], 1]
    assert dim_json(maximum(floordiv(N, 2), 4)) == ["max", 4, ["//", "N", 2]]


def test_random_state_and_constants() -> None:
    body = (Load("s", "r", 1, I64), Apply("f", "cast", ("s",), F32, I64, 1, (("to", F32),)),
            Load("c", "t", 1, F32), Apply("n", "add", ("f", "c"), F32, F32),
            Store("y", 0, "n", F32))
    function = _function("draw", body, {"r": I64, "t": F32, "y": F32}, ())
    buffers = (_buffer("rng", "random", I64, (2,)), _buffer("y", "out", dims=()),
               _buffer("é", "const", dims=(2,), values=(1.0, 0.5)))
    program = Program("p", (), buffers, (Launch("draw", ("rng", "é", "y"), ()),),
                      (_kernel(function, ("in", "in", "out")),), (), (function,))
    compiled, y = CompiledProgram(program), np.zeros(1, np.float32)
    compiled(y, random=(5, 41))
    assert y[0] == 41.5
    assert compiled.module.manifest["random"] is True


def test_denormals_are_flushed_and_the_mode_is_restored() -> None:
    tiny = np.full(8, 1e-40, np.float32)
    out = np.ones(8, np.float32)
    CompiledProgram(_sums())(tiny, out, dims=(8,))
    assert not out.any()
    assert (tiny + tiny != 0).all()


@pytest.mark.parametrize("cpu", ["x86-64-v3", "x86-64-v4", "aarch64", "x86-64"])
def test_other_targets_assemble(cpu: str) -> None:
    options = Options(target=cpu)
    module = emit(plan_memory(_sums(), options), options)
    text = emit_assembly(module.text, target(cpu))
    assert "dlc_entry:" in text
    assert ("zmm" in text) == (cpu == "x86-64-v4")
