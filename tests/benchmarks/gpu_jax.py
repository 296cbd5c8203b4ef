"""The workloads of a GPU in JAX: f32 is f32, no tf32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tests.benchmarks import with_jax
from tests.benchmarks.gpu_rows import Row


class Run(with_jax.Run):
    """Calls one workload."""

    def __init__(self, row: Row) -> None:
        jax.config.update("jax_default_matmul_precision", "highest")
        assert jax.default_backend() == "gpu", "this JAX has no GPU"
        super().__init__(row.workload)
        if row.half:
            self.inputs = {name: x.astype(jnp.bfloat16) for name, x in self.inputs.items()}
        self.trains = row.workload.kind == "step"

    def call(self) -> Any:
        """The outputs, as f32."""
        found = jax.block_until_ready(self.function(self.weights, **self.inputs))
        parts = found if isinstance(found, tuple | list) else (found,)
        return [part.astype(jnp.float32) for part in parts]

    def many(self, count: int) -> None:
        """So many calls, to the end."""
        for _ in range(count):
            found = self.function(self.weights, **self.inputs)
            if self.trains:
                self.weights = found[0]
        jax.block_until_ready(found)
