"""How many threads: affinity, control groups, environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlc.runtime import limits
from dlc.runtime.errors import UserError


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_affinity", lambda: 8)
    monkeypatch.setattr(limits, "_quota", lambda: 3)
    assert limits.allowed_threads() == 3
    monkeypatch.setenv("DLC_THREADS", "2")
    assert limits.allowed_threads() == 2
    monkeypatch.setenv("DLC_THREADS", "many")
    with pytest.raises(UserError, match="DLC_THREADS is 'many'"):
        limits.allowed_threads()


def test_quotas_of_control_groups(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert limits._groups(tmp_path, "/a/b") == [inner, tmp_path / "a", tmp_path]
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    (inner / "cpu.max").write_text("max 100000\n")
    assert [limits._share_v2(group) for group in (inner, inner.parent)] == [float("inf"), 1.5]
    (inner / "cpu.cfs_quota_us").write_text("-1\n")
    (inner / "cpu.cfs_period_us").write_text("100000\n")
    assert limits._share_v1(inner) == float("inf")
    (inner / "cpu.cfs_quota_us").write_text("250000\n")
    assert limits._share_v1(inner) == 2.5


SHARED = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
from dlc.runtime import pool
from tests.runtime.jobs import Job, make_run
run, job = make_run(), Job(64, turns=20_000)
before = len(os.listdir("/proc/self/task"))
run("body", job.args, 64)
job.check(1)
print(pool.threads(), len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="affinity and /proc are Linux's")
@pytest.mark.parametrize(("cores", "chosen"), [(1, ""), (1, "7"), (64, "1"), (64, "2")])
def test_threads_begin_as_many_as_are_allowed(cores: int, chosen: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHARED, str(cores)], cwd=Path(__file__).parents[2],
        env={**os.environ, "DLC_THREADS": chosen}, capture_output=True, text=True, check=True)
    allowed = min(cores, int(chosen or 64), limits.allowed_threads())
    assert done.stdout.split() == [str(allowed), str(allowed - 1)]
