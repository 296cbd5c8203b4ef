"""Processes that measure, and what is said of the machine they run on."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def inherited_environment() -> dict[str, str]:
    """This environment, where an installed package has its byte code: a checkout gets it at the
    first import."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def end_with_parent() -> None:
    """Where the system can: this process is killed when the one that started it ends, even while it
    is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def run_python(*arguments: str, **environment: str) -> str:
    """What a fresh Python prints; its errors end the measurement."""
    result = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**inherited_environment(), **environment},
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{result.stderr}")
    return result.stdout


def run_json(*arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON object on the last line of what it prints."""
    found: dict[str, Any] = json.loads(run_python(*arguments, **environment).splitlines()[-1])
    return found


def peak_megabytes() -> float:
    """The most memory that this process has had.

    Where the system tells it of this program alone: `getrusage` counts what the process was before
    it became this program, so that a child of a large process never seems small.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_name() -> str:
    """The processor, and how many of its CPUs this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"


def load() -> str:
    """How many processes want to run, on average over the last minute."""
    return f"load {os.getloadavg()[0]:.1f}"


def now() -> str:
    """The date and the time of day, UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
