"""What is compiled for a GPU, on the stand-in driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dlc.compiler.cuda import cubin
from tests.cuda.stand_in import code_of, driver, number


@pytest.fixture
def on_stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What is compiled for a GPU runs on the CPU."""
    driver()
    monkeypatch.setenv("DLC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cubin, "compile_cubin", lambda text, arch: code_of(text))
    yield
    number("memory").value = 8 << 30
