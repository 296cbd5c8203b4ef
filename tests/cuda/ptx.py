"""The assembly that NVRTC makes of a text."""

from __future__ import annotations

import ctypes

from dlc.compiler.cuda import nvrtc


def assembly(text: str, arch: str) -> str:
    """PTX of a translation unit, for an architecture as in `sm_80`."""
    library, program = nvrtc._library(), ctypes.c_void_p()
    assert not library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    given = [f"-arch={arch.replace('sm', 'compute')}".encode(), b"--fmad=false"]
    assert not library.nvrtcCompileProgram(
        program, len(given), (ctypes.c_char_p * len(given))(*given))
    found = nvrtc._read(library, "PTX", program).decode()
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return found
