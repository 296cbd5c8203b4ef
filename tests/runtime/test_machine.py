"""What this machine is: the same again, another for other instructions, and without LLVM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dlc.runtime import machine

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: a name
stepping\t: 8
cpu MHz\t\t: {hertz}
flags\t\t: fpu sse {flag}
bogomips\t: 4000.00

processor\t: 1
vendor_id\t: GenuineIntel
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 2000.00
Features\t: fp asimd
CPU implementer\t: 0x41
CPU part\t: 0xd4f
CPU revision\t: 0

processor\t: 1
"""


def identity(path: Path, text: str) -> str:
    path.write_text(text)
    return machine._of_linux()


def test_a_cpu_is_its_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPUINFO", path)
    assert machine._of_linux() == ""
    assert identity(path, "nothing: of use\n") == ""
    first = identity(path, X86.format(hertz=2000, flag="avx2"))
    assert first.count("\n") == 5
    assert identity(path, X86.format(hertz=3000, flag="avx2")) == first
    assert identity(path, X86.format(hertz=2000, flag="avx512f")) != first
    arm = identity(path, ARM)
    assert arm.count("\n") == 4
    assert identity(path, ARM.replace("asimd", "asimd sve")) != arm


def test_it_is_told_without_llvm() -> None:
    text = (
        "import sys\n"
        "from dlc.runtime import machine\n"
        "print(bool(machine.cpu()), bool(machine.llvm_version()), 'llvmlite' in sys.modules)\n"
        "import llvmlite\n"
        "print(llvmlite.__version__ in machine.llvm_version())"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    expected = "True True False\nTrue\n" if sys.platform == "linux" else done.stdout
    assert done.stdout == expected
