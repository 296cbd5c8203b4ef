"""Kernels and schedules are what their text says, and errors say where the text is wrong."""

from __future__ import annotations

import math

import pytest

from dlc.ir.kernel import Access, Compute, Kernel, Layout, Number
from dlc.ir.kernel_text import parse_kernel, print_kernel
from dlc.ir.parse import TextError
from dlc.ir.schedule import Schedule
from dlc.ir.schedule_text import parse_schedule, print_schedule
from dlc.ir.types import F32
from tests.ir.kernel_examples import CONV, CONV_SCHEDULE, KERNELS, PRODUCT_SCHEDULE
from tests.ir.random_code import KernelMaker, plain, random_schedule, strange


@pytest.mark.parametrize("text", KERNELS.values(), ids=KERNELS.keys())
def test_kernels_print_as_they_were_written(text: str) -> None:
    kernel = parse_kernel(text)
    assert print_kernel(kernel) == text
    assert parse_kernel(print_kernel(kernel)) == kernel


def test_what_is_parsed() -> None:
    kernel = parse_kernel(CONV)
    assert kernel.symbols == ("N",)
    assert kernel.doc == "a convolution with its epilogue"
    assert kernel.buffer("y").layout == Layout(((0, 16), (1, 1), (2, 1), (3, 1), (0, 1)))
    first, second = kernel.body
    assert isinstance(first, Compute)
    assert isinstance(second, Compute)
    assert [op.name for op in (*first.body, *second.body)] == ["t0", "t1", "t2", "t3", "t4"]
    assert second.body[1].args == ("t1", Number(F32, 0.666667))
    assert second.body[0].args == (Access("a"), Access("b", second.body[0].args[1].at))


@pytest.mark.parametrize("names", [plain, strange])
@pytest.mark.parametrize("seed", range(8))
def test_random_kernels(seed: int, names: object) -> None:
    for part in range(25):
        kernel = KernelMaker(25 * seed + part, names).kernel()  # type: ignore[arg-type]
        text = print_kernel(kernel)
        again = parse_kernel(text)
        assert again == kernel
        assert again.doc == kernel.doc
        assert print_kernel(again) == text  # tells -0.0 from 0.0 too


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, 1e-45, 1e300, -math.inf, math.inf, 3, True])
def test_numbers_keep_their_bits_and_types(value: float) -> None:
    kernel = Kernel("f", (), (), (), (), (Compute(Access("y"), (), Number(F32, value)),))
    (compute,) = parse_kernel(print_kernel(kernel)).body
    assert isinstance(compute, Compute)
    found = compute.value
    assert isinstance(found, Number)
    assert repr(found.value) == repr(value)


def test_nan_is_equal_to_itself() -> None:
    kernel = Kernel("f", (), (), (), (), (Compute(Access("y"), (), Number(F32, math.nan)),))
    assert parse_kernel(print_kernel(kernel)) == kernel


def test_schedules() -> None:
    schedule = parse_schedule(CONV_SCHEDULE)
    assert print_schedule(schedule, "conv_squash") == CONV_SCHEDULE
    assert print_schedule(parse_schedule(PRODUCT_SCHEDULE), "product") == PRODUCT_SCHEDULE
    assert schedule.tile("o") == 6
    assert schedule.edge[0] == ("u", "mask")
    assert parse_schedule(print_schedule(Schedule("", ()))) == Schedule("", ())
    for seed in range(100):
        made = random_schedule(KernelMaker(seed, strange).kernel(), seed)
        assert parse_schedule(print_schedule(made, "f g")) == made


@pytest.mark.parametrize(("before", "after", "message"), [
    ("x: f32[N", "x: f99[N", "line 1, column 26: expected an element type, found 'f99'"),
    ("] in,", "],", "line 1, column 43: expected one of in, out, inout, local, placed"),
    ("v<28", "v<", "line 5, column 21: expected a size or an index expression, found ','"),
    ("a = sum", "a = tree avg", "line 6, column 12: expected one of sum, max, min, argmax"),
    ("sum r", "summed r", "line 6, column 15: expected '=', found '<'"),
    ("tanh(", "tanh{", "line 7, column 40: expected ',', found '{'"),
    ("(1.7159: f32", "(1.7159", "line 7, column 29: the type of the number must be written"),
    ("s])", "s]", "line 7, column 3: expected ',', found 'y'"),
    ("[6, 1", "[6 * , 1", "line 1, column 59: expected a size or an index expression, found ','"),
    ("tanh", "ta$h", "line 7, column 38: unexpected '$'"),
    ("(add(", "((add(", "line 7, column 49: expected ')', found '('"),
])
def test_errors_say_where(before: str, after: str, message: str) -> None:
    with pytest.raises(TextError) as error:
        parse_kernel(CONV.replace(before, after, 1))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("before", "after", "message"), [
    ("u 16", "u", "line 6, column 3: expected a whole number, found 'tiles'"),
    ("mask", "peel", "line 9, column 10: expected one of mask, clamp, scalar, found 'peel'"),
    ("for x86", "for 3x86", "line 1, column 26: unexpected '3'"),
    ("cost 2100", "price 3", "line 10, column 3: expected '}', found 'price'"),
])
def test_errors_of_schedules(before: str, after: str, message: str) -> None:
    with pytest.raises(TextError) as error:
        parse_schedule(CONV_SCHEDULE.replace(before, after, 1))
    assert str(error.value) == message
