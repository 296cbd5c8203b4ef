"""Arrays that lie on the GPU, as arguments and as results, over the stand-in driver.

Its streams do things as late as they may: who does not wait for what he should finds wrong bytes.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.runtime.cuda import dlpack
from dlc.runtime.errors import UserError
from tests.cuda.stand_in import asked, needs_stand_in, number

pytestmark = [needs_stand_in, pytest.mark.usefixtures("on_stand_in")]
PROGRAM = """
fn twice(x: f32[N, 4]) -> f32[N, 4] = x + x
fn total(x: f32[N, 4]) -> f32 = sum(x)
fn half(x: bf16[N]) -> f32[N] = f32(x) / 2.0
fn back(x: bf16[N]) -> bf16[N] = x + x
fn negated(x: bool[N]) -> bool[N] = not x
fn any(x: float[*S]) -> float[*S] = x * 2.0
fn picked(x: f32[N, 4], at: i32[M]) -> f32[M, 4] = x[at]
model Net {
    param w: f32[4] = ones(4)
    fn scaled(x: f32[N, 4]) -> f32[N, 4] = x * w
    step fit(x: f32[N, 4]) -> f32 {
        loss = mean((x * w - 3.0) ** 2)
        minimize loss with sgd(lr=0.1)
        return loss
    }
}
"""


@pytest.fixture
def program(tmp_path: Path, on_stand_in: None) -> Any:
    (tmp_path / "f.dl").write_text(PROGRAM)
    return dlc.load(tmp_path / "f.dl", device="cuda")


def matrix(rows: int = 6) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)


class Theirs:
    """An array of another package, which shows it by `__cuda_array_interface__`. It is filled by a
    stream of its own, which has not done so yet."""

    def __init__(self, array: np.ndarray[Any, Any], offset: int = 0, **said: Any) -> None:
        from dlc.runtime.cuda.device import device

        self.on, self.shape = device(), array.shape
        dense = np.ascontiguousarray(array)
        with self.on as on:
            self.memory = on.cuda.mem_alloc(dense.nbytes + offset + 16)
            self.stream = on.cuda.Stream(1)
            self.staging = on.cuda.pagelocked_empty(max(dense.nbytes, 1), np.uint8)
            self.staging[: dense.nbytes] = dense.reshape(-1).view(np.uint8)
            self.address = int(self.memory) + offset
            on.cuda.memcpy_htod_async(self.address, self.staging[: dense.nbytes], self.stream)
        self.said = {"shape": array.shape, "typestr": array.dtype.str, "version": 3,
                     "data": (self.address, False), "stream": self.stream.handle, **said}

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.said

    def free(self) -> None:
        with self.on:
            self.memory.free()
            del self.stream, self.staging


class ByDlpack:
    """An array of ours that another package shows by DLPack alone, of the first version if so."""

    def __init__(self, inner: Any, old: bool = False) -> None:
        self.inner, self.old = inner, old

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()

    def __dlpack__(self, **named: Any) -> Any:
        if self.old and "max_version" in named:
            raise TypeError("unexpected keyword argument 'max_version'")
        assert named["stream"] == self.inner.on.stream.handle
        return self.inner.__dlpack__(**named)


def test_an_array_of_theirs_is_taken_as_it_lies(program: Any) -> None:
    x = matrix()
    there = Theirs(x)
    for _ in range(4):  # the second call is recorded, the others are run again
        copies = asked().count("C")
        found = program.twice(there)
        assert asked().count("C") == copies
        np.testing.assert_array_equal(np.asarray(found), x + x)
    there.free()


def test_a_result_stays_where_the_arguments_are(program: Any) -> None:
    x = matrix()
    there = dlc.on_gpu(x)
    found = program.twice(program.twice(there))
    assert (found.shape, found.ndim, len(found), found.dtype) == ((6, 4), 2, 6, np.float32)
    assert repr(found) == "<f32[6, 4] on cuda:0>"
    np.testing.assert_array_equal(found, 4 * x)
    np.testing.assert_array_equal(found[2:4], 4 * x[2:4])
    np.testing.assert_array_equal(found[-1], 4 * x[-1])
    assert isinstance(program.total(there), np.float32)
    assert program.total(there) == program.total(x)
    assert isinstance(program.twice(x), np.ndarray)


def test_calls_whose_results_stay_do_not_wait(program: Any) -> None:
    there = dlc.on_gpu(matrix())
    for _ in range(8):
        program.twice(there)
    begun = len(asked())
    found = program.twice(there)
    assert asked()[begun:] == "K"
    np.testing.assert_array_equal(found, matrix() * 2)


def test_memory_of_results_is_used_again(program: Any) -> None:
    there = dlc.on_gpu(matrix())
    places = {program.twice(there).address for _ in range(9)}
    assert len(places) == 1
    held = [program.twice(there) for _ in range(5)]
    assert len({each.address for each in held}) == 5
    for each in held:
        np.testing.assert_array_equal(each, matrix() * 2)


def test_what_others_hold_is_not_used_again(program: Any) -> None:
    there, x = dlc.on_gpu(matrix()), matrix()
    capsule = program.twice(there).__dlpack__()
    for factor in range(3, 6):
        program.twice(dlc.on_gpu(factor * x))
    seen = dlpack.take(capsule)
    assert (seen.name, seen.shape, seen.number) == ("f32", (6, 4), 0)
    with there.on as on:
        copy = np.empty_like(x)
        on.fetch(copy, seen.address)
    np.testing.assert_array_equal(copy, x * 2)
    before = number("used").value
    del seen
    gc.collect()
    program.twice(there)
    assert number("used").value < before  # it is the driver's again: others may be at work still


def test_who_takes_a_result_waits_for_it_on_his_stream(program: Any) -> None:
    x = matrix()
    found = program.twice(dlc.on_gpu(x))
    with found.on as on:
        theirs, copy = on.cuda.Stream(1), on.cuda.pagelocked_empty(x.shape, np.float32)
        copy[...] = 0
    taken = dlpack.take(found.__dlpack__(stream=theirs.handle))
    with found.on as on:
        on.cuda.memcpy_dtoh_async(copy, taken.address, theirs)
        theirs.synchronize()
        np.testing.assert_array_equal(copy, 2 * x)
        del theirs, copy
    said = found.__cuda_array_interface__
    assert said["stream"] == found.on.stream.handle
    assert said["data"] == (found.address, False)
    assert (said["shape"], said["typestr"], said["version"]) == ((6, 4), "<f4", 3)


@pytest.mark.parametrize("old", [False, True])
def test_arrays_come_by_dlpack(program: Any, old: bool) -> None:
    x = matrix()
    inner = dlc.on_gpu(x)
    np.testing.assert_array_equal(program.twice(ByDlpack(inner, old)), x + x)
    bits = (np.arange(6, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    halves = program.back(dlc.on_gpu(bits))
    assert halves.name == "bf16"
    np.testing.assert_array_equal(program.half(ByDlpack(halves, old)), np.arange(6))
    flags = dlc.on_gpu(np.array([True, False, True]))
    np.testing.assert_array_equal(program.negated(ByDlpack(flags, old)), [False, True, False])


GAPS = {
    "transposed": ((4, 6), (4, 24), lambda a: a.T),
    "every other row": ((3, 4), (32, 4), lambda a: a[::2]),
    "backwards": ((6, 4), (-16, 4), lambda a: a[::-1]),
    "one row again and again": ((5, 4), (0, 4), lambda a: np.broadcast_to(a[0], (5, 4))),
}


@pytest.mark.parametrize("name", GAPS)
def test_what_is_not_contiguous_is_copied_on_the_gpu(name: str, program: Any) -> None:
    shape, strides, meant = GAPS[name]
    kept = np.arange(24, dtype=np.float32).reshape((4, 6) if name == "transposed" else (6, 4))
    there = Theirs(kept)
    expected = np.ascontiguousarray(meant(kept))
    start = there.address + (5 * 16 if name == "backwards" else 0)
    if name == "transposed":
        shape, strides = (6, 4), (4, 24)
    there.said |= {"shape": shape, "strides": strides, "data": (start, False)}
    np.testing.assert_array_equal(program.twice(there), 2 * expected)
    there.free()


def test_what_is_not_aligned_is_copied_on_the_gpu(program: Any) -> None:
    there = Theirs(matrix(), offset=4)
    np.testing.assert_array_equal(program.twice(there), 2 * matrix())
    there.free()


def test_host_and_gpu_in_one_call(program: Any) -> None:
    x, at = matrix(), np.array([3, 0], np.int32)
    np.testing.assert_array_equal(program.picked(dlc.on_gpu(x), at), x[at])
    np.testing.assert_array_equal(program.picked(x, dlc.on_gpu(at)), x[at])
    with pytest.raises(dlc.RunError, match="9"):
        program.picked(dlc.on_gpu(x), np.array([9], np.int32))
    np.testing.assert_array_equal(program.picked(dlc.on_gpu(x), at), x[at])


def test_any_rank_and_type(program: Any) -> None:
    x = np.arange(8, dtype=np.float64).reshape(2, 2, 2)
    np.testing.assert_array_equal(program.any(dlc.on_gpu(x)), 2 * x)


def test_variables_and_steps(program: Any) -> None:
    here, there, x = program.Net(), program.Net(), matrix()
    losses = [[float(net.fit(data)) for _ in range(4)]
              for net, data in ((here, x), (there, dlc.on_gpu(x)))]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(here.w, there.w)
    w = np.array([1, 2, 3, 4], np.float32)
    there.w = dlc.on_gpu(w)
    np.testing.assert_array_equal(there.scaled(x), x * w)


def test_errors(program: Any) -> None:
    x = matrix()
    with pytest.raises(dlc.RunError, match=r"`x` is f64\[6, 4\], but the function takes f32\[N, 4"):
        program.twice(dlc.on_gpu(x.astype(np.float64)))
    with pytest.raises(dlc.RunError, match=r"`x` is f32\[6\], but"):
        program.twice(dlc.on_gpu(x[:, 0].copy()))
    there = Theirs(x)
    there.said["mask"] = there
    with pytest.raises(dlc.RunError, match="`x` has a mask"):
        program.twice(there)
    there.said |= {"mask": None, "data": (4096, False)}
    with pytest.raises(dlc.RunError, match="says that it is on a GPU, but its memory is not"):
        program.twice(there)
    there.free()
    with pytest.raises(UserError, match="copied to the GPU is complex64"):
        dlc.on_gpu(np.ones(3, np.complex64))
    with pytest.raises(BufferError, match="NumPy makes a copy"):
        dlc.on_gpu(x).__dlpack__(dl_device=(1, 0))


class OnAnother:
    """An array on another device."""

    def __init__(self, kind: int, number: int) -> None:
        self.place = kind, number

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("asked for memory that can't be read")


def test_another_device_is_an_error(program: Any) -> None:
    with pytest.raises(dlc.RunError, match="`x` lies on cuda:1, but the function runs on cuda:0"):
        program.twice(OnAnother(2, 1))
    with pytest.raises(dlc.RunError, match="`x` lies on rocm:0, where the host can't read it"):
        program.twice(OnAnother(10, 0))


@pytest.mark.parametrize("versioned", [False, True])
def test_numpy_reads_our_capsules_and_we_read_its(versioned: bool) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    place = x.__array_interface__["data"][0]

    class Ours:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

        def __dlpack__(self, **_: Any) -> Any:
            return dlpack.give(dlpack.Tensor(place, 0, "f32", (3, 4), None, x), versioned, kind=1)

    seen = np.from_dlpack(Ours())
    np.testing.assert_array_equal(seen, x)
    assert seen.__array_interface__["data"][0] == place
    del seen
    assert not dlpack._given
    Ours().__dlpack__()  # nobody takes it
    assert not dlpack._given
    version = {"max_version": (1, 0)} if versioned else {}
    capsule = x[:, ::2].__dlpack__(**version)
    found = dlpack.take(capsule)
    assert (found.name, found.shape, found.strides) == ("f32", (3, 2), (4, 2))
    assert ctypes.c_float.from_address(found.address + 4 * 4).value == x[1, 0]
    with pytest.raises(ValueError, match="used before"):
        dlpack.take(capsule)


def test_large_arrays_go_in_pieces(program: Any) -> None:
    """While one piece is on its way the host copies the next; numbers and checks are the same."""
    x = np.random.default_rng(3).normal(size=(600_000, 4)).astype(np.float32)  # 9.6 MB
    begun = len(asked())
    for _ in range(3):
        np.testing.assert_array_equal(program.twice(x), x + x)
    assert asked()[begun:].count("C") == 3 * 4  # two pieces in, two out
    np.testing.assert_array_equal(program.picked(x, np.array([5, 599_999], np.int32)),
                                  x[[5, 599_999]])
    with pytest.raises(dlc.RunError, match="600000"):
        program.picked(x, np.array([600_000], np.int32))
    np.testing.assert_array_equal(program.twice(dlc.on_gpu(x)), x + x)
