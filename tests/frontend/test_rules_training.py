"""The rules of docs/language.md by their numbers: training (29 to 48), as steps run it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.programs_in_text import Both, error, errors


def test_rule_37_a_norm_is_taken_over_params_of_several_types() -> None:
    run = Both("""
model M {
    param w: f32 = 1.0
    param v: f64 = 1.0
    param u: f16[2] = 1.0
    step f(bound: f32) -> f32 {
        minimize w * f32(v) + 1000.0 * sum(f32(u)) with sgd(lr=0.5), clip_norm=bound
        return w
    }
}
""", "M")
    norm = np.sqrt(2 + 2 * 1000.0**2)
    assert run("f", bound=np.float32(norm / 100)) == pytest.approx(1 - 0.5 / 100, rel=1e-5)
    assert run.compiled.variables["v"] == pytest.approx(1 - 0.5 / 100, rel=1e-5)
    np.testing.assert_allclose(run.compiled.variables["u"], [-4, -4], rtol=2e-3)


def test_rule_29_training_a_part_is_no_part_of_a_choice() -> None:
    text = """
model Part {
    state n: i32 = 0
    fn forward(x: f32) -> f32 = x
    step train_forward(x: f32) -> f32 {
        n += 1
        return -x
    }
}
model M {
    part = Part()
    fn f(x: f32) -> f32 = part(x) if x > 0.0 else x
    KIND g(x: f32) -> f32 = f(x)
}
"""
    assert errors(text.replace("KIND", "fn")) == []
    found = error(text.replace("KIND", "step"))
    assert found.startswith("12: no `step` is called in a part of `if … else`")
    assert "reached from program.dl:13:29" in found


ROWS = """
model M {
    param table: f32[4, 2] = ones()
    step fit(ids: i32[N]) -> f32 {
        loss = sum(table[ids] ** 2)
        minimize loss with OPTIMIZER
        return loss
    }
}
"""


@pytest.mark.parametrize(("optimizer", "momentum", "decay"), [
    ("sgd(lr=0.1)", 0.0, 0.0), ("sgd(lr=0.1, momentum=0.5)", 0.5, 0.0),
    ("sgd(lr=0.1, momentum=0.5, decay=0.1)", 0.5, 0.1),
])
def test_rule_39_rows_that_are_not_touched_move_as_if_their_gradient_were_0(
    optimizer: str, momentum: float, decay: float
) -> None:
    model = Both(ROWS.replace("OPTIMIZER", optimizer), "M")
    table, velocity = np.ones((4, 2)), np.zeros((4, 2))
    for ids in ([0, 1, 1], [2], [2, 0]):
        slope = decay * table
        np.add.at(slope, ids, 2 * table[ids])
        assert model("fit", ids=np.array(ids, np.int32)) == pytest.approx(np.sum(table[ids] ** 2))
        velocity = momentum * velocity + slope
        table = table - 0.1 * velocity
        np.testing.assert_allclose(model.compiled.variables["table"], table, rtol=1e-5)
