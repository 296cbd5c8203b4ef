"""The thread pool when everything happens at the worst moment: see `stress.py`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.stress import SCENES

ROOT = Path(__file__).parents[2]
SECONDS = 2


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_goes_wrong(scene: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.stress", scene, str(SECONDS)], cwd=ROOT,
        env={"DLC_CACHE": str(tmp_path)}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    steps, chunks = map(int, re.findall(r"\d+", done.stdout))
    assert steps > 0
    assert chunks > 0
