"""Random draws: from the seed, the number of the call, the place in the text, the turns of the
loops round it, and the number of the element."""

from __future__ import annotations

from zlib import crc32

from dlc.frontend.elaborate.frames import Frame
from dlc.ir import graph as ir
from dlc.ir.diagnostics import Span
from dlc.ir.dims import product
from dlc.ir.types import I64, TensorType, tensor


def draw(frame: Frame, span: Span, op: str, kind: TensorType) -> ir.Value:
    """Random numbers of a type."""
    seed, call = _state(frame, span)
    builder = frame.place(span)
    line = builder.op("iota", dtype=I64, dims=(product(kind.dims),), axis=0)
    made = builder.op(op, builder.broadcast(seed, kind.dims), builder.broadcast(call, kind.dims),
                      builder.reshape(line, kind.dims), place=place_number(frame, span))
    return builder.cast(made, kind.dtype)


def _state(frame: Frame, span: Span) -> tuple[ir.Value, ir.Value]:
    """The seed and the number of the call. Each loop round the place gives its turn to the seed."""
    context = frame.context
    if context.random is None:
        context.random = context.builder.fresh("random", tensor(I64, (2,)))
    builder = frame.place(span)
    seed, call = (
        builder.reshape(builder.op("slice", context.random, start=(k,), step=(1,), dims=(1,)), ())
        for k in (0, 1))
    for level in context.store.level.chain():
        if level.loop:
            turn = context.store.turn(level)
            seed = builder.op("random_seed", seed, call, turn, place=level.place)
    return seed, call


def place_number(frame: Frame, span: Span) -> int:
    """A number for a place in the text and the calls through which it was reached.

    The name of the file is no part of it: a program that is moved draws the same numbers.
    """
    chain, loc = [frame.path], frame.loc(span)
    step: ir.Loc | None = loc
    while step is not None:
        chain.append(f"{step.line}:{step.column}")
        step = step.caller
    if frame.declared is not None:
        chain = [frame.path]  # an initial value depends on the name of its variable alone
    key = "<".join(chain)
    count = frame.context.draws.get(key, 0)
    frame.context.draws[key] = count + 1
    return crc32(f"{key}#{count}".encode())
