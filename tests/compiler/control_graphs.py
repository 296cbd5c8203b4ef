"""Functions and bodies for tests of control flow, made by Python functions of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dlc.ir.dims import Dim, evaluate, symbol
from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops.contract import matmul_spec
from dlc.ir.scalar import Array
from dlc.ir.types import F64, DType, TensorType, tensor
from dlc.ir.verify import verify

T, N = symbol("t"), symbol("N")  # a lower-case symbol may be 0
Kind = tuple[Dim, ...] | TensorType  # dims alone are those of an f64
Make = Callable[..., Sequence[Value]]  # (builder, *parameters) -> results


def body(name: str, kinds: Mapping[str, Kind], make: Make, dtype: DType = F64) -> Graph:
    """The graph of what `make` appends; its parameters have the names and types of `kinds`."""
    values = [Value(n, k if isinstance(k, TensorType) else tensor(dtype, k))
              for n, k in kinds.items()]
    b = Builder(kinds)
    results = tuple(make(b, *values))
    return Graph(name, tuple(map(Param, values)), tuple(b.nodes), results)


def function(kinds: Mapping[str, Kind], make: Make, dtype: DType = F64) -> Graph:
    """As `body`, a whole function, verified."""
    graph = body("f", kinds, make, dtype)
    verify(graph)
    return graph


def scan(
    b: Builder, turn: Graph, carried: Sequence[Value], items: Sequence[Value],
    captured: Sequence[Value] = (), length: Dim = T, reverse: bool = False, **flags: bool,
) -> tuple[Value, ...]:
    """Appends a scan."""
    return b.emit("scan", *carried, *items, *captured, regions=(turn,), carried=len(carried),
                  items=len(items), length=length, reverse=reverse, **flags)


def matmul(b: Builder, x: Value, y: Value, hint: str = "") -> Value:
    """`x @ y`."""
    return b.op("contract", x, y, hint=hint, **matmul_spec(x.dims, y.dims))


def total(b: Builder, *values: Value) -> Value:
    """A loss in which every element of `values` counts differently: the sum of all sines."""
    return _added(b, [b.sum(b.op("sin", v), range(len(v.dims))) for v in values])


def squared(b: Builder, *values: Value) -> Value:
    """The sum of the squares of all elements of `values`."""
    return _added(b, [b.sum(b.op("mul", v, v), range(len(v.dims))) for v in values])


def _added(b: Builder, parts: Sequence[Value]) -> Value:
    result = parts[0]
    for part in parts[1:]:
        result = b.op("add", result, part)
    return result


def arrays(graph: Graph, sizes: Mapping[str, int], seed: int = 0) -> list[Array]:
    """Inputs: floats in [-1, 1), integers in 0 … 2, bools."""
    rng = np.random.default_rng(seed)
    made = []
    for value in graph.inputs:
        shape = tuple(evaluate(d, sizes) for d in value.dims)
        dtype = np.dtype(value.dtype.numpy)
        made.append(np.asarray(rng.uniform(-1, 1, shape) if dtype.kind == "f"
                               else rng.integers(0, 3 if dtype.kind == "i" else 2, shape),
                               dtype))
    return made
