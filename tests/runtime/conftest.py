"""Every test of the runtime has a cache folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that `DLC_CACHE` names for this test; it is not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DLC_CACHE", str(folder))
    return folder
