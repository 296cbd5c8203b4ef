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


def function(built: Built, name: str, variables: Variables) -> CudaFunction:
    """The runtime's function; compiled now, if it never was."""
    from dlc.runtime.cuda.function import CudaFunction
    from dlc.runtime.cuda.variables import CudaVariables

    assert isinstance(variables, CudaVariables)
    wide = partial(_artifact, built, name, _WIDE)
    return CudaFunction(_artifact(built, name, ""), variables, wide)


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
