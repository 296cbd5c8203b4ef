"""Ctrl-C while steps run on a GPU, over the stand-in driver: each step is done or has not begun."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.runtime.cuda.plan import Launch
from dlc.runtime.cuda.steps import Stream
from tests.cuda.stand_in import needs_stand_in

pytestmark = [needs_stand_in, pytest.mark.usefixtures("on_stand_in")]
PROGRAM = """
model Net {
    param w: f32[4, 4] = normal()
    param b: f32[4] = normal()
    step fit(x: f32[N, 4]) -> f32 {
        scale = 1.0
        HALVED
        noise = uniform(N, 4)
        loss = mean(((scale * x) @ w + b - noise) ** 2)
        minimize loss with adam(lr=0.1)
        return loss
    }
}
"""
HALVED = """largest = max(x)
        while scale * largest > 0.5 carry scale = scale {
            scale = scale / 2
        }"""
X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def state(net: Any) -> list[Any]:
    """All that a step changes."""
    return [int(net.storage().random[1]), *(np.asarray(net.variables[n]).tolist()
                                       for n in sorted(net.variable_records))]


@pytest.mark.parametrize(("body", "ends"), [("", {1}), (HALVED, {0, 1})])
def test_a_call(
    body: str, ends: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a loop that the host ends, variables change after it."""
    launched: list[str] = []
    launch = Stream.launch

    def told(self: Stream, what: Launch) -> None:
        launch(self, what)
        launched.append(what.kernel)
        if len(launched) == last:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Stream, "launch", told)
    file = tmp_path / "net.dl"
    file.write_text(PROGRAM.replace("HALVED", body))
    program, last = dlc.load(file, device="cuda"), 0
    net = program.Net(seed=1)
    states = [state(net)]
    launched.clear()
    net.fit(X)
    states.append(state(net))
    found = set()
    for number in range(1, len(launched) + 1):
        net = program.Net(seed=1)
        assert state(net) == states[0]
        launched.clear()
        last = number
        with pytest.raises(KeyboardInterrupt):
            net.fit(X)
        last = 0
        found.add(states.index(state(net)))
    assert found == ends
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
