"""What this machine can do at best: FMAs, and memory read, written and copied, by generated code.

usage: python -m tests.benchmarks.roofs [SECONDS]

prints one JSON object: for each number of cores at once GFLOP/s, and GB/s by the size of what is
touched (all cores together). A copy counts what it reads and what it writes.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tests.benchmarks.shapes import Array

ACCUMULATORS = 16
UNROLLED = 8
LINE = 64
SIZES = tuple(2**n for n in (18, 21, 24, 26, 28))  # bytes
PATTERNS = ("read", "write", "copy")


@dataclass(frozen=True, slots=True)
class Code:
    """Functions of (pointer to read, pointer to write, turns, mask), and lanes of a vector."""

    engine: llvm.ExecutionEngine
    lanes: int

    def function(self, name: str) -> Callable[..., None]:
        """A compiled function; it runs without Python's lock."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                ctypes.c_int64)
        return kind(self.engine.get_function_address(name))


def compiled() -> Code:
    """The loops, for the CPU that this runs on."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    lanes = 16 if features.get("avx512f") else 8 if features.get("avx") else 4
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2)
    text = [f"declare <{lanes} x float> @llvm.fma.v{lanes}f32(<{lanes} x float>, "
            f"<{lanes} x float>, <{lanes} x float>)", _fma(lanes)]
    text += [_memory(name, lanes, "") for name in PATTERNS]
    text += [_memory(name, lanes, ", !nontemporal !0") for name in PATTERNS[1:]]
    module = llvm.parse_assembly("\n".join([*text, "!0 = !{i32 1}"]))
    return Code(llvm.create_mcjit_compiler(module, target), lanes)


def _loop(name: str, phis: list[str], body: list[str], last: list[str]) -> str:
    """A function whose body runs once for each of its turns, counted by %i."""
    arguments = "ptr noalias %from, ptr noalias %to, i64 %turns, i64 %mask"
    lines = [f"define void @{name}({arguments}) {{", "entry:",
             "  br label %body", "body:", "  %i = phi i64 [0, %entry], [%next, %body]",
             *phis, *body, "  %next = add i64 %i, 1", "  %more = icmp slt i64 %next, %turns",
             "  br i1 %more, label %body, label %done", "done:", *last, "  ret void", "}"]
    return "\n".join(lines)


def _fma(lanes: int) -> str:
    """Independent chains of `a = a * x + y`, their results stored."""
    kind, chains = f"<{lanes} x float>", range(ACCUMULATORS)
    phis = [f"  %a{j} = phi {kind} [zeroinitializer, %entry], [%b{j}, %body]" for j in chains]
    body = [f"  %x = load {kind}, ptr %from, align 4",
            *(f"  %b{j} = call {kind} @llvm.fma.v{lanes}f32({kind} %a{j}, {kind} %x, {kind} %x)"
              for j in chains)]
    last = [line for j in chains
            for line in (f"  %p{j} = getelementptr {kind}, ptr %to, i64 {j}",
                         f"  store {kind} %b{j}, ptr %p{j}, align 4")]
    return _loop("fma", phis, body, last)


def _memory(name: str, lanes: int, hint: str) -> str:
    """`UNROLLED` vectors a turn, read, written or both, round and round: `%mask` + 1 turns, a power
    of two, go over all of it. What is read is combined, and stored at the end."""
    kind, places = f"<{lanes} x float>", range(UNROLLED)
    whole = f"<{lanes} x i32>"
    body = ["  %place = and i64 %i, %mask", f"  %base = mul i64 %place, {UNROLLED}"]
    phis, last = list[str](), list[str]()
    for j in places:
        body.append(f"  %o{j} = add i64 %base, {j}")
        if name != "write":
            body += [f"  %f{j} = getelementptr {kind}, ptr %from, i64 %o{j}",
                     f"  %v{j} = load {kind}, ptr %f{j}, align {lanes * 4}"]
        if name != "read":
            value = f"%v{j}" if name == "copy" else "zeroinitializer"
            body += [f"  %t{j} = getelementptr {kind}, ptr %to, i64 %o{j}",
                     f"  store {kind} {value}, ptr %t{j}, align {lanes * 4}{hint}"]
        else:
            phis.append(f"  %a{j} = phi {whole} [zeroinitializer, %entry], [%b{j}, %body]")
            body += [f"  %w{j} = bitcast {kind} %v{j} to {whole}",
                     f"  %b{j} = xor {whole} %a{j}, %w{j}"]
            last += [f"  %p{j} = getelementptr {whole}, ptr %to, i64 {j}",
                     f"  store {whole} %b{j}, ptr %p{j}, align {lanes * 4}"]
    return _loop(f"{name}{'_past' if hint else ''}", phis, body, last)


def _aligned(count: int) -> Array:
    """So many bytes that begin at a line of the cache, each page touched."""
    memory = np.ones(count + LINE, np.uint8)
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + count]


def _together(calls: list[Callable[[], None]], seconds: float) -> float:
    """The least time, in s, of making all calls at once, each on a core of its own."""
    cpus, least = sorted(os.sched_getaffinity(0)), float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or least == float("inf"):
        gate, spans = threading.Barrier(len(calls)), list[tuple[float, float]]()

        def run(place: int, gate: threading.Barrier, spans: list[tuple[float, float]]) -> None:
            os.sched_setaffinity(0, {cpus[place]})
            gate.wait()
            begun = time.perf_counter()
            calls[place]()
            spans.append((begun, time.perf_counter()))

        threads = [threading.Thread(target=run, args=(place, gate, spans))
                   for place in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        least = min(least, max(span[1] for span in spans) - min(span[0] for span in spans))
    return least


def _fma_rate(code: Code, cores: int, seconds: float) -> float:
    """GFLOP/s of so many cores at once."""
    function, turns = code.function("fma"), 2_000_000
    memory = [np.zeros(2 * ACCUMULATORS * code.lanes, np.float32) for _ in range(cores)]
    calls = [partial(function, x.ctypes.data, x.ctypes.data + x.nbytes // 2, turns, 0)
             for x in memory]
    return cores * turns * ACCUMULATORS * code.lanes * 2 / _together(calls, seconds) / 1e9


def _memory_rate(code: Code, pattern: str, size: int, cores: int, seconds: float) -> float:
    """GB/s of so many cores at once that touch `size` bytes in all."""
    own = size // cores // (2 if pattern == "copy" else 1)
    step = UNROLLED * code.lanes * 4
    turns = max(own, 2**23) // step
    arrays = [(_aligned(own), _aligned(max(own, step))) for _ in range(cores)]
    moved = cores * turns * step * (2 if pattern == "copy" else 1)
    rates = []
    for name in [pattern] if pattern == "read" else [pattern, f"{pattern}_past"]:
        function = code.function(name)
        calls = [partial(function, x.ctypes.data, y.ctypes.data, turns, own // step - 1)
                 for x, y in arrays]
        rates.append(moved / _together(calls, seconds) / 1e9)
    return max(rates)


def measured(seconds: float) -> dict[str, Any]:
    """All roofs, by the number of cores at once; `seconds` for each."""
    code, roofs = compiled(), {}
    for cores in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
        memory = {name: {str(size): _memory_rate(code, name, size, cores, seconds)
                         for size in SIZES} for name in PATTERNS}
        roofs[str(cores)] = {"fma": _fma_rate(code, cores, seconds), "memory": memory}
    return roofs


if __name__ == "__main__":
    print(json.dumps(measured(float(sys.argv[1]))))
