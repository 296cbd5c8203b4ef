"""PyCUDA as it is, over a driver that stands in for NVIDIA's (`stand_in.c`) and runs on the CPU.

It is there where PyCUDA is installed, gcc is, and no driver of NVIDIA's is.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cuda.compiled import HEADERS
from tests.cuda.on_cpu import COMPILER, HERE, build

_FOLDER = tempfile.TemporaryDirectory()
_ENTRY = re.compile(rb"\0(cu[A-Z]\w+)(?=\0)")
_DEFINED = re.compile(r"^int (cu\w+)\(", re.MULTILINE)


def _why_not() -> str:
    """Why there can be none; "" if it can."""
    if find_spec("pycuda") is None:
        return "PyCUDA is not installed"
    if shutil.which("gcc") is None or COMPILER is None:
        return "there is no gcc on this machine"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    return "there is a driver of NVIDIA's on this machine"


WHY_NOT = _why_not()
needs_stand_in = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@cache
def driver() -> ctypes.CDLL:
    """The stand-in, loaded: what asks for `libcuda.so.1` gets it from now on."""
    return ctypes.CDLL(str(made_driver()), mode=ctypes.RTLD_GLOBAL)


@cache
def made_driver() -> Path:
    """The stand-in as a library: what PyCUDA asks for and is not there says so when called."""
    spec = find_spec("pycuda")
    assert spec
    assert spec.origin
    own = next(Path(spec.origin).parent.glob("_driver*.so")).read_bytes()
    source = (HERE / "stand_in.c").read_text()
    missing = {name.decode() for name in _ENTRY.findall(own)} - set(_DEFINED.findall(source))
    rest = "".join(f"int {name}(void) {{ return NOT_SUPPORTED; }}\n" for name in sorted(missing))
    folder = Path(_FOLDER.name)
    (folder / "stand_in.c").write_text(source + rest)
    library = folder / "libcuda.so.1"
    made = subprocess.run(["gcc", "-O1", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1",
                           f"-I{HERE}", "-o", library, folder / "stand_in.c"],
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:4000]
    return library


@cache
def code_of(text: str, *defined: str) -> bytes:
    """What the stand-in takes for the machine code of a text."""
    number = len(list(Path(_FOLDER.name).glob("*.so")))
    library = Path(_FOLDER.name, f"kernels{number}.so")
    build(text, library, HEADERS, *defined)
    return f"{library}\0".encode()


def asked() -> str:
    """What the driver was asked for so far, a letter each: see `stand_in_log`."""
    size = number("log_size").value
    return (ctypes.c_char * size).in_dll(driver(), "stand_in_log").raw.decode()


def number(name: str) -> ctypes.c_long:
    """A number that the stand-in counts, or goes by."""
    return ctypes.c_long.in_dll(driver(), f"stand_in_{name}")
