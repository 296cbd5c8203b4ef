"""`dlc bench`: what it measures adds up, is told in the right lines, and changes no result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.compiler.llvm.timed import EVENT, WHOLE
from dlc.compiler.options import Options
from dlc.compiler.pipeline import dump_graph
from dlc.frontend.bench.inputs import Given, make_arguments
from dlc.frontend.bench.measure import Timed, launches_of
from dlc.frontend.bench.rows import make_sites
from dlc.frontend.bench.table import short_lines
from dlc.frontend.commands.cli import main
from dlc.frontend.inputs import Input
from dlc.runtime import pool

NET = """import nn

model Net {
    hidden = nn.Dense(64, 96)
    out = nn.Dense(96, 10)

    fn scores(x: f32[N, 64]) -> f32[N, 10] {
        h = relu(hidden(x))
        return out(h)
    }

    step fit(x: f32[N, 64], label: u8[N], lr: f32 = 0.1) -> f32 {
        loss = softmax_cross_entropy(scores(x), label)
        minimize loss with sgd(lr=lr)
        return loss
    }
}

fn running(x: f32[T, N, 32], w: f32[32, 32]) -> f32[N, 32] {
    scan each in x carry h = zeros(N, 32) {
        h = tanh(each + h @ w)
    }
    return h
}

fn rows(table: f32[10, 4], at: i32[N]) -> f32[N, 4] = table[at]
fn product(x: f32[M, 512], y: f32[512, 512]) -> f32[M, 512] = x @ y
fn narrow(x: f32[M, 64], y: f32[64, 64]) -> f32[M, 64] = x @ y
fn head(x: f32[N], count: int) -> f32[count] = sort(x)[0:count]
model Wide(width: int) {
    dense = nn.Dense(width, width)
    fn forward(x: f32[N, width]) -> f32[N, width] = dense(x)
}
"""
HIDDEN, LOSS, MINIMIZE = "net.dl:8", "net.dl:13", "net.dl:14"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with net.dl, in which the command runs."""
    (tmp_path / "net.dl").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Bench = Callable[..., dict[str, Any]]


@pytest.fixture
def bench(folder: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs `dlc bench net.dl` shortly; the JSON that it prints."""

    def bench(*arguments: str) -> dict[str, Any]:
        assert main(["bench", "net.dl", "--seconds", "0", "--json", *arguments]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return bench


def test_rows_add_up(bench: Bench) -> None:
    told = bench("--model", "Net", "--size", "N=32")
    assert (told["function"], told["sizes"], told["file"]) == ("fit", {"N": 32}, "net.dl")
    assert told["seconds"] >= told["fastest"] > 0
    total = sum(row["seconds"] for row in told["rows"]) + told["between"]
    assert math.isclose(total, told["timed"])
    assert told["launches"] == sum(row["launches"] for row in told["rows"]) > 5
    assert told["rows"] == sorted(told["rows"], key=lambda row: -row["seconds"])
    assert told["bytes"] == sum(row["bytes"] for row in told["rows"])
    weights = 64 * 96 + 96 + 96 * 10 + 10
    assert told["memory"]["given"] == 4 * (weights + 32 * 64 + 2) + 32  # lr, loss; labels
    assert told["memory"]["alive"] <= sum(told["memory"][k] for k in ("arena", "results", "stack"))
    for row in told["rows"]:
        assert row["seconds"] > 0
        assert math.isclose(row["share"], row["seconds"] / told["timed"])
        assert math.isclose(row["operations_per_second"], row["operations"] / row["seconds"])
        assert math.isclose(row["bytes_per_second"], row["bytes"] / row["seconds"])
    assert told["roofs"]["operations"] > 1e8
    assert told["roofs"]["bytes"] > 1e8


def test_each_line_of_the_step_has_its_kernels(bench: Bench) -> None:
    rows = bench("--model", "Net")["rows"]
    lines = {line for row in rows for line in row["lines"]}
    assert {HIDDEN, LOSS, MINIMIZE} <= lines
    assert lines <= {f"net.dl:{number}" for number in range(7, 17)}
    forward = next(row for row in rows if row["lines"] == [HIDDEN] and row["operations"] > 0)
    assert forward["operations"] >= 2 * 64 * 64 * 96


def test_launches_apart(bench: Bench) -> None:
    together, apart = bench("--model", "Net"), bench("--model", "Net", "--launches")
    assert len(apart["rows"]) == apart["launches"] == together["launches"]
    for each in ("operations", "bytes"):
        assert sum(r[each] for r in apart["rows"]) == sum(r[each] for r in together["rows"])


def test_what_a_loop_runs_is_counted(bench: Bench) -> None:
    told = bench("--function", "running", "--size", "T=9", "--size", "N=4")
    assert max(row["launches"] for row in told["rows"]) >= 8
    products = sum(row["operations"] for row in told["rows"])
    assert products >= 9 * 2 * 4 * 32 * 32


def test_sizes_that_are_arguments_have_the_names_that_the_user_gave(bench: Bench) -> None:
    assert bench("--function", "head", "--size", "count=3")["sizes"] == {"N": 64, "count": 3}


def test_every_launch_has_its_lines(bench: Bench) -> None:
    for name in ("running", "product", "head"):
        assert all(row["lines"] for row in bench("--function", name)["rows"])


def test_ids_are_drawn_below_what_the_function_checks(bench: Bench) -> None:
    assert bench("--function", "rows", "--size", "N=100")["sizes"] == {"N": 100}


def test_a_model_with_arguments(bench: Bench) -> None:
    told = bench("--model", "Wide", "--with", "width=24", "--size", "N=8")
    assert sum(row["operations"] for row in told["rows"]) >= 2 * 8 * 24 * 24


def test_the_usual_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "net.dl", "--function", "product", "--seconds", "0"]) == 0
    first, roofs, memory, head, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"product at M=64, {pool.threads()} thread")
    assert roofs.startswith("roofs: ")
    assert memory.startswith("memory: 1.31 MB of arguments, results and variables, ")
    assert head.split()[:2] == ["time", "share"]
    assert "net.dl:27" in rows[0]
    assert rows[-1].split()[-1] == "all"


def test_lines_are_told_shortly() -> None:
    assert short_lines(["a/x.dl:3", "a/x.dl:4", "a/x.dl:5", "a/x.dl:9", "y.dl:1"]) == (
        "x.dl:3-5,9 y.dl:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "K=3", "--model", "Net"), "--size K: the function has no such size"),
        (("--set", "rl=3", "--model", "Net"), "did you mean `lr`?"),
        (("--input", "y=y.npy", "--model", "Net"), "y.npy"),
        (("--function", "fti", "--model", "Net"), "did you mean `fit`?"),
        (("--with", "width=3"), "which model?"),
        (("--model", "Wide"), "width"),
    ],
)
def test_slips(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["bench", "net.dl", "--seconds", "0", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_trace(bench: Bench, folder: Path) -> None:
    pool.configure(serial_ns=0)
    try:
        bench("--function", "product", "--size", "M=4096", "--trace", "out.json")
    finally:
        pool.configure(serial_ns=pool.SERIAL_NS)
    told = json.loads((folder / "out.json").read_text())
    assert told["otherData"] == {"function": "product", "lost": 0}
    events = [event for event in told["traceEvents"] if event["ph"] == "X"]
    names = {e["tid"]: e["args"]["name"] for e in told["traceEvents"] if e["name"] == "thread_name"}
    assert names[0] == "caller"
    assert {event["tid"] for event in events} <= names.keys()
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in events)
    launches = {e["args"]["launch"]: e for e in events if e["cat"] == "launch"}
    chunks = [event for event in events if event["cat"] == "chunk"]
    product = launches[max(launches)]
    assert len(chunks) == product["args"]["chunks"] > 1
    for chunk in chunks:
        launch = launches[chunk["args"]["launch"]]
        assert launch["name"] == chunk["name"]
        assert launch["ts"] <= chunk["ts"]
        assert chunk["ts"] + chunk["dur"] <= launch["ts"] + launch["dur"] + 1e-3
    assert product["args"]["lines"] == ["net.dl:27"]
    assert product["args"]["operations"] == 2 * 4096 * 512 * 512


def test_times_change_no_result(folder: Path) -> None:
    plain, other = (dlc.load("net.dl").Net(seed=3) for _ in range(2))
    timed = Timed(other, "fit")
    x = np.random.default_rng(0).random((32, 64), np.float32)
    label = (np.arange(32) % 10).astype(np.uint8)
    for _ in range(3):
        assert plain.fit(x=x, label=label) == timed.call(x=x, label=label, lr=0.1)
    for name in ("hidden.w", "out.b"):
        assert np.array_equal(plain.variables[name], other.variables[name])


def test_more_events_than_there_is_room_for_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlc.frontend.bench.measure.CAPACITY", 3)
    timed = Timed(dlc.load("net.dl").Net(), "fit")
    timed.call(x=np.zeros((8, 64), np.float32), label=np.zeros(8, np.uint8), lr=0.1)
    events, lost = timed.events()
    assert events.shape == (3, len(EVENT))
    assert lost > 0
    whole = np.count_nonzero(events[:, EVENT.index("chunk")] == WHOLE)
    assert whole >= 1
    assert timed.totals()[:, 1].tolist() == [1] * len(launches_of(timed.program))
    timed.clear()
    assert timed.events()[0].size == timed.totals().sum() == 0


def test_other_code_has_no_clock(folder: Path) -> None:
    graph = dlc.load("net.dl").Net().fit.graph
    assert "@now" not in dump_graph(graph, "llvm", Options())
    assert "@now" in dump_graph(graph, "llvm", Options(timed=True))


def test_barriers_are_launches_worth_sharing_out(folder: Path) -> None:
    timed = Timed(dlc.load("net.dl").narrow.model, "narrow")
    small, large = (make_sites(timed.program, {"M": m})[-1] for m in (1, 4096))
    assert (small.shared, large.shared) == (False, True)


def test_arguments_of_all_types() -> None:
    types = [("u8", ("N", 3)), ("i64", ("N",)), ("bool", ("N",)), ("f16", (2,)), ("f64", ()),
             ("bf16", ("N",)), ("int", ()), ("sparse f32", ("N", 4))]
    inputs = [Input(f"x{at}", dtype, dims, None, dtype) for at, (dtype, dims) in enumerate(types)]
    given = Given(sizes={"N": 5, "x6": 2}, numbers={"x4": 0.25})
    made = make_arguments(inputs, given, seed=0, bound=4)
    assert made["x0"].shape == (5, 3)
    assert made["x0"].max() < 4
    assert [made[f"x{at}"].dtype.name for at in range(4)] == ["uint8", "int64", "bool", "float16"]
    assert (made["x4"], made["x5"].dtype, made["x6"]) == (0.25, np.uint16, 2)
    values, (rows, columns), shape = made["x7"]
    assert (shape, len(values), rows.max(), columns.max() < 4) == ((5, 4), 20, 4, True)
    again = make_arguments(inputs, given, seed=0, bound=4)
    assert np.array_equal(again["x0"], made["x0"])
