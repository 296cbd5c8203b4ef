"""Graphs of one op from its samples, and inputs for them."""

from __future__ import annotations

import numpy as np

from dlc.ir.graph import Builder, Graph, Param, Value
from dlc.ir.ops import OPS, Op, Sample
from dlc.ir.scalar import Array
from dlc.ir.types import BOOL, F32, F64, DType, TensorType, parse_type

SAMPLES = [(op, sample) for op in OPS.values() for sample in op.samples]
IDS = [f"{op.name}-{i}" for op in OPS.values() for i, _ in enumerate(op.samples)]


def of_samples(keep: object = None) -> dict[str, object]:
    """Arguments of `parametrize`: all samples of the ops that `keep` says yes to."""
    chosen = [(pair, name) for pair, name in zip(SAMPLES, IDS, strict=True)
              if keep is None or keep(pair[0])]  # type: ignore[operator]
    return {"argnames": ("op", "sample"), "argvalues": [pair for pair, _ in chosen],
            "ids": [name for _, name in chosen]}


def sample_graph(op: Op, sample: Sample, wide: bool = False) -> Graph:
    """A graph of the op alone; with `wide`, f32 becomes f64 all over."""
    texts = [text.replace("f32", "f64") if wide else text for text in sample.types]
    values = [Value(f"x{i}", parse_type(text)) for i, text in enumerate(texts)]
    attrs = {name: F64 if wide and value is F32 else value for name, value in sample.attrs}
    b = Builder(v.name for v in values)
    results = b.emit(op.name, *values, **attrs)
    return Graph(op.name, tuple(map(Param, values)), tuple(b.nodes), results)


def random_inputs(graph: Graph, sample: Sample, seed: int = 0) -> list[Array]:
    """Arrays in the sample's range for all parameters."""
    rng = np.random.default_rng(seed)
    return [random_array(rng, value.tensor, sample, k) for k, value in enumerate(graph.inputs)]


def random_array(
    rng: np.random.Generator, kind: TensorType, sample: Sample, operand: int = 0
) -> Array:
    """One array of `kind`, whose dims are numbers, for an operand of a sample."""
    shape = tuple(int(str(dim)) for dim in kind.dims)
    if kind.dtype is BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    lowest, highest = sample.range(operand)
    if kind.dtype.is_float:
        return np.asarray(rng.uniform(lowest, highest, shape)).astype(kind.dtype.numpy)
    info = np.iinfo(kind.dtype.numpy)
    low, high = max(int(lowest), info.min), min(int(highest), info.max)
    return np.asarray(rng.integers(low, high, shape, endpoint=True)).astype(kind.dtype.numpy)


def assert_close(found: Array, expected: Array, dtype: DType, units: float = 4) -> None:
    """Equal up to `units` in the last place; whole numbers must be the same."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if not dtype.is_float:
        np.testing.assert_array_equal(found, expected)
        return
    info = np.finfo(dtype.numpy)
    np.testing.assert_allclose(
        found, expected, rtol=units * float(info.eps), atol=float(info.smallest_normal))
