"""For all tests: compiled code is kept in a folder of this run, not in the user's cache.

`--update` writes what is found now into the files of expected texts.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from typing import Any

import pytest

# Workers of pytest-xdist inherit the environment of who started them, and share the folder.
if "DLC_TEST_CACHE" not in os.environ:
    _folder = tempfile.mkdtemp(prefix="dlc-test-cache-")
    os.environ["DLC_TEST_CACHE"] = _folder
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["DLC_CACHE"] = os.environ["DLC_TEST_CACHE"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true",
        help="write what is found now into the files of expected texts; read the diff after",
    )
    parser.addoption(
        "--gpu", action="store_true",
        help="run what runs CUDA C (tests/cuda) on the GPU of this machine",
    )


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether expected texts are to be rewritten."""
    return bool(request.config.getoption("--update"))


def pytest_configure(config: pytest.Config) -> None:
    """Tests see `--gpu` before they are imported, and workers too. What was started in the
    background ignores Ctrl-C; tests of it need it as it is."""
    if config.getoption("--gpu"):
        import dlc
        from dlc.runtime.cuda.device import device

        try:
            device()
        except dlc.RunError as error:
            raise pytest.UsageError(f"--gpu: {error}") from error
        os.environ["DLC_TEST_GPU"] = "1"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker that has nothing left takes half of what another one has. By default tests are given
    away for good, a thousand at once: one worker had all of tests/cuda, and the other waited."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
