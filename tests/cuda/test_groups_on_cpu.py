"""Warp groups on a CPU: bulk copies, signals and products give NumPy's numbers; bugs are caught."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.compiler.cuda.groups import groups_text
from dlc.compiler.cuda.nvrtc import compile_cubin
from dlc.compiler.cuda.program import PRELUDE, TENSOR
from dlc.runtime.cuda.tensor_maps import tensor_map
from tests.cuda.on_cpu import KernelFault, Memory, Module, needs_compiler

HEADERS = ("cuda_on_cpu.h", "groups.h")
ROWS, COLUMNS, STAGES = 128, 64, 3
KERNEL = """
extern "C" __global__ void __launch_bounds__(384, 1) product(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float *c, Wide rows,
    Wide columns, Wide turns) {
  DYNAMIC_SHARED(unsigned char, memory);
  unsigned short *left = (unsigned short *)memory, *right = left + 3 * 128 * 64;
  Signal *full = (Signal *)(right + 3 * 64 * 64), *empty = full + 3;
  const int thread = threadIdx.x, first = blockIdx.x * 128;
  if (thread == 0) {
    for (int k = 0; k < 3; k++) begin_signal(full + k, 1), begin_signal(empty + k, 8);
    signals_are_there();
  }
  __syncthreads();  // all signals have begun
  if (thread >= 256) {
    fewer_registers<40>();
    if (thread == 256)
      for (int turn = 0; turn < turns; turn++) {
        int stage = turn % 3;
        await_phase(empty + stage, turn / 3 - 1);
        arrive_expecting(full + stage, 192 * 128);
        LEFT_BOXES
        RIGHT_BOXES
      }
  } else {
    more_registers<232>();
    float sums[32] = {};
    const int group = thread / 128;
    for (int turn = 0; turn < turns; turn++) {
      int stage = turn % 3;
      await_phase(full + stage, turn / 3);
      products_begin();
#pragma unroll
      for (int k = 0; k < 64; k += 16)
        multiply_rows<F16, 64, LEFT_TURNED, RIGHT_TURNED>(
            sums, panel_at(left + stage * 128 * 64 + group * 64 * 64 + k * LEFT_STEP, 0),
            panel_at(right + stage * 64 * 64 + k * RIGHT_STEP, 0));
      products_end_group();
      wait_for_products<1>();  // for the turn before
      if (turn > 0 && thread % 32 == 0) arrive(empty + (turn - 1) % 3);
    }
    wait_for_products<0>();  // for the last turn
    int row = first + group * 64 + thread % 128 / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (int i = 0; i < 32; i++) {
      int r = row + i / 2 % 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      if (r < rows && column < columns) c[r * columns + column] = sums[i];
    }
  }
}
"""
COPY = "copy_box({panel} + stage * {size} * 64{beside}, {map}, full + stage, {place});"
TURNED = pytest.mark.parametrize("turned", [
    (False, False), (True, False), (False, True), (True, True)], ids=str)


def kernel(turned: tuple[bool, bool]) -> str:
    """The product of factors whose lines lie along the sum, or (turned) do not."""
    left, right = turned
    boxes = [COPY.format(panel="left", size=128, beside="", map="a", place="turn * 64, first")]
    if left:
        boxes = [COPY.format(panel="left", size=128, beside=f" + {k * 64}", map="a",
                             place=f"first + {k}, turn * 64") for k in (0, 64)]
    right_box = COPY.format(panel="right", size=64, beside="", map="b",
                            place="0, turn * 64" if right else "turn * 64, 0")
    text = KERNEL.replace("LEFT_BOXES", "\n".join(boxes)).replace("RIGHT_BOXES", right_box)
    for name, is_turned in (("LEFT", left), ("RIGHT", right)):
        text = text.replace(f"{name}_TURNED", str(is_turned).lower())
        text = text.replace(f"{name}_STEP", "64" if is_turned else "1")
    return text


def whole(text: str) -> str:
    """With all that it needs."""
    return "\n".join((PRELUDE, TENSOR, groups_text([text]), text))


def run(module: Module, turned: tuple[bool, bool], sizes: tuple[int, int, int],
        backwards: bool) -> float:
    """The largest difference to NumPy's product of small integers, of which sums are exact."""
    rows, inner, columns = sizes
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, s).astype(np.float16) for s in ((rows, inner), (inner, columns)))
    memory, maps = [], []
    for array, is_turned, side in ((x, turned[0], ROWS), (w.T, turned[1], COLUMNS)):
        made = np.ascontiguousarray(array.T if is_turned else array)
        padded = np.full((len(made), -(-made.shape[1] // 8) * 8), 7, np.float16)
        padded[:, :made.shape[1]] = made  # what is past the end is no zero
        memory.append(Memory.of(padded))
        box = (64, 64 if is_turned else side)
        maps.append(tensor_map(memory[-1].address, "f16", made.shape[::-1], padded.shape[1:], box,
                               module.tensor_map))
    result = Memory(rows * columns, np.float32)
    module.launch("product", -(-rows // ROWS), 384, *maps, result, *map(
        ctypes.c_longlong, (rows, columns, -(-inner // 64))),
        shared=STAGES * (ROWS + COLUMNS) * 128 + 1024, backwards=backwards)
    expected = x.astype(np.float32) @ w.astype(np.float32)
    return float(np.abs(result.array.reshape(rows, columns) - expected).max())


@needs_compiler
@TURNED
def test_products(turned: tuple[bool, bool]) -> None:
    module = Module(whole(kernel(turned)), HEADERS)
    for sizes in ((128, 64, 64), (200, 450, 61), (1, 3, 1)):
        for backwards in (False, True):
            assert run(module, turned, sizes, backwards) == 0


BUGS = {
    "no wait for what is copied": (r"await_phase\(full.*;", ""),
    "the phase before": (r"await_phase\(full \+ stage, turn / 3\)",
                         "await_phase(full + stage, turn / 3 - 1)"),
    "no wait for an empty stage": (r"await_phase\(empty.*;", ""),
    "a stage too few": (r"await_phase\(empty.*;", "await_phase(empty + stage, turn / 3);"),
    "bytes that nobody copies": ("192 \\* 128", "192 * 128 + 16"),
    "fewer bytes than are copied": ("192 \\* 128", "128 * 128"),
    "no beginning of products": (r"products_begin\(\);", ""),
    "no end of a group": (r"products_end_group\(\);", ""),
    "no wait for the last turn": (r"wait_for_products<0>\(\);", ""),
    "no wait for the turn before": (r"wait_for_products<1>\(\);", ""),
    "given back too early": (r"wait_for_products<1>\(\);(.*\n.*)turn > 0 &&(.*)\(turn - 1\) % 3",
                             r"wait_for_products<1>();\1\2stage"),
    "one warp gives back": (r"thread % 32 == 0\)", "thread % 256 == 0)"),
    "all threads give back": (r"&& thread % 32 == 0\)", ")"),
    "no barrier after signals": (r"__syncthreads\(\);.*", ""),
    "signals not for copies": (r"signals_are_there\(\);", ""),
    "another stage": (r"right \+ stage \* 64 \* 64 \+ k", "right + k"),
    "half a step": (r"group \* 64 \* 64 \+ k \* 1", "group * 64 * 64 + k / 2"),
    "no box of one factor": (r"copy_box\(right.*;", ""),
    "too many registers": ("more_registers<232>", "more_registers<248>"),
    "a warp stays away": (r"else \{\n    more", "else if (thread < 224) {\n    more"),
}


@needs_compiler
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs(bug: str) -> None:
    """Each shows, in one of both orders."""
    text, plain = kernel((False, True)), (False, True)
    broken = re.sub(*BUGS[bug], text)
    assert broken != text
    module = Module(whole(broken), HEADERS)
    differences = []
    for backwards in (False, True):
        try:
            differences.append(run(module, plain, (200, 450, 61), backwards))
        except KernelFault:
            return
    assert not max(np.nan_to_num(differences, nan=9)) == 0


@needs_compiler
@pytest.mark.parametrize(("place", "sizes", "steps", "box"), [
    (8, (64, 64), (64,), (64, 64)), (0, (64, 64), (60,), (64, 64)),
    (0, (64, 64), (64,), (32, 64)), (0, (64, 64), (64,), (64, 257)),
    (0, (64,), (), (64,)), (0, (8,) * 6, (8,) * 5, (64, 1, 1, 1, 1, 1))], ids=str)
def test_maps_that_a_driver_refuses(
    place: int, sizes: tuple[int, ...], steps: tuple[int, ...], box: tuple[int, ...]
) -> None:
    module = Module("", HEADERS)
    status = []

    def encode(*given: object) -> int:
        status.append(module.tensor_map(*given))
        return 0

    tensor_map(1 << 20 | place, "bf16", sizes, steps, box, encode)
    tensor_map(1 << 20, "bf16", (64, 64), (64,), (64, 64), encode)
    assert status == [1, 0]


@pytest.mark.skipif(not nvrtc.is_here(), reason="NVRTC is not installed")
@TURNED
def test_it_is_code_of_a_gpu(turned: tuple[bool, bool]) -> None:
    _, (found,) = compile_cubin(whole(kernel(turned)), "sm_90a")
    assert not found.spilled
    assert not found.stack
