"""The workloads of a GPU in PyTorch: eager, compiled with CUDA graphs, and a whole step of that as
one graph. f32 is f32: no tf32."""

from __future__ import annotations

import os
from typing import Any

import torch

from tests.benchmarks import with_torch
from tests.benchmarks.gpu_rows import Row
from tests.benchmarks.mathematics import Missing


class Run(with_torch.Run):
    """Calls one workload."""

    device = "cuda"
    mode = None

    def __init__(self, row: Row) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        super().__init__(row.workload)
        if row.half:
            self.inputs = {name: x.bfloat16() for name, x in self.inputs.items()}
        step, self._measured = self.call, self._put
        self.call = lambda: _on_host(step())

    def _put(self) -> Any:
        """A call whose loss stays where it is."""
        return self._loss() if self.workload.kind == "step" else self._quiet()

    def _quiet(self) -> Any:
        return self._gradient() if self.workload.wrt else self._forward()

    def many(self, count: int) -> None:
        """So many calls, to the end."""
        for _ in range(count):
            self._measured()
        torch.cuda.synchronize()


class CompiledRun(Run):
    """By torch.compile with CUDA graphs."""

    compiled = True
    mode = "reduce-overhead"


class GraphRun(Run):
    """A whole training step, compiled, recorded as one CUDA graph."""

    compiled = True

    def __init__(self, row: Row) -> None:
        if row.workload.kind != "step":
            raise Missing("is for steps")
        super().__init__(row)
        self._graph: Any = None

    def many(self, count: int) -> None:
        """So many steps, to the end."""
        if self._graph is None:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._put()
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._put()
        for _ in range(count):
            self._graph.replay()
        torch.cuda.synchronize()


def _on_host(found: Any) -> Any:
    if isinstance(found, float):
        return found
    parts = found if isinstance(found, tuple | list) else (found,)
    return [part.detach().float().cpu().numpy() for part in parts]
