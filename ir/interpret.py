"""Runs a Graph with NumPy, node after node: what the generated code is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dlc.ir.dims import Dim, Env, coefficient, evaluate, symbols
from dlc.ir.graph import RELATIONS, Graph, Value
from dlc.ir.ops import OPS, EvalCall
from dlc.ir.scalar import Array, cast_array
from dlc.ir.types import BF16, TensorType


class InputError(ValueError):
    """An input that does not fit the parameter it is given for."""


def run_graph(graph: Graph, inputs: Sequence[ArrayLike]) -> tuple[Array, ...]:
    """What `graph.outputs` are (results, then new values of variables), from one input a parameter.

    Symbols take their sizes from the shapes of the inputs. bf16 values are held as float32.
    InputError for inputs that do not fit; CheckError (of `ir.ops.control`) where a check fails.
    """
    values = run_values(graph, inputs)
    return tuple(values[value.name] for value in graph.outputs)


def run_values(graph: Graph, inputs: Sequence[ArrayLike]) -> dict[str, Array]:
    """Every value of `graph` by name: parameters, and what each node gives."""
    if len(inputs) != len(graph.params):
        raise InputError(f"{graph.name} takes {len(graph.params)} inputs, not {len(inputs)}")
    arrays = [_as_array(p.value, x) for p, x in zip(graph.params, inputs, strict=True)]
    env = bind_shapes([p.value for p in graph.params if p.role != "size"], [
        x for p, x in zip(graph.params, arrays, strict=True) if p.role != "size"],
        {p.value.name: int(x) for p, x in zip(graph.params, arrays, strict=True)
         if p.role == "size"})
    values = {p.value.name: x for p, x in zip(graph.params, arrays, strict=True)}
    _run(graph, values, env)
    return values


def run_body(graph: Graph, inputs: Sequence[Array], env: Env) -> tuple[Array, ...]:
    """The results of a body of a control node, which sees the sizes `env` of what is around it."""
    values = {p.value.name: np.asarray(x) for p, x in zip(graph.params, inputs, strict=True)}
    _run(graph, values, env)
    return tuple(values[value.name] for value in graph.results)


def _run(graph: Graph, values: dict[str, Array], env: Env) -> None:
    """Adds what each node gives to `values`."""
    for condition in graph.conditions:
        left, right = evaluate(condition.left, env), evaluate(condition.right, env)
        if not RELATIONS[condition.relation](left, right):
            raise InputError(f"{condition.text}: {left} {condition.relation} {right} does not hold")
    for node in graph.nodes:
        call = EvalCall(
            tuple(values[v.name] for v in node.operands), dict(node.attrs), env,
            tuple(v.type for v in node.results), node.regions)
        for value, result in zip(node.results, OPS[node.op].eval(call), strict=True):
            # NumPy has no bf16: what an op makes of it is rounded here.
            rounded = isinstance(value.type, TensorType) and value.dtype is BF16
            values[value.name] = cast_array(result, BF16) if rounded else np.asarray(result)


def bind_shapes(
    values: Sequence[Value], arrays: Sequence[Array], given: Env | None = None
) -> dict[str, int]:
    """The size of each symbol, from arrays for `values`; InputError if shapes do not agree.

    `given` are sizes that are known already.
    A dim that has one unknown symbol, and is linear in it (`N`, `2*N + 1`), gives its size.
    """
    pairs: list[tuple[Value, Dim, int]] = []
    for value, array in zip(values, arrays, strict=True):
        if isinstance(value.type, TensorType):
            if array.ndim != value.type.rank:
                raise InputError(f"%{value.name} is {value.type}, not of shape {array.shape}")
            pairs += [(value, d, n) for d, n in zip(value.type.dims, array.shape, strict=True)]
    env: dict[str, int] = dict(given or {})
    wanted = frozenset[str]().union(*(symbols(dim) for _, dim, _ in pairs))
    while True:
        known = len(env)
        for _, dim, extent in pairs:
            _solve(dim, extent, env)
        if len(env) == known:
            break
    if wanted - env.keys():
        raise InputError(f"no input says what {', '.join(sorted(wanted - env.keys()))} is")
    for value, dim, extent in pairs:
        if evaluate(dim, env) != extent:
            raise InputError(f"%{value.name} is {value.type}, but {dim} is {evaluate(dim, env)}, "
                             f"not {extent}")
    return env


def _solve(dim: Dim, extent: int, env: dict[str, int]) -> None:
    """Adds to `env` the one symbol of `dim` that it lacks, if `dim` is linear in it."""
    unknown = symbols(dim) - env.keys()
    if len(unknown) != 1:
        return
    (name,) = unknown
    step = coefficient(dim, name)
    if step is None or symbols(step) - env.keys():
        return
    by, rest = evaluate(step, env), evaluate(dim, {**env, name: 0})
    if by and (extent - rest) % by == 0:
        env[name] = (extent - rest) // by


def _as_array(value: Value, given: ArrayLike) -> Array:
    """`given` as an array of the value's dtype; plain Python numbers are converted."""
    if not isinstance(value.type, TensorType):
        return np.asarray(given)
    wanted = np.dtype(value.dtype.numpy)
    array = np.asarray(given) if isinstance(given, np.ndarray | np.generic) else np.asarray(
        given, wanted)
    if array.dtype != wanted:
        raise InputError(f"%{value.name} is {value.type}, not of dtype {array.dtype}")
    return array
