"""Stages and bytes of a step of each example: a table that `pytest --update` writes anew."""

from __future__ import annotations

from pathlib import Path

from dlc.compiler.options import Options
from dlc.compiler.pipeline import plan
from dlc.compiler.traffic import Traffic, traffic
from dlc.frontend.build import Build
from dlc.ir.dims import symbol
from dlc.ir.graph import Builder
from dlc.ir.kernel import computes
from dlc.ir.types import F32
from tests.compiler.test_footprints import EXAMPLES, STEPS
from tests.compiler.test_kernels import graph, value

TABLE = Path(__file__).with_name("golden") / "traffic.txt"
HEAD = ("example", "step", "launches", "stages", "bytes moved", "of what is given", "ratio")


def row(file: str, name: str, found: Traffic) -> tuple[str, ...]:
    return (file, name, str(found.launches), str(found.stages), str(found.moved),
            str(found.given), f"{found.moved / found.given:.2f}")


def table() -> str:
    rows = [HEAD]
    for file, (model, given, names) in STEPS.items():
        build = Build(EXAMPLES / file)
        built = build.model(model, {**build.program().trained.get(model, {}), **given})
        for name in names.split():
            options = Options(target="x86-64-v4", hints=built.options(name).hints)
            rows.append(row(file, name, traffic(*plan(built.graph(name), options))))
    widths = [max(len(r[k]) for r in rows) for k in range(len(HEAD))]
    return "".join("  ".join(text.ljust(w) for text, w in zip(r, widths, strict=True)).rstrip()
                   + "\n" for r in rows)


def test_stages_and_bytes_of_each_example(update: bool) -> None:
    found = table()
    if update:
        TABLE.write_text(found)
    assert found == TABLE.read_text(), f"{TABLE.name} differs: see the diff of --update"


def test_a_softmax_moves_its_input_and_its_output() -> None:
    b = Builder("x")
    x = value("x", 512, 256)
    made = graph(b, [x], [b.op("softmax", x, axis=1)])
    found = traffic(*plan(made, Options(target="x86-64-v4")))
    assert (found.launches, found.stages) == (1, 1)
    assert found.given == 2 * 4 * 512 * 256
    assert found.moved <= 1.5 * found.given  # what is kept in the result is read from near


DROPPED = """import nn
model Net {
    a = nn.Dense(64, 256)
    d = nn.Dropout(0.3)
    b = nn.Dense(256, 10)

    step fit(x: f32[N, 64], y: i32[N]) -> f32 {
        loss = softmax_cross_entropy(x |> a |> relu |> d |> b, y)
        minimize loss with sgd(lr=0.1)
        return loss
    }
}
"""


def test_dropout_draws_again_on_the_way_back(tmp_path: Path) -> None:
    """No mask crosses from the way there, and no number of an element lies in memory: of the hidden
    layer there is what the mask is laid over, what comes of it, and the gradient, once each."""
    file = tmp_path / "net.dl"
    file.write_text(DROPPED)
    program, sizes = plan(Build(file).model("Net", {}).graph("fit"),
                          Options(target="x86-64-v4", hints={"N": 128}))
    temps = [b for b in program.buffers if b.kind == "temp" and not b.alias_of]
    assert all(b.dtype is F32 for b in temps)
    wide = [b for b in temps if b.dims == (symbol("N"), 256)]
    assert len(wide) == 3
    drawing = [k for k in program.kernels if any(
        op.op == "random_uniform" for c in computes(k.body) for op in c.body)]
    assert len(drawing) == 2
    assert traffic(program, sizes).moved < 8 * 4 * 128 * 256 + 6 * 4 * 64 * 256 + 10**5
