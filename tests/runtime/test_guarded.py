"""Compiled code touches nothing beyond its buffers: see `guarded.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Products and convolutions of odd sizes, reductions, all ops in one program, training steps.
TESTS = (
    "tests/compiler/test_products.py::test_products",
    "tests/compiler/test_products.py::test_convolutions",
    "tests/compiler/test_rows.py",
    "tests/test_threads.py::test_ops",
    "tests/test_threads.py::test_examples[lenet5]",
    "tests/test_threads.py::test_examples[lstm]",
    "tests/test_threads.py::test_examples[masked_words]",
)
BEYOND = """
import numpy as np
from dlc.runtime import Function, Variables
from tests.runtime import guarded, programs
guarded.install({side!r})
function = Function(programs.double({offset}), Variables(seed=0))
print(function(np.ones(1000, np.float32)).sum(), flush=True)
"""


def run(*arguments: str, side: str = "end") -> subprocess.CompletedProcess[str]:
    """A process of Python whose memory is guarded."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "DLC_GUARD": side},
        capture_output=True, text=True, timeout=1000, check=False)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("side", ["start", "end"])
def test_nothing_beyond_buffers_is_touched(side: str) -> None:
    done = run("-m", "pytest", "-q", "-p", "tests.runtime.guarded", "-p", "no:cacheprovider",
               *TESTS, side=side)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize(("side", "offset", "ends"), [
    ("end", 0, 0), ("start", 0, 0), ("end", 1, -signal.SIGSEGV), ("start", -1, -signal.SIGSEGV)])
def test_one_number_too_far_ends_the_process(side: str, offset: int, ends: int) -> None:
    done = run("-c", BEYOND.format(side=side, offset=offset))
    assert (done.returncode, done.stdout) == (ends, "" if ends else "2000.0\n"), done.stderr
