"""Stages and bytes of a step of each example: a table that `pytest --update` writes anew."""

from __future__ import annotations

from pathlib import Path

from dlc.compiler.options import Options
from dlc.compiler.pipeline import plan
from dlc.compiler.traffic import Traffic, traffic
from dlc.frontend.build import Build
from dlc.ir.graph import Builder
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
