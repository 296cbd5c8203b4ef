"""How builtins ask for axes and count their arguments."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.diagnostics import UserError
from tests.frontend.programs_in_text import Running, error

X = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)
AXIS = """
model M(k: int) {
    fn total(x: f32[N, 3]) -> f32[3] = sum(x, axis=k)
    fn place(x: f32[N, 3]) -> i32[3] = argmax(x, axis=k)
}
"""


def test_an_axis_may_be_a_parameter_of_the_model() -> None:
    model = Running(AXIS, k=-2)
    np.testing.assert_allclose(model("total", x=X)[0], X.sum(0), rtol=1e-6)
    np.testing.assert_array_equal(model("place", x=X)[0], X.argmax(0))
    with pytest.raises(UserError, match="there is no axis 2 in a tensor of 2 dims"):
        Running(AXIS, k=2)


@pytest.mark.parametrize(("call", "message"), [
    ("sum(x, axis=1)", "there is no axis 1 in a tensor of 1 dim"),
    ("softmax(x, axis=1)", "there is no axis 1 in a tensor of 1 dim"),
    ("sum(x, axis=x)", "`axis` of `sum` is a constant integer, not f32[N]"),
    ("softmax(x, axis=x)", "`axis` of `softmax` is a constant integer, not f32[N]"),
    ("sum(x, axis=1.5)", "`axis` of `sum` is a constant integer, not the number 1.5"),
    ("tanh(x, 1)", "`tanh` takes 1 argument, not 2"),
])
def test_one_axis_and_several_are_asked_for_alike(call: str, message: str) -> None:
    assert message in error(f"fn f(x: f32[N]) -> f32[N] = {call}\n")
