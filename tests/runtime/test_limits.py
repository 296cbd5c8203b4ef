"""How many threads: affinity, control groups, environment."""

from __future__ import annotations

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
