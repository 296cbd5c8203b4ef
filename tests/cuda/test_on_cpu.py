"""CUDA C on a CPU: kernels that are right give NumPy's numbers, planted bugs are caught."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from dlc.ir.scalar import cast_array
from dlc.ir.types import BF16
from tests.cuda.on_cpu import KernelFault, Memory, Module, needs_compiler

pytestmark = needs_compiler
ORDERS = pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
RANDOM = np.random.default_rng(0)
HEADERS = ("cuda_on_cpu.h", "primitives.h")

PRODUCT = """
extern "C" __global__ void product(const float *a, const float *b, float *c, int n) {
  __shared__ float left[8][8], right[8][8];
  int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 8 + y, column = blockIdx.x * 8 + x;
  float sum = 0;
  for (int start = 0; start < n; start += 8) {
    left[y][x] = row < n && start + x < n ? a[row * n + start + x] : 0;
    right[y][x] = start + y < n && column < n ? b[(start + y) * n + column] : 0;
    __syncthreads();  // both are there
    for (int k = 0; k < 8; k++) sum += left[y][k] * right[k][x];
    __syncthreads();  // both were read
  }
  if (row < n && column < n) c[row * n + column] = sum;
}
"""

SOFTMAX = """
__device__ float over_block(float v, bool sum, float *spare) {
  for (int bit = 16; bit; bit /= 2) {
    float other = __shfl_xor_sync(0xffffffffu, v, bit);
    v = sum ? v + other : fmaxf(v, other);
  }
  if (threadIdx.x % 32 == 0) spare[threadIdx.x / 32] = v;
  __syncthreads();  // all warps have written
  v = spare[0];
  for (unsigned k = 1; k < blockDim.x / 32; k++) v = sum ? v + spare[k] : fmaxf(v, spare[k]);
  __syncthreads();  // all warps have read
  return v;
}
extern "C" __global__ void softmax(const float *x, float *y, int n) {
  __shared__ float spare[32];
  x += blockIdx.x * n;
  y += blockIdx.x * n;
  float most = -INFINITY, sum = 0;
  for (int k = threadIdx.x; k < n; k += blockDim.x) most = fmaxf(most, x[k]);
  most = over_block(most, false, spare);
  for (int k = threadIdx.x; k < n; k += blockDim.x) sum += expf(x[k] - most);
  sum = over_block(sum, true, spare);
  for (int k = threadIdx.x; k < n; k += blockDim.x) y[k] = expf(x[k] - most) / sum;
}
"""

TENSOR = """
extern "C" __global__ void tensor(const unsigned short *a, const unsigned short *b, float *c,
                                  int columns, int inner) {
  __shared__ __align__(16) unsigned short left[2][16][24], right[2][16][16];
  int lane = threadIdx.x, column = blockIdx.x * 16;
  Sums sum[2] = {};
  for (int k = 0; k < inner + 16; k += 16) {
    int stage = k / 16 % 2;
    if (k < inner) {
      copy_bytes<16>(&left[stage][lane / 2][lane % 2 * 8], a + lane / 2 * inner + k + lane % 2 * 8,
                     true);
      for (int half = 0; half < 16; half += 8)
        if (lane < 16)
          copy_bytes<16>(&right[stage][lane][half], b + (k + lane) * columns + column + half,
                         column + half < columns);
    }
    copies_end_group();
    if (k) {
      wait_for_copies<1>();  // the stage before
      __syncthreads();       // for all threads
      Words x = load_matrices(&left[1 - stage][lane % 16][lane / 16 * 8]);
      Words y = load_matrices_turned(&right[1 - stage][lane % 16][lane / 16 * 8]);
      for (int half = 0; half < 2; half++)
        sum[half] = multiply_bf16(x.at[0], x.at[1], x.at[2], x.at[3], y.at[half * 2],
                                  y.at[half * 2 + 1], sum[half].at[0], sum[half].at[1],
                                  sum[half].at[2], sum[half].at[3]);
      __syncthreads();       // before it is overwritten
    }
  }
  for (int half = 0; half < 2; half++)
    for (int i = 0; i < 4 && column + half * 8 < columns; i++)
      c[(lane / 4 + i / 2 * 8) * columns + column + half * 8 + lane % 4 * 2 + i % 2] =
          sum[half].at[i];
}
"""


def without(text: str, comment: str) -> str:
    """A kernel without its line that has this comment."""
    kept = [line for line in text.splitlines() if comment not in line]
    assert len(kept) == len(text.splitlines()) - 1
    return "\n".join(kept)


def product(module: Module, n: int, backwards: bool) -> float:
    """The largest difference to NumPy's product."""
    a, b = RANDOM.random((2, n, n), np.float32)
    made = Memory(n * n, np.float32)
    blocks = -(-n // 8)
    module.launch("product", (blocks, blocks), (8, 8), Memory.of(a), Memory.of(b), made,
                  ctypes.c_int(n), backwards=backwards)
    return float(np.abs(made.array.reshape(n, n) - a @ b).max())


def softmax(module: Module, n: int, backwards: bool) -> float:
    """The largest difference to NumPy's softmax."""
    x = RANDOM.normal(size=(3, n)).astype(np.float32) * 4
    made = Memory(x.size, np.float32)
    module.launch("softmax", 3, 96, Memory.of(x), made, ctypes.c_int(n), backwards=backwards)
    powers = np.exp(x - x.max(1, keepdims=True))
    return float(np.abs(made.array.reshape(3, n) - powers / powers.sum(1, keepdims=True)).max())


def tensor(module: Module, backwards: bool) -> float:
    """The largest difference to NumPy's product of 16 rows of bf16."""
    a, b = (RANDOM.integers(-8, 9, shape).astype(np.float32) for shape in ((16, 64), (64, 24)))
    bits = [Memory.of((x.view(np.uint32) >> 16).astype(np.uint16)) for x in (a, b)]
    made = Memory(16 * 24, np.float32)
    module.launch("tensor", 2, 32, *bits, made, ctypes.c_int(24), ctypes.c_int(64),
                  backwards=backwards)
    return float(np.abs(made.array.reshape(16, 24) - a @ b).max())


def kernel(body: str) -> Module:
    """A kernel of integers."""
    return Module(f'extern "C" __global__ void k(int *x, int n) {{\n{body}\n}}')


def run(module: Module, size: int, threads: int = 32, backwards: bool = False) -> np.ndarray:
    memory = Memory.of(np.zeros(size, np.int32))
    module.launch("k", 1, threads, memory, ctypes.c_int(size), backwards=backwards)
    return memory.array.copy()


@ORDERS
def test_kernels_that_are_right(backwards: bool) -> None:
    assert product(Module(PRODUCT), 19, backwards) < 1e-5
    assert softmax(Module(SOFTMAX), 131, backwards) < 1e-6
    assert tensor(Module(TENSOR, HEADERS), backwards) == 0


def test_the_portable_way_to_change_fibers() -> None:
    assert softmax(Module(SOFTMAX, HEADERS, "ON_CPU_PORTABLE"), 131, False) < 1e-6


@pytest.mark.parametrize("comment", ["both are there", "both were read"])
def test_a_missing_barrier_of_a_product(comment: str) -> None:
    broken = Module(without(PRODUCT, comment))
    errors = [product(broken, 19, backwards) for backwards in (False, True)]
    assert not max(np.nan_to_num(errors, nan=9)) < 0.1


@pytest.mark.parametrize("comment", ["all warps have written", "all warps have read"])
def test_a_missing_barrier_of_a_softmax(comment: str) -> None:
    broken = Module(without(SOFTMAX, comment))
    errors = [softmax(broken, 131, backwards) for backwards in (False, True)]
    assert not max(np.nan_to_num(errors, nan=9)) < 0.001


def test_a_missing_wait_for_copies() -> None:
    assert np.isnan(tensor(Module(without(TENSOR, "the stage before"), HEADERS), False))


@ORDERS
@pytest.mark.parametrize(("body", "message"), [
    ("if (threadIdx.x < 16) {\n __syncthreads(); } else {\n __syncthreads(); }",
     "threads wait at two barriers, lines (3 and 4|4 and 3)"),
    ("if (threadIdx.x < 16) x[0] = __shfl_xor_sync(0xffffffffu, n, 1);",
     "all threads wait|the others wait"),
    ("if (threadIdx.x < 16) x[0] = __ballot_sync(0xffff0000u, n);", "not in its own mask"),
    ("x[0] = __shfl_sync(threadIdx.x < 16 ? 0xffffu : 0xffff0001u << (threadIdx.x == 16), n, 0);",
     "disagree|not in its own mask"),
    ("if (threadIdx.x < 16) x[0] = __shfl_xor_sync(0xffffu, n, 16);", "takes no part"),
    ("int s[4] = {}; x[0] = s[n + threadIdx.x];", "outside of its array"),
    ("__shared__ int s[4]; s[n + threadIdx.x] = 1; x[0] = s[0];", "outside of its array"),
    ("x[n + 4] = 1;", "memory outside of all buffers"),
    ("x[-1024] = 1;", "memory outside of all buffers"),
    ("x[n] = 1;", "just after a buffer"),
    ("int deep[1 << 18]; for (int i = 0; i < 1 << 18; i++) deep[i] = n + i; x[0] = deep[n];",
     "memory outside of all buffers"),
], ids=["two barriers", "missing lanes", "mask without itself", "masks differ",
        "lane of another mask", "array", "shared array", "past the end", "before",
        "one past the end", "stack"])
def test_what_no_kernel_may_do(body: str, message: str, backwards: bool) -> None:
    module = kernel(body)
    with pytest.raises(KernelFault, match=message):
        run(module, 5, backwards=backwards)


def test_after_a_fault_the_next_launch_runs() -> None:
    module = kernel("if (n == 5) __syncthreads(), x[1 << 20] = 1;\nx[threadIdx.x] = n;")
    with pytest.raises(KernelFault):
        run(module, 5)
    assert (run(module, 32) == 32).all()


def test_what_was_not_written_is_poison() -> None:
    module = kernel("__shared__ int s[32]; if (threadIdx.x) s[threadIdx.x] = 1;\n"
                    "__syncthreads(); x[threadIdx.x] = s[threadIdx.x];")
    assert run(module, 32).tolist() == [-1] + [1] * 31
    dynamic = Module('extern "C" __global__ void k(float *x) { DYNAMIC_SHARED(float, s);\n'
                     "x[threadIdx.x] = s[threadIdx.x]; }")
    memory = Memory(8, np.float32)
    dynamic.launch("k", 1, 8, memory, shared=32)
    assert np.isnan(memory.array).all()
    with pytest.raises(KernelFault, match="outside of all buffers"):
        dynamic.launch("k", 1, 8, Memory(8, np.float32), shared=16)
    local = kernel("int v; if (n > 99) v = n; x[0] = v;")
    assert run(local, 32)[0] not in (0, 32)


@ORDERS
def test_a_warp_is_no_barrier(backwards: bool) -> None:
    """Lanes that trust each other to go in step are parted."""
    module = kernel("__shared__ int s[32]; s[threadIdx.x] = threadIdx.x;\n"
                    "x[threadIdx.x] = s[31 - threadIdx.x];")
    assert (run(module, 32, backwards=backwards) == -1).any()
    mended = kernel("__shared__ int s[32]; s[threadIdx.x] = threadIdx.x;\n__syncwarp();\n"
                    "x[threadIdx.x] = s[31 - threadIdx.x];")
    assert run(mended, 32, backwards=backwards).tolist() == list(range(31, -1, -1))


@ORDERS
def test_who_has_returned_is_not_waited_for(backwards: bool) -> None:
    module = kernel("if (threadIdx.x >= 40) return;\n__syncthreads(); x[threadIdx.x] = 1;")
    assert run(module, 64, 64, backwards).tolist() == [1] * 40 + [0] * 24


@pytest.mark.parametrize(
    ("grid", "threads", "shared"), [(0, 32, 0), (1, 1025, 0), (1, 32, 1 << 20)])
def test_launches_that_no_gpu_takes(grid: int, threads: int, shared: int) -> None:
    module = kernel("x[0] = 1;")
    with pytest.raises(KernelFault):
        module.launch("k", grid, threads, Memory(1, np.int32), ctypes.c_int(1), shared=shared)


def test_numbers_of_16_bits() -> None:
    """All of them to floats, and floats round each of them back, as NumPy does it."""
    module = Module(
        'extern "C" __global__ void widen(const unsigned short *x, float *y) {\n'
        "int i = blockIdx.x * 256 + threadIdx.x; y[i] = f16_value(x[i]); }\n"
        'extern "C" __global__ void narrow(const float *x, unsigned short *y) {\n'
        "int i = blockIdx.x * 256 + threadIdx.x; y[i] = f16_bits(x[i]); }\n"
        'extern "C" __global__ void shorten(const float *x, unsigned short *y) {\n'
        "int i = blockIdx.x * 256 + threadIdx.x; y[i] = bf16_bits(x[i]); }\n",
        ("cuda_on_cpu.h", "halves.h"))
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    wide = Memory(65536, np.float32)
    module.launch("widen", 256, 256, Memory.of(halves.view(np.uint16)), wide)
    np.testing.assert_array_equal(wide.array, halves.astype(np.float32))
    near = halves.astype(np.float32)
    with np.errstate(invalid="ignore"):
        beside = np.where(np.isfinite(near), np.nextafter(near, np.float32(np.inf)), near)
        between = np.float32(0.5) * (near + np.roll(near, 1))
    for floats in (near, beside, between, RANDOM.normal(size=65536).astype(np.float32) * 1e5):
        bits = Memory(65536, np.uint16)
        module.launch("narrow", 256, 256, Memory.of(floats), bits)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(bits.array.view(np.float16), floats.astype(np.float16))
        module.launch("shorten", 256, 256, Memory.of(floats), bits)
        short = (bits.array.astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(short, cast_array(floats, BF16))


def test_warp_operations() -> None:
    module = kernel(
        "int lane = threadIdx.x; x[lane] = __shfl_down_sync(0xffffffffu, lane, 4);\n"
        "x[32 + lane] = __shfl_up_sync(0xffffffffu, lane, 4);\n"
        "x[64 + lane] = __shfl_sync(0xffffffffu, lane, 7);\n"
        "x[96 + lane] = __ballot_sync(0xffffffffu, lane % 2);\n"
        "x[128 + lane] = __any_sync(0xffffffffu, lane == 3)\n"
        "    + 2 * __all_sync(0xffffffffu, lane < 31);")
    lanes = np.arange(32)
    down, up, one, votes, both = run(module, 160).reshape(5, 32)
    np.testing.assert_array_equal(down, np.where(lanes < 28, lanes + 4, lanes))
    np.testing.assert_array_equal(up, np.where(lanes >= 4, lanes - 4, lanes))
    assert (one == 7).all()
    assert (votes.view(np.uint32) == 0xAAAAAAAA).all()
    assert (both == 1).all()
