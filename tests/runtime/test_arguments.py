"""What a function does not take is refused in the user's words, before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.runtime import ArgumentError, Function
from tests.runtime.programs import nothing, tensor

IMAGES = np.zeros((64, 28, 28), np.uint8)
LABELS = np.zeros(64, np.uint8)


@pytest.fixture(scope="module")
def fit() -> Function:
    """fit(image: u8[N, 28, 28], label: u8[N], rate = 0.1, best = false, step: i32 = 0)."""
    return Function(
        nothing(
            symbols=["N"],
            inputs=[
                tensor("image", "u8", "N", 28, 28),
                tensor("label", "u8", "N"),
                tensor("rate", "f32", default=0.1),
                tensor("best", "bool", default=False),
                tensor("step", "i32", default=0),
            ],
            conditions=[{"lhs": "N", "op": "<=", "rhs": 100, "text": "N <= 100"}],
        )
    )


def test_what_fits_is_taken(fit: Function) -> None:
    assert fit(IMAGES, LABELS) is None
    assert fit(IMAGES, label=LABELS, rate=1, best=np.bool_(True), step=np.int64(7)) is None
    assert fit(image=memoryview(IMAGES), label=LABELS) is None


CASES: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    (
        (IMAGES.astype(np.float32), LABELS),
        {},
        "fit: argument `image` is f32[64, 28, 28], but the function takes u8[N, 28, 28]",
    ),
    (
        (IMAGES[:, :27], LABELS),
        {},
        "fit: argument `image` is u8[64, 27, 28], but the function takes u8[N, 28, 28]",
    ),
    (
        (IMAGES[0], LABELS),
        {},
        "fit: argument `image` is u8[28, 28], but the function takes u8[N, 28, 28]",
    ),
    (
        (IMAGES, LABELS[:32]),
        {},
        "fit: N is 64 in argument `image` (u8[64, 28, 28]), but 32 in argument `label` (u8[32])",
    ),
    (
        (IMAGES[:0], LABELS[:0]),
        {},
        "fit: N is 0 in argument `image` (u8[0, 28, 28]): a symbol is at least 1",
    ),
    ((IMAGES,), {}, "fit: missing argument `label` (u8[N])"),
    ((), {}, "fit: missing arguments `image` (u8[N, 28, 28]), `label` (u8[N])"),
    ((IMAGES,), {"lable": LABELS}, "fit: there is no argument `lable`; did you mean `label`?"),
    ((IMAGES, LABELS), {"image": IMAGES}, "fit: argument `image` is given twice"),
    (
        (IMAGES, LABELS),
        {"rate": True},
        "fit: argument `rate` is True (bool), but the function takes f32",
    ),
    (
        (IMAGES, LABELS),
        {"rate": 1e39},
        "fit: argument `rate` is 1e+39 (float), but the function takes f32",
    ),
    (
        (IMAGES, LABELS),
        {"rate": np.zeros(1, np.float32)},
        "fit: argument `rate` is f32[1], but the function takes f32",
    ),
    (
        (IMAGES, LABELS),
        {"rate": np.array(1.0)},
        "fit: argument `rate` is f64, but the function takes f32",
    ),
    (
        (IMAGES, LABELS),
        {"step": 1.0},
        "fit: argument `step` is 1.0 (float), but the function takes i32",
    ),
    (
        (IMAGES, LABELS),
        {"step": 2**31},
        "fit: argument `step` is 2147483648 (int), but the function takes i32",
    ),
    (
        (IMAGES, LABELS),
        {"best": 1},
        "fit: argument `best` is 1 (int), but the function takes bool",
    ),
    (
        ([[0]], LABELS),
        {},
        "fit: argument `image` is a list, but the function takes u8[N, 28, 28]; "
        "make it a NumPy array of u8",
    ),
    (
        (np.zeros((101, 28, 28), np.uint8), np.zeros(101, np.uint8)),
        {},
        "fit: `N <= 100` does not hold: N is 101",
    ),
]


@pytest.mark.parametrize(("positional", "named", "message"), CASES, ids=[c[2] for c in CASES])
def test_what_does_not_fit(
    fit: Function, positional: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    for _ in range(2):  # the second time must not find a binding that the first one left
        with pytest.raises(ArgumentError) as caught:
            fit(*positional, **named)
        assert str(caught.value) == message


def test_too_many_and_unknown(fit: Function) -> None:
    with pytest.raises(ArgumentError, match=r"fit: takes 5 arguments \(image: .*\), 6 given"):
        fit(IMAGES, LABELS, 1, False, 0, 0)
    with pytest.raises(ArgumentError, match=r"no argument `zzz`; it takes \(image: u8"):
        fit(IMAGES, LABELS, zzz=1)


def test_sizes_from_linear_dims() -> None:
    inputs = [tensor("pairs", "f32", ["*", 2, "N"], ["+", "N", ["-", "M", 1]])]
    function = Function(nothing(symbols=["N", "M"], inputs=inputs))
    function(np.zeros((6, 5), np.float32))
    (binding,) = function._bindings.values()
    assert binding.sizes == {"N": 3, "M": 3}
    with pytest.raises(ArgumentError, match="no N makes argument `pairs` fit"):
        function(np.zeros((5, 5), np.float32))


def test_dims_that_follow_from_symbols() -> None:
    inputs = [tensor("x", "f32", "N"), tensor("y", "f32", ["//", "N", 2])]
    function = Function(nothing(symbols=["N"], inputs=inputs))
    function(np.zeros(5, np.float32), np.zeros(2, np.float32))
    with pytest.raises(ArgumentError, match=r"`y` is f32\[3\], but .*, where N = 5"):
        function(np.zeros(5, np.float32), np.zeros(3, np.float32))


def test_bf16_scalars_are_rounded_to_nearest_even() -> None:
    function = Function(nothing(inputs=[tensor("x", "bf16")]))
    spec = function._scalars[0][2]
    assert [spec(value) for value in (1.0, -2.0, 1.00390625, 1.01171875)] == [
        0x3F80, 0xC000, 0x3F80, 0x3F82,
    ]  # fmt: skip
    assert spec(float("nan")) == 0x7FC0
