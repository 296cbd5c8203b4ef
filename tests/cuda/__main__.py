"""Proves on the GPU of this machine what is proved elsewhere without one.

usage: python -m tests.cuda [STEP…]

STEPs: `tests` runs tests/cuda on the GPU (every op, programs, the steps of all examples, arrays of
PyTorch and CuPy, LeNet-5 to the CPU's error); `memcheck` and `racecheck` run every op and the tiled
products under compute-sanitizer. Without names all of them, one after another; what is missing on
this machine is told, and the command fails.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-q", "--gpu"]
OPS = ["tests/cuda/test_ops_cuda.py", "tests/cuda/test_tiles_cuda.py"]
STEPS = ("tests", "memcheck", "racecheck")


def command(step: str) -> list[str]:
    """What a step runs; SystemExit where a tool is missing."""
    if step == "tests":
        return [*PYTEST, "tests/cuda"]
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        raise SystemExit(f"{step}: compute-sanitizer, of a CUDA toolkit, is not on this machine")
    return [sanitizer, "--tool", step, "--error-exitcode", "1", *PYTEST, *OPS]


def main(arguments: list[str]) -> int:
    """Runs the steps; 0 if all of them passed."""
    from dlc.runtime.cuda.device import device
    from dlc.runtime.errors import GpuError

    parser = argparse.ArgumentParser(prog="python -m tests.cuda")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    steps = parser.parse_args(arguments).steps or STEPS
    if unknown := set(steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    try:
        print(device())
    except GpuError as error:
        print(f"nothing was run: {error}", file=sys.stderr)
        return 1
    failed = []
    for step in steps:
        words = command(step)
        print("+", *words, flush=True)
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            failed.append(step)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
