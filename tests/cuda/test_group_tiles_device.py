"""Products by warp groups, launched by the runtime: tensor maps are made, kept and made anew."""

from __future__ import annotations

import pytest

from dlc.compiler.options import Options
from dlc.ir.dims import symbol
from dlc.ir.types import BF16
from dlc.runtime.cuda.device import device
from dlc.runtime.cuda.tensor_maps import tensor_map
from dlc.runtime.errors import GpuError
from tests.cuda.on_device import DeviceGraph
from tests.cuda.stand_in import needs_stand_in, number
from tests.cuda.test_group_tiles import GROUPED, by_groups
from tests.cuda.test_tensor_tiles import check, dense

__all__ = ["by_groups"]


@needs_stand_in
@pytest.mark.usefixtures("on_stand_in", "by_groups")
def test_maps_are_made_for_sizes_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device(), "capability", (9, 0))
    compiled = DeviceGraph(dense(BF16, symbol("N"), 136, 72))
    assert GROUPED.search(compiled.made.text)
    made, replayed = number("tensor_maps"), number("graph_launches")
    for rows in (70, 200, 70):  # each three times; the arena moves in between
        before, graphs = made.value, replayed.value
        check(compiled, Options(), 136, N=rows)
        assert 2 <= made.value - before <= 4
        assert replayed.value > graphs


@needs_stand_in
@pytest.mark.usefixtures("on_stand_in")
def test_what_a_driver_does_not_take() -> None:
    with pytest.raises(GpuError, match="could not describe an array"):
        tensor_map(8, "bf16", (64, 64), (64,), (64, 64))
