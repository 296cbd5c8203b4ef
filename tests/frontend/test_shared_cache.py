"""The cache on disk under real programs: many processes at once, and all that can be wrong with it.

Each process loads a model and takes a step. Whatever the cache does, the step is the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frontend.small_mnist import TINY

STEP = """
import sys, time
import numpy as np
import dlc
{before}
tiny = dlc.load(sys.argv[1]).Tiny(seed=0)
loss = tiny.fit(image=np.full((2, 28, 28), 9, np.uint8), label=np.zeros(2, np.uint8))
print(float(loss).hex(), "compiled" if "dlc.compiler.pipeline" in sys.modules else "found")
"""


class Runs:
    """Processes that share a program and a cache."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.program = folder / "tiny.dl"
        self.program.write_text(TINY)

    def start(self, before: str = "", **environment: str) -> subprocess.Popen[str]:
        """A process that has begun; `before` is what it does first."""
        return subprocess.Popen(
            [sys.executable, "-c", STEP.format(before=before), str(self.program)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "DLC_CACHE": str(self.cache), **environment},
        )

    def run(self, before: str = "", **environment: str) -> list[str]:
        """The loss, and whether it was compiled or found."""
        return self.end(self.start(before, **environment))

    def end(self, process: subprocess.Popen[str]) -> list[str]:
        """What a process has printed; nothing may have gone wrong."""
        out, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, "")
        return out.split()

    def entries(self) -> dict[str, bytes]:
        """All files of the cache; none is of a process that has not come to its end."""
        found = {path.name: path.read_bytes() for path in self.cache.iterdir()}
        assert all(name.endswith(".entry") for name in found)
        return found


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, str]:
    """A cache with a program in it, and the loss."""
    made = Runs(tmp_path_factory.mktemp("filled"))
    loss, how = made.run()
    assert how == "compiled"
    return made, loss


AT_ONCE = """
from pathlib import Path
gate = Path(sys.argv[1]).with_name("gate")
while not gate.exists():
    time.sleep(0.001)
"""


def test_eight_processes_at_once(runs: Runs, filled: tuple[Runs, str]) -> None:
    started = [runs.start(AT_ONCE) for _ in range(8)]
    runs.program.with_name("gate").touch()
    losses = {runs.end(process)[0] for process in started}
    assert losses == {filled[1]}
    before = runs.entries()
    assert runs.run() == [filled[1], "found"]
    assert runs.entries() == before


def test_a_damaged_entry_is_made_again(filled: tuple[Runs, str]) -> None:
    runs, loss = filled
    whole = runs.entries()
    for name, data in whole.items():
        at = len(data) // 2
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], b""):
            (runs.cache / name).write_bytes(damaged)
            assert runs.run()[0] == loss
            assert runs.entries().keys() == whole.keys()
            if name.startswith(("code", "pool")):  # machine code need not have the same bytes
                assert runs.entries()[name] != damaged
            else:
                assert runs.entries()[name] == data
    assert runs.run() == [loss, "found"]


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
@pytest.mark.parametrize("size", [0, 500, 5000])
def test_no_room_for_files(runs: Runs, filled: tuple[Runs, str], size: int) -> None:
    """As on a full disk, a write ends in the middle; files that are small enough are kept."""
    for _ in range(2):
        assert runs.run(LIMITED.format(size=size)) == [filled[1], "compiled"]
        assert all(len(data) <= size for data in runs.entries().values())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody can write into")
def test_a_home_that_nobody_can_write_into(runs: Runs, filled: tuple[Runs, str]) -> None:
    nowhere = {"DLC_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/proc/self"}
    assert runs.run(**nowhere) == [filled[1], "compiled"]
    assert not runs.cache.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_home_that_is_read_only(runs: Runs, filled: tuple[Runs, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    nowhere = {"DLC_CACHE": "", "XDG_CACHE_HOME": "", "HOME": str(home)}
    assert runs.run(**nowhere) == [filled[1], "compiled"]
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_cache_that_can_only_be_read_is_read(filled: tuple[Runs, str]) -> None:
    runs, loss = filled
    runs.cache.chmod(0o555)
    try:
        assert runs.run() == [loss, "found"]
    finally:
        runs.cache.chmod(0o700)


ELSEWHERE = """
from dlc.runtime import machine
machine.cpu = lambda: "a CPU of another kind"
"""


def test_code_of_another_cpu_is_not_taken(filled: tuple[Runs, str]) -> None:
    runs, loss = filled
    before = runs.entries()
    assert runs.run(ELSEWHERE) == [loss, "compiled"]
    after = runs.entries()
    assert before.items() <= after.items()
    assert {name.split("-")[0] for name in after.keys() - before.keys()} == {"code"}
    assert runs.run() == [loss, "found"]
    assert runs.run(ELSEWHERE) == [loss, "found"]
