"""The examples as a user meets them: they check, train, predict, within the promised memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.frontend.training import data

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_MEGABYTES = 250
PROC = Path("/proc/self/status")
# Runs a command line and prints the process's peak in KiB. (What wait4 tells of a child counts the
# memory of the parent that it was forked from.)
PEAK = """
import re, sys
from dlc.frontend.commands.cli import main
code = main(sys.argv[1:])
try:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
except OSError:
    print(0)
sys.exit(code)
"""


@pytest.mark.parametrize("file", sorted(EXAMPLES.rglob("*.dl")), ids=lambda file: file.name)
def test_every_example_checks(file: Path) -> None:
    command = [sys.executable, "-m", "dlc", "check", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text()
    assert [f.name for f in EXAMPLES.rglob("*.dl")
            if f"`{f.relative_to(EXAMPLES)}`" not in table] == []


@pytest.mark.slow
def test_lenet5_learns_in_an_epoch_and_reads_digits(tmp_path: Path) -> None:
    """One of its twenty epochs gives less than 5 % of errors; the process stays small."""
    weights = tmp_path / "w.safetensors"
    arguments = ["train", str(EXAMPLES / "lenet5.dl"), "--json", "--epochs", "1"]
    command = [sys.executable, "-c", PEAK, *arguments, "--save", str(weights)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    epoch = json.loads(lines[0])
    assert epoch["loss"] < 0.3
    assert epoch["error_rate"] < 0.05
    if PROC.exists():
        assert int(lines[-1]) / 1024 <= MOST_MEGABYTES
    test = data.load("mnist", EXAMPLES / "lenet5.dl", None, ()).test.arrays
    lenet = dlc.load(EXAMPLES / "lenet5.dl").LeNet5()
    lenet.load(weights)
    wrong = lenet.digit(image=test["image"][:1000]) != test["label"][:1000]
    assert wrong.mean() < 0.06


def test_plain_lenet5_follows_its_gradient() -> None:
    """Many small steps on one batch, whose loss falls each time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 1, 32, 32)).astype(np.float32)
    y = rng.integers(0, 10, 16).astype(np.int32)
    fit = dlc.load(EXAMPLES / "plain_lenet5.dl").PlainLeNet5().fit
    losses = [float(fit(x=x, y=y)) for _ in range(20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(np.log(10), abs=0.5)
