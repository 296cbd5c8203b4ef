"""Blocks that are resident at once and wait for each other: planted bugs are caught."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.cuda.on_cpu import KernelFault, Memory, Module, needs_compiler
from tests.cuda.test_on_cpu import HEADERS, ORDERS, without

pytestmark = needs_compiler
BLOCKS, THREADS, TURNS = 5, 64, 4
HEAD = 'extern "C" __global__ void k(int *x, int *y, int turns) {\n'
NEIGHBOURS = HEAD + """
  __shared__ int own[64];
  int n = gridDim.x * blockDim.x, at = blockIdx.x * blockDim.x + threadIdx.x;
  own[threadIdx.x] = at;
  for (int turn = 0; turn < turns; turn++) {
    y[at] = x[(at + 65) % n] + 1;
    meet_all_blocks();  // all is written
    x[at] = y[(at + 63) % n] + own[63 - threadIdx.x] % 3;
    meet_all_blocks();  // all is read
  }
}"""


def run(text: str, backwards: bool, resident: bool = True) -> np.ndarray:
    x = Memory.of(np.arange(BLOCKS * THREADS, dtype=np.int32))
    Module(text, HEADERS).launch(
        "k", BLOCKS, THREADS, x, Memory(BLOCKS * THREADS, np.int32), ctypes.c_int(TURNS),
        backwards=backwards, resident=resident)
    return x.array.copy()


def expected() -> np.ndarray:
    """What NEIGHBOURS means."""
    at = np.arange(BLOCKS * THREADS, dtype=np.int32)
    x = at
    for _ in range(TURNS):
        y = x[(at + 65) % len(at)] + 1
        x = y[(at + 63) % len(at)] + (at // 64 * 64 + 63 - at % 64) % 3
    return x


@ORDERS
def test_each_sees_what_others_wrote_and_keeps_its_shared_memory(backwards: bool) -> None:
    np.testing.assert_array_equal(run(NEIGHBOURS, backwards), expected())


@ORDERS
@pytest.mark.parametrize("comment", ["all is written", "all is read"])
def test_a_missing_meeting(comment: str, backwards: bool) -> None:
    """A block reads what another one has not written yet, or has written over."""
    assert (run(without(NEIGHBOURS, comment), backwards) != expected()).any()


@ORDERS
@pytest.mark.parametrize(("body", "message"), [
    ("if (blockIdx.x) meet_all_blocks();", "a block has ended, others wait for it, line 2"),
    ("if (blockIdx.x)\n meet_all_blocks(); else\n meet_all_blocks();",
     "blocks wait for all others in lines (3 and 4|4 and 3)"),
    ("if (threadIdx.x)\n meet_all_blocks(); else\n __syncthreads();",
     "threads wait at two barriers, lines (3 and 4|4 and 3)"),
    ("for (int k = 0; k <= blockIdx.x; k++) meet_all_blocks();", "a block has ended"),
    ("__shared__ int s[4]; copy_bytes<16>(s, x, true); meet_all_blocks();",
     "1 copies wait while blocks meet"),
], ids=["some blocks", "two places", "some threads", "more turns", "copies on their way"])
def test_who_is_not_there(body: str, message: str, backwards: bool) -> None:
    with pytest.raises(KernelFault, match=message):
        run(HEAD + body + "}", backwards)


@ORDERS
def test_threads_that_have_returned_are_not_waited_for(backwards: bool) -> None:
    found = run(HEAD + "if (threadIdx.x > blockIdx.x) return;\nmeet_all_blocks();\n"
                "x[blockIdx.x * 64 + threadIdx.x] = -1; }", backwards)
    assert [(part == -1).sum() for part in found.reshape(BLOCKS, THREADS)] == [1, 2, 3, 4, 5]


def test_blocks_of_a_common_launch_do_not_meet() -> None:
    with pytest.raises(KernelFault, match="need not be resident"):
        run(NEIGHBOURS, False, resident=False)


def test_more_than_is_resident() -> None:
    with pytest.raises(KernelFault, match="resident at once"):
        Module(NEIGHBOURS, HEADERS).launch(
            "k", 1000, THREADS, Memory(1, np.int32), Memory(1, np.int32), ctypes.c_int(0),
            resident=True)
