"""Ctrl-C ends a call that turns for ever, and nothing has changed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

MOST_SECONDS = 60  # of a test that goes wrong
MODEL = """
model Endless {
    state n: f32 = 1.0
    step spin(x: f32[K]) -> f32 {
        n += uniform(1, low=1.0, high=2.0)[0]
        while n > 0.0 carry t = 0.0 {
            TURN
        }
        n += t
        return t
    }
}
"""
TURNS = {
    "a short turn": "t = t + x[0]",
    "a long turn": "scan y in x carry u = t { u = tanh(u + sum(x * y)) }\n t = u",
    "a turn that prints": 't = t + x[0]\n print("turn {t}")',
}
RUN = """
import signal
import sys
import numpy
import dlc

# What was started in the background ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = dlc.load(sys.argv[1]).Endless(seed=0)
random = model.storage().random
before = random.tolist()
model.load_function("spin")
for turn in range(2):
    print("ready", flush=True)
    try:
        model.spin(numpy.ones(list(map(int, sys.argv[2:])), numpy.float32))
    except KeyboardInterrupt:
        print("\\nended", model.n, random.tolist() == before, flush=True)
"""


ROWS = """
model Endless {
    param w: f32[64, 64] = zeros(64, 64)
    state n: f32 = 1.0
    step spin(x: f32[N, 64]) -> f32[N, 64] {
        n += uniform(1, low=1.0, high=2.0)[0]
        scan i in range(1000000000) carry h = x { h = tanh(h @ w + x) }
        n += h[0, 0]
        return h
    }
}
"""
PROGRAMS = {name: (MODEL.replace("TURN", turn), ("3000",)) for name, turn in TURNS.items()}
PROGRAMS |= {"rows by themselves": (ROWS, ("16", "64"))}


@pytest.mark.parametrize(("program", "sizes"), PROGRAMS.values(), ids=PROGRAMS)
def test_ctrl_c_ends_a_loop(program: str, sizes: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "endless.dl"
    path.write_text(program)
    process = subprocess.Popen([sys.executable, "-c", RUN, path, *sizes], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    ended, since = [], 0.0
    watch = threading.Timer(MOST_SECONDS, process.kill)
    watch.start()
    for line in process.stdout:
        if line == "ready\n":
            threading.Timer(1.0, process.send_signal, [signal.SIGINT]).start()
            since = time.monotonic()
        if line.startswith("ended"):
            assert time.monotonic() - since < 6
            ended.append(line)
    watch.cancel()
    assert process.wait() == 0, process.stderr.read()
    assert ended == ["ended 1.0 True\n"] * 2
    assert process.stderr.read() == ""
