"""What tests of the compiler share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dlc.runtime import pool


@pytest.fixture
def split() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads; no kernel is too small to be split."""
    pool.configure(serial_ns=0)
    yield pool.set_threads
    pool.configure()
    pool.set_threads(None)
