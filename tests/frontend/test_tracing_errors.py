"""Programs in Python that are wrong: the language's errors, at the lines of Python."""

from __future__ import annotations

# ruff: noqa: F821, F722, UP037
# Texts in annotations are dims of the language.
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc

N, M = dlc.symbol("N"), dlc.symbol("M")
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def error_of(run: Callable[[], object]) -> str:
    with pytest.raises(dlc.ProgramError) as caught:
        run()
    return str(caught.value)


def test_a_wrong_shape_is_an_error_at_the_line_of_the_user() -> None:
    @dlc.fn
    def wrong(x: dlc.f32[N, 4], w: dlc.f32[5, 3]) -> dlc.f32[N, 3]:
        return 1 + x @ w  # the place

    found = error_of(lambda: wrong.graph)
    assert found.startswith("error[shape-mismatch]: shapes do not agree in `@`: 4 is not 5")
    line = 1 + next(i for i, text in enumerate(Path(__file__).read_text().splitlines())
                    if text.endswith("w  # the place"))
    assert f"test_tracing_errors.py:{line}:20" in found
    assert re.search(r"\| +return 1 \+ x @ w  # the place\n +\| +\^{5}\n", found)
    assert "left:  f32[N, 4]" in found


def symbols_do_not_stretch(x: dlc.f32[N, 4], y: dlc.f32[M, 4]) -> dlc.f32[N, 4]:
    return x + y


def implicit_cast(x: dlc.f32[N], k: dlc.i32[N]) -> dlc.f32[N]:
    return x * k


def traced_bool(x: dlc.f32[N]) -> dlc.f32[N]:
    return x if dlc.sum(x) > 0 else -x


def wrong_result(x: dlc.f32[N]) -> dlc.f32[M]:
    return x


def not_a_type(x: np.ndarray) -> dlc.f32:
    return x


def no_type(x) -> dlc.f32:
    return x


def wrong_argument(x: dlc.f32[N]) -> dlc.f32[N]:
    return dlc.softmax(x, axes=0)


def what_is_this(x: dlc.f32[N]) -> dlc.f32[N]:
    return x + object()


def a_method(x: dlc.f32[N]) -> dlc.f32[N]:
    return x.tanh()


def python_float(x: dlc.f32[N]) -> dlc.f32[N]:
    return x * float(x[0])


def iterates(x: dlc.f32[N]) -> dlc.f32:
    return sum(each for each in x)


def minimizes_in_fn(x: dlc.f32[N]) -> dlc.f32:
    dlc.minimize(dlc.sum(x), with_=dlc.sgd())
    return dlc.sum(x)


def lower_case_symbol(x: dlc.f32["size"]) -> dlc.f32["size"]:
    return x


def bad_dim(x: dlc.f32["2 *"]) -> dlc.f32["N"]:
    return x


ERRORS = {
    symbols_do_not_stretch: "N is not M",
    implicit_cast: r"element types differ in `\*`: f32 is not i32",
    traced_bool: r"known only as the program runs(.|\n)*dlc\.where",
    wrong_result: "bound by no parameter|there is no `M` here",
    not_a_type: "`x` has no type of the language",
    no_type: "the parameter `x` of `no_type` has no type",
    wrong_argument: "has no parameter `axes`(.|\n)*did you mean `axis`",
    what_is_this: r"expected a tensor, a number or a model, found <object",
    a_method: r"has no `tanh`(.|\n)*dlc\.tanh\(x\)",
    python_float: "no Python number or array",
    iterates: r"Python's `for` needs a length(.|\n)*dlc\.scan",
    minimizes_in_fn: "`minimize` can't stand in a `fn`",
    lower_case_symbol: "a symbol begins with a capital",
    bad_dim: r'"2 \*" is no dim',
}


@pytest.mark.parametrize("function", ERRORS, ids=lambda f: f.__name__)
def test_errors(function: Callable[..., Any]) -> None:
    found = error_of(lambda: dlc.fn(function).graph)
    assert re.search(ERRORS[function], found), found
    first = function.__code__.co_firstlineno
    line = int(re.search(r"test_tracing_errors\.py:(\d+):", found)[1])  # type: ignore[index]
    assert first <= line <= first + 2


def test_an_error_in_a_called_function_says_how_it_was_reached() -> None:
    @dlc.fn
    def inner(x: dlc.f32["*S"]) -> dlc.f32["*S"]:
        return x @ x

    @dlc.fn
    def outer(x: dlc.f32[N, M]) -> dlc.f32[N, M]:
        return inner(x)

    assert "reached from" in error_of(lambda: outer.graph)


def test_an_exception_of_the_user_passes() -> None:
    @dlc.fn
    def f(x: dlc.f32[N]) -> dlc.f32[N]:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        f(X[0])


def test_a_value_is_of_no_use_after_its_trace() -> None:
    kept: list[Any] = []

    @dlc.fn
    def f(x: dlc.f32[N]) -> dlc.f32[N]:
        kept.append(x)
        return x

    @dlc.fn
    def g(x: dlc.f32[N]) -> dlc.f32[N]:
        return x + kept[0]

    f(X[0])
    assert "a trace that is over" in error_of(lambda: g.graph)
    assert "a trace that is over" in error_of(lambda: kept[0] + 1)


def test_update_in_fn_is_an_error() -> None:
    class Counter(dlc.Model):
        def __init__(self) -> None:
            self.n = dlc.state(dlc.i32)

        @dlc.fn
        def forward(self, x: dlc.i32) -> dlc.i32:
            self.n += x
            return self.n

    assert "`n` can't be updated in a `fn`" in error_of(lambda: Counter().record)


def test_steps_and_methods_stand_in_models() -> None:
    @dlc.step
    def alone(x: dlc.f32[N]):
        return x

    class Plain:
        @dlc.fn
        def method(self, x: dlc.f32[N]):
            return x

    assert "a `step` stands in a model" in error_of(lambda: alone(X[0]))
    with pytest.raises(TypeError, match=r"of a class that is no dlc\.Model"):
        Plain().method(X[0])


def test_members_are_made_in_init() -> None:
    class Net(dlc.Model):
        def __init__(self) -> None:
            self.first = dlc.nn.Dense(4, 3)

        @dlc.fn
        def forward(self, x: dlc.f32[N, 4]) -> dlc.f32[N, 3]:
            return self.first(x)

    net = Net()
    assert "settled" in error_of(lambda: setattr(net, "more", Net()))
    net.note = "plain attributes may be set"
    assert net.note.startswith("plain")

    class Reserved(dlc.Model):
        def __init__(self) -> None:
            self.save = dlc.param(dlc.f32[3])

    assert "can't be the name of a member" in error_of(Reserved)

    class Misspelt(dlc.Model):
        def __init__(self) -> None:
            self.weight = dlc.param(dlc.f32[3])

        @dlc.fn
        def forward(self) -> dlc.f32[3]:
            return self.wieght

    assert "did you mean `weight`" in error_of(lambda: Misspelt().record)
