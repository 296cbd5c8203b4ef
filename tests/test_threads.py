"""Training steps of all examples, and all ops, give the same bits with 1, 2, 3 and 7 threads, with
every kernel cut into many chunks, however cheap they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.compiler.schedules import chunks
from dlc.frontend.bench.inputs import Given, find_arguments
from dlc.frontend.driver import Model
from dlc.ir.ops import OPS
from dlc.ir.types import F32
from dlc.runtime import pool
from tests.compiler.test_ops_compiled import APART, Together, cases, draw
from tests.examples.reference import build
from tests.examples.zoo.cases import MODELS, inputs

THREADS = (2, 3, 7)
PATIENCE = 30  # seconds
PARTS = 4  # all ops in one module are too many
SIZES = {"N": 17, "T": 9, "B": 5}
EXAMPLES: dict[str, tuple[str, dict[str, int], tuple[str, ...]]] = {
    "autoencoder": ("Autoencoder", {}, ("fit",)),
    "dbn": ("DBN", {}, ("pretrain1", "pretrain3", "fine_tune")),
    "lenet5": ("LeNet5", {}, ("fit", "scores")),
    "lstm": ("CharModel", {"vocabulary": 20, "units": 24}, ("fit",)),
    "masked_words": ("MaskedWords", {"words": 30, "width": 24, "heads": 2, "depth": 2}, ("fit",)),
    "plain_lenet5": ("PlainLeNet5", {}, ("fit", "scores")),
    "rbm": ("RBM", {"visible": 50, "hidden": 30}, ("contrast",)),
    "sparse_coding": ("SparseCoding", {"pixels": 40, "atoms": 60}, ("learn",)),
    "text_classifier": ("BagOfWords", {"words": 40, "classes": 5}, ("fit",)),
    "word2vec": ("SkipGram", {"words": 60, "size": 20}, ("fit",)),
}


@pytest.fixture(autouse=True)
def everything_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No work is too small, neither when it is compiled nor when it runs; nobody works alone."""
    monkeypatch.setenv("DLC_CACHE", str(tmp_path))
    monkeypatch.setattr(chunks, "SERIAL_NS", 0)
    monkeypatch.setattr(chunks, "CHUNK_NS", 1)
    pool.configure(serial_ns=0, wake_ns=0, solo_after_ns=0)
    yield
    pool.configure(serial_ns=pool.SERIAL_NS, wake_ns=pool.WAKE_NS,
                   solo_after_ns=pool.SOLO_AFTER_NS)
    pool.set_threads(None)


def bits(values: Any) -> list[bytes]:
    """Of the results of a call."""
    return [np.asarray(v).tobytes() for v in (values if isinstance(values, tuple) else (values,))]


def test_all_examples_are_here() -> None:
    folder = Path(__file__).parents[1] / "examples"
    assert {file.stem for file in folder.glob("*.dl")} - {"transformer"} == set(EXAMPLES)
    assert {file.stem for file in (folder / "zoo").glob("*.dl")} == set(MODELS)


def run_steps(model: Model, calls: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
    """The bits of all results, and of all variables at the end."""
    found = [each for name, given in calls for each in bits(model.function(name)(**given))]
    return found + [model.variables[name].tobytes() for name in sorted(model.variables)]


def check(run: Callable[[], list[bytes]]) -> None:
    """Whether a run gives the same with different numbers of threads, all of which do some of it.

    On a busy machine workers may come too late; then it runs again."""
    pool.set_threads(1)
    before = pool.worker_chunks()
    expected = run()
    assert pool.worker_chunks() == before
    assert any(np.frombuffer(each, np.uint8).any() for each in expected)
    for count in THREADS:
        pool.set_threads(count)
        before, deadline = pool.worker_chunks(), time.monotonic() + PATIENCE
        while pool.worker_chunks() == before:
            assert time.monotonic() < deadline, f"no worker of {count} threads has run any chunk"
            assert run() == expected


@pytest.mark.parametrize("program", EXAMPLES)
def test_examples(program: str) -> None:
    name, arguments, steps = EXAMPLES[program]
    model = build(f"{program}.dl", name, **arguments)
    calls = []
    for step in steps:
        call = model.function(step)
        symbols = {dim for each in call.inputs for dim in (*each.dims, *each.sizes, each.name)}
        sizes = {name: size for name, size in SIZES.items() if name in symbols}
        calls += [(step, find_arguments(call.inputs, Given(sizes=sizes), 3, call))] * 3
    check(lambda: run_steps(build(f"{program}.dl", name, **arguments), calls))


@pytest.mark.parametrize("program", MODELS)
def test_examples_of_the_zoo(program: str) -> None:
    step = {"wgan": "judge"}.get(program, "fit")
    calls = [(step, given) for given in inputs(program)]
    check(lambda: run_steps(build(f"zoo/{program}.dl", MODELS[program]), calls))


@pytest.mark.parametrize("part", range(PARTS))
def test_ops(part: int) -> None:
    names = sorted(OPS.keys() - APART.keys())[part::PARTS]
    ops = Together([case for name in names for case in cases(name, (F32,))])
    arrays = [np.zeros(37, np.float32)]
    arrays += [a for seed, case in enumerate(ops.cases) for a in draw(case, 37, seed)]
    check(lambda: bits(ops.compiled.run(arrays)))
