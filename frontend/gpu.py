"""Functions of a model for the GPU that is here, as cubins that are kept on disk."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from dlc.frontend import keys
from dlc.frontend.build import Built, kept
from dlc.frontend.collector import collector_at_rest
from dlc.frontend.errors import user_error
from dlc.runtime import cache as store
from dlc.runtime.artifact import Artifact

if TYPE_CHECKING:
    from dlc.runtime.cuda.arrays import GpuArray
    from dlc.runtime.cuda.function import CudaFunction
    from dlc.runtime.variables import Variables

CPU: Final = "cpu"
CUDA: Final = "cuda"
DEVICES: Final = (CPU, CUDA)
_WIDE: Final = "#define WIDE_INDICES\n"  # see the head of prelude.cu


def require(device: str) -> None:
    """UserError or GpuError for a device that is none, or is not here: nothing falls back."""
    if device not in DEVICES:
        raise user_error("bad-setting", f"device is one of {', '.join(DEVICES)}, not {device!r}")
    if device == CUDA:
        from dlc.runtime.cuda.device import device as found

        found()


def on_gpu(array: object) -> GpuArray:
    """A copy of an array on the GPU that is here: functions with `device="cuda"` take it as it lies
    there, and results that are arrays stay there too. RunError if there is none."""
    from dlc.runtime.cuda.copies import on_gpu as copied
    from dlc.runtime.cuda.device import device
    from dlc.runtime.errors import ArgumentError
    from dlc.runtime.foreign import NoArray, array_of

    try:
        return copied(array_of(array), device())
    except NoArray as error:
        raise ArgumentError(f"what is to be copied to the GPU {error}") from error


def function(built: Built, name: str, variables: Variables) -> CudaFunction:
    """The runtime's function; compiled now, if it never was."""
    from dlc.runtime.cuda.function import CudaFunction
    from dlc.runtime.cuda.variables import CudaVariables

    assert isinstance(variables, CudaVariables)
    wide = partial(_artifact, built, name, _WIDE)
    return CudaFunction(_artifact(built, name, ""), variables, wide, moves)


def moves() -> bytes:
    """The machine code of what moves arrays on the GPU that is here."""
    from dlc.runtime.cuda.device import device

    arch = device().arch
    key = keys.moves_key(arch)
    found = store.get(key)
    if found is None:
        from dlc.compiler.cuda import cubin

        found = cubin.compile_cubin(cubin.MOVES.read_text(), arch)
        store.put(key, found)
    return found


def _artifact(built: Built, name: str, head: str) -> Artifact:
    """The code, with some text before it."""
    from dlc.runtime.cuda.device import device

    arch = device().arch
    key = keys.digest(built.code_key(name), arch, head)
    found = kept(key)
    if found is not None:
        return found
    with collector_at_rest():
        from dlc.compiler.cuda import cubin
        from dlc.compiler.pipeline import compile_cuda

        options = replace(built.options(name), target=f"cuda:{arch}")
        made = compile_cuda(built.graph(name), options)
        artifact = Artifact(made.manifest, cubin.compile_cubin(head + made.text, arch))
    store.put(key, artifact.to_bytes())
    return artifact
