"""Memory: what is taken as it lies, what is copied, and who may hold results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.runtime import function as runtime_function
from dlc.runtime.memory import Recycler, address_of

N = 100_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("dlpack") / "f.dl"
    path.write_text("""
fn twice(x: f32[N, 4]) -> f32[N, 4] = x + x
fn half(x: bf16[N]) -> f32[N] = f32(x) / 2.0
model Net { param w: f32[3] = zeros()  }
""")
    return dlc.load(path)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The addresses of what compiled code is given as inputs, in the order of the calls."""
    seen: list[int] = []
    run = runtime_function.Function._run

    def spy(self: Any, frame: Any, binding: Any, values: list[Any]) -> Any:
        seen.extend(address_of(v) for v in values if isinstance(v, np.ndarray))
        return run(self, frame, binding, values)

    monkeypatch.setattr(runtime_function.Function, "_run", spy)
    return seen


def array() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


def aligned_to(byte: int) -> np.ndarray[Any, Any]:
    raw = np.zeros(N * 16 + 64, np.uint8)
    start = -address_of(raw) % 64 + byte
    return raw[start : start + N * 16].view(np.float32).reshape(N, 4)


def read_only() -> np.ndarray[Any, Any]:
    made = array()
    made.setflags(write=False)
    return made


TAKEN: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
    "an array": array,
    "an array that is read-only": read_only,
    "a slice of rows": lambda: np.concatenate([array(), array()])[7 : N + 7],
    "an array at an odd multiple of 4 bytes": lambda: aligned_to(4),
}
COPIED: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
    "columns of a wider array": lambda: np.concatenate([array(), array()], axis=1)[:, 2:6],
    "a transposed array": lambda: np.ascontiguousarray(array().T).T,
    "a reversed array": lambda: array()[::-1],
    "an unaligned array": lambda: aligned_to(1),
    "an array of the other byte order": lambda: array().astype(np.dtype(np.float32).newbyteorder()),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_fits_is_taken_as_it_lies(name: str, program: Any, addresses: list[int]) -> None:
    x = TAKEN[name]()
    np.testing.assert_array_equal(program.twice(x), x + x)
    assert addresses == [address_of(x)]


@pytest.mark.parametrize("name", COPIED)
def test_what_does_not_fit_is_copied(name: str, program: Any, addresses: list[int]) -> None:
    x = COPIED[name]()
    before = x.copy()
    np.testing.assert_array_equal(program.twice(x), before + before)
    assert addresses != [address_of(x)]
    np.testing.assert_array_equal(x, before)


def test_torch_tensors_in_and_out(program: Any, addresses: list[int]) -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(N, 4)
    result = program.twice(x)
    assert addresses == [x.data_ptr()]
    back = torch.from_dlpack(result)
    assert back.data_ptr() == address_of(result)
    assert torch.equal(back, x + x)
    np.testing.assert_array_equal(program.twice(x.T.contiguous().T), result)
    view = torch.randn(N, 8)[:, ::2]
    np.testing.assert_array_equal(program.twice(view), (view + view).numpy())


def test_a_tensor_that_needs_gradients_is_an_error(program: Any) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(dlc.RunError, match=r"argument `x` is no array: .*detach"):
        program.twice(torch.zeros(3, 4, requires_grad=True))


def test_a_tensor_without_memory_is_an_error(program: Any) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(dlc.RunError, match="argument `x` is no array"):
        program.twice(torch.zeros(3, 4, device="meta"))
    with pytest.raises(dlc.RunError, match=r"`x` is f64\[3, 4\].*f32\[N, 4\]"):
        program.twice(torch.zeros(3, 4, dtype=torch.float64))


def test_jax_arrays_in_and_out(program: Any, addresses: list[int]) -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray(array())
    result = program.twice(x)
    assert addresses == [x.unsafe_buffer_pointer()]
    np.testing.assert_array_equal(result, np.asarray(x) * 2)
    np.testing.assert_array_equal(np.asarray(jax.numpy.from_dlpack(result)), result)
    small = jax.numpy.arange(6, dtype=jax.numpy.bfloat16)  # a type that NumPy lacks
    assert program.half(small).tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


class Elsewhere:
    """An array on another device, as its package shows it."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 1

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("asked for memory that the host can't read")


@pytest.mark.parametrize(("kind", "name"), [(2, "cuda:1"), (10, "rocm:1"), (99, "kind 99:1")])
def test_another_device_is_an_error(program: Any, kind: int, name: str) -> None:
    with pytest.raises(dlc.RunError, match=f"argument `x` lies on .*{name}, where the host can't"):
        program.twice(Elsewhere(kind))
    with pytest.raises(dlc.RunError, match=f"the value for `w` lies on .*{name}"):
        program.Net().w = Elsewhere(kind)


def test_an_array_on_a_gpu_by_its_interface_is_an_error(program: Any) -> None:
    class OnGpu:
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {"shape": (3,), "typestr": "<f4", "data": (64, False)}

    with pytest.raises(dlc.RunError, match="argument `x` lies on a GPU, where the host can't"):
        program.twice(OnGpu())


class OnlyDlpack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, inner: np.ndarray[Any, Any]) -> None:
        self.inner = inner

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()

    def __dlpack__(self, **named: Any) -> Any:
        return self.inner.__dlpack__(**named)


def test_dlpack_alone_is_enough(program: Any, addresses: list[int]) -> None:
    x = array()
    np.testing.assert_array_equal(program.twice(OnlyDlpack(x)), x + x)
    assert addresses == [address_of(x)]


def test_a_result_that_is_held_elsewhere_is_not_written_again(program: Any) -> None:
    x = array()
    held = np.from_dlpack(program.twice(x))  # the array itself is dropped
    for factor in range(2, 8):
        program.twice(factor * x)
    np.testing.assert_array_equal(held, x + x)


def test_large_results_use_memory_again_once_dropped(program: Any) -> None:
    x = array()
    places = {address_of(program.twice(x)) for _ in range(12)}
    assert len(places) <= Recycler.KEPT
    held = [program.twice(x) for _ in range(6)]
    assert len({address_of(each) for each in held}) == 6


def test_what_is_set_from_torch_is_copied(program: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net, value = program.Net(), torch.ones(3)
    net.w = value
    value[:] = 5
    assert net.w.tolist() == [1, 1, 1]
